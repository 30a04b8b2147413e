//! Waits: what is not done yet, the gate that it stands before, and what would open that.
//!
//! A wait is told in words for people ([`Blocked::waits_for`]) and as data for programs ([`Gate`]). When a gate is looked
//! at next, and since when it has been awaited, is computed here from what was observed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Plan, Progress};
use crate::desired::Desired;
use crate::event::{Event, What};
use crate::names::{ComponentName, NodeName, ResourcePath, SiteName, Timestamp};
use crate::observed::{Heard, Observed};
use crate::status::Verdict;

/// Something that cannot be done yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// What waits.
    pub subject: String,
    /// What it waits for.
    pub waits_for: String,
    /// The same as data.
    pub gate: Gate,
    /// Since when.
    pub since: Timestamp,
    /// What was last seen of the thing awaited.
    pub last_seen: String,
    /// The node concerned, if it is one.
    pub node: Option<NodeName>,
    /// Whether it waits for something that is set aside, so that waiting is no use in this run.
    pub by_debt: bool,
}

/// What something waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Gate {
    /// The next try of a step that failed.
    NextTry {
        /// When it is due.
        at: Timestamp,
    },
    /// Somebody who looks at what has failed for good.
    Somebody,
    /// A place that does not answer.
    Site {
        /// Which.
        site: SiteName,
    },
    /// Another resource: to be ready, or to be gone.
    Resource {
        /// Which.
        path: ResourcePath,
    },
    /// Addresses of machines.
    Addresses,
    /// A machine that somebody has paused, or that is gone and cannot be made anew.
    Machine,
    /// A node's agent to be heard.
    Agent {
        /// Whether it was heard before.
        again: bool,
    },
    /// What a node itself says that keeps it from going on.
    Node,
    /// A bundle to be in the depot.
    Bundle {
        /// Of which component.
        component: ComponentName,
    },
    /// Another component to be healthy.
    Component {
        /// Which.
        component: ComponentName,
    },
    /// A membership to be founded.
    Founding {
        /// Of which component.
        component: ComponentName,
    },
    /// Its turn: others of its kind are being changed, or are not well.
    Turn,
    /// A node's agent to take up its manifest.
    Manifest {
        /// The generation.
        generation: u64,
    },
    /// Its own checks to be ok.
    Checks {
        /// Of which component.
        component: ComponentName,
    },
    /// The blueprint to say otherwise.
    Blueprint,
}

/// What is known of a wait beside itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// Since when it waits, as far as the node itself knows of it.
    pub since: Timestamp,
    /// When what it waits for was last looked at or heard of, by the installer's clock.
    pub last_seen_at: Option<Timestamp>,
    /// When it is looked at next; `None` where it is told as soon as it happens, or nobody looks any more.
    pub next_check: Option<Timestamp>,
    /// How many seconds a run waits for it before it is debt; `None` where it never is by itself.
    pub patience_seconds: Option<u32>,
    /// What would open the gate, in a sentence.
    pub unblocks: String,
    /// A command that shows more, without the name of the program and the blueprint (`-f`).
    pub command: Option<String>,
}

impl Blocked {
    /// What is known of this wait beside itself.
    pub fn outlook(&self, desired: &Desired, observed: &Observed) -> Outlook {
        let heard = self.node.as_ref().and_then(|node| observed.nodes.get(node)?.heard.as_ref());
        Outlook {
            since: self.since.min(self.own_since(heard).unwrap_or(self.since)),
            last_seen_at: self.last_seen_at(observed, heard),
            next_check: self.next_check(desired, heard),
            patience_seconds: self.patience(desired),
            unblocks: self.unblocks(desired),
            command: self.command(desired),
        }
    }

    /// Since when a node's own component is as it is, by the installer's clock. A mere look knows no better.
    fn own_since(&self, heard: Option<&Heard>) -> Option<Timestamp> {
        let (Gate::Checks { component }, Some(heard)) = (&self.gate, heard) else { return None };
        let status = heard.status.components.get(component)?;
        Some(Timestamp(heard.at.0.saturating_sub(heard.status.at.since(status.since))))
    }

    fn last_seen_at(&self, observed: &Observed, heard: Option<&Heard>) -> Option<Timestamp> {
        match &self.gate {
            Gate::Site { .. } | Gate::Blueprint => None,
            Gate::Resource { .. } | Gate::NextTry { .. } | Gate::Somebody => {
                Some(observed.taken_at).filter(|at| *at > Timestamp(0))
            }
            Gate::Addresses | Gate::Machine => Some(observed.taken_at),
            _ => heard.map(|heard| heard.at),
        }
    }

    /// How many seconds it is waited for before it is debt.
    fn patience(&self, desired: &Desired) -> Option<u32> {
        let limits = &desired.limits;
        match self.gate {
            _ if self.by_debt => None,
            Gate::Checks { .. } | Gate::Manifest { .. } => Some(limits.settle_seconds),
            Gate::Agent { again: true } => Some(limits.silence_seconds),
            Gate::Agent { again: false } => Some(limits.boot_seconds),
            _ => None,
        }
    }

    fn next_check(&self, desired: &Desired, heard: Option<&Heard>) -> Option<Timestamp> {
        match &self.gate {
            Gate::NextTry { at } => Some(*at),
            Gate::Checks { component } => next_run(desired, heard?, component),
            _ => None,
        }
    }

    fn unblocks(&self, desired: &Desired) -> String {
        use Gate::{Addresses, Bundle, Component, Founding, Resource, Turn};
        match &self.gate {
            Addresses | Bundle { .. } | Component { .. } | Founding { .. } | Resource { .. } | Turn
                if self.by_debt =>
            {
                "what it waits for is set aside: that to be mended, and another apply".to_owned()
            }
            Gate::NextTry { .. } => "the next try to succeed; it comes by itself".to_owned(),
            Gate::Somebody => "what failed to be mended, and another apply".to_owned(),
            Gate::Site { site } => {
                format!("the site `{site}` to answer: look at its network and credentials, then apply again")
            }
            Gate::Resource { path } => format!("`{path}` to be as it is wanted; it is worked on"),
            Gate::Addresses => "the machines to have their addresses; their place gives them".to_owned(),
            Gate::Machine => "somebody to bring the machine back, or to resume it, at its place".to_owned(),
            Gate::Node => "what the node says to be mended there".to_owned(),
            Gate::Agent { .. } => "the agent to reach a master; its log says what hinders it".to_owned(),
            Gate::Bundle { component } => {
                format!("the bundle of {component} to be on some master; the installer brings it there")
            }
            Gate::Component { component } => {
                format!("{component} to become healthy; nothing is to be done here")
            }
            Gate::Founding { component } => format!("the node that founds {component} to have done so"),
            Gate::Turn => "the nodes before it to be healthy after their change".to_owned(),
            Gate::Manifest { generation } => {
                format!("the agent to fetch generation {generation}; its log says what hinders it")
            }
            Gate::Checks { component } if desired.renderer.has_process(component) => {
                format!("the checks of {component} to be ok; its log says why they are not")
            }
            Gate::Checks { component } => format!("the checks of {component} to be ok"),
            Gate::Blueprint => "the blueprint to declare what there is".to_owned(),
        }
    }

    fn command(&self, desired: &Desired) -> Option<String> {
        let node = self.node.as_ref();
        match &self.gate {
            Gate::Checks { component } if !desired.renderer.has_process(component) => {
                Some("get checks".to_owned())
            }
            Gate::Checks { component } => node.map(|node| format!("node logs {node} {component}")),
            Gate::Agent { .. } | Gate::Node | Gate::Manifest { .. } => {
                node.map(|node| format!("node logs {node} agent"))
            }
            Gate::Component { component } => Some(format!("explain wait {component}")),
            Gate::Somebody => Some("get resources".to_owned()),
            _ => None,
        }
    }
}

/// When the first of a component's checks that are not ok is run again, by the installer's clock.
fn next_run(desired: &Desired, heard: &Heard, component: &ComponentName) -> Option<Timestamp> {
    let status = heard.status.components.get(component)?;
    let every = desired.renderer.check_intervals(component);
    let awaited = status.checks.iter().filter(|(_, result)| result.verdict != Verdict::Ok);
    let due = |(name, result): (&String, &crate::status::CheckResult)| {
        // What is not ok is looked at more often than what is; this is the latest.
        let ahead = u64::from(*every.get(name.as_str())?) * 1000;
        let age = heard.status.at.since(result.at);
        Some(Timestamp((heard.at.0 + ahead).saturating_sub(age)))
    };
    awaited.filter_map(due).min()
}

/// Since when things have been waited for, over plan after plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    since: BTreeMap<(String, String), Timestamp>,
}

impl Waiting {
    /// What the last run of a journal told of its waits: they have lasted since then, unless it ended well.
    pub fn told(events: &[Event]) -> Self {
        let last = events.iter().rev().take_while(|event| !matches!(event.what, What::RunStarted { .. }));
        let told = last.into_iter().find_map(|event| match &event.what {
            What::Waiting { blocked } => Some(Self::of(blocked)),
            What::RunFinished { progress: Some(Progress::Converged), .. } => Some(Self::default()),
            _ => None,
        });
        told.unwrap_or_default()
    }

    /// What was told of waits before.
    fn of(blocked: &[Blocked]) -> Self {
        let key = |blocked: &Blocked| (blocked.subject.clone(), blocked.waits_for.clone());
        Self { since: blocked.iter().map(|blocked| (key(blocked), blocked.since)).collect() }
    }

    /// Takes in the waits of a plan, and lets each begin when it was first seen. What is no longer awaited is forgotten.
    pub fn note(&mut self, plan: &mut Plan) {
        let mut since = BTreeMap::new();
        for blocked in &mut plan.blocked {
            let key = (blocked.subject.clone(), blocked.waits_for.clone());
            blocked.since = self.since.get(&key).map_or(blocked.since, |first| blocked.since.min(*first));
            since.insert(key, blocked.since);
        }
        self.since = since;
    }
}

#[cfg(test)]
mod tests;
