//! Nodes: which have a machine, which are heard, which are set aside, and whom the installer brings the agent to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::draft::{Draft, Wait};
use super::{Action, Area, Gate};
use crate::desired::DesiredNode;
use crate::names::{ComponentName, NodeName, Timestamp};
use crate::observed::{Heard, NodeSeen};
use crate::resource::{MachineSeen, PowerState};

/// Where a node stands this round.
pub(super) struct Standing<'a> {
    pub(super) node: &'a DesiredNode,
    /// Its address inside the cluster, once its machine has one.
    pub(super) address: Option<IpAddr>,
    /// Its last word, if it is recent.
    pub(super) heard: Option<&'a Heard>,
    /// What is known of it beside that.
    pub(super) seen: Option<&'a NodeSeen>,
    /// Whether it holds up nobody any more.
    pub(super) set_aside: bool,
}

pub(super) type Standings<'a> = BTreeMap<&'a NodeName, Standing<'a>>;

/// Seconds after which an agent that was brought over SSH and was not heard is brought again.
const ENROLL_AGAIN_SECONDS: u32 = 20;

pub(super) fn plan<'a>(draft: &mut Draft<'a>) -> Standings<'a> {
    let (desired, observed) = (draft.desired, draft.observed);
    let mut standings = Standings::new();
    for (name, node) in desired.nodes.iter() {
        let machine = observed.resources.get(&node.machine).and_then(|seen| seen.machine.as_ref());
        let seen = observed.nodes.get(name);
        let (mut heard, mut refused) = (seen.and_then(|seen| seen.heard.as_ref()), false);
        if let Some(machine) = machine {
            heard = judge(draft, (name, node), machine, seen);
        }
        if let Some(reason) = heard.and_then(|heard| other_role(draft, node, heard)) {
            refuse_role(draft, name, &reason);
            refused = true;
            heard = None;
        }
        let set_aside = draft.is_set_aside(name);
        // Nobody is told of it in that role: whoever looked for a master there would find none.
        let address = machine.and_then(|machine| machine.address).filter(|_| !refused);
        standings.insert(name, Standing { node, address, heard, seen, set_aside });
    }
    standings
}

/// What shows that the node has another role than it is declared with, as far as that concerns a quorum store.
fn other_role(draft: &Draft<'_>, node: &DesiredNode, heard: &Heard) -> Option<String> {
    let (renderer, held) = (&draft.desired.renderer, &heard.status.components);
    let stands_on = |name: &ComponentName, store: &ComponentName| {
        renderer.names().any(|known| known == name) && renderer.requires(name).contains(store)
    };
    renderer.names().filter(|name| renderer.is_quorum(name)).find_map(|store| {
        let carries = renderer.roles(store).contains(&node.role);
        match held.contains_key(store) {
            true if !carries => Some(format!("it is a member of {store}, and is declared as {}", node.role)),
            false if carries && held.keys().any(|name| stands_on(name, store)) => {
                Some(format!("it joined without {store}, and is declared as {}", node.role))
            }
            _ => None,
        }
    })
}

fn refuse_role(draft: &mut Draft<'_>, name: &NodeName, reason: &str) {
    let (since, reason) = (draft.observed.taken_at, format!("{reason}: a node's role cannot be changed yet"));
    draft.set_aside(name, reason.clone(), since, Area::Safety);
    draft.blocked_by_debt(Wait {
        subject: format!("change of {name}"),
        waits_for: "the blueprint to declare it in its role".to_owned(),
        gate: Gate::Blueprint,
        last_seen: reason,
        since,
        node: Some(name.clone()),
    });
}

/// Sets the node aside, enrolls it, or waits for it; returns its last word if that is recent.
fn judge<'a>(
    draft: &mut Draft<'a>,
    (name, node): (&NodeName, &DesiredNode),
    machine: &MachineSeen,
    seen: Option<&'a NodeSeen>,
) -> Option<&'a Heard> {
    let heard = seen.and_then(|seen| seen.heard.as_ref());
    if machine.power == PowerState::Paused {
        let since = heard.map_or(machine.created_at, |heard| heard.at);
        set_aside(draft, name, (Gate::Machine, "its machine is paused".to_owned()), since);
        return None;
    }
    if machine.power == PowerState::Off {
        return None;
    }
    if let Some(heard) = heard {
        let patience = draft.desired.limits.silence_seconds;
        if !draft.overdue(heard.at, patience) {
            return Some(heard);
        }
        // What an earlier machine of the name said, or this one before it was switched on, says nothing of it now.
        if heard.at < machine.created_at || seen.is_some_and(|seen| seen.awaited_since.is_some()) {
            not_heard(draft, (name, node), machine, seen);
            return None;
        }
        if let Some(since) = draft.observed.listening_since
            && !draft.overdue(since, patience)
        {
            await_word(draft, name, heard, since);
            return None;
        }
        let reason =
            format!("its agent has been silent; last heard at generation {}", heard.status.generation);
        set_aside(draft, name, (Gate::Agent { again: true }, reason), heard.at);
        return None;
    }
    not_heard(draft, (name, node), machine, seen);
    None
}

/// A node may have thawed a moment before we began to listen.
fn await_word(draft: &mut Draft<'_>, name: &NodeName, heard: &Heard, since: Timestamp) {
    draft.wait(Wait {
        subject: format!("node {name}"),
        waits_for: "its agent to be heard again".to_owned(),
        gate: Gate::Agent { again: true },
        last_seen: format!("it was at generation {}", heard.status.generation),
        since,
        node: Some(name.clone()),
    });
}

fn not_heard(
    draft: &mut Draft<'_>,
    (name, node): (&NodeName, &DesiredNode),
    machine: &MachineSeen,
    seen: Option<&NodeSeen>,
) {
    let since = seen.and_then(|seen| seen.awaited_since).unwrap_or(draft.now);
    if draft.overdue(since, draft.desired.limits.boot_seconds) {
        let failure = draft.observed.failures.get(&format!("enroll {name}"));
        let seen = failure.map_or_else(|| "nothing was heard of it".to_owned(), |f| f.message.clone());
        return set_aside(
            draft,
            name,
            (Gate::Agent { again: false }, format!("its agent did not come: {seen}")),
            since,
        );
    }
    let enrolled_at = seen.and_then(|seen| seen.enrolled_at).filter(|at| *at >= machine.created_at);
    let enroll =
        node.enrolled_by_installer() && enrolled_at.is_none_or(|at| draft.overdue(at, ENROLL_AGAIN_SECONDS));
    if !enroll {
        return await_agent(draft, name, enrolled_at, since);
    }
    match machine.public_address.or(machine.address) {
        Some(address) => {
            let action = Action::Enroll { node: name.clone(), address };
            draft.step(format!("enroll {name}"), action, "its agent is not heard");
        }
        None => draft.wait(Wait {
            subject: format!("enroll {name}"),
            waits_for: "the address of its machine".to_owned(),
            gate: Gate::Addresses,
            last_seen: "the machine has none yet".to_owned(),
            since,
            node: Some(name.clone()),
        }),
    }
}

fn await_agent(draft: &mut Draft<'_>, name: &NodeName, enrolled_at: Option<Timestamp>, since: Timestamp) {
    let last_seen = match enrolled_at {
        Some(_) => "the agent was started over SSH",
        None => "its machine is up and reads its boot data",
    };
    draft.wait(Wait {
        subject: format!("node {name}"),
        waits_for: "its agent to be heard".to_owned(),
        gate: Gate::Agent { again: false },
        last_seen: last_seen.to_owned(),
        since,
        node: Some(name.clone()),
    });
}

fn set_aside(draft: &mut Draft<'_>, name: &NodeName, (gate, reason): (Gate, String), since: Timestamp) {
    draft.set_aside(name, reason.clone(), since, Area::Boot);
    draft.blocked_by_debt(Wait {
        subject: format!("node {name}"),
        waits_for: "its agent to be heard".to_owned(),
        gate,
        last_seen: reason,
        since,
        node: Some(name.clone()),
    });
}
