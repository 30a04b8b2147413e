//! Worlds, scenarios, end-to-end tests and benches.

pub mod camp;
pub mod clouds;
pub mod cluster;
pub mod gate;
pub mod idle;
pub mod makespan;
pub mod moto;
pub mod rig;
pub mod sketch;
pub mod verdict;
