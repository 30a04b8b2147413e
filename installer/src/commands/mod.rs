//! Commands that need nothing but a blueprint's text: each takes text and returns what is to be said.
//!
//! Reading files, writing to the terminal and exit codes are with the command line itself.

pub mod explain;
pub mod fmt;
pub mod init;
pub mod validate;
