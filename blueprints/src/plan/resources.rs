//! Resources: made in the order of their kinds, machines of masters before all other machines.

use std::collections::BTreeMap;

use super::destroy::NAMELESS;
use super::draft::{Draft, Wait};
use super::{Action, Area, EnsureStep};
use crate::names::{NodeName, ResourceKind, ResourcePath, Role, SiteName};
use crate::resource::{PowerState, ResourceSeen, ResourceSpec};

pub(super) fn plan(draft: &mut Draft<'_>) {
    let desired = draft.desired;
    let ready = Ready::of(draft);
    for (path, spec) in desired.resources.iter() {
        if let Some(reason) = blind(draft, path) {
            draft.blocked_by_debt(Wait {
                subject: path.to_string(),
                waits_for: format!("the site `{}` to be seen again", path.site),
                last_seen: reason.clone(),
                since: draft.observed.taken_at,
                node: None,
            });
            draft.debt(path.to_string(), reason, draft.observed.taken_at, Area::Infrastructure);
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

/// What machines need first, looked up once a plan.
struct Ready<'a> {
    /// Whether every master's machine has an address, which all other nodes' boot data names.
    masters_known: bool,
    /// By site, what its machines still wait for, with what was last seen of it.
    awaited: BTreeMap<&'a SiteName, (&'a ResourcePath, String)>,
}

impl<'a> Ready<'a> {
    fn of(draft: &Draft<'a>) -> Self {
        let (desired, observed) = (draft.desired, draft.observed);
        let mut masters = desired.nodes.values().filter(|node| node.role == Role::Master);
        let masters_known = masters.all(|node| address_known(observed.resources.get(&node.machine)));
        let mut awaited = BTreeMap::new();
        let foundations = [ResourceKind::Image, ResourceKind::Network];
        for path in desired.resources.keys().filter(|path| foundations.contains(&path.kind)) {
            let seen = observed.resources.get(path);
            if !seen.is_some_and(|seen| seen.ready) {
                let note = seen.and_then(|seen| seen.note.clone());
                awaited.insert(&path.site, (path, note.unwrap_or_else(|| "not made yet".to_owned())));
            }
        }
        Self { masters_known, awaited }
    }
}

fn address_known(seen: Option<&ResourceSeen>) -> bool {
    seen.and_then(|seen| seen.machine.as_ref()).is_some_and(|machine| machine.address.is_some())
}

fn machine(draft: &mut Draft<'_>, path: &ResourcePath, spec: &ResourceSpec, ready: &Ready<'_>) {
    if let Some((needed, last_seen)) = ready.awaited.get(&path.site) {
        return wait(draft, path, format!("the {} `{}`", needed.kind, needed.name), last_seen.clone());
    }
    let node = path.name.parse::<NodeName>().ok().and_then(|name| draft.desired.nodes.get(&name));
    let joins = node.is_some_and(|node| !node.enrolled_by_installer());
    if joins && !ready.masters_known {
        let waits_for = "the addresses of all masters, which its boot data names".to_owned();
        return wait(draft, path, waits_for, "some master's machine has no address yet".to_owned());
    }
    ensure(draft, path, spec, joins);
}

fn wait(draft: &mut Draft<'_>, path: &ResourcePath, waits_for: String, last_seen: String) {
    let since = draft.observed.taken_at;
    let node = path.name.parse().ok();
    draft.wait(Wait { subject: path.to_string(), waits_for, last_seen, since, node });
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
    draft.step(format!("ensure {path}"), Action::Ensure(step), reason);
}

/// What exists and is not declared any more. Masters are never removed as a side effect: quorum is not risked.
fn surplus(draft: &mut Draft<'_>) {
    let (desired, observed) = (draft.desired, draft.observed);
    for path in observed.resources.keys().filter(|path| !desired.resources.contains_key(path)) {
        if was_master(draft, path) {
            let reason = "it is a master that the blueprint no longer declares; removing masters is refused"
                .to_owned();
            draft.debt(path.to_string(), reason.clone(), observed.taken_at, Area::Platform);
            draft.blocked_by_debt(Wait {
                subject: format!("remove {path}"),
                waits_for: "the blueprint to declare it again".to_owned(),
                last_seen: reason,
                since: observed.taken_at,
                node: None,
            });
            continue;
        }
        if path.kind != ResourceKind::Machine && others_in_site(draft, path) {
            continue;
        }
        if observed.resources[path].id.is_empty() {
            let subject = format!("remove {path}");
            draft.debt(subject, NAMELESS.to_owned(), observed.taken_at, Area::Infrastructure);
            continue;
        }
        draft.step(
            format!("remove {path}"),
            Action::Remove { path: path.clone() },
            "is not declared any more",
        );
    }
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

fn others_in_site(draft: &Draft<'_>, path: &ResourcePath) -> bool {
    let in_site = |other: &&ResourcePath| other.site == path.site && other.kind == ResourceKind::Machine;
    draft.observed.resources.keys().any(|other| in_site(&other))
}
