//! `castrum.lock`: what was resolved once and is pinned from then on, kept in version control beside the blueprint.
//!
//! With the blueprint it is all that is needed to find a cluster again. It names no host and holds no secret.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::manifest::Blob;
use crate::names::{ClusterId, ClusterName, ComponentName, Digest, NodeName, SiteName};

/// The version of the lock file's form.
pub const LOCK_FORMAT: u32 = 1;

/// Everything that is pinned for one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`LOCK_FORMAT`].
    pub format_version: u32,
    /// The cluster's identity, drawn once.
    pub cluster: ClusterId,
    /// The cluster's name when it was drawn; another name in the blueprint is refused.
    pub name: ClusterName,
    /// The stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<LockedStack>,
    /// The node agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Blob>,
    /// By site, the image that machines start from, where the place has images of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<SiteName, LockedImage>,
    /// What each component is made of.
    #[serde(default)]
    pub components: BTreeMap<ComponentName, LockedComponent>,
    /// The masters that the cluster was made with.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub masters: BTreeSet<NodeName>,
    /// Which node founded a component's membership. Written before the founding is asked for, so it happens once.
    #[serde(default)]
    pub founders: BTreeMap<ComponentName, NodeName>,
}

impl Lock {
    /// The lock file of a cluster that has nothing yet.
    pub fn new(cluster: ClusterId, name: ClusterName) -> Self {
        Self {
            format_version: LOCK_FORMAT,
            cluster,
            name,
            stack: None,
            agent: None,
            images: BTreeMap::new(),
            components: BTreeMap::new(),
            masters: BTreeSet::new(),
            founders: BTreeMap::new(),
        }
    }

    /// The text of the file: indented JSON with sorted keys, so that versions compare line by line.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a lock is plain data");
        text.push('\n');
        text
    }

    /// Reads the text of a lock file.
    pub fn from_text(text: &str) -> Result<Self, LockError> {
        let head: Head =
            serde_json::from_str(text).map_err(|error| LockError::Unreadable(error.to_string()))?;
        if head.format_version != LOCK_FORMAT {
            return Err(LockError::Format { found: head.format_version });
        }
        serde_json::from_str(text).map_err(|error| LockError::Unreadable(error.to_string()))
    }
}

#[derive(Deserialize)]
struct Head {
    format_version: u32,
}

/// Why a lock file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It is not what a lock file looks like.
    #[error("the lock file cannot be read: {0}")]
    Unreadable(String),
    /// Another version of Castrum wrote it.
    #[error("the lock file has format {found}, and this version of Castrum knows format {LOCK_FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
}

/// The stack that was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedStack {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of its files.
    pub digest: Digest,
}

/// An image of a place's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// The release that was looked for, as in `debian-12`.
    pub release: String,
    /// The place's own id of it.
    pub id: String,
}

/// What a component is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedComponent {
    /// The digest of the source as the stack declares it; another one means that it is resolved anew.
    pub source: Option<Digest>,
    /// The packages, in order of name.
    #[serde(default)]
    pub packages: Vec<LockedPackage>,
    /// The bundle made of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Blob>,
}

/// One Debian package, pinned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version, in full.
    pub version: String,
    /// Its architecture: `amd64`, `all`.
    pub architecture: String,
    /// The digest of the package file.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}
