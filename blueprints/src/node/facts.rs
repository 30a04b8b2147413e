//! The words of the decision: what a node looks like, and what can be done about it. Plain data, all of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::manifest::{Blob, ComponentManifest, Manifest};
use crate::names::{ComponentName, Digest, Timestamp};
use crate::status::CheckResult;

/// What a node looks like, as far as decisions need it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The verified blobs that the node has.
    pub blobs: BTreeSet<Digest>,
    /// Blobs that are never collected: the agent's own.
    pub pinned: BTreeSet<Digest>,
    /// The unpacked components, by [`store_name`].
    pub stores: BTreeSet<String>,
    /// The config trees laid down, by [`config_name`].
    pub configs: BTreeSet<String>,
    /// The sets of links that exist, by [`set_name`].
    pub sets: BTreeMap<String, SetFacts>,
    /// The set that the active link points to.
    pub active: Option<String>,
    /// The components whose unit the service manager can find.
    pub linked: BTreeSet<ComponentName>,
    /// The system accounts that exist.
    pub accounts: BTreeSet<String>,
    /// Those data folders of the manifest that exist and have the right owner.
    pub folders: BTreeSet<String>,
    /// The [`units_digest`] of the unit files that the service manager last read.
    pub units_loaded: Option<Digest>,
    /// What the node carries: everything that was ever activated and not yet forgotten.
    pub components: BTreeMap<ComponentName, HeldFacts>,
    /// What was tried and did not (yet) bring what it is for.
    pub attempts: Vec<Attempt>,
}

/// What a set of links refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFacts {
    /// Store folders.
    pub stores: BTreeSet<String>,
    /// Config trees.
    pub configs: BTreeSet<String>,
}

/// What is known of one component that the node carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldFacts {
    /// Its wave, so that it can be stopped in reverse boot order once no manifest names it any more.
    pub wave: u32,
    /// Its unit.
    pub unit: UnitFacts,
    /// Whether the node is a member of what it is for.
    pub member: bool,
    /// The process digest with which it was healthy once.
    pub settled: Option<Digest>,
    /// The last result of each check since its process was started.
    pub checks: BTreeMap<String, CheckResult>,
}

/// What the service manager says of a unit, and what we know of its process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFacts {
    /// Its state.
    pub state: UnitState,
    /// How often the service manager restarted it.
    pub restarts: u32,
    /// Since when it is in this state, by the clock that decisions are made by.
    #[serde(default)]
    pub since: Timestamp,
    /// The process digest that it was started with.
    pub started_with: Option<Digest>,
}

/// The state of a unit, as the service manager tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// Not running.
    #[default]
    Inactive,
    /// On its way up, or between two restarts.
    Activating,
    /// Running.
    Active,
    /// On its way down.
    Deactivating,
    /// It ended badly, and the service manager has given up on it.
    Failed,
    /// The service manager does not answer.
    Unknown,
}

/// Something that can be done on a node. Each is idempotent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Get a blob from a master or a peer and verify it.
    Fetch {
        /// What it is for.
        component: ComponentName,
        /// The blob.
        blob: Blob,
    },
    /// Unpack a verified blob into the store.
    Unpack {
        /// The component.
        component: ComponentName,
        /// Its blob.
        blob: Blob,
    },
    /// Make a system account.
    Account {
        /// What it is for.
        component: ComponentName,
        /// Its name.
        account: String,
    },
    /// Make a data folder, with owner and mode.
    Folder {
        /// What it is for.
        component: ComponentName,
        /// Its path.
        path: String,
    },
    /// Lay down a config tree.
    Configure {
        /// The component.
        component: ComponentName,
        /// The tree's [`config_name`].
        tree: String,
    },
    /// Switch to a set, whole; also lets the service manager find the units.
    Activate {
        /// The set's [`set_name`].
        set: String,
    },
    /// Let the service manager read the unit files again.
    Reload {
        /// The [`units_digest`] of what it reads.
        units: Digest,
    },
    /// Start a unit that does not run.
    Start {
        /// The component.
        component: ComponentName,
        /// Its process digest.
        process: Digest,
    },
    /// Restart a unit whose process reads something else than it shall.
    Restart {
        /// The component.
        component: ComponentName,
        /// Its process digest.
        process: Digest,
    },
    /// Stop the unit of a component that no longer belongs here.
    Stop {
        /// The component.
        component: ComponentName,
    },
    /// Forget a stopped component.
    Forget {
        /// The component.
        component: ComponentName,
    },
    /// Make the node a member, unless it is one.
    Join {
        /// The component.
        component: ComponentName,
    },
    /// Remove what nothing refers to.
    Collect {
        /// Store folders.
        stores: BTreeSet<String>,
        /// Config trees.
        configs: BTreeSet<String>,
        /// Sets.
        sets: BTreeSet<String>,
        /// Blobs.
        blobs: BTreeSet<Digest>,
    },
}

impl Action {
    /// The component that it is about; `None` if it is about the whole node.
    pub fn component(&self) -> Option<&ComponentName> {
        match self {
            Self::Fetch { component, .. }
            | Self::Unpack { component, .. }
            | Self::Account { component, .. }
            | Self::Folder { component, .. }
            | Self::Configure { component, .. }
            | Self::Start { component, .. }
            | Self::Restart { component, .. }
            | Self::Stop { component }
            | Self::Forget { component }
            | Self::Join { component } => Some(component),
            Self::Activate { .. } | Self::Reload { .. } | Self::Collect { .. } => None,
        }
    }

    /// Whether it touches the component's process: then it counts as done only once the component is healthy.
    pub fn starts(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Restart { .. })
    }

    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "fetch",
            Self::Unpack { .. } => "unpack",
            Self::Account { .. } => "account",
            Self::Folder { .. } => "folder",
            Self::Configure { .. } => "configure",
            Self::Activate { .. } => "activate",
            Self::Reload { .. } => "reload",
            Self::Start { .. } => "start",
            Self::Restart { .. } => "restart",
            Self::Stop { .. } => "stop",
            Self::Forget { .. } => "forget",
            Self::Join { .. } => "join",
            Self::Collect { .. } => "collect",
        }
    }
}

/// An action that failed, or that did not yet make its component healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was tried.
    pub action: Action,
    /// How often.
    pub count: u32,
    /// When the last try ended.
    pub last: Timestamp,
    /// Why it failed, in a line; `None` if it did not.
    pub error: Option<String>,
}

/// Milliseconds to wait after the `count`-th try of `action`.
pub fn backoff(action: &Action, count: u32) -> u64 {
    let most = match action {
        Action::Start { .. } | Action::Restart { .. } => 30_000,
        Action::Join { .. } | Action::Fetch { .. } => 3_000,
        _ => 10_000,
    };
    (200_u64 << count.saturating_sub(1).min(16)).min(most)
}

/// The name of the store folder of a component's blob.
pub fn store_name(component: &ComponentName, blob: &Blob) -> String {
    format!("{component}-{}", blob.digest.short())
}

/// The name of a component's config tree, which also holds its unit; `None` if it has neither.
pub fn config_name(component: &ComponentManifest) -> Option<String> {
    if component.config.is_empty() && component.unit.is_none() {
        return None;
    }
    Some(format!("{}-{}", component.name, component.config_digest().short()))
}

/// What the set of a manifest refers to.
pub fn desired_set(manifest: &Manifest) -> SetFacts {
    let components = || manifest.components.iter();
    SetFacts {
        stores: components().filter_map(|c| Some(store_name(&c.name, c.bundle.as_ref()?))).collect(),
        configs: components().filter_map(|c| config_name(c)).collect(),
    }
}

/// The digest of what a manifest's set links to.
pub fn set_digest(manifest: &Manifest) -> Digest {
    let links: Vec<_> = manifest
        .components
        .iter()
        .map(|c| (&c.name, c.bundle.as_ref().map(|b| store_name(&c.name, b)), config_name(c)))
        .collect();
    Digest::of(&serde_json::to_vec(&links).expect("links are plain data"))
}

/// The name of a manifest's set: its generation and what it links to.
pub fn set_name(manifest: &Manifest) -> String {
    format!("{}-{}", manifest.generation, set_digest(manifest).short())
}

/// The digest of all unit files of a manifest.
pub fn units_digest(manifest: &Manifest) -> Digest {
    let units: Vec<_> = manifest.components.iter().map(|c| (&c.name, c.unit_digest())).collect();
    Digest::of(&serde_json::to_vec(&units).expect("units are plain data"))
}
