//! Everything of Castrum that can be computed: document, blueprint, desired, plan.
//!
//! Nothing in this crate does I/O, reads a clock, draws chance or spawns; `clippy.toml` and the dependency list hold it
//! to that. Read the modules in this order: [`names`], [`blueprint`], [`stack`], [`desired`], [`manifest`], [`status`],
//! [`observed`], [`plan`].

pub mod blueprint;
pub mod check;
pub mod document;
pub mod boot;
pub mod manifest;
pub mod render;
pub mod observed;
pub mod plan;
pub mod event;
pub mod lock;
pub mod desired;
pub mod names;
pub mod node;
pub mod resource;
pub mod stack;
pub mod stacks;
pub mod status;
pub mod trust;
pub mod wire;
