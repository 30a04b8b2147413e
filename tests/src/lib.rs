//! Worlds, scenarios, end-to-end tests and benches.
