//! Machines that exist already, reached over SSH.
//!
//! [`Ssh`] serves the provider contract over them; [`transport`] is the SSH that it and the installer use.

mod machine;
mod owner;
mod provider;
pub mod transport;

pub use machine::SshOptions;
pub use provider::{Ssh, machines_of};
