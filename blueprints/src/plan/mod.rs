//! Plan: what to do next, what is not being done, and why. Pure, and the same for the same input.
//!
//! ```text
//! plan(desired, observed, now) -> Plan { steps, blocked, debt, wake_at }
//!
//!   resources ──▶ machines that exist ──▶ agents that are heard ──▶ bundles in the depot ──▶ components, wave by wave
//!       │                 │                        │                        │                        │
//!     Ensure            Enroll                (awaited)                   Fill                 Found, Publish
//! ```
//!
//! There is no graph of unknowns: what cannot be known yet is [`Blocked`] this round, and the next round sees more. A
//! node that does not come is [`Debt`]: it is shown, and it does not hold up the others.

mod changes;
mod components;
mod contents;
mod depot;
mod destroy;
mod draft;
mod forecast;
mod hope;
mod masters;
mod nodes;
mod recover;
mod resources;
mod wait;

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::manifest::{Blob, Manifest};
use crate::names::{ComponentName, Digest, NodeName, ResourceKind, ResourcePath, Timestamp};
use crate::observed::Observed;
use crate::render::RenderError;
use crate::resource::ResourceSpec;

pub use destroy::plan_destroy;
pub use forecast::{Forecast, Foreseen, forecast, foresee};
pub use masters::{OtherMasters, masters_to_pin};
pub use recover::{forecast_recover, plan_recover};
pub use wait::{Blocked, Gate, Outlook, Waiting};

/// What to do next, and what is not being done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Plan {
    /// What can be done now, all of it at once.
    pub steps: Vec<Step>,
    /// What cannot be done yet, and what it waits for.
    pub blocked: Vec<Blocked>,
    /// What has been waited for long enough, and is set aside.
    pub debt: Vec<Debt>,
    /// When waiting turns into debt or a failed step may be tried again; look again then at the latest.
    pub wake_at: Option<Timestamp>,
}

/// How far a plan's cluster is from what is desired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Nothing is left to do and everything is healthy.
    Converged,
    /// Nothing is left that could be done, but something is set aside.
    Partial,
    /// There are steps, or something is awaited.
    Pending,
}

impl Plan {
    /// How far the cluster is.
    pub fn progress(&self) -> Progress {
        if !self.steps.is_empty() || self.blocked.iter().any(|blocked| !blocked.by_debt) {
            Progress::Pending
        } else if self.debt.is_empty() && self.blocked.is_empty() {
            Progress::Converged
        } else {
            Progress::Partial
        }
    }
}

/// One thing to do. It is plain data: nothing is left to choose when it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Names the step; the same step of a later plan has the same id.
    pub id: String,
    /// What is done.
    pub action: Action,
    /// Why, in a few words.
    pub reason: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Make a resource, or change it.
    Ensure(EnsureStep),
    /// Remove a resource.
    Remove {
        /// Which.
        path: ResourcePath,
    },
    /// Bring the agent to a machine over SSH and admit it.
    Enroll {
        /// The node.
        node: NodeName,
        /// Where its machine is reached.
        address: IpAddr,
    },
    /// Admit a node anew that joined with a keyring which was lost.
    Readmit {
        /// The node.
        node: NodeName,
        /// Where its machine is reached.
        address: IpAddr,
    },
    /// Put bundles into the depot of a master.
    Fill {
        /// The master.
        node: NodeName,
        /// What it lacks, in boot order.
        blobs: Vec<Blob>,
    },
    /// Pin the node that founds a component's membership, before it is asked to.
    Found {
        /// The component.
        component: ComponentName,
        /// The node.
        node: NodeName,
    },
    /// Give a node its next manifest.
    Publish {
        /// The manifest, whole.
        manifest: Arc<Manifest>,
        /// Its content.
        content: Digest,
    },
}

/// Make a resource, or change it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnsureStep {
    /// Which.
    pub path: ResourcePath,
    /// As what.
    pub spec: ResourceSpec,
    /// Whether it is new.
    pub create: bool,
    /// Whether a new machine is told by boot data how to join.
    pub joins: bool,
}

/// Something that is set aside until somebody looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// What: a node or a resource.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Since when the trouble has lasted.
    pub since: Timestamp,
    /// What part of the work it is in.
    pub area: Area,
}

/// A part of the work, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// What is refused because it could cost the quorum.
    Safety,
    /// Making machines and networks.
    Infrastructure,
    /// Booting machines and admitting agents.
    Boot,
    /// Laying down components.
    Platform,
}

/// Plans the next round. Linear in nodes.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Result<Plan, RenderError> {
    Planner { rendered: contents::RenderCache::default() }.plan(desired, observed, now)
}

/// Plans round after round, and keeps what it rendered as long as it stays the same. The plans are those of [`plan`].
#[derive(Debug)]
pub struct Planner {
    rendered: contents::RenderCache,
}

impl Default for Planner {
    fn default() -> Self {
        Self { rendered: contents::RenderCache::for_many() }
    }
}

impl Planner {
    /// Plans the next round.
    pub fn plan(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        now: Timestamp,
    ) -> Result<Plan, RenderError> {
        let mut draft = draft::Draft::new(desired, observed, now);
        resources::plan(&mut draft);
        let standings = nodes::plan(&mut draft);
        let depot = depot::plan(&mut draft, &standings);
        components::plan(&mut draft, (&standings, depot), &mut self.rendered)?;
        Ok(draft.finish())
    }
}

impl Action {
    /// The node that the step concerns, if it is one.
    pub fn node(&self) -> Option<NodeName> {
        match self {
            Self::Ensure(EnsureStep { path, .. }) | Self::Remove { path } => {
                (path.kind == ResourceKind::Machine).then(|| path.name.parse().ok()).flatten()
            }
            Self::Enroll { node, .. }
            | Self::Readmit { node, .. }
            | Self::Fill { node, .. }
            | Self::Found { node, .. } => Some(node.clone()),
            Self::Publish { manifest, .. } => Some(manifest.node.clone()),
        }
    }

    /// The part of the work that the step belongs to.
    pub fn area(&self) -> Area {
        match self {
            Self::Ensure(_) | Self::Remove { .. } => Area::Infrastructure,
            Self::Enroll { .. } | Self::Readmit { .. } => Area::Boot,
            Self::Fill { .. } | Self::Found { .. } | Self::Publish { .. } => Area::Platform,
        }
    }
}
