//! What is known of each node and each component, brought together once for all views.

use std::collections::BTreeMap;
use std::net::IpAddr;

use castrum_blueprints::desired::DesiredNode;
use castrum_blueprints::lock::Lock;
use castrum_blueprints::names::{ComponentName, NodeName, Timestamp};
use castrum_blueprints::plan::{Blocked, Debt};
use castrum_blueprints::resource::{MachineSeen, PowerState};
use castrum_blueprints::stack::{Source, Stack};
use castrum_blueprints::status::{CheckResult, ComponentStatus, NodeStatus, Phase, Verdict};

use super::World;
use super::names::{natural, node_in};
use super::style::clean;

/// What is known of one node.
#[derive(Debug)]
pub(crate) struct NodeFacts<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) node: &'a DesiredNode,
    pub(crate) machine: Option<&'a MachineSeen>,
    /// The machine in a word: `on`, `off`, `paused`, `absent`, `unseen`, `making`.
    pub(crate) power: &'static str,
    pub(crate) agent: Agent,
    pub(crate) status: Option<&'a NodeStatus>,
    /// The newest generation that a master holds for it.
    pub(crate) published: Option<u64>,
    pub(crate) carried: &'a [ComponentName],
    pub(crate) healthy: usize,
    pub(crate) problem: Option<Problem>,
}

/// Whether a node's agent is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    /// It was heard at that time.
    Heard(Timestamp),
    /// It was heard, but too long ago.
    Silent(Timestamp),
    /// It was never heard.
    Never,
}

impl Agent {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Heard(_) => "heard",
            Self::Silent(_) => "silent",
            Self::Never => "never",
        }
    }

    pub(crate) fn at(self) -> Option<Timestamp> {
        match self {
            Self::Heard(at) | Self::Silent(at) => Some(at),
            Self::Never => None,
        }
    }
}

/// The worst that is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) text: String,
    /// Whether something is wrong, and not merely under way.
    pub(crate) wrong: bool,
}

impl NodeFacts<'_> {
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.machine.and_then(|machine| machine.public_address.or(machine.address))
    }

    pub(crate) fn address_text(&self) -> String {
        self.address().map_or_else(String::new, |address| address.to_string())
    }

    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.agent, Agent::Heard(_)) && self.healthy == self.carried.len() && self.problem.is_none()
    }

    /// What the node says of a component.
    pub(crate) fn component(&self, name: &ComponentName) -> Option<&ComponentStatus> {
        self.status.and_then(|status| status.components.get(name))
    }
}

/// Debts and waits by the node that they are about.
struct ByNode<'a> {
    debt: BTreeMap<&'a str, &'a Debt>,
    waits: BTreeMap<&'a str, &'a Blocked>,
}

impl<'a> ByNode<'a> {
    fn of(world: &World<'a>) -> Self {
        let mut debt = BTreeMap::new();
        for one in &world.plan.debt {
            if let Some(node) = node_in(&one.subject) {
                debt.entry(node).or_insert(one);
            }
        }
        let mut waits: BTreeMap<&str, &Blocked> = BTreeMap::new();
        for one in &world.plan.blocked {
            if let Some(node) = &one.node {
                let held = waits.entry(node.as_str()).or_insert(one);
                if one.since < held.since {
                    *held = one;
                }
            }
        }
        Self { debt, waits }
    }
}

/// Every declared node, `x-2` before `x-10`.
pub(crate) fn nodes<'a>(world: &World<'a>, now: Timestamp) -> Vec<NodeFacts<'a>> {
    let by_node = ByNode::of(world);
    let mut nodes: Vec<_> =
        world.desired.nodes.iter().map(|(name, node)| facts(world, &by_node, (name, node), now)).collect();
    nodes.sort_by(|a, b| {
        (a.node.role, natural(a.name.as_str())).cmp(&(b.node.role, natural(b.name.as_str())))
    });
    nodes
}

/// One node, if it is declared.
pub(crate) fn node<'a>(world: &World<'a>, name: &NodeName, now: Timestamp) -> Option<NodeFacts<'a>> {
    let declared = world.desired.nodes.get_key_value(name)?;
    Some(facts(world, &ByNode::of(world), declared, now))
}

fn facts<'a>(
    world: &World<'a>,
    by_node: &ByNode<'a>,
    (name, node): (&'a NodeName, &'a DesiredNode),
    now: Timestamp,
) -> NodeFacts<'a> {
    let seen = world.observed.nodes.get(name);
    let heard = seen.and_then(|seen| seen.heard.as_ref());
    let silence = u64::from(world.desired.limits.silence_seconds) * 1000;
    let agent = match heard {
        Some(heard) if now.since(heard.at) >= silence => Agent::Silent(heard.at),
        Some(heard) => Agent::Heard(heard.at),
        None => Agent::Never,
    };
    let status = heard.map(|heard| &*heard.status);
    let carried = world.desired.carried.get(&node.role).map_or(&[][..], Vec::as_slice);
    let phase = |name: &ComponentName| status.and_then(|s| s.components.get(name)).map(|c| c.phase);
    let healthy = carried.iter().filter(|name| phase(name) == Some(Phase::Healthy)).count();
    let mut facts = NodeFacts {
        name,
        node,
        machine: world.observed.resources.get(&node.machine).and_then(|seen| seen.machine.as_ref()),
        power: power(world, node),
        agent,
        status,
        published: seen.and_then(|seen| seen.published.as_ref()).map(|published| published.generation),
        carried,
        healthy,
        problem: None,
    };
    facts.problem = problem(&facts, by_node);
    facts
}

fn power(world: &World<'_>, node: &DesiredNode) -> &'static str {
    let path = &node.machine;
    let Some(seen) = world.observed.resources.get(path) else {
        let hides = |blind: &castrum_blueprints::resource::Blind| {
            blind.site == path.site && blind.kind.is_none_or(|kind| kind == path.kind)
        };
        return if world.observed.blind.iter().any(hides) { "unseen" } else { "absent" };
    };
    match seen.machine.as_ref().map(|machine| machine.power) {
        Some(PowerState::On) if seen.ready => "on",
        Some(PowerState::On) => "making",
        Some(PowerState::Off) => "off",
        Some(PowerState::Paused) => "paused",
        Some(PowerState::Unknown) | None => "unknown",
    }
}

/// The worst thing first: what is set aside, what the node itself complains of, what fails, what is missing.
fn problem(facts: &NodeFacts<'_>, by_node: &ByNode<'_>) -> Option<Problem> {
    let wrong = |text: String| Some(Problem { text: clean(&text), wrong: true });
    if let Some(debt) = by_node.debt.get(facts.name.as_str()) {
        return wrong(debt.reason.clone());
    }
    if let Some(problem) = facts.status.and_then(|status| status.problem.as_ref()) {
        return wrong(problem.clone());
    }
    if !matches!(facts.power, "on" | "making") {
        return wrong(format!("its machine is {}", facts.power));
    }
    if let Some(text) = worst_component(facts) {
        return Some(text);
    }
    if let Agent::Silent(_) = facts.agent {
        return wrong("its agent has been silent".to_owned());
    }
    let wait = by_node.waits.get(facts.name.as_str()).filter(|_| facts.healthy < facts.carried.len())?;
    Some(Problem { text: clean(&format!("{} waits for {}", wait.subject, wait.waits_for)), wrong: false })
}

fn worst_component(facts: &NodeFacts<'_>) -> Option<Problem> {
    let status = facts.status?;
    let ill = status.components.iter().filter(|(_, component)| component.phase != Phase::Healthy);
    let (name, component) = ill.max_by_key(|(name, component)| {
        (component.phase == Phase::Failing, component.phase, std::cmp::Reverse((*name).clone()))
    })?;
    let text = match (worst_check(component), &component.note) {
        // What was seen comes first: the rest is what may be cut.
        (Some((check, result)), _) if !result.seen.is_empty() => {
            format!("{name} {}: {} (check {check} is {})", component.phase, result.seen, result.verdict)
        }
        (Some((check, result)), _) => {
            format!("{name} {}: check {check} is {}", component.phase, result.verdict)
        }
        (None, Some(note)) => format!("{name} {}: {note}", component.phase),
        (None, None) => format!("{name} {}", component.phase),
    };
    Some(Problem { text: clean(&text), wrong: component.phase == Phase::Failing })
}

/// The worst check of a component that is not ok; unknown is as bad as critical.
pub(crate) fn worst_check(component: &ComponentStatus) -> Option<(&String, &CheckResult)> {
    let ill = component.checks.iter().filter(|(_, result)| result.verdict != Verdict::Ok);
    ill.max_by_key(|(name, result)| {
        (result.verdict == Verdict::Critical, result.verdict, std::cmp::Reverse((*name).clone()))
    })
}

/// How many nodes carry each component, on how many it is healthy, and how it is on the others.
pub(crate) fn tallies<'a>(nodes: &[NodeFacts<'a>]) -> BTreeMap<&'a ComponentName, Tally> {
    let mut tallies: BTreeMap<&ComponentName, Tally> = BTreeMap::new();
    for facts in nodes {
        for name in facts.carried {
            let tally = tallies.entry(name).or_default();
            tally.carriers += 1;
            match facts.component(name) {
                None => tally.missing += 1,
                Some(component) if component.phase == Phase::Healthy => tally.healthy += 1,
                Some(component) => *tally.others.entry(component.phase).or_default() += 1,
            }
        }
    }
    tallies
}

/// The nodes of one component, counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) carriers: usize,
    pub(crate) healthy: usize,
    pub(crate) missing: usize,
    pub(crate) others: BTreeMap<Phase, usize>,
}

impl Tally {
    /// How it is where it is not healthy.
    pub(crate) fn rest(&self) -> String {
        let others = self.others.iter().rev().map(|(phase, count)| format!("{count} {phase}"));
        let missing = (self.missing > 0).then(|| format!("{} not there yet", self.missing));
        others.chain(missing).collect::<Vec<_>>().join(", ")
    }
}

/// What version of a component is pinned: that of the package it is named for, else of the first one asked for.
pub(crate) fn version(name: &ComponentName, stack: &Stack, lock: &Lock) -> Option<String> {
    let locked = lock.components.get(name)?;
    match stack.components.get(name)?.source.as_ref()? {
        Source::Deb(deb) => {
            let asked = || locked.packages.iter().filter(|package| deb.packages.contains(&package.name));
            let named = asked().find(|package| package.name.contains(name.as_str()));
            named.or_else(|| asked().next()).map(|package| clean(&package.version))
        }
        Source::Tarball(tarball) => Some(format!("sha256:{}", tarball.sha256.short())),
        Source::File(_) => locked.bundle.as_ref().map(|bundle| format!("sha256:{}", bundle.digest.short())),
    }
}
