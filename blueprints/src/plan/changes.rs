//! Which nodes may be changed now: agents in bounded batches, masters one at a time and never when a quorum misses one.

use std::collections::BTreeSet;

use super::hope::Hope;
use super::nodes::{Standing, Standings};
use crate::desired::Desired;
use crate::names::{ComponentName, NodeName, Role};
use crate::status::Phase;

/// Which nodes are being changed, or are not well.
pub(super) struct Changes<'a> {
    desired: &'a Desired,
    standings: &'a Standings<'a>,
    hope: &'a Hope<'a>,
    /// Masters that are not well, or have not taken up their manifest.
    masters: BTreeSet<&'a NodeName>,
    /// Masters whose change is under way.
    changing: BTreeSet<&'a NodeName>,
    agents: BTreeSet<&'a NodeName>,
}

impl<'a> Changes<'a> {
    /// An agent that is set aside holds up no other; a master does, since a quorum misses it already.
    pub(super) fn of(desired: &'a Desired, standings: &'a Standings<'a>, hope: &'a Hope<'a>) -> Self {
        let (mut masters, mut changing, mut agents) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (name, standing) in standings {
            let (taken_up, well) = (has_taken_up(standing), is_well(standing));
            if taken_up && well {
                continue;
            }
            if standing.node.role != Role::Master {
                if standing.heard.is_some() && !standing.set_aside {
                    agents.insert(*name);
                }
                continue;
            }
            masters.insert(*name);
            if !taken_up && standing.heard.is_some() {
                changing.insert(*name);
            }
        }
        Self { desired, standings, hope, masters, changing, agents }
    }

    /// Whether `node` may be changed now, in the components `differing`. If not: whether it may later in this run.
    pub(super) fn admit(&mut self, node: &'a NodeName, differing: &[&ComponentName]) -> Result<(), bool> {
        if self.standings[node].node.role == Role::Master {
            return self.admit_master(node, differing);
        }
        let room = self.desired.limits.agents_at_once as usize;
        if !self.agents.contains(node) && self.agents.len() >= room {
            return Err(self.agents.iter().any(|other| !self.hope.is_stuck(other)));
        }
        self.agents.insert(node);
        Ok(())
    }

    fn admit_master(&mut self, node: &'a NodeName, differing: &[&ComponentName]) -> Result<(), bool> {
        let others: Vec<&NodeName> = self.masters.iter().copied().filter(|other| *other != node).collect();
        let other_changes = self.changing.iter().any(|other| *other != node);
        let harmless = || self.masters.contains(node) && !self.is_missed(node, differing);
        if other_changes || !(others.is_empty() || harmless()) {
            return Err(others.iter().any(|other| !self.hope.is_stuck(other)));
        }
        self.masters.insert(node);
        self.changing.insert(node);
        Ok(())
    }

    /// Whether some other master lacks what a change of a master that is not well itself would interrupt on it.
    fn is_missed(&self, node: &NodeName, differing: &[&ComponentName]) -> bool {
        let healthy = |standing: &Standing<'_>, name: &ComponentName| {
            let status = standing.heard.and_then(|heard| heard.status.components.get(name));
            status.is_some_and(|status| status.phase == Phase::Healthy) && !standing.set_aside
        };
        let interrupted = self.desired.carried[&Role::Master]
            .iter()
            .filter(|name| differing.iter().any(|changed| self.stands_on(name, changed)))
            .filter(|name| healthy(&self.standings[node], name));
        let others =
            || self.standings.iter().filter(|(name, s)| s.node.role == Role::Master && **name != node);
        interrupted.into_iter().any(|name| others().any(|(_, other)| !healthy(other, name)))
    }

    /// Whether `name` is `below`, or requires it, through however many others.
    fn stands_on(&self, name: &ComponentName, below: &ComponentName) -> bool {
        let renderer = &self.desired.renderer;
        name == below || renderer.requires(name).iter().any(|required| self.stands_on(required, below))
    }
}

fn has_taken_up(standing: &Standing<'_>) -> bool {
    let Some(heard) = standing.heard else { return false };
    let published = standing.seen.and_then(|seen| seen.published.as_ref());
    published.is_none_or(|published| heard.status.content.as_ref() == Some(&published.content))
}

fn is_well(standing: &Standing<'_>) -> bool {
    let healthy = |heard: &crate::observed::Heard| {
        heard.status.components.values().all(|component| component.phase == Phase::Healthy)
    };
    standing.heard.is_some_and(healthy)
}
