//! How the installer talks to the cluster: to any master, over whatever reaches it.

pub mod client;
mod error;

pub use client::{ClientTls, Dial, Direct, MasterClient, Stream};
pub use error::{LinkClass, LinkError};
