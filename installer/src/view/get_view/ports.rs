//! Who may reach which port: computed from the stack's ports and from the zones that nodes of each role are in.
//!
//! | zone | who is in it |
//! |---|---|
//! | `node` | the node itself; needs no rule |
//! | `masters` | all masters |
//! | `cluster` | all nodes |
//! | `admin` | those who run the cluster, and the installer |
//! | `world` | everybody |
//!
//! What a component offers to the outside is offered to the admin zone on masters and private agents, and to
//! everybody on public agents. Ports that a group opens by itself are open to everybody.

use std::collections::{BTreeMap, BTreeSet};

use castrum_blueprints::blueprint::{Port, Protocol};
use castrum_blueprints::manifest::AGENT_PORT;
use castrum_blueprints::names::{GroupName, Role};
use castrum_blueprints::resource::ResourceSpec;
use castrum_blueprints::stack::Reach;
use serde_json::{Value, json};

use super::Filter;
use crate::view::World;

/// One port of one component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Served<'a> {
    port: u16,
    protocol: Protocol,
    component: &'a str,
    purpose: &'a str,
    /// Who may reach it on nodes of each role that have it.
    zones: BTreeMap<Role, BTreeSet<&'static str>>,
}

fn zone(reach: Reach, role: Role) -> &'static str {
    match (reach, role) {
        (Reach::Node, _) => "node",
        (Reach::Masters, _) => "masters",
        (Reach::Cluster, _) => "cluster",
        (Reach::Outside, Role::PublicAgent) => "world",
        (Reach::Outside, Role::Master | Role::Agent) => "admin",
    }
}

/// Every port that nodes serve: those of the stack, the agent's and that of SSH.
fn served<'a>(world: &World<'a>) -> Vec<Served<'a>> {
    let everywhere = |zones: &dyn Fn(Role) -> BTreeSet<&'static str>| {
        Role::ALL.into_iter().map(|role| (role, zones(role))).collect()
    };
    let agent = |role| {
        if role == Role::Master { BTreeSet::from(["admin", "cluster"]) } else { BTreeSet::from(["cluster"]) }
    };
    let mut all = vec![
        Served {
            port: 22,
            protocol: Protocol::Tcp,
            component: "ssh",
            purpose: "the installer, and people who look at a node",
            zones: everywhere(&|_| BTreeSet::from(["admin"])),
        },
        Served {
            port: AGENT_PORT,
            protocol: Protocol::Tcp,
            component: "castrum-agent",
            purpose: "manifests, status and the depot, with mutual TLS",
            zones: everywhere(&agent),
        },
    ];
    for (name, component) in &world.stack.components {
        for port in &component.ports {
            let zones = component.roles.iter().map(|role| (*role, BTreeSet::from([zone(port.from, *role)])));
            all.push(Served {
                port: port.number,
                protocol: port.protocol,
                component: name.as_str(),
                purpose: &port.purpose,
                zones: zones.collect(),
            });
        }
    }
    all.sort();
    all
}

/// The zones that may reach each port, by role.
pub(super) fn matrix(world: &World<'_>, filter: &Filter) -> Vec<Value> {
    let roles = filter.roles(world);
    let shown =
        served(world).into_iter().filter(|served| served.zones.keys().any(|role| roles.contains(role)));
    let items = shown.map(|served| {
        let mut item = json!({
            "port": served.port,
            "protocol": served.protocol,
            "component": served.component,
            "purpose": served.purpose,
        });
        for role in &roles {
            item[role.as_str()] = json!(served.zones.get(role));
        }
        item
    });
    items.collect()
}

/// One rule for each group, port and zone; what only the node itself reaches needs none.
pub(super) fn firewall(world: &World<'_>, filter: &Filter) -> Vec<Value> {
    let served = served(world);
    let mut items = Vec::new();
    for (group, (role, extra)) in groups(world, filter) {
        for one in &served {
            for zone in one.zones.get(&role).into_iter().flatten().filter(|zone| **zone != "node") {
                items.push(rule(group, role, (one.port, one.protocol, zone), (one.component, one.purpose)));
            }
        }
        for port in extra {
            let known = served.iter().any(|one| {
                (one.port, one.protocol) == (port.number, port.protocol)
                    && one
                        .zones
                        .get(&role)
                        .is_some_and(|zones| zones.contains("world") || zones.contains("admin"))
            });
            if !known {
                let purpose = "opened by the blueprint";
                items.push(rule(group, role, (port.number, port.protocol, "world"), ("group", purpose)));
            }
        }
    }
    items
}

fn rule(
    group: &GroupName,
    role: Role,
    (port, protocol, from): (u16, Protocol, &str),
    (component, purpose): (&str, &str),
) -> Value {
    json!({
        "group": group, "role": role, "port": port, "protocol": protocol,
        "from": from, "component": component, "purpose": purpose,
    })
}

/// The groups of admitted nodes, with the ports of theirs that are reachable from outside.
fn groups<'a>(world: &World<'a>, filter: &Filter) -> BTreeMap<&'a GroupName, (Role, BTreeSet<Port>)> {
    let mut groups: BTreeMap<&GroupName, (Role, BTreeSet<Port>)> = BTreeMap::new();
    for node in world.desired.nodes.values().filter(|node| filter.admits(node)) {
        let group = groups.entry(&node.group).or_insert_with(|| (node.role, BTreeSet::new()));
        if let Some(ResourceSpec::Machine(spec)) = world.desired.resources.get(&node.machine) {
            group.1.extend(spec.open_ports.iter().copied());
        }
    }
    groups
}
