//! The node agent: one static binary that converges one machine.
//!
//! It is the same loop as the installer's, on one machine: facts are looked at, the pure
//! [`decide`](castrum_blueprints::node::decide) says what is due, and a thin `act` does it. Everything runs on one
//! thread; what would block for long is given a short-lived one.

pub mod act;
pub mod api;
pub mod checks;
pub mod converge;
pub mod depot;
pub mod http;
pub mod identity;
pub mod ledger;
pub mod paths;
pub mod service;

/// An error and all that it came from, in a line.
pub fn chain(error: &dyn std::error::Error) -> String {
    api::chain(error)
}
