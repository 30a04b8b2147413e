//! What is asked of a provider and what it answers, as plain data.
//!
//! The specs of resources are words of the pure core ([`castrum_blueprints::resource`]); they are named here again
//! because every provider speaks them.

use std::collections::BTreeMap;

use castrum_blueprints::names::{ResourcePath, Timestamp};
pub use castrum_blueprints::resource::{
    Abilities, AddressSpec, Attachments, Blind, Exit, FirewallRule, FirewallSpec, ImageSpec, KeySpec,
    LoadBalancerSpec, MachineSeen, MachineSpec, NetworkSpec, PlacementSpec, PowerState, ResourceSeen,
    ResourceSpec, SubnetSpec, VolumeSpec, Zone,
};
use serde::{Deserialize, Serialize};

/// Everything of the cluster that was seen in one look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// What exists.
    pub seen: BTreeMap<ResourcePath, ResourceSeen>,
    /// What could not be looked at, and why.
    pub blind: Vec<Blind>,
    /// When the look began.
    pub taken_at: Timestamp,
}

/// One resource as it shall be. It travels to another process only as the protocol's own type, never as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Which resource.
    pub path: ResourcePath,
    /// Its properties.
    pub spec: ResourceSpec,
    /// Grows when the resource is replaced on purpose; part of the idempotency key.
    pub generation: u32,
    /// What a new machine is told at its first boot; only machines have it, and only their creation reads it.
    pub boot_data: Option<BootData>,
}

/// Opaque bytes for a machine's first boot (cloud-init user-data). It holds a one-time token, so it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct BootData(String);

impl BootData {
    /// Wraps rendered boot data.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for handing to the machine.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for BootData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BootData({} bytes)", self.0.len())
    }
}

/// What `ensure` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ensured {
    /// Whether anything was changed.
    pub change: Change,
    /// The resource as it is now.
    pub seen: ResourceSeen,
}

/// Whether a resource had to be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It did not exist.
    Created,
    /// It existed with other properties.
    Changed,
    /// It was as wanted.
    Unchanged,
}

/// What `remove` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removed {
    /// It existed and is gone.
    Removed,
    /// It did not exist.
    Absent,
}
