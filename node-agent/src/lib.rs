//! The node agent: one static binary that converges one machine.
