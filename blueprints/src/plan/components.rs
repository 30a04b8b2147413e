//! Components: a wave opens on a node when the checks of what it needs are ok; then the node gets its next manifest.
//!
//! A component on a node needs each component that it requires: on the same node, where that carries it; and on the
//! masters, where masters carry it (a majority of them for a quorum store, else all that are not set aside). What is
//! open stays open: a check that fails later stops nothing that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::changes::Changes;
use super::contents::{Content, RenderCache};
use super::depot::{self, Depot};
use super::draft::{Draft, Wait};
use super::hope::{self, Hope};
use super::nodes::{Standing, Standings};
use super::{Action, Area, Gate};
use crate::manifest::{Manifest, Peer};
use crate::names::{ComponentName, Digest, NodeName, Role, Timestamp};
use crate::observed::Heard;
use crate::render::{ClusterContext, NodeContext, RenderError, Rendered};
use crate::status::{ComponentStatus, Phase};

pub(super) fn plan<'a>(
    draft: &mut Draft<'a>,
    (standings, depot): (&Standings<'a>, Depot),
    cache: &mut RenderCache,
) -> Result<(), RenderError> {
    let desired = draft.desired;
    let masters = masters(standings);
    let expected = standings.values().filter(|s| s.node.role == Role::Master).count();
    if masters.len() < expected {
        return Ok(());
    }
    let contexts: Vec<NodeContext<'_>> = standings.iter().filter_map(|(name, s)| context(name, s)).collect();
    cache.turn_to(desired, &masters, &contexts);
    let cluster = ClusterContext::new(&contexts);
    let mut session = desired.renderer.session(&cluster);
    let survey = Survey::of(draft, standings, depot);
    let hope = Hope::of(draft, standings, &survey);
    found(draft, standings, &survey);
    let mut changes = Changes::of(desired, standings, &hope);
    for (name, standing) in standings {
        let (Some(heard), Some(node)) = (standing.heard, context(name, standing)) else { continue };
        let held = Held { name, standing, heard };
        let open = open(draft, (&survey, &hope), &held);
        let content = cache.content(desired, &mut session, &node, &open)?;
        publish(draft, &held, &content, &mut changes);
        await_health(draft, &held, &open);
    }
    Ok(())
}

/// A node that is heard.
struct Held<'a> {
    name: &'a NodeName,
    standing: &'a Standing<'a>,
    heard: &'a Heard,
}

fn context<'a>(name: &'a NodeName, standing: &Standing<'a>) -> Option<NodeContext<'a>> {
    let node = standing.node;
    let (role, address) = (node.role, standing.address?);
    Some(NodeContext { name, role, address, group: node.group.as_str(), labels: &node.labels })
}

fn masters(standings: &Standings<'_>) -> Vec<Peer> {
    let masters = standings.iter().filter(|(_, s)| s.node.role == Role::Master);
    masters.filter_map(|(name, s)| Some(Peer { name: (*name).clone(), address: s.address? })).collect()
}

/// What holds for each component across the cluster, counted once a plan.
pub(super) struct Survey<'a> {
    components: BTreeMap<&'a ComponentName, Tally>,
    pub(super) blobs: BTreeSet<&'a Digest>,
    pub(super) depot_is_stuck: bool,
    addresses_missing: usize,
}

#[derive(Default)]
struct Tally {
    /// Masters that carry it, those of them that are set aside, and those on which it is healthy.
    masters: (usize, usize, usize),
    /// The same for the nodes that are not masters.
    others: (usize, usize, usize),
    /// Since when the last of them changed its phase.
    since: Timestamp,
    founded: bool,
}

impl<'a> Survey<'a> {
    fn of(draft: &Draft<'a>, standings: &Standings<'a>, depot: Depot) -> Self {
        let desired = draft.desired;
        let mut components: BTreeMap<&ComponentName, Tally> =
            desired.renderer.names().map(|name| (name, Tally::default())).collect();
        for (node, standing) in standings {
            for name in &desired.carried[&standing.node.role] {
                let tally = components.get_mut(name).expect("a carried component is one of the stack");
                let healthy = phase(standing.heard, name) == Some(Phase::Healthy);
                let count =
                    if standing.node.role == Role::Master { &mut tally.masters } else { &mut tally.others };
                count.0 += 1;
                count.1 += usize::from(standing.set_aside);
                count.2 += usize::from(healthy && !standing.set_aside);
                if let Some((_, since)) = standing.seen.and_then(|seen| seen.since.get(name)) {
                    tally.since = tally.since.max(*since);
                }
                tally.founded |= healthy && desired.founders.get(name) == Some(*node);
            }
        }
        let addresses_missing = standings.values().filter(|s| s.address.is_none() && !s.set_aside).count();
        let (blobs, depot_is_stuck) = (depot::held(standings), depot == Depot::Stuck);
        Self { components, blobs, depot_is_stuck, addresses_missing }
    }

    /// Where others look for `name`, and there: carriers, those set aside, those on which it is healthy.
    pub(super) fn place_of(&self, name: &ComponentName) -> (&'static str, (usize, usize, usize)) {
        let tally = &self.components[name];
        if tally.masters.0 > 0 { ("masters", tally.masters) } else { ("agents", tally.others) }
    }

    /// How many healthy nodes are enough for whoever requires a component from elsewhere.
    pub(super) fn needed(carriers: usize, aside: usize, quorum: bool) -> usize {
        if quorum { carriers / 2 + 1 } else { (carriers - aside).max(usize::from(carriers > 0)) }
    }

    /// Whether somebody is a member of `name` whom others can join.
    pub(super) fn is_founded(&self, name: &ComponentName) -> bool {
        self.components[name].founded || self.components[name].masters.2 > 0
    }

    /// What is still missing of `name` for whoever requires it from elsewhere; `None` if nothing is.
    fn lacking(&self, name: &ComponentName, quorum: bool) -> Option<String> {
        let (place, (carriers, aside, healthy)) = self.place_of(name);
        let needed = Self::needed(carriers, aside, quorum);
        (healthy < needed)
            .then(|| format!("{name} is healthy on {healthy} of {carriers} {place}, and {needed} are needed"))
    }
}

fn phase(heard: Option<&Heard>, name: &ComponentName) -> Option<Phase> {
    heard.and_then(|heard| heard.status.components.get(name)).map(|component| component.phase)
}

/// Chooses, once and for all, the node that founds each membership. It is pinned before it is asked to.
fn found(draft: &mut Draft<'_>, standings: &Standings<'_>, survey: &Survey<'_>) {
    let desired = draft.desired;
    for name in desired.renderer.names() {
        if !desired.renderer.has_membership(name) || desired.founders.contains_key(name) {
            continue;
        }
        let ready = |held: &Held<'_>| {
            desired.carried[&held.standing.node.role].contains(name)
                && waits(draft, survey, held, name).is_none()
        };
        let candidates = standings.iter().filter(|(_, s)| s.node.role == Role::Master && !s.set_aside);
        let held =
            candidates.filter_map(|(name, standing)| Some(Held { name, standing, heard: standing.heard? }));
        if let Some(founder) = held.into_iter().find(ready).map(|held| held.name.clone()) {
            let action = Action::Found { component: name.clone(), node: founder.clone() };
            draft.step(format!("found {name}"), action, format!("{founder} is the first that can"));
        }
    }
}

/// The components of a node that are open, in boot order; the others are recorded as waiting.
fn open<'a>(
    draft: &mut Draft<'a>,
    (survey, hope): (&Survey<'_>, &Hope<'_>),
    held: &Held<'_>,
) -> Vec<&'a ComponentName> {
    let desired = draft.desired;
    let mut open = Vec::new();
    for name in &desired.carried[&held.standing.node.role] {
        if hope::is_open(held.standing, name) {
            open.push(name);
            continue;
        }
        let founder = desired.founders.get(name);
        let waits = waits(draft, survey, held, name).or_else(|| match founder {
            _ if !desired.renderer.has_membership(name) || founder == Some(held.name) => None,
            None => Some((founding(name), format!("a master to be chosen that founds {name}"))),
            Some(_) if survey.is_founded(name) => None,
            Some(founder) => Some((founding(name), format!("{name} to be founded on {founder}"))),
        });
        match waits {
            None => open.push(name),
            Some((gate, waits_for)) => {
                let wait = Wait {
                    subject: format!("{name} on {}", held.name),
                    last_seen: last_seen(held, desired.renderer.requires(name)),
                    waits_for,
                    gate,
                    since: since(survey, desired.renderer.requires(name)).max(held.heard.status.started_at),
                    node: Some(held.name.clone()),
                };
                draft.wait_in_hope(wait, !hope.is_hopeless(name, held.name));
            }
        }
    }
    open
}

/// What keeps `name` from being started on a node, if anything does.
fn waits(
    draft: &Draft<'_>,
    survey: &Survey<'_>,
    held: &Held<'_>,
    name: &ComponentName,
) -> Option<(Gate, String)> {
    let renderer = &draft.desired.renderer;
    if let Some(bundle) = renderer.bundle(name)
        && !survey.blobs.contains(&bundle.digest)
    {
        let gate = Gate::Bundle { component: name.clone() };
        return Some((gate, format!("the bundle of {name} to be in the depot")));
    }
    if renderer.needs_nodes(name) && survey.addresses_missing > 0 {
        let missing = survey.addresses_missing;
        return Some((
            Gate::Addresses,
            format!("the addresses of {missing} more nodes, which its config names"),
        ));
    }
    for required in renderer.requires(name) {
        let here = renderer.roles(required).contains(&held.standing.node.role);
        if here && phase(Some(held.heard), required) != Some(Phase::Healthy) {
            return Some((component(required), format!("{required} on {}", held.name)));
        }
        // Beside its own node, a component waits for what is clustered, and for what only other nodes carry.
        if (!here || renderer.is_quorum(required))
            && let Some(lacking) = survey.lacking(required, renderer.is_quorum(required))
        {
            return Some((component(required), lacking));
        }
    }
    None
}

fn component(name: &ComponentName) -> Gate {
    Gate::Component { component: name.clone() }
}

fn founding(name: &ComponentName) -> Gate {
    Gate::Founding { component: name.clone() }
}

fn since(survey: &Survey<'_>, requires: &BTreeSet<ComponentName>) -> Timestamp {
    requires.iter().map(|name| survey.components[name].since).max().unwrap_or_default()
}

fn last_seen(held: &Held<'_>, requires: &BTreeSet<ComponentName>) -> String {
    let here = requires.iter().filter_map(|name| Some((name, held.heard.status.components.get(name)?)));
    let seen: Vec<_> = here.map(|(name, status)| describe(name, status)).collect();
    if seen.is_empty() {
        format!("{} is at generation {}", held.name, held.heard.status.generation)
    } else {
        seen.join("; ")
    }
}

fn describe(name: &ComponentName, status: &ComponentStatus) -> String {
    let failing = status.checks.iter().find(|(_, result)| result.verdict != crate::status::Verdict::Ok);
    match (failing, &status.note) {
        (Some((check, result)), _) => {
            format!("{name} {}: check {check} is {}: {}", status.phase, result.verdict, result.seen)
        }
        (None, Some(note)) => format!("{name} {}: {note}", status.phase),
        (None, None) => format!("{name} {}", status.phase),
    }
}

fn publish<'a>(draft: &mut Draft<'_>, held: &Held<'a>, content: &Content, changes: &mut Changes<'a>) {
    let published = held.standing.seen.and_then(|seen| seen.published.as_ref());
    let held_content = published.map(|p| &p.content).or(held.heard.status.content.as_ref());
    let nothing_yet = held_content.is_none() && content.components.is_empty();
    if held_content == Some(&content.digest) || nothing_yet {
        return;
    }
    let status = &held.heard.status.components;
    let differs = |r: &&Rendered| status.get(&r.manifest.name).is_some_and(|s| s.applied != r.digest);
    let differing: Vec<&ComponentName> =
        content.components.iter().filter(differs).map(|r| &r.manifest.name).collect();
    if !differing.is_empty()
        && let Err(hope) = changes.admit(held.name, &differing)
    {
        let wait = Wait {
            subject: format!("change of {}", held.name),
            waits_for: "other nodes of its kind to be healthy after their change".to_owned(),
            gate: Gate::Turn,
            last_seen: format!("{} is at generation {}", held.name, held.heard.status.generation),
            since: draft.observed.taken_at,
            node: Some(held.name.clone()),
        };
        return draft.wait_in_hope(wait, hope);
    }
    let generation = published.map_or(0, |p| p.generation).max(held.heard.status.generation) + 1;
    let manifest = Manifest { generation, ..content.manifest.clone() };
    let reason = if differing.is_empty() { "components have opened" } else { "its components change" };
    let id = format!("publish {}@{generation}", held.name);
    let action = Action::Publish { manifest: Arc::new(manifest), content: content.digest.clone() };
    draft.step(id, action, reason);
}

/// Records what a node has yet to reach, and sets aside what took too long.
fn await_health(draft: &mut Draft<'_>, held: &Held<'_>, open: &[&ComponentName]) {
    if let Some(problem) = &held.heard.status.problem {
        draft.wait(Wait {
            subject: format!("node {}", held.name),
            waits_for: "its agent to go on".to_owned(),
            gate: Gate::Node,
            last_seen: problem.clone(),
            since: held.heard.at,
            node: Some(held.name.clone()),
        });
    }
    await_manifest(draft, held);
    for name in open {
        let status = held.heard.status.components.get(*name);
        if status.is_some_and(|status| status.phase == Phase::Healthy) {
            continue;
        }
        let since = hope::awaited_since(held.standing, name, draft.now);
        let wait = Wait {
            subject: format!("{name} on {}", held.name),
            waits_for: "its checks to be ok".to_owned(),
            gate: Gate::Checks { component: (*name).clone() },
            last_seen: status
                .map_or_else(|| "the agent has not begun with it".to_owned(), |s| describe(name, s)),
            since,
            node: Some(held.name.clone()),
        };
        if draft.overdue(since, draft.desired.limits.settle_seconds) {
            let reason = format!("{} has not become healthy: {}", wait.subject, wait.last_seen);
            draft.debt(wait.subject.clone(), reason, since, Area::Platform);
            draft.blocked_by_debt(wait);
        } else {
            draft.wait(wait);
        }
    }
}

/// What a node says is only then of the manifest that the masters hold for it when it has taken that up.
fn await_manifest(draft: &mut Draft<'_>, held: &Held<'_>) {
    let Some((seen, published)) = held.standing.seen.and_then(|seen| Some((seen, seen.published.as_ref()?)))
    else {
        return;
    };
    if held.heard.status.content.as_ref() == Some(&published.content) {
        return;
    }
    let since = seen.published_at.unwrap_or(draft.now);
    let wait = Wait {
        subject: format!("node {}", held.name),
        waits_for: format!("its agent to take up generation {}", published.generation),
        gate: Gate::Manifest { generation: published.generation },
        last_seen: format!("it is at generation {}", held.heard.status.generation),
        since,
        node: Some(held.name.clone()),
    };
    if draft.overdue(since, draft.desired.limits.settle_seconds) {
        let reason = format!("{} has not taken up generation {}", held.name, published.generation);
        draft.debt(wait.subject.clone(), reason, since, Area::Platform);
        draft.blocked_by_debt(wait);
    } else {
        draft.wait(wait);
    }
}
