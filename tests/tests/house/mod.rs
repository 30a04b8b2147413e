//! The rules of the house, as functions on text, so that each can be shown something that it must refuse.

pub mod cargo;
pub mod code;
pub mod deny;
pub mod files;
pub mod rules;
