//! What must hold of a world whenever a run says that it is done, and whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};

use castrum_blueprints::names::{ComponentName, NodeName, ResourcePath, Role};
use castrum_provider_sim::{Happened, Happening, Joining};

use crate::rig::Rig;

/// What every node of a whole cluster runs.
pub fn portrait_of_whole(rig: &Rig) -> BTreeMap<NodeName, Vec<String>> {
    let desired = rig.desired();
    let line = |name: &ComponentName| {
        let member = if desired.renderer.has_membership(name) { ", member" } else { "" };
        format!("{name} healthy{member}")
    };
    let lines = |role: Role| {
        let mut names: Vec<_> = desired.carried[&role].iter().collect();
        names.sort();
        names.into_iter().map(line).collect()
    };
    desired.nodes.iter().map(|(name, node)| (name.clone(), lines(node.role))).collect()
}

/// Everything that is declared is there, once and healthy, and nothing else is.
pub fn assert_whole(rig: &Rig) {
    assert_eq!(rig.world.portrait(), portrait_of_whole(rig));
    assert_nothing_twice(rig);
    let declared: BTreeSet<ResourcePath> = rig.desired().resources.keys().cloned().collect();
    assert_eq!(rig.world.resources(), declared, "orphans, or something missing");
}

/// There is never two of anything.
pub fn assert_nothing_twice(rig: &Rig) {
    let audit = rig.world.audit();
    assert!(audit.duplicates.is_empty(), "{:?}", audit.duplicates);
    assert!(audit.founded_twice.is_empty(), "{:?}", audit.founded_twice);
}

/// No component was opened before what it requires was healthy, as far as its node or the masters carry it.
pub fn assert_order(rig: &Rig, happenings: &[Happening]) {
    let desired = rig.desired();
    let renderer = &desired.renderer;
    let mut healthy: BTreeMap<&ComponentName, BTreeSet<&NodeName>> = BTreeMap::new();
    let mut opened: BTreeSet<(&NodeName, &ComponentName)> = BTreeSet::new();
    let masters = desired.nodes.values().filter(|node| node.role == Role::Master).count();
    for Happening { node, what, .. } in happenings {
        match what {
            Happened::Healthy(component) => {
                healthy.entry(component).or_default().insert(node);
            }
            Happened::Published(_, components) => {
                for component in components.iter().filter(|c| opened.insert((node, c))) {
                    for required in renderer.requires(component) {
                        let there = healthy.get(required).cloned().unwrap_or_default();
                        if renderer.roles(required).contains(&desired.nodes[node].role) {
                            assert!(there.contains(node), "{component} opened on {node} before {required}");
                        }
                        if renderer.is_quorum(required) {
                            assert!(
                                there.len() > masters / 2,
                                "{component} opened on {node} without a quorum"
                            );
                        }
                    }
                }
            }
            Happened::Joined(component, Joining::Joined) => {
                let there = healthy.get(component).is_some_and(|nodes| !nodes.is_empty());
                assert!(there, "{node} joined {component} before it was founded and healthy");
            }
            Happened::Started(_) | Happened::Joined(_, Joining::Founded) => {}
        }
    }
}

/// Masters were changed one at a time: none was started anew while another was not healthy again after its change.
pub fn assert_masters_one_at_a_time(rig: &Rig, happenings: &[Happening]) {
    let desired = rig.desired();
    let mut changing: BTreeMap<&NodeName, &ComponentName> = BTreeMap::new();
    for Happening { node, what, .. } in happenings {
        if desired.nodes[node].role != Role::Master {
            continue;
        }
        match what {
            Happened::Started(component) => {
                let other = changing.iter().find(|(other, _)| *other != &node);
                assert!(other.is_none(), "{component} on {node} was changed while {other:?} was not healthy");
                changing.insert(node, component);
            }
            Happened::Healthy(component) if changing.get(node) == Some(&component) => {
                changing.remove(node);
            }
            _ => {}
        }
    }
}
