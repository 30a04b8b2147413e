//! Desired: complete, nothing left to choose. Made from blueprint, stack, lock and the abilities of the places.

mod ground;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::blueprint::{Blueprint, ExistingMachine, Group, Limits, Port, Protocol};
use crate::lock::Lock;
use crate::manifest::{AGENT_PORT, Blob};
use crate::names::{
    ClusterId, ClusterName, ComponentName, GroupName, NodeName, ResourceKind, ResourcePath, Role, SiteName,
};
use crate::render::{RenderError, Renderer};
use crate::resource::{Abilities, ResourceSpec};
use crate::stack::{Reach, ServicePort, Stack};
use ground::Ground;

/// The cluster as it shall be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its identity.
    pub cluster: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// Every resource, with its properties.
    pub resources: Arc<BTreeMap<ResourcePath, ResourceSpec>>,
    /// Every node.
    pub nodes: Arc<BTreeMap<NodeName, DesiredNode>>,
    /// The components that nodes of a role carry, in boot order.
    pub carried: BTreeMap<Role, Vec<ComponentName>>,
    /// The node that founded, or shall found, each component that has a membership.
    pub founders: BTreeMap<ComponentName, NodeName>,
    /// The node agent's blob.
    pub agent: Blob,
    /// What may be disturbed or waited for.
    pub limits: Limits,
    /// The sites that may for a while not show what is there.
    pub late: BTreeSet<SiteName>,
    /// Makes the components' manifests.
    pub renderer: Arc<Renderer>,
}

impl Desired {
    /// The same cluster with its founders pinned.
    #[must_use]
    pub fn with_founders(&self, founders: BTreeMap<ComponentName, NodeName>) -> Self {
        Self { founders, ..self.clone() }
    }
}

/// One node as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredNode {
    /// What it is for.
    pub role: Role,
    /// The group that declares it.
    pub group: GroupName,
    /// The machine that it runs on.
    pub machine: ResourcePath,
    /// Whether its machine reads boot data; if not, the installer brings the agent over SSH.
    pub boot_data: bool,
    /// Labels for workloads.
    pub labels: BTreeMap<String, String>,
}

impl DesiredNode {
    /// Whether the installer itself brings the agent, over SSH: to masters, which all others fetch from, and to
    /// machines that read no boot data.
    pub fn enrolled_by_installer(&self) -> bool {
        self.role == Role::Master || !self.boot_data
    }
}

/// Why a blueprint cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The lock file is of another cluster.
    #[error("the lock file belongs to the cluster `{locked}`, and the blueprint declares `{declared}`")]
    OtherCluster {
        /// The name in the lock.
        locked: ClusterName,
        /// The name in the blueprint.
        declared: ClusterName,
    },
    /// Something is not pinned yet.
    #[error("{what} is not pinned in the lock file")]
    NotPinned {
        /// What.
        what: String,
    },
    /// Nothing is known of what a site can do.
    #[error("nothing is known of what the site `{site}` can do")]
    UnknownSite {
        /// The site.
        site: SiteName,
    },
    /// A site with subnets has no zone to make them in.
    #[error("the site `{site}` has no zone to make subnets in: list them as `sites.{site}.settings.zones`")]
    NoZones {
        /// The site.
        site: SiteName,
    },
    /// A template or a setting of the stack does not work.
    #[error("the stack cannot be rendered")]
    Render(#[from] RenderError),
}

/// Makes the desired cluster. Pure: the same input gives the same output.
pub fn resolve(
    blueprint: &Blueprint,
    stack: &Stack,
    lock: &Lock,
    abilities: &BTreeMap<SiteName, Abilities>,
) -> Result<Desired, ResolveError> {
    if lock.name != blueprint.name {
        return Err(ResolveError::OtherCluster {
            locked: lock.name.clone(),
            declared: blueprint.name.clone(),
        });
    }
    let agent =
        lock.agent.clone().ok_or_else(|| ResolveError::NotPinned { what: "the node agent".to_owned() })?;
    let renderer = Arc::new(Renderer::new(blueprint, stack, lock)?);
    let (mut resources, mut nodes) = (BTreeMap::new(), BTreeMap::new());
    for site in &blueprint.sites {
        let ability = abilities.get(site.0);
        let ability = ability.ok_or_else(|| ResolveError::UnknownSite { site: site.0.clone() })?;
        let ground = Ground::new(blueprint, stack, site, ability)?;
        let image = ability.image_names.then(|| pinned_image(lock, site.0)).transpose()?;
        resources.append(&mut ground.resources());
        for (name, group) in blueprint.groups.iter().filter(|(_, group)| group.site == *site.0) {
            for ordinal in 1..=group.count {
                resources.extend(ground.machine((name, group), ordinal, image));
                let node = NodeName::of(name, ordinal);
                nodes.insert(node.clone(), desired_node((name, group), &node, ability));
            }
        }
    }
    let carried = Role::ALL
        .into_iter()
        .map(|role| (role, stack.components_of(role).into_iter().cloned().collect()))
        .collect();
    let (cluster, founders) = (lock.cluster.clone(), lock.founders.clone());
    let (name, limits) = (blueprint.name.clone(), blueprint.limits);
    let (resources, nodes) = (Arc::new(resources), Arc::new(nodes));
    let late = abilities.iter().filter(|(_, ability)| ability.stale_ms > 0).map(|(site, _)| site.clone());
    let late = late.collect();
    Ok(Desired { cluster, name, resources, nodes, carried, founders, agent, limits, late, renderer })
}

/// The release that nodes are made from, where the place makes images or has its own.
pub const RELEASE: &str = "debian-12";
const IMAGE: &str = RELEASE;

fn machine_path(site: &SiteName, node: &NodeName) -> ResourcePath {
    ResourcePath { site: site.clone(), kind: ResourceKind::Machine, name: node.to_string() }
}

/// The machines that exist already in a site, by the path of their resource.
pub fn existing_machines(blueprint: &Blueprint, site: &SiteName) -> BTreeMap<ResourcePath, ExistingMachine> {
    let groups = blueprint.groups.iter().filter(|(_, group)| group.site == *site);
    let machines = groups.flat_map(|(name, group)| {
        let numbered = (1..).zip(&group.machines);
        numbered.map(move |(ordinal, machine)| {
            (machine_path(site, &NodeName::of(name, ordinal)), machine.clone())
        })
    });
    machines.collect()
}

/// The ports that something will listen on, on each machine of a site, by the path of its resource.
pub fn listening_ports(
    blueprint: &Blueprint,
    stack: &Stack,
    site: &SiteName,
) -> BTreeMap<ResourcePath, BTreeSet<Port>> {
    let agent = Port { number: AGENT_PORT, protocol: Protocol::Tcp };
    let mut listening = BTreeMap::new();
    for (name, group) in blueprint.groups.iter().filter(|(_, group)| group.site == *site) {
        let ports: BTreeSet<Port> = stack.ports(group.role).map(ServicePort::port).chain([agent]).collect();
        let paths = (1..=group.count).map(|ordinal| machine_path(site, &NodeName::of(name, ordinal)));
        listening.extend(paths.map(|path| (path, ports.clone())));
    }
    listening
}

fn desired_node((name, group): (&GroupName, &Group), node: &NodeName, ability: &Abilities) -> DesiredNode {
    DesiredNode {
        role: group.role,
        group: name.clone(),
        machine: machine_path(&group.site, node),
        boot_data: ability.boot_data,
        labels: group.labels.clone(),
    }
}

fn pinned_image<'a>(lock: &'a Lock, site: &SiteName) -> Result<&'a str, ResolveError> {
    let pinned = lock.images.get(site).map(|image| image.id.as_str());
    pinned.ok_or_else(|| ResolveError::NotPinned { what: format!("the image of the site `{site}`") })
}

/// The ports of a group's nodes that are reachable from outside: those of the stack and those that the group adds.
fn open_ports(stack: &Stack, group: &Group) -> Vec<Port> {
    let of_stack = stack.ports(group.role).filter(|port| port.from == Reach::Outside).map(ServicePort::port);
    let mut ports: Vec<Port> = of_stack.chain(group.open_ports.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
