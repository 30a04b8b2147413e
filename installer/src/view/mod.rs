//! What people and programs read: pure functions from what is known to text, JSON and drawings.
//!
//! Nothing here looks at the world: width, colour and time are arguments, and only [`screen`] holds something to write
//! to. Whatever a node or a place said goes through [`style::clean`] first, so that it cannot speak to the terminal.

pub mod events_view;
mod facts;
pub mod finish_view;
pub mod get_view;
pub mod graph_view;
mod names;
pub mod plan_view;
pub mod provider_view;
pub mod recover_view;
pub mod screen;
pub mod status_view;
pub mod style;
mod table;
#[cfg(test)]
mod tests;
pub mod timeline_view;
pub mod wait_gate;
pub mod wait_view;
mod waits;

use castrum_blueprints::desired::Desired;
use castrum_blueprints::lock::Lock;
use castrum_blueprints::names::Timestamp;
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::Plan;
use castrum_blueprints::stack::Stack;

/// The version of the form of every JSON document made here.
pub const FORMAT_VERSION: u32 = 1;

/// What is known of one cluster.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// As it shall be.
    pub desired: &'a Desired,
    /// As it was seen.
    pub observed: &'a Observed,
    /// What is between the two.
    pub plan: &'a Plan,
    /// What is pinned.
    pub lock: &'a Lock,
    /// The platform.
    pub stack: &'a Stack,
}

/// How text is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Opts {
    /// How many columns there are; 0: as many as it takes.
    pub width: usize,
    /// Whether to use colour.
    pub color: bool,
    /// What time it is.
    pub now: Timestamp,
}
