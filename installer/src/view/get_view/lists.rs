//! The lists whose content is known as it is: nodes, components, resources, checks, waves, packages, founders.

use std::collections::BTreeMap;

use castrum_blueprints::desired::DesiredNode;
use castrum_blueprints::names::{ComponentName, ResourcePath, Timestamp};
use serde_json::{Value, json};

use super::Filter;
use crate::view::World;
use crate::view::facts::{self, NodeFacts};
use crate::view::status_view::{all_checks, components_json, description, in_order, node_fields, wave};

fn admitted<'a>(world: &World<'a>, filter: &Filter, now: Timestamp) -> Vec<NodeFacts<'a>> {
    let mut all = facts::nodes(world, now);
    all.retain(|facts| filter.admits(facts.node));
    all
}

pub(super) fn nodes(world: &World<'_>, filter: &Filter, now: Timestamp) -> Vec<Value> {
    admitted(world, filter, now).iter().map(|facts| node_fields(facts, now)).collect()
}

pub(super) fn components(world: &World<'_>, filter: &Filter, now: Timestamp) -> Vec<Value> {
    let mut all = components_json(world, &admitted(world, filter, now));
    all.retain(|item| filter.is_open() || item["nodes"]["total"] != 0);
    all
}

pub(super) fn checks(world: &World<'_>, filter: &Filter, now: Timestamp) -> Vec<Value> {
    let mut items = Vec::new();
    for facts in admitted(world, filter, now) {
        let (Some(status), Some(heard)) = (facts.status, facts.agent.at()) else { continue };
        for (component, check, result) in all_checks(&facts) {
            // The node's own clock counts up to its last word, ours from there.
            let age_ms = status.at.since(result.since) + now.since(heard);
            items.push(json!({
                "node": facts.name,
                "component": component,
                "check": check,
                "name": format!("{component}/{check}"),
                "verdict": result.verdict,
                "since": result.since,
                "age_ms": age_ms,
                "at": result.at,
                "seen": result.seen,
                "description": description(world, component, check),
            }));
        }
    }
    items
}

pub(super) fn resources(world: &World<'_>, filter: &Filter) -> Vec<Value> {
    let owners: BTreeMap<&ResourcePath, &DesiredNode> =
        world.desired.nodes.values().map(|node| (&node.machine, node)).collect();
    let by_node = filter.role.is_some() || filter.group.is_some();
    let admitted = |path: &ResourcePath| match owners.get(path) {
        Some(node) => filter.admits(node),
        None => !by_node && filter.site.as_ref().is_none_or(|site| *site == path.site),
    };
    let undeclared =
        world.observed.resources.keys().filter(|path| !world.desired.resources.contains_key(path));
    let all = world.desired.resources.keys().chain(undeclared);
    all.filter(|path| admitted(path)).map(|path| resource(world, path)).collect()
}

fn resource(world: &World<'_>, path: &ResourcePath) -> Value {
    let (wanted, seen) = (world.desired.resources.get(path), world.observed.resources.get(path));
    let hides = |blind: &castrum_blueprints::resource::Blind| {
        blind.site == path.site && blind.kind.is_none_or(|kind| kind == path.kind)
    };
    let state = match (wanted, seen) {
        (_, None) if world.observed.blind.iter().any(hides) => "not seen",
        (_, None) => "not made",
        (None, Some(_)) => "surplus",
        (Some(_), Some(seen)) if !seen.ready => "not ready",
        (Some(wanted), Some(seen)) if seen.spec.as_ref().is_some_and(|made| *made != wanted.digest()) => {
            "differs"
        }
        _ => "as declared",
    };
    let machine = seen.and_then(|seen| seen.machine.as_ref());
    json!({
        "path": path,
        "site": path.site,
        "kind": path.kind,
        "name": path.name,
        "state": state,
        "id": seen.map(|seen| &seen.id),
        "note": seen.and_then(|seen| seen.note.as_ref()),
        "power": machine.map(|machine| machine.power),
        "address": machine.and_then(|machine| machine.public_address.or(machine.address)),
        "created_at": machine.map(|machine| machine.created_at),
    })
}

pub(super) fn waves(world: &World<'_>, filter: &Filter) -> Vec<Value> {
    let roles = filter.roles(world);
    let mut waves: BTreeMap<u32, Vec<&ComponentName>> = BTreeMap::new();
    for name in in_order(world) {
        if Filter::admits_component(&roles, world, name) {
            waves.entry(wave(world, name)).or_default().push(name);
        }
    }
    let items = waves.into_iter().map(|(wave, components)| {
        let requires: std::collections::BTreeSet<_> = components
            .iter()
            .filter_map(|name| world.stack.components.get(*name))
            .flat_map(|c| &c.requires)
            .collect();
        json!({ "wave": wave, "components": components, "requires": requires })
    });
    items.collect()
}

pub(super) fn packages(world: &World<'_>, filter: &Filter) -> Vec<Value> {
    let roles = filter.roles(world);
    let admitted =
        world.lock.components.iter().filter(|(name, _)| Filter::admits_component(&roles, world, name));
    let items = admitted.flat_map(|(name, locked)| {
        locked.packages.iter().map(move |package| {
            json!({
                "component": name,
                "name": package.name,
                "version": package.version,
                "architecture": package.architecture,
                "size_bytes": package.size,
                "sha256": package.sha256,
            })
        })
    });
    items.collect()
}

pub(super) fn founders(world: &World<'_>, filter: &Filter) -> Vec<Value> {
    let with_membership =
        world.stack.components.iter().filter(|(_, component)| component.membership.is_some());
    let admitted = |name: &ComponentName| {
        let node = world.desired.founders.get(name).and_then(|node| world.desired.nodes.get(node));
        filter.is_open() || node.is_some_and(|node| filter.admits(node))
    };
    with_membership
        .filter(|(name, _)| admitted(name))
        .map(|(name, _)| json!({ "component": name, "node": world.desired.founders.get(name) }))
        .collect()
}
