//! Observed worlds drawn by hand: a whole cluster as a run saw it at its end, from which a test takes things away.

use castrum_blueprints::desired::Desired;
use castrum_blueprints::names::{ComponentName, Digest, NodeName, ResourceKind, ResourcePath, Timestamp};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Action, Gate, Plan, Progress, plan};
use castrum_blueprints::status::{NodeStatus, Phase};
use castrum_provider_sim::Settings;

use crate::cluster::{Cluster, site};
use crate::rig::{Rig, on_sim};

/// A desired cluster, and what is seen of it.
#[derive(Debug, Clone)]
pub struct Sketch {
    /// What it shall be.
    pub desired: Desired,
    /// What is seen.
    pub observed: Observed,
    /// The time.
    pub now: Timestamp,
}

impl Sketch {
    /// The cluster whole and healthy, with its founders pinned.
    pub fn whole(cluster: &Cluster) -> Self {
        let mut sketch = None;
        on_sim(async {
            let rig = Rig::new(cluster.clone(), Settings::instant());
            let (outcome, _) = rig.apply().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            sketch = Some(Self { desired: rig.desired(), observed: outcome.observed, now: rig.world.now() });
        });
        sketch.expect("it was drawn")
    }

    /// Nothing exists yet.
    pub fn empty(cluster: &Cluster) -> Self {
        Self { desired: cluster.desired(), observed: Observed::default(), now: Timestamp(1_900_000_000_000) }
    }

    /// The plan for it.
    pub fn plan(&self) -> Plan {
        plan(&self.desired, &self.observed, self.now).expect("rendered")
    }

    /// The ids of the steps of its plan.
    pub fn steps(&self) -> Vec<String> {
        self.plan().steps.into_iter().map(|step| step.id).collect()
    }

    /// Which components the plan opens on a node, beside those that are open.
    pub fn opens(&self, node: &str) -> Vec<String> {
        let known = self.observed.nodes.get(&name(node)).map(|seen| seen.opened.clone()).unwrap_or_default();
        let published = self.plan().steps.into_iter().find_map(|step| match step.action {
            Action::Publish { manifest, .. } if manifest.node.as_str() == node => Some(manifest),
            _ => None,
        });
        let components = published.into_iter().flat_map(|manifest| manifest.components.clone());
        components.map(|c| c.name.clone()).filter(|c| !known.contains(c)).map(|c| c.to_string()).collect()
    }

    /// The gate that `subject` stands before.
    pub fn gate(&self, subject: &str) -> Option<Gate> {
        self.plan().blocked.into_iter().find(|blocked| blocked.subject == subject).map(|blocked| blocked.gate)
    }

    /// What waits on a subject, in words; empty if nothing does.
    pub fn waits(&self, subject: &str) -> String {
        let blocked = self.plan().blocked.into_iter().find(|blocked| blocked.subject == subject);
        blocked.map(|blocked| blocked.waits_for).unwrap_or_default()
    }

    /// The nodes.
    pub fn nodes(&self) -> Vec<NodeName> {
        self.desired.nodes.keys().cloned().collect()
    }

    /// Changes what a node said last.
    pub fn says(&mut self, node: &str, change: impl FnOnce(&mut NodeStatus)) {
        let seen = self.observed.nodes.get_mut(&name(node)).expect("a known node");
        let heard = seen.heard.as_mut().expect("a node that was heard");
        change(std::sync::Arc::make_mut(&mut heard.status));
    }

    /// Puts a component of a node into another phase, since now.
    pub fn phase(&mut self, node: &str, component: &str, phase: Phase) {
        let (now, component) = (self.now, component.parse::<ComponentName>().expect("a name"));
        self.says(node, |status| status.components.get_mut(&component).expect("carried").phase = phase);
        let seen = self.observed.nodes.get_mut(&name(node)).expect("known");
        seen.since.insert(component.clone(), (phase, now));
        seen.striving.insert(component, (phase, now));
    }

    /// Takes a component back, as if it had never been opened on the node.
    pub fn close(&mut self, node: &str, component: &str) {
        let component = component.parse::<ComponentName>().expect("a name");
        self.says(node, |status| drop(status.components.remove(&component)));
        let seen = self.observed.nodes.get_mut(&name(node)).expect("known");
        seen.opened.remove(&component);
        seen.since.remove(&component);
        // What is held is then another manifest than the whole one.
        let content = Digest::of(format!("{node} without {component}").as_bytes());
        if let (Some(published), Some(heard)) = (&mut seen.published, &mut seen.heard) {
            published.content = content.clone();
            std::sync::Arc::make_mut(&mut heard.status).content = Some(content);
        }
    }

    /// Takes a component back on every node.
    pub fn close_everywhere(&mut self, component: &str) {
        for node in self.nodes() {
            if self.desired.carried[&self.desired.nodes[&node].role].iter().any(|c| c.as_str() == component) {
                self.close(node.as_str(), component);
            }
        }
    }
}

/// The path of a machine.
pub fn machine(node: &str) -> ResourcePath {
    ResourcePath { site: site(), kind: ResourceKind::Machine, name: node.to_owned() }
}

/// A node's name.
pub fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}
