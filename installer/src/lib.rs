//! The command line and the loop between what can be computed and what can be touched.

pub mod artifacts;
pub mod keyring;
pub mod pin;
pub mod cli;
pub mod commands;
pub mod clock;
pub mod trust;
pub mod fleet;
pub mod link;
pub mod project;
pub mod events;
pub mod engine;
pub mod cancel;
pub mod ssh;
pub mod view;
