//! A new keyring is brought to the nodes: masters one at a time, each healthy before the next; then agents in batches.
//!
//! ```text
//! masters-1 ──well──▶ masters-2 ──well──▶ ... ──▶ agents, `agentsAtOnce` at a time
//!     │ not well within `settle`
//!     └──▶ debt: nothing more is changed
//! ```
//!
//! A node is well when its agent was heard since, and every component that was healthy before is healthy by checks that
//! the new agent has run itself.

use std::collections::BTreeSet;

use super::draft::{Draft, Wait};
use super::{Action, Area, Forecast, Gate, Plan};
use crate::desired::{Desired, DesiredNode};
use crate::names::{ComponentName, NodeName, Role, Timestamp};
use crate::observed::{NodeSeen, Observed};
use crate::recover::Strangers;
use crate::resource::PowerState;
use crate::status::Phase;

/// Plans the next round of bringing a new keyring to `strangers`. It touches nothing else of the cluster.
pub fn plan_recover(desired: &Desired, observed: &Observed, strangers: &Strangers, now: Timestamp) -> Plan {
    plan_assuming(desired, observed, (strangers, &BTreeSet::new()), now)
}

/// Forecasts all rounds, in a world in which every step works.
pub fn forecast_recover(
    desired: &Desired,
    observed: &Observed,
    strangers: &Strangers,
    now: Timestamp,
) -> Forecast {
    let mut strangers = strangers.clone();
    let mut assumed: BTreeSet<NodeName> = desired.nodes.keys().cloned().collect();
    assumed.retain(|node| !strangers.known.contains_key(node));
    let mut rounds = Vec::new();
    loop {
        let next = plan_assuming(desired, observed, (&strangers, &assumed), now);
        let (progress, last) = (next.progress(), next.steps.is_empty());
        for node in next.steps.iter().filter_map(|step| step.action.node()) {
            strangers.known.remove(&node);
            assumed.insert(node);
        }
        rounds.push(next);
        if last {
            return Forecast { rounds, progress };
        }
    }
}

fn plan_assuming(
    desired: &Desired,
    observed: &Observed,
    (strangers, assumed): (&Strangers, &BTreeSet<NodeName>),
    now: Timestamp,
) -> Plan {
    let mut draft = Draft::new(desired, observed, now);
    for (node, reason) in &strangers.unread {
        let reason = format!("it still holds to the keyring that was lost: {reason}");
        draft.set_aside(node, reason, observed.taken_at, Area::Boot);
    }
    let mut recovery = Recovery { draft, strangers, assumed };
    let masters = recovery.masters();
    recovery.agents(masters);
    recovery.draft.finish()
}

/// How far a part of the nodes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Well,
    Settling,
    Stuck,
}

struct Recovery<'a> {
    draft: Draft<'a>,
    strangers: &'a Strangers,
    assumed: &'a BTreeSet<NodeName>,
}

impl<'a> Recovery<'a> {
    fn masters(&mut self) -> Standing {
        let (left, mut standing) = self.survey(|role| role == Role::Master);
        let all = standing.iter().map(|(_, standing)| *standing).max().unwrap_or(Standing::Well);
        standing.retain(|(_, standing)| *standing != Standing::Well);
        let mut before = standing.first().map(|(node, _)| *node);
        for (name, node) in &left {
            match before {
                None => self.readmit(name, node),
                Some(before) => self.wait_for(name, &before.to_string(), all != Standing::Stuck),
            }
            before = before.or(Some(name));
        }
        let given_up = left.first().is_some_and(|(name, _)| self.draft.has_given_up(&step_id(name)));
        match (left.is_empty(), given_up) {
            (true, _) => all,
            (false, true) => Standing::Stuck,
            (false, false) => all.max(Standing::Settling),
        }
    }

    fn agents(&mut self, masters: Standing) {
        let (left, standing) = self.survey(|role| role != Role::Master);
        let settling = standing.iter().filter(|(_, standing)| *standing == Standing::Settling).count();
        let mut room = (self.draft.desired.limits.agents_at_once as usize).saturating_sub(settling);
        for (name, node) in &left {
            if masters != Standing::Well {
                self.wait_for(name, "the masters", masters != Standing::Stuck);
            } else if room > 0 {
                self.readmit(name, node);
                room -= usize::from(!self.draft.has_given_up(&step_id(name)));
            } else {
                self.wait_for(name, "other agents", true);
            }
        }
    }

    /// The nodes that are still to be admitted anew, and how the others are.
    #[expect(clippy::type_complexity, reason = "two lists that are made in one pass and taken apart at once")]
    fn survey(
        &mut self,
        of: impl Fn(Role) -> bool,
    ) -> (Vec<(&'a NodeName, &'a DesiredNode)>, Vec<(&'a NodeName, Standing)>) {
        let (desired, observed) = (self.draft.desired, self.draft.observed);
        let (mut left, mut standing) = (Vec::new(), Vec::new());
        for (name, node) in desired.nodes.iter().filter(|(_, node)| of(node.role)) {
            let seen = observed.nodes.get(name);
            let over = seen.is_some_and(|seen| seen.enrolled_at.is_some());
            let machine = observed.resources.get(&node.machine).and_then(|seen| seen.machine.as_ref());
            if self.strangers.known.contains_key(name) && !over {
                left.push((name, node));
            } else if self.assumed.contains(name) {
                standing.push((name, Standing::Well));
            } else if machine.is_some_and(|machine| machine.power == PowerState::On)
                && !self.strangers.unread.contains_key(name)
            {
                standing.push((name, self.settle(name, seen)));
            }
        }
        (left, standing)
    }

    fn settle(&mut self, name: &NodeName, seen: Option<&NodeSeen>) -> Standing {
        let nothing = BTreeSet::new();
        let before = self.strangers.known.get(name).unwrap_or(&nothing);
        let Some(last_seen) = not_well(seen, before) else { return Standing::Well };
        let observed = self.draft.observed;
        let listening = observed.listening_since.unwrap_or(observed.taken_at);
        let since = seen.and_then(|seen| seen.enrolled_at).unwrap_or(listening);
        let waits_for = "its components to be healthy after the change".to_owned();
        let subject = format!("node {name}");
        let reason = format!("{name} is not healthy after the change: {last_seen}");
        let wait = Wait { subject, waits_for, gate: Gate::Turn, last_seen, since, node: Some(name.clone()) };
        if self.draft.overdue(since, self.draft.desired.limits.settle_seconds) {
            self.draft.set_aside(name, reason, since, Area::Platform);
            self.draft.blocked_by_debt(wait);
            return Standing::Stuck;
        }
        self.draft.wait(wait);
        Standing::Settling
    }

    fn readmit(&mut self, name: &NodeName, node: &DesiredNode) {
        let machine = self.draft.observed.resources.get(&node.machine).and_then(|seen| seen.machine.as_ref());
        let Some(address) = machine.and_then(|machine| machine.public_address.or(machine.address)) else {
            return self.wait_for(name, "the address of its machine", false);
        };
        let action = Action::Readmit { node: name.clone(), address };
        self.draft.step(step_id(name), action, "it holds to the keyring that was lost");
    }

    fn wait_for(&mut self, name: &NodeName, what: &str, hope: bool) {
        let wait = Wait {
            subject: step_id(name),
            waits_for: format!("{what} to be well"),
            gate: Gate::Turn,
            last_seen: "it holds to the keyring that was lost".to_owned(),
            since: self.draft.observed.taken_at,
            node: Some(name.clone()),
        };
        self.draft.wait_in_hope(wait, hope);
    }
}

fn step_id(name: &NodeName) -> String {
    format!("readmit {name}")
}

/// What is still missing on a node that has changed over; `None` if nothing is.
fn not_well(seen: Option<&NodeSeen>, before: &BTreeSet<ComponentName>) -> Option<String> {
    let heard = seen.and_then(|seen| Some((seen.enrolled_at, seen.heard.as_ref()?)));
    let Some((enrolled_at, heard)) = heard else { return Some("its agent is not heard yet".to_owned()) };
    if enrolled_at.is_some_and(|at| heard.at < at) {
        return Some("its agent has not been heard since".to_owned());
    }
    let status = &heard.status;
    if let Some(problem) = &status.problem {
        return Some(problem.clone());
    }
    status.components.iter().filter(|(name, _)| !before.contains(*name)).find_map(|(name, component)| {
        if component.phase != Phase::Healthy {
            return Some(format!("{name} is {}", component.phase));
        }
        // What the agent before it found says nothing of the new keys.
        let old = component.checks.iter().find(|(_, result)| result.at < status.started_at);
        old.map(|(check, _)| format!("check `{check}` of {name} has not been run again yet"))
    })
}
