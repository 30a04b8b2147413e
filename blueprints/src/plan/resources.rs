//! Resources: made in the order of their kinds, machines of masters before all other machines.

use std::collections::BTreeMap;

use super::destroy::NAMELESS;
use super::draft::{Draft, Wait};
use super::{Action, Area, EnsureStep, Gate};
use crate::names::{ComponentName, NodeName, ResourceKind, ResourcePath, Role, SiteName};
use crate::resource::{PowerState, ResourceSeen, ResourceSpec};

pub(super) fn plan(draft: &mut Draft<'_>) {
    let desired = draft.desired;
    let ready = Ready::of(draft);
    for (path, spec) in desired.resources.iter() {
        if let Some(reason) = blind(draft, path) {
            draft.blocked_by_debt(Wait {
                subject: path.to_string(),
                waits_for: format!("the site `{}` to be seen again", path.site),
                gate: Gate::Site { site: path.site.clone() },
                last_seen: reason.clone(),
                since: draft.observed.taken_at,
                node: None,
            });
            draft.debt(path.to_string(), reason, draft.observed.taken_at, Area::Infrastructure);
            continue;
        }
        if let Some(awaited) = ready.awaited(path, spec) {
            wait(draft, path, awaited);
            continue;
        }
        match spec {
            ResourceSpec::Machine(_) => machine(draft, path, spec, &ready),
            _ => ensure(draft, path, spec, false),
        }
    }
    surplus(draft);
}

fn blind(draft: &Draft<'_>, path: &ResourcePath) -> Option<String> {
    let hides =
        |b: &&crate::resource::Blind| b.site == path.site && b.kind.is_none_or(|kind| kind == path.kind);
    draft.observed.blind.iter().find(hides).map(|blind| blind.reason.clone())
}

/// What others need first, looked up once a plan.
struct Ready<'a> {
    /// Whether every master's machine has an address, which all other nodes' boot data names.
    masters_known: bool,
    /// Why no machine of a master can be made any more, if some master has none.
    refused: Option<String>,
    /// What is declared and cannot be used yet, by site.
    missing: BTreeMap<&'a SiteName, BTreeMap<(ResourceKind, &'a str), Awaited<'a>>>,
}

/// Something that cannot be used yet.
#[derive(Clone)]
struct Awaited<'a> {
    path: &'a ResourcePath,
    last_seen: String,
    /// Whether it may still come in this run.
    hope: bool,
    /// Whether every machine of the site needs it.
    foundation: bool,
}

/// What every machine of a site needs, whether it names it or not.
const FOUNDATIONS: [ResourceKind; 2] = [ResourceKind::Image, ResourceKind::Network];

impl<'a> Ready<'a> {
    fn of(draft: &Draft<'a>) -> Self {
        let (desired, observed) = (draft.desired, draft.observed);
        let masters = || desired.nodes.values().filter(|node| node.role == Role::Master);
        let masters_known = masters().all(|node| address_known(observed.resources.get(&node.machine)));
        let all_there = masters().all(|node| observed.resources.contains_key(&node.machine));
        let refused = if all_there { None } else { running_quorum(draft).or_else(|| may_run(draft)) };
        let mut missing: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for path in desired.resources.keys().filter(|path| path.kind != ResourceKind::Machine) {
            let seen = observed.resources.get(path);
            if !seen.is_some_and(|seen| seen.ready) {
                let note = seen.and_then(|seen| seen.note.clone());
                let last_seen = note.unwrap_or_else(|| "not made yet".to_owned());
                let hope = !draft.has_given_up(&ensure_id(path));
                let foundation = FOUNDATIONS.contains(&path.kind);
                let awaited = Awaited { path, last_seen, hope, foundation };
                missing.entry(&path.site).or_default().insert((path.kind, path.name.as_str()), awaited);
            }
        }
        Self { masters_known, refused, missing }
    }

    /// The first of what a resource needs that cannot be used yet.
    fn awaited(&self, path: &ResourcePath, spec: &ResourceSpec) -> Option<Awaited<'a>> {
        let missing = self.missing.get(&path.site)?;
        let is_machine = path.kind == ResourceKind::Machine;
        let foundation = || missing.values().find(|awaited| awaited.foundation);
        let founded = is_machine.then(foundation).flatten();
        let named = || spec.needs().into_iter().find_map(|need| missing.get(&need));
        founded.or_else(named).cloned()
    }
}

fn address_known(seen: Option<&ResourceSeen>) -> bool {
    seen.and_then(|seen| seen.machine.as_ref()).is_some_and(|machine| machine.address.is_some())
}

fn machine(draft: &mut Draft<'_>, path: &ResourcePath, spec: &ResourceSpec, ready: &Ready<'_>) {
    let node = path.name.parse::<NodeName>().ok().and_then(|name| draft.desired.nodes.get(&name));
    if let Some(store) = &ready.refused
        && node.is_some_and(|node| node.role == Role::Master)
        && !draft.observed.resources.contains_key(path)
        && !is_only_late(draft, path)
    {
        return refuse_master(draft, path, store);
    }
    let joins = node.is_some_and(|node| !node.enrolled_by_installer());
    if joins && !ready.masters_known {
        let wait = Wait {
            subject: path.to_string(),
            waits_for: "the addresses of all masters, which its boot data names".to_owned(),
            gate: Gate::Addresses,
            last_seen: "some master's machine has no address yet".to_owned(),
            since: draft.observed.taken_at,
            node: path.name.parse().ok(),
        };
        return draft.wait_in_hope(wait, ready.refused.is_none());
    }
    ensure(draft, path, spec, joins);
}

/// Whether the machine is there, and its place does not show it yet: then its own agent is heard. To ensure it makes nothing.
fn is_only_late(draft: &Draft<'_>, path: &ResourcePath) -> bool {
    let heard = || draft.observed.nodes.get(path.name.as_str())?.heard.as_ref();
    let patience = u64::from(draft.desired.limits.silence_seconds) * 1000;
    draft.desired.late.contains(&path.site)
        && heard().is_some_and(|heard| draft.now.since(heard.at) < patience)
}

/// A quorum store that runs on some node, declared or not, and where.
fn running_quorum(draft: &Draft<'_>) -> Option<String> {
    let renderer = &draft.desired.renderer;
    let stores: Vec<&ComponentName> = renderer.names().filter(|name| renderer.is_quorum(name)).collect();
    let mut running = draft.observed.nodes.iter().filter_map(|(name, seen)| {
        let held = &seen.heard.as_ref()?.status.components;
        let store = stores.iter().find(|store| held.contains_key(**store))?;
        Some(format!("{store} runs on {name} already"))
    });
    running.next()
}

/// Whether a quorum store may run on a machine of which nobody is heard: the platform was founded, and some master is there.
fn may_run(draft: &Draft<'_>) -> Option<String> {
    let (desired, observed) = (draft.desired, draft.observed);
    let mut masters = desired.nodes.iter().filter(|(_, node)| node.role == Role::Master);
    let there = masters.find(|(_, node)| observed.resources.contains_key(&node.machine));
    there
        .filter(|_| !desired.founders.is_empty())
        .map(|(name, _)| format!("the platform was founded, and {name} is there"))
}

/// A new machine would begin with nothing: with others like it, it would found a second store beside the first, and with all
/// the checks of each being ok nobody would see that there are two.
fn refuse_master(draft: &mut Draft<'_>, path: &ResourcePath, store: &str) {
    let since = draft.observed.taken_at;
    let reason = format!(
        "its machine is gone; {store}, and a new machine would be no member of the quorum store, so none is made: masters \
         cannot be replaced yet"
    );
    let node: Option<NodeName> = path.name.parse().ok();
    match &node {
        Some(node) => draft.set_aside(node, reason.clone(), since, Area::Safety),
        None => draft.debt(path.to_string(), reason.clone(), since, Area::Safety),
    }
    draft.blocked_by_debt(Wait {
        subject: ensure_id(path),
        waits_for: "its machine to be there again".to_owned(),
        gate: Gate::Machine,
        last_seen: reason,
        since,
        node,
    });
}

fn wait(draft: &mut Draft<'_>, path: &ResourcePath, awaited: Awaited<'_>) {
    let Awaited { path: needed, last_seen, hope, foundation } = awaited;
    let node: Option<NodeName> =
        (path.kind == ResourceKind::Machine).then(|| path.name.parse().ok()).flatten();
    // Without a foundation there is no machine at all, and nobody that it could hold up.
    if let (Some(node), false, false) = (&node, hope, foundation) {
        let reason = format!("its machine needs the {} `{}`: {last_seen}", needed.kind, needed.name);
        draft.set_aside(node, reason, draft.observed.taken_at, Area::Infrastructure);
    }
    let wait = Wait {
        subject: path.to_string(),
        waits_for: format!("the {} `{}`", needed.kind, needed.name),
        gate: Gate::Resource { path: needed.clone() },
        last_seen,
        since: draft.observed.taken_at,
        node,
    };
    draft.wait_in_hope(wait, hope);
}

fn ensure_id(path: &ResourcePath) -> String {
    format!("ensure {path}")
}

fn ensure(draft: &mut Draft<'_>, path: &ResourcePath, spec: &ResourceSpec, joins: bool) {
    let seen = draft.observed.resources.get(path);
    let power = seen.and_then(|seen| seen.machine.as_ref()).map(|machine| machine.power);
    let (create, reason) = match seen {
        None => (true, "does not exist".to_owned()),
        // A paused machine was paused by somebody: that is not undone behind their back.
        Some(_) if power == Some(PowerState::Paused) => return,
        Some(seen) if seen.spec.as_ref().is_some_and(|made| *made != spec.digest()) => {
            (false, "differs from the blueprint".to_owned())
        }
        Some(_) if power == Some(PowerState::Off) => (false, "is off".to_owned()),
        Some(seen) if !seen.ready => (false, seen.note.clone().unwrap_or_else(|| "is not ready".to_owned())),
        Some(_) => return,
    };
    let step = EnsureStep { path: path.clone(), spec: spec.clone(), create, joins };
    draft.step(ensure_id(path), Action::Ensure(step), reason);
}

/// What exists and is not declared any more. Masters are never removed as a side effect: quorum is not risked.
fn surplus(draft: &mut Draft<'_>) {
    let (desired, observed) = (draft.desired, draft.observed);
    let users = users(draft);
    for path in observed.resources.keys().filter(|path| !desired.resources.contains_key(path)) {
        if was_master(draft, path) {
            keep_master(draft, path);
        } else if FOUNDATIONS.contains(&path.kind) && machines_in_site(draft, path) {
            // They go with the last machine.
        } else if let Some(user) = users.get(&path.site).filter(|user| user.kind > path.kind) {
            wait_for_user(draft, path, user);
        } else if observed.resources[path].id.is_empty() {
            let subject = format!("remove {path}");
            draft.debt(subject, NAMELESS.to_owned(), observed.taken_at, Area::Infrastructure);
        } else {
            let action = Action::Remove { path: path.clone() };
            draft.step(format!("remove {path}"), action, "is not declared any more");
        }
    }
}

fn keep_master(draft: &mut Draft<'_>, path: &ResourcePath) {
    let since = draft.observed.taken_at;
    let reason =
        "it is a master that the blueprint no longer declares; removing masters is refused".to_owned();
    draft.debt(path.to_string(), reason.clone(), since, Area::Safety);
    draft.blocked_by_debt(Wait {
        subject: format!("remove {path}"),
        waits_for: "the blueprint to declare it again".to_owned(),
        gate: Gate::Blueprint,
        last_seen: reason,
        since,
        node: None,
    });
}

fn wait_for_user(draft: &mut Draft<'_>, path: &ResourcePath, user: &ResourcePath) {
    let hope = ![ensure_id(user), format!("remove {user}")].iter().any(|id| draft.has_given_up(id));
    let wait = Wait {
        subject: format!("remove {path}"),
        waits_for: format!("`{user}`, which may still use it"),
        gate: Gate::Resource { path: user.clone() },
        last_seen: "it is not as wanted yet".to_owned(),
        since: draft.observed.taken_at,
        node: None,
    };
    draft.wait_in_hope(wait, hope);
}

/// A node carries its role in its components: only masters hold a quorum component.
fn was_master(draft: &Draft<'_>, path: &ResourcePath) -> bool {
    let heard =
        path.name.parse::<NodeName>().ok().and_then(|node| draft.observed.nodes.get(&node)?.heard.as_ref());
    let renderer = &draft.desired.renderer;
    let only_masters = |name: &crate::names::ComponentName| {
        renderer.names().any(|known| known == name)
            && renderer.roles(name).len() == 1
            && renderer.roles(name).contains(&Role::Master)
    };
    path.kind == ResourceKind::Machine
        && heard.is_some_and(|heard| heard.status.components.keys().any(only_masters))
}

/// By site, what may still use things of earlier kinds that are not declared any more: what is to be removed before them,
/// and what is not as wanted yet. Of several, one of the last kind.
fn users<'a>(draft: &Draft<'a>) -> BTreeMap<&'a SiteName, &'a ResourcePath> {
    let (desired, observed) = (draft.desired, draft.observed);
    let surplus = observed.resources.keys().filter(|path| !desired.resources.contains_key(*path));
    let mut users: BTreeMap<&SiteName, &ResourcePath> = surplus.map(|path| (&path.site, path)).collect();
    if users.is_empty() {
        return users;
    }
    for (path, spec) in desired.resources.iter() {
        let alike =
            |seen: &ResourceSeen| seen.ready && seen.spec.as_ref().is_none_or(|made| *made == spec.digest());
        if observed.resources.get(path).is_none_or(|seen| !alike(seen)) {
            let last = users.entry(&path.site).or_insert(path);
            *last = (*last).max(path);
        }
    }
    users
}

fn machines_in_site(draft: &Draft<'_>, path: &ResourcePath) -> bool {
    let in_site = |other: &&ResourcePath| other.site == path.site && other.kind == ResourceKind::Machine;
    draft.observed.resources.keys().any(|other| in_site(&other))
}
