//! What a node does next, as a pure function: the agent runs it on a machine, the simulator in memory.
//!
//! ```text
//!            Fetch   Unpack, Account, Folder, Configure     Activate, Reload     Start, Restart      Join
//! (absent) ───────▶ fetching ───────▶ preparing ───────▶ waiting ───────▶ starting ───────▶ joining ───────▶ settling ─▶ healthy
//!                                                        (for `requires`)     ▲                                 ▲            │
//!                                                                             └───────── unit failed ───────────┴─ failing ◀─┘
//! ```
//!
//! [`NodeFacts`] is what the node looks like, [`decide`] says which [`Action`]s are due and how far each component is,
//! and [`apply`] is what an action makes of the facts when it succeeds. Nothing that runs is restarted unless what its
//! process reads has changed.

mod apply;
mod decide;
mod facts;
#[cfg(test)]
mod tests;

pub use apply::apply;
pub use decide::{Decision, Progress, decide, runs};
pub use facts::{
    Action, Attempt, HeldFacts, NodeFacts, SetFacts, UnitFacts, UnitState, backoff, config_name, desired_set,
    set_digest, set_name, store_name, units_digest,
};
