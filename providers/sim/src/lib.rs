//! A deterministic, seeded, in-memory place with virtual time.
