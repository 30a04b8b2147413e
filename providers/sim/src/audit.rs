//! What tests ask of a world: whether there is two of anything, whether anything is left, and what happened when.

use std::collections::BTreeMap;

use castrum_blueprints::names::{ComponentName, NodeName, ResourcePath, Timestamp};

/// Something that happened in a world, for tests that hold a run to its promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// On which node.
    pub node: NodeName,
    /// What.
    pub what: Happened,
}

/// The kinds of things that happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// The masters took a manifest for the node, with these components.
    Published(u64, Vec<ComponentName>),
    /// A process was started, or restarted with something new to read.
    Started(ComponentName),
    /// The node became a member, by founding or by joining.
    Joined(ComponentName, Joining),
    /// Every check of a component is ok, for the first time since its process was started.
    Healthy(ComponentName),
}

/// How a node became a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// It founded the membership.
    Founded,
    /// It joined through the founder.
    Joined,
}

/// A count of the things that must never be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Resources of which there is more than one, with their number.
    pub duplicates: BTreeMap<ResourcePath, usize>,
    /// Memberships that were founded more than once, with the founders.
    pub founded_twice: BTreeMap<ComponentName, Vec<NodeName>>,
    /// How many resources exist.
    pub resources: usize,
    /// How many were ever made.
    pub made: u64,
    /// How many agents run.
    pub agents: usize,
}
