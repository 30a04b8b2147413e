//! Everything of Castrum that can be computed: document, blueprint, desired, plan.
//!
//! Nothing in this crate does I/O, reads a clock, draws chance or spawns; `clippy.toml` and the dependency list hold it
//! to that. Read the modules in this order: [`names`], [`blueprint`], [`stack`], [`desired`], [`manifest`], [`status`],
//! [`observed`], [`plan`].

pub mod blueprint;
pub mod boot;
pub mod check;
pub mod desired;
pub mod document;
pub mod event;
pub mod lock;
pub mod manifest;
pub mod names;
pub mod node;
pub mod observed;
pub mod plan;
pub mod recover;
pub mod render;
pub mod resource;
pub mod stack;
pub mod stacks;
pub mod status;
pub mod trust;
pub mod wire;
