//! The API over real TLS on the loopback interface: masters and nodes of one cluster in one process.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod anew;
mod bounds;
mod depot;
mod join;
mod refusals;
mod relay;
#[expect(dead_code, reason = "other tests of the API need the rest")]
mod world;
