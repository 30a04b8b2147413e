//! The contract across a pipe: its protocol, its suite, and what happens when the other end does not keep to it.

mod conformance;
mod example;
mod faults;
mod memory;
mod protocol;
