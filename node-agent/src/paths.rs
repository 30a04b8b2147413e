//! Where everything lies on a node, under a root that tests put in a temporary folder.

use std::path::{Path, PathBuf};

use castrum_blueprints::names::Digest;

/// The layout of a node's files.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The layout under `root`: `/` on a node.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// An absolute path of the node, under the root.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The agent's own state.
    pub fn state(&self) -> PathBuf {
        self.at("/var/lib/castrum")
    }

    /// What the machine was told at boot.
    pub fn boot(&self) -> PathBuf {
        self.state().join("boot.json")
    }

    /// The one-time join token; gone once the certificate is there.
    pub fn token(&self) -> PathBuf {
        self.state().join("token")
    }

    /// What the agent remembers.
    pub fn ledger(&self) -> PathBuf {
        self.state().join("ledger.json")
    }

    /// The last status, for people on the node.
    pub fn status(&self) -> PathBuf {
        self.at("/run/castrum/status.json")
    }

    /// Key and certificates.
    pub fn pki(&self) -> PathBuf {
        self.state().join("pki")
    }

    /// The content-addressed store of blobs.
    pub fn depot(&self) -> PathBuf {
        self.state().join("depot")
    }

    /// A blob of the depot.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.depot().join(digest.as_str())
    }

    /// On masters: the newest manifest of each node.
    pub fn manifests(&self) -> PathBuf {
        self.state().join("manifests")
    }

    /// Extracted components, side by side.
    pub fn store(&self) -> PathBuf {
        self.at("/opt/castrum/store")
    }

    /// Rendered config trees, side by side.
    pub fn config(&self) -> PathBuf {
        self.at("/opt/castrum/config")
    }

    /// Sets of links into both.
    pub fn sets(&self) -> PathBuf {
        self.at("/opt/castrum/sets")
    }

    /// The link to the active set.
    pub fn active(&self) -> PathBuf {
        self.at("/opt/castrum/active")
    }

    /// Where the service manager looks for our units.
    pub fn units(&self) -> PathBuf {
        self.at("/etc/systemd/system")
    }

    /// The accounts of the machine.
    pub fn passwd(&self) -> PathBuf {
        self.at("/etc/passwd")
    }
}
