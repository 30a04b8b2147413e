//! The command line and the loop between what can be computed and what can be touched.

pub mod artifacts;
pub mod cancel;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod engine;
pub mod events;
pub mod fleet;
pub mod keyring;
pub mod link;
pub mod pin;
pub mod project;
pub mod recover;
pub mod ssh;
pub mod trust;
pub mod view;
