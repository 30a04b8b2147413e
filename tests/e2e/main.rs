//! Whole clusters of real nodes on this machine, made, hurt, healed and removed by the program that people use.
//!
//! Needs root and the built programs: `CASTRUM_BIN`, or `target/dist/castrum`, with `castrum-agent` beside it. The tests
//! follow one another, whatever the test runner does; what a killed run left is removed by the next.

mod canary;
mod existing;
mod frozen;
mod full;
mod killed;
mod recover;
mod rogue;
mod trust;
mod twice;
mod world;
