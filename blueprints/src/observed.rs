//! Observed: what was seen of the places and heard of the nodes, with the time of each.
//!
//! It is a value that grows by small pure steps ([`Observed::hear`], [`Observed::saw`], ...), so that a run that is told
//! things as they happen and a run that looks once hold the same thing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{ComponentName, Digest, NodeName, ResourcePath, Timestamp};
use crate::resource::{Blind, PowerState, ResourceSeen};
use crate::status::{NodeStatus, Phase};
use crate::wire::Published;

/// What is known of the world. Times are by the installer's clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When the places were last looked at.
    pub taken_at: Timestamp,
    /// The resources that exist.
    pub resources: BTreeMap<ResourcePath, ResourceSeen>,
    /// What could not be looked at.
    pub blind: Vec<Blind>,
    /// Since when a run has listened to the nodes; whoever was silent before may still speak. `None` for a mere look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening_since: Option<Timestamp>,
    /// What is known of nodes.
    pub nodes: BTreeMap<NodeName, NodeSeen>,
    /// Steps that failed and have not succeeded since, by id.
    pub failures: BTreeMap<String, StepFailure>,
}

/// What is known of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeSeen {
    /// When its machine was switched on in this run; what was said before is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_on_at: Option<Timestamp>,
    /// Since when its machine has been up without a word of its agent.
    pub awaited_since: Option<Timestamp>,
    /// When the installer last brought the agent to it.
    pub enrolled_at: Option<Timestamp>,
    /// The last that was heard of it.
    pub heard: Option<Heard>,
    /// The newest manifest that a master holds for it.
    pub published: Option<Published>,
    /// When that manifest was first known to be held.
    pub published_at: Option<Timestamp>,
    /// The components that were opened on it; what is open stays open.
    pub opened: BTreeSet<ComponentName>,
    /// The blobs that the installer put into its depot in this run; its own word may come later.
    pub filled: BTreeSet<Digest>,
    /// Since when each component is in its phase, as seen from here.
    pub since: BTreeMap<ComponentName, (Phase, Timestamp)>,
    /// How far each component that is not healthy has come, and since when. One that falls back gains no time.
    #[serde(default)]
    pub striving: BTreeMap<ComponentName, (Phase, Timestamp)>,
}

/// A node's last word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// When it was said.
    pub at: Timestamp,
    /// What was said.
    pub status: Arc<NodeStatus>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// When it failed first.
    pub first: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// How often of these it failed at each call of the place; the name is empty where that is not known.
    #[serde(default)]
    pub at: BTreeMap<String, u32>,
    /// When it may be tried again; `None`: never, it is of no use.
    pub retry_at: Option<Timestamp>,
    /// The last error, in a line.
    pub message: String,
}

/// More calls of a place than one step makes.
const CALLS: u32 = 32;

/// How a step just failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failed {
    /// The error, in a line.
    pub message: String,
    /// The call of the place at which it failed.
    pub at: Option<String>,
    /// When it may be tried again; `None`: never.
    pub retry_at: Option<Timestamp>,
}

impl Observed {
    /// Takes in a node's status that is `age_ms` old. Older words than the one held are ignored.
    pub fn hear(&mut self, status: NodeStatus, age_ms: u64, now: Timestamp) -> bool {
        let at = Timestamp(now.0.saturating_sub(age_ms));
        let seen = self.nodes.entry(status.node.clone()).or_default();
        if seen.switched_on_at.is_some_and(|on| at < on) {
            return false;
        }
        let order = |s: &NodeStatus| (s.started_at, s.sequence);
        if let Some(held) = &mut seen.heard {
            if order(&held.status) > order(&status) {
                return false;
            }
            if order(&held.status) == order(&status) {
                held.at = held.at.max(at);
                return false;
            }
        }
        for (name, component) in &status.components {
            let since = seen.since.entry(name.clone()).or_insert((component.phase, now));
            if since.0 != component.phase {
                *since = (component.phase, now);
            }
            if component.phase == Phase::Healthy {
                seen.striving.remove(name);
                continue;
            }
            let furthest = seen.striving.entry(name.clone()).or_insert((component.phase, now));
            if component.phase > furthest.0 {
                *furthest = (component.phase, now);
            }
        }
        seen.since.retain(|name, _| status.components.contains_key(name));
        seen.striving.retain(|name, _| status.components.contains_key(name));
        seen.awaited_since = None;
        seen.heard = Some(Heard { at, status: Arc::new(status) });
        true
    }

    /// Takes in a resource as a provider just described it.
    pub fn saw(&mut self, resource: ResourceSeen) {
        self.resources.insert(resource.path.clone(), resource);
    }

    /// Takes in that a resource is gone.
    pub fn gone(&mut self, path: &ResourcePath) {
        self.resources.remove(path);
    }

    /// Takes in the newest manifest that a master holds for a node.
    pub fn published(&mut self, node: &NodeName, published: Published, now: Timestamp) {
        let seen = self.nodes.entry(node.clone()).or_default();
        if seen.published.as_ref().is_none_or(|held| held.generation < published.generation) {
            seen.published = Some(published);
            seen.published_at = Some(now);
        }
    }

    /// Takes in which components a manifest opened on its node.
    pub fn opened(&mut self, node: &NodeName, components: impl IntoIterator<Item = ComponentName>) {
        self.nodes.entry(node.clone()).or_default().opened.extend(components);
    }

    /// Takes in which blobs were put into a node's depot.
    pub fn filled(&mut self, node: &NodeName, blobs: impl IntoIterator<Item = Digest>) {
        self.nodes.entry(node.clone()).or_default().filled.extend(blobs);
    }

    /// Notes since when each node whose machine is on has been awaited.
    pub fn await_agents<'a>(
        &mut self,
        nodes: impl Iterator<Item = (&'a NodeName, &'a ResourcePath)>,
        now: Timestamp,
    ) {
        for (name, machine) in nodes {
            let machine = self.resources.get(machine).and_then(|seen| seen.machine.as_ref());
            let Some(machine) = machine.filter(|machine| machine.power == PowerState::On) else { continue };
            if !self.nodes.contains_key(name) {
                self.nodes.insert(name.clone(), NodeSeen::default());
            }
            let Some(seen) = self.nodes.get_mut(name) else { continue };
            let heard = seen.heard.as_ref().is_some_and(|heard| heard.at >= machine.created_at);
            if !heard && seen.awaited_since.is_none() {
                seen.awaited_since = Some(now);
            }
        }
    }

    /// Takes in that a node's machine was made or switched on: its agent is awaited from now on, and what it said before
    /// tells nothing.
    pub fn switched_on(&mut self, node: &NodeName, now: Timestamp) {
        let seen = self.nodes.entry(node.clone()).or_default();
        (seen.heard, seen.switched_on_at, seen.awaited_since) = (None, Some(now), Some(now));
        seen.since.clear();
        seen.striving.clear();
        seen.filled.clear();
    }

    /// How often a step has failed at one call of the place. Who fails at another one than before has got further, or at least
    /// not stayed where it was; each call counts by itself, so that in the end pauses grow whatever happens.
    pub fn failed_at(&self, step: &str, at: Option<&str>) -> u32 {
        let Some(known) = self.failures.get(step) else { return 0 };
        // A provider may name no two calls alike.
        known.at.get(at.unwrap_or_default()).copied().unwrap_or(0).max(known.attempts / CALLS)
    }

    /// Takes in that a step failed.
    pub fn failed(&mut self, step: &str, failed: Failed, now: Timestamp) {
        let failure = self.failures.entry(step.to_owned()).or_insert(StepFailure {
            first: now,
            attempts: 0,
            at: BTreeMap::new(),
            retry_at: None,
            message: String::new(),
        });
        failure.attempts += 1;
        let at = failed.at.filter(|at| failure.at.len() < CALLS as usize || failure.at.contains_key(at));
        *failure.at.entry(at.unwrap_or_default()).or_insert(0) += 1;
        failure.retry_at = failed.retry_at;
        failure.message = failed.message;
    }

    /// Takes in that a step succeeded.
    pub fn succeeded(&mut self, step: &str) {
        self.failures.remove(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_counts_by_itself_until_the_step_succeeds() {
        let mut observed = Observed::default();
        let mut told = Vec::new();
        for at in
            [Some("make"), None, Some("make"), Some("tag"), Some("make"), Some("tag"), None, Some("open")]
        {
            told.push(observed.failed_at("step", at));
            let failed = Failed { at: at.map(str::to_owned), ..Failed::default() };
            observed.failed("step", failed, Timestamp(0));
        }
        assert_eq!(told, [0, 0, 1, 0, 2, 1, 1, 0]);
        assert_eq!(observed.failures["step"].attempts, 8);
        for number in 0..2_000 {
            let failed = Failed { at: Some(format!("call {number}")), ..Failed::default() };
            observed.failed("step", failed, Timestamp(0));
        }
        assert!(observed.failed_at("step", Some("another")) > 8, "in the end it waits as long as can be");
        assert!(observed.failures["step"].at.len() <= 33);
        observed.succeeded("step");
        assert_eq!(observed.failed_at("step", Some("make")), 0);
    }
}
