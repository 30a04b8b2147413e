//! Hope: whether what is awaited can still come in this run, or only somebody's help can bring it.
//!
//! A component on a node is hopeless when its node is set aside, when it is open and has not become healthy in time, or
//! when what it requires is hopeless. Without this a run would wait for ever for what stands on something broken.

use std::collections::{BTreeMap, BTreeSet};

use super::components::Survey;
use super::draft::Draft;
use super::nodes::{Standing, Standings};
use crate::names::{ComponentName, NodeName, Role, Timestamp};
use crate::status::Phase;

/// What is hopeless; mostly nothing is.
#[derive(Default)]
pub(super) struct Hope<'a> {
    hopeless: BTreeMap<&'a ComponentName, BTreeSet<&'a NodeName>>,
    /// Nodes that are set aside, or carry something that did not become healthy in time.
    stuck: BTreeSet<&'a NodeName>,
}

impl<'a> Hope<'a> {
    pub(super) fn of(draft: &Draft<'a>, standings: &Standings<'a>, survey: &Survey<'a>) -> Self {
        let stuck = |(name, standing): (&&'a NodeName, &Standing<'a>)| {
            let carried = &draft.desired.carried[&standing.node.role];
            let stuck = standing.set_aside || carried.iter().any(|c| is_overdue(draft, standing, c));
            stuck.then_some(*name)
        };
        let mut hope = Self { stuck: standings.iter().filter_map(stuck).collect(), ..Self::default() };
        if hope.stuck.is_empty() && !survey.depot_is_stuck {
            return hope;
        }
        let renderer = &draft.desired.renderer;
        let mut names: Vec<&'a ComponentName> = renderer.names().collect();
        names.sort_by_key(|name| (renderer.wave(name), *name));
        for name in names {
            let carriers = standings.iter().filter(|(_, s)| renderer.roles(name).contains(&s.node.role));
            let hopeless = carriers.filter(|(node, s)| hope.is_lost(draft, survey, (node, s), name));
            let hopeless: BTreeSet<&NodeName> = hopeless.map(|(node, _)| *node).collect();
            hope.hopeless.insert(name, hopeless);
            hope.follow_founder(draft, standings, survey, name);
        }
        hope
    }

    /// Whether waiting for a component on a node is no use in this run.
    pub(super) fn is_hopeless(&self, name: &ComponentName, node: &NodeName) -> bool {
        self.hopeless.get(name).is_some_and(|nodes| nodes.contains(node))
    }

    /// Whether a node will not settle in this run.
    pub(super) fn is_stuck(&self, node: &NodeName) -> bool {
        self.stuck.contains(node)
    }

    fn is_lost(
        &self,
        draft: &Draft<'a>,
        survey: &Survey<'a>,
        (node, standing): (&NodeName, &Standing<'a>),
        name: &ComponentName,
    ) -> bool {
        if standing.set_aside {
            return true;
        }
        if is_open(standing, name) {
            return is_overdue(draft, standing, name);
        }
        let renderer = &draft.desired.renderer;
        let lacks_bundle = || renderer.bundle(name).is_some_and(|b| !survey.blobs.contains(&b.digest));
        if survey.depot_is_stuck && lacks_bundle() {
            return true;
        }
        renderer.requires(name).iter().any(|required| {
            let here = renderer.roles(required).contains(&standing.node.role);
            let quorum = renderer.is_quorum(required);
            (here && self.is_hopeless(required, node))
                || ((!here || quorum) && !self.can_suffice(survey, required, quorum))
        })
    }

    /// Whether enough nodes can still be healthy with `name` for whoever requires it from elsewhere.
    fn can_suffice(&self, survey: &Survey<'a>, name: &ComponentName, quorum: bool) -> bool {
        let (_, (carriers, aside, _)) = survey.place_of(name);
        let lost = self.hopeless.get(name).map_or(0, BTreeSet::len);
        carriers.saturating_sub(lost) >= Survey::needed(carriers, aside, quorum)
    }

    /// Nobody can join what can no longer be founded.
    fn follow_founder(
        &mut self,
        draft: &Draft<'a>,
        standings: &Standings<'a>,
        survey: &Survey<'a>,
        name: &'a ComponentName,
    ) {
        let desired = draft.desired;
        if !desired.renderer.has_membership(name) || survey.is_founded(name) {
            return;
        }
        let carries = |s: &Standing<'_>| desired.renderer.roles(name).contains(&s.node.role);
        let lost = match desired.founders.get(name) {
            Some(founder) => self.is_hopeless(name, founder),
            None => standings
                .iter()
                .filter(|(_, s)| s.node.role == Role::Master && carries(s))
                .all(|(node, _)| self.is_hopeless(name, node)),
        };
        if lost {
            let all = standings.iter().filter(|(_, s)| carries(s)).map(|(node, _)| *node);
            self.hopeless.insert(name, all.collect());
        }
    }
}

/// Whether the component was opened on the node, or its agent holds it anyhow.
pub(super) fn is_open(standing: &Standing<'_>, name: &ComponentName) -> bool {
    standing.seen.is_some_and(|seen| seen.opened.contains(name))
        || standing.heard.is_some_and(|heard| heard.status.components.contains_key(name))
}

/// Since when an open component that is not healthy is awaited.
pub(super) fn awaited_since(standing: &Standing<'_>, name: &ComponentName, now: Timestamp) -> Timestamp {
    let since = standing.seen.and_then(|seen| seen.striving.get(name)).map(|(_, since)| *since);
    since.or(standing.seen.and_then(|seen| seen.published_at)).unwrap_or(now)
}

fn is_overdue(draft: &Draft<'_>, standing: &Standing<'_>, name: &ComponentName) -> bool {
    let Some(heard) = standing.heard else { return false };
    if !is_open(standing, name)
        || heard.status.components.get(name).is_some_and(|status| status.phase == Phase::Healthy)
    {
        return false;
    }
    let limit = u64::from(draft.desired.limits.settle_seconds) * 1000;
    awaited_since(standing, name, draft.now).plus(limit) <= draft.now
}
