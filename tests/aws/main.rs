//! The provider `aws`, as an executable of its own, against moto's server as a peer (`gate.py` tells what of a real
//! account it shows), through the protocol, the engine and the command line.
//!
//! Machines are instances of the peer, which do not boot: where a whole cluster is made, its nodes are simulated
//! (`castrum_tests::moto::Twin`), and everything else is the peer's.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod conformance;
mod example;
mod gate;
mod kills;
mod life;
mod points;
mod secrets;
mod states;
mod storms;
