//! A real peer for the provider `aws`: moto's server behind a gate (`tests/aws/gate.py`), an account on it, and clusters
//! whose machines are there while their nodes are simulated.

mod cluster;
mod foreign;
mod peer;
mod twin;

pub use cluster::{Camp, Left, provider, settings, wrapped};
pub use foreign::plant;
pub use peer::{ApiCall, Peer, Stood, Stop};
pub use twin::{Pairs, Twin};
