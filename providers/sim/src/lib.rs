//! A deterministic, seeded, in-memory place with virtual time.
//!
//! It is for tests, rehearsals and benches: API limits, latencies and faults are data (a site's `settings`), and the
//! nodes are agents in this process that run the real [`decide`](castrum_blueprints::node::decide) over modelled facts.
//!
//! ```text
//!   Sim (a site: Provider, Power) ──┐
//!   SimFleet (the nodes: Fleet) ────┼──▶ World ──▶ agenda: what happens when ──▶ nodes, manifests, resources
//!   SimClock (the time: Clock) ─────┘
//! ```
//!
//! Nothing runs in the background: whoever touches the world first lets happen what is due until now. Time is tokio's,
//! so that on a runtime whose clock is paused ([`runtime`]) hours pass in milliseconds, and always in the same way. The
//! same seed gives the same world; what is drawn depends on the thing it is drawn for, never on the order of draws.

mod audit;
mod bucket;
mod chance;
mod clock;
mod file;
mod fleet;
mod life;
mod node;
mod past;
mod place;
mod settings;
mod site;
mod state;
mod world;

pub use audit::{Audit, Happened, Happening, Joining};
pub use clock::{EPOCH, runtime};
pub use file::WorldError;
pub use settings::{Component, Faults, Lane, Latencies, Limit, Range, Settings, SettingsError};
pub use site::{Sim, SimError};
pub use world::World;
