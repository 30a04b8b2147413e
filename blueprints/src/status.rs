//! What a node says of itself. It flows to the masters and from there to whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::{ClusterId, ComponentName, Digest, NodeName, Timestamp};

/// The state of one node, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// 1.
    pub format_version: u32,
    /// The cluster that the node believes to be in.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeName,
    /// The machine that the agent runs on; another one after a replacement.
    pub incarnation: String,
    /// The agent's version.
    pub agent_version: String,
    /// The kernel's boot id: another one after a reboot.
    pub boot_id: String,
    /// Grows with every status of one agent process; with `started_at` it orders them.
    pub sequence: u64,
    /// When the agent process started, by the node's clock.
    pub started_at: Timestamp,
    /// When this was said, by the node's clock.
    pub at: Timestamp,
    /// The generation that the agent holds; 0 before the first.
    pub generation: u64,
    /// The content of that generation.
    pub content: Option<Digest>,
    /// The state of each component that the node holds.
    pub components: BTreeMap<ComponentName, ComponentStatus>,
    /// The blobs that the node has verified and serves.
    pub blobs: BTreeSet<Digest>,
    /// What keeps the node from converging at all, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The state of one component on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// The [`digest`](crate::manifest::ComponentManifest::digest) of what is applied.
    pub applied: Digest,
    /// How far it is.
    pub phase: Phase,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// What is awaited or wrong, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The last result of each check.
    pub checks: BTreeMap<String, CheckResult>,
    /// How often its unit was restarted by the service manager.
    pub restarts: u32,
}

/// How far a component is on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its blob is being fetched or unpacked.
    Fetching,
    /// Accounts, folders and config are being laid down.
    Preparing,
    /// It waits for another component of the same node.
    Waiting,
    /// Its unit is being started.
    Starting,
    /// It is becoming part of the cluster.
    Joining,
    /// It runs, and some check is not ok yet.
    Settling,
    /// It runs and every check is ok.
    Healthy,
    /// It ran and some check is not ok any more, or its unit failed.
    Failing,
}

impl Phase {
    /// The word for this phase.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Preparing => "preparing",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Joining => "joining",
            Self::Settling => "settling",
            Self::Healthy => "healthy",
            Self::Failing => "failing",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The last result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The verdict. Unknown counts as failure.
    pub verdict: Verdict,
    /// Since when it is this verdict.
    pub since: Timestamp,
    /// When it was last run.
    pub at: Timestamp,
    /// What was seen, in a line.
    pub seen: String,
}

/// What a check found; only `Ok` opens a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Ok,
    /// It holds, with something to look at.
    Warning,
    /// It does not hold.
    Critical,
    /// It could not be told: not run, not ended in time, not understood.
    Unknown,
}

impl Verdict {
    /// The word for this verdict.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
