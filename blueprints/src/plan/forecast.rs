//! Forecast: the same `plan` against a world that is assumed to do what it is asked, round after round.
//!
//! A preview made this way shows every round and cannot disagree with the run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Action, Plan, Planner, Progress};
use crate::desired::Desired;
use crate::manifest::Manifest;
use crate::names::{Digest, NodeName, ResourceKind, ResourcePath, Timestamp};
use crate::observed::Observed;
use crate::render::RenderError;
use crate::resource::{MachineSeen, PowerState, ResourceSeen, ResourceSpec};
use crate::status::{ComponentStatus, NodeStatus, Phase};
use crate::wire::Published;

/// The rounds to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The plan of each round; the last has no steps.
    pub rounds: Vec<Plan>,
    /// How far the cluster is after the last round.
    pub progress: Progress,
}

/// More rounds than any real cluster needs: a chain of waves, each of which takes a few.
const MAX_ROUNDS: usize = 400;

/// A forecast with the world that it ends in.
#[derive(Debug, Clone)]
pub struct Foreseen {
    /// The rounds.
    pub forecast: Forecast,
    /// What is desired, with the founders that were chosen on the way.
    pub desired: Desired,
    /// What would then be seen.
    pub observed: Observed,
}

/// Forecasts all rounds. It ends when a round has no steps.
pub fn forecast(desired: &Desired, observed: &Observed, now: Timestamp) -> Result<Forecast, RenderError> {
    foresee(desired, observed, now).map(|foreseen| foreseen.forecast)
}

/// Forecasts all rounds, and shows the world that they lead to.
pub fn foresee(desired: &Desired, observed: &Observed, now: Timestamp) -> Result<Foreseen, RenderError> {
    let indices = desired.nodes.keys().cloned().zip(1..).collect();
    let (desired, observed) = (desired.clone(), observed.clone());
    let mut world = Assumed { desired, observed, indices, founders: BTreeMap::new(), now };
    let mut planner = Planner::default();
    let mut rounds = Vec::new();
    loop {
        let next = planner.plan(&world.desired, &world.observed, now)?;
        let progress = next.progress();
        let last = next.steps.is_empty() && !world.hear_all() || rounds.len() >= MAX_ROUNDS;
        for step in &next.steps {
            world.assume(&step.action);
        }
        if !next.steps.is_empty() || last {
            rounds.push(next);
        }
        if last {
            let Assumed { desired, observed, .. } = world;
            return Ok(Foreseen { forecast: Forecast { rounds, progress }, desired, observed });
        }
        world.pin_founders();
    }
}

/// A world in which every step works.
struct Assumed {
    desired: Desired,
    observed: Observed,
    /// The number of each node, which its assumed address is made from.
    indices: BTreeMap<NodeName, u32>,
    founders: BTreeMap<crate::names::ComponentName, NodeName>,
    now: Timestamp,
}

impl Assumed {
    fn pin_founders(&mut self) {
        if !self.founders.is_empty() {
            let mut founders = self.desired.founders.clone();
            founders.append(&mut self.founders);
            self.desired = self.desired.with_founders(founders);
        }
    }

    fn assume(&mut self, action: &Action) {
        match action {
            Action::Ensure(step) => {
                let seen = self.made(&step.path, &step.spec);
                self.observed.saw(seen);
                if step.joins
                    && let Some(node) = action.node()
                {
                    self.hear(&node, None);
                }
            }
            Action::Remove { path } => self.observed.gone(path),
            Action::Enroll { node, .. } | Action::Readmit { node, .. } => self.hear(node, None),
            Action::Fill { node, blobs } => {
                let held = blobs.iter().map(|blob| blob.digest.clone()).collect::<Vec<_>>();
                self.change(node, |status| status.blobs.extend(held));
            }
            Action::Found { component, node } => {
                self.founders.insert(component.clone(), node.clone());
            }
            Action::Publish { manifest, content } => self.hear(&manifest.node, Some((manifest, content))),
        }
    }

    fn made(&self, path: &ResourcePath, spec: &ResourceSpec) -> ResourceSeen {
        let known = self.observed.resources.get(path).and_then(|seen| seen.machine.clone());
        let machine = (path.kind == ResourceKind::Machine).then(|| MachineSeen {
            address: known.as_ref().and_then(|machine| machine.address).or(Some(self.address(path))),
            public_address: None,
            power: PowerState::On,
            created_at: self.now,
            incarnation: "assumed".to_owned(),
        });
        let (id, spec) = (format!("assumed:{path}"), Some(spec.digest()));
        ResourceSeen { path: path.clone(), id, spec, ready: true, note: None, machine }
    }

    /// A documentation address (RFC 2544 range), the same for the same path.
    fn address(&self, path: &ResourcePath) -> IpAddr {
        let index = self.indices.get(path.name.as_str()).copied().unwrap_or_default();
        let [_, second, high, low] = index.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(198, 18 + (second & 1), high, low))
    }

    /// Lets nodes be heard whose agent the plan waits for. Whether there was any.
    fn hear_all(&mut self) -> bool {
        let waiting = |(name, node): &(&NodeName, &crate::desired::DesiredNode)| {
            let machine = self.observed.resources.get(&node.machine).and_then(|seen| seen.machine.as_ref());
            let heard = self.observed.nodes.get(*name).is_some_and(|seen| seen.heard.is_some());
            !heard && machine.is_some_and(|machine| machine.power == PowerState::On)
        };
        let nodes: Vec<NodeName> =
            self.desired.nodes.iter().filter(waiting).map(|(name, _)| name.clone()).collect();
        for node in &nodes {
            self.hear(node, None);
        }
        !nodes.is_empty()
    }

    fn hear(&mut self, node: &NodeName, manifest: Option<(&Manifest, &Digest)>) {
        let (now, observed) = (self.now, &mut self.observed);
        let held = observed.nodes.get(node).and_then(|seen| seen.heard.as_ref());
        let mut status =
            held.map_or_else(|| blank(&self.desired, node, now), |heard| (*heard.status).clone());
        status.sequence += 1;
        if let Some((manifest, content)) = manifest {
            status.generation = manifest.generation;
            status.content = Some(content.clone());
            status.components =
                manifest.components.iter().map(|c| (c.name.clone(), healthy(c.digest(), now))).collect();
            let published = Published { generation: manifest.generation, content: content.clone() };
            observed.published(node, published, now);
            observed.opened(node, manifest.components.iter().map(|c| c.name.clone()));
        }
        observed.hear(status, 0, now);
    }

    fn change(&mut self, node: &NodeName, change: impl FnOnce(&mut NodeStatus)) {
        let now = self.now;
        if let Some(heard) = self.observed.nodes.get(node).and_then(|seen| seen.heard.clone()) {
            let mut status = (*heard.status).clone();
            status.sequence += 1;
            change(&mut status);
            self.observed.hear(status, 0, now);
        }
    }
}

fn healthy(applied: Digest, since: Timestamp) -> ComponentStatus {
    ComponentStatus {
        applied,
        phase: Phase::Healthy,
        since,
        note: None,
        checks: BTreeMap::new(),
        restarts: 0,
    }
}

fn blank(desired: &Desired, node: &NodeName, now: Timestamp) -> NodeStatus {
    NodeStatus {
        format_version: 1,
        cluster: desired.cluster.clone(),
        node: node.clone(),
        incarnation: "assumed".to_owned(),
        agent_version: String::new(),
        boot_id: String::new(),
        sequence: 0,
        started_at: now,
        at: now,
        generation: 0,
        content: None,
        components: BTreeMap::new(),
        blobs: std::collections::BTreeSet::new(),
        problem: None,
    }
}
