//! The newest manifest of each node, on disk; in memory is only what it takes to refuse an older one.
//!
//! A file that a power loss damaged does not pass the check of its signature on the next start and is left out; the
//! installer sees that this master lacks it, and the node's own ledger refuses what is older anyway. So nothing here
//! waits for the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use castrum_blueprints::manifest::{Manifest, SignedManifest};
use castrum_blueprints::names::{Digest, NodeName};
use castrum_blueprints::wire::Published;
use tracing::warn;

use crate::identity::{Identity, ManifestError};

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is not what it should be.
    #[error("check the manifest")]
    Unproven(#[source] ManifestError),
    /// A newer one is here.
    #[error("generation {offered} is older than the {held} that is here")]
    Older {
        /// The generation that is held.
        held: u64,
        /// The generation that came.
        offered: u64,
    },
    /// One of the same generation says something else.
    #[error("generation {0} is here with other content")]
    OtherContent(u64),
    /// It could not be stored.
    #[error("store the manifest")]
    Store(#[source] io::Error),
}

#[derive(Debug)]
pub(super) struct Manifests {
    dir: PathBuf,
    held: BTreeMap<NodeName, Held>,
}

#[derive(Debug)]
struct Held {
    published: Published,
    blobs: BTreeSet<Digest>,
}

impl Manifests {
    pub(super) fn open(identity: &Identity) -> io::Result<Self> {
        let dir = identity.state_dir().join("manifests");
        fs::create_dir_all(&dir)?;
        let mut this = Self { dir, held: BTreeMap::new() };
        for entry in fs::read_dir(&this.dir)?.flatten() {
            match load(identity, &entry.path()) {
                Ok(Some((signed, manifest))) => this.remember(&signed, &manifest),
                Ok(None) => {}
                Err(why) => warn!(file = %entry.path().display(), why, "left out a relayed manifest"),
            }
        }
        Ok(this)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.held.keys()
    }

    pub(super) fn published(&self, node: &NodeName) -> Option<&Published> {
        self.held.get(node).map(|held| &held.published)
    }

    /// The generation that is held; 0 if none is.
    pub(super) fn generation(&self, node: &NodeName) -> u64 {
        self.published(node).map_or(0, |held| held.generation)
    }

    pub(super) fn blobs(&self) -> BTreeSet<Digest> {
        self.held.values().flat_map(|held| held.blobs.iter().cloned()).collect()
    }

    pub(super) fn read(&self, node: &NodeName) -> io::Result<SignedManifest> {
        Ok(serde_json::from_slice(&fs::read(self.path(node))?)?)
    }

    /// Takes a manifest that was verified; whether it is new.
    pub(super) fn take(&mut self, signed: &SignedManifest, manifest: &Manifest) -> Result<bool, Refusal> {
        let offered = signed.generation;
        if let Some(held) = self.published(&signed.node) {
            if offered < held.generation {
                return Err(Refusal::Older { held: held.generation, offered });
            }
            if offered == held.generation {
                let same = signed.content == held.content;
                return if same { Ok(false) } else { Err(Refusal::OtherContent(offered)) };
            }
        }
        let store = || {
            let temp = self.dir.join(format!("{}.new", signed.node));
            fs::write(&temp, serde_json::to_vec(signed)?)?;
            fs::rename(&temp, self.path(&signed.node))
        };
        store().map_err(Refusal::Store)?;
        self.remember(signed, manifest);
        Ok(true)
    }

    fn remember(&mut self, signed: &SignedManifest, manifest: &Manifest) {
        let published = Published { generation: signed.generation, content: signed.content.clone() };
        let bundles = manifest.components.iter().filter_map(|component| component.bundle.as_ref());
        let blobs = bundles.map(|blob| blob.digest.clone()).collect();
        self.held.insert(signed.node.clone(), Held { published, blobs });
    }

    fn path(&self, node: &NodeName) -> PathBuf {
        self.dir.join(format!("{node}.json"))
    }
}

/// A file as it was stored; `None` if it is not one of ours.
fn load(identity: &Identity, path: &Path) -> Result<Option<(SignedManifest, Manifest)>, String> {
    if path.extension().is_none_or(|ending| ending != "json") {
        return Ok(None);
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let signed: SignedManifest = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if path.file_stem().is_none_or(|stem| stem != signed.node.as_str()) {
        return Err("it is for another node".to_owned());
    }
    let manifest = identity.verify(&signed).map_err(|error| crate::api::chain(&error))?;
    Ok(Some((signed, manifest)))
}
