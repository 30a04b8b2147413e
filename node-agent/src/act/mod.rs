//! The thin half: does what was decided, and looks at what there is. Nothing here chooses anything.

pub mod files;
mod join;
pub mod probe;
pub mod systemd;
pub mod unpack;

mod accounts;
mod perform;
mod sets;
#[cfg(test)]
mod tests;

pub(crate) use join::read_fact;
pub use perform::{ActError, Actor};
