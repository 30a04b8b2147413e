//! Turns what a stack names (Debian packages, archives, files) into content-addressed blobs for the depot.
//!
//! Three steps, each of which can be repeated at no cost:
//!
//! ```text
//! Order ──resolve──▶ LockedPackage (name, version, sha256: goes into castrum.lock)
//!                      │
//!                    fetch ──▶ cache/blobs/<sha256>      verified once, renamed in whole
//!                      │
//!                    bundle ──▶ one tar.zst for each component, also cache/blobs/<sha256>
//! ```
//!
//! Nodes never run a package manager: a bundle holds files and nothing that wants to be executed on arrival. What the
//! packages' own scripts would have done is declared in the stack instead.

mod apt;
mod bundle;
mod cache;
mod error;
mod fetch;
mod order;
mod pack;
mod packages;
mod paths;
mod resolve;
mod tree;
mod unpack;

#[cfg(test)]
mod tests;

pub use apt::Apt;
pub use bundle::{bundle, bundle_all};
pub use cache::Cache;
pub use error::ArtifactError;
pub use fetch::fetch;
pub use order::{Order, orders};
pub use resolve::resolve;

/// How far the work on one artifact has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The component or the package.
    pub artifact: String,
    /// What is being done.
    pub stage: Stage,
    /// Bytes done.
    pub done: u64,
    /// Bytes to do; zero when unknown.
    pub total: u64,
}

/// The kinds of long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Bytes come in from the archive.
    Fetch,
    /// Packages are unpacked and merged.
    Unpack,
    /// The bundle is written.
    Pack,
}

/// Who is told about progress.
pub type Listener<'a> = &'a (dyn Fn(Progress) + Sync);
