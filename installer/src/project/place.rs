//! A place outside this machine that named objects lie in, as narrow as the state of a project needs it.
//!
//! The one thing that it must do is to refuse: an object is made only if there is none, and replaced only by whoever saw
//! its last version. All safety of the lease (see [`lease`](super::lease)) comes from that. The folder `.castrum/` is not
//! behind this trait: there the kernel's file lock, which ends with its process, does better than any lease.

use async_trait::async_trait;
use bytes::Bytes;

/// Which content of an object is meant, as the place names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// What most stores compare.
    pub tag: Option<String>,
    /// What Google Cloud Storage compares.
    pub number: Option<String>,
}

/// An object as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its bytes.
    pub bytes: Bytes,
    /// Which content this is.
    pub version: Version,
}

/// When an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// If there is none of this name.
    Absent,
    /// If it is still this version.
    Is(Version),
}

/// Why a place did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Somebody else was first: nothing was written.
    #[error("`{name}` was changed by somebody else")]
    Conflict {
        /// The object.
        name: String,
    },
    /// No answer, or one that says nothing: what was asked may have been done.
    #[error("`{place}` does not answer: {cause}")]
    Unreachable {
        /// The place.
        place: String,
        /// In a few words, without anything that could be secret.
        cause: String,
    },
    /// The credentials do not do, or the bucket is not there.
    #[error("`{place}` refuses: {cause}")]
    Refused {
        /// The place.
        place: String,
        /// In a few words.
        cause: String,
    },
    /// What lies there is not what Castrum writes.
    #[error("`{name}` in `{place}` cannot be used: {cause}")]
    Spoilt {
        /// The place.
        place: String,
        /// The object.
        name: String,
        /// Why.
        cause: String,
    },
}

impl PlaceError {
    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "run it again",
            Self::Unreachable { .. } => {
                "check `state.endpoint`, `state.region` and the network; without its state a cluster is left alone"
            }
            Self::Refused { .. } => {
                "check that the bucket exists, and that the environment has credentials that may read and write there"
            }
            Self::Spoilt { .. } => "use the Castrum that wrote it, or a prefix that is this cluster's alone",
        }
    }
}

/// Named objects. Every call ends within seconds.
#[async_trait]
pub trait Place: Send + Sync {
    /// What people call it.
    fn name(&self) -> String;

    /// Reads an object; `None` if there is none.
    async fn read(&self, name: &str) -> Result<Option<Kept>, PlaceError>;

    /// Writes an object whole, or not at all.
    async fn write(&self, name: &str, bytes: Bytes, when: When) -> Result<Version, PlaceError>;

    /// The names of all objects below a folder, sorted.
    async fn list(&self, folder: &str) -> Result<Vec<String>, PlaceError>;

    /// Removes an object; one that is not there is removed already.
    async fn remove(&self, name: &str) -> Result<(), PlaceError>;
}
