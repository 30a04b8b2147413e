//! Desired: complete, nothing left to choose. Made from blueprint, stack, lock and the abilities of the places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::blueprint::{Blueprint, ExistingMachine, Group, Limits, Port, Protocol};
use crate::lock::Lock;
use crate::manifest::{AGENT_PORT, Blob};
use crate::names::{
    ClusterId, ClusterName, ComponentName, GroupName, NodeName, ResourceKind, ResourcePath, Role, SiteName,
};
use crate::render::{RenderError, Renderer};
use crate::resource::{Abilities, Attachments, ImageSpec, MachineSpec, NetworkSpec, ResourceSpec};
use crate::stack::{Reach, ServicePort, Stack};

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
    let mut resources = site_resources(blueprint, abilities)?;
    let mut nodes = BTreeMap::new();
    for (name, group) in &blueprint.groups {
        let ability = &abilities[&group.site];
        let ports = outside_ports(stack, group);
        for ordinal in 1..=group.count {
            let node = NodeName::of(name, ordinal);
            let machine = machine_path(&group.site, &node);
            let image = ability.kinds.contains(&ResourceKind::Image).then(|| IMAGE.to_owned());
            let spec = machine_spec(&node, group, ordinal, (image, ports.clone()));
            resources.insert(machine.clone(), ResourceSpec::Machine(Box::new(spec)));
            let labels = group.labels.clone();
            let boot_data = ability.boot_data;
            nodes.insert(
                node,
                DesiredNode { role: group.role, group: name.clone(), machine, boot_data, labels },
            );
        }
    }
    let carried = Role::ALL
        .into_iter()
        .map(|role| (role, stack.components_of(role).into_iter().cloned().collect()))
        .collect();
    let (cluster, founders) = (lock.cluster.clone(), lock.founders.clone());
    let (name, limits) = (blueprint.name.clone(), blueprint.limits);
    let (resources, nodes) = (Arc::new(resources), Arc::new(nodes));
    Ok(Desired { cluster, name, resources, nodes, carried, founders, agent, limits, renderer })
}

/// The release that nodes are made from where the place makes its own images.
const RELEASE: &str = "debian-12";
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

fn site_resources(
    blueprint: &Blueprint,
    abilities: &BTreeMap<SiteName, Abilities>,
) -> Result<BTreeMap<ResourcePath, ResourceSpec>, ResolveError> {
    let mut resources = BTreeMap::new();
    for (site, declared) in &blueprint.sites {
        let ability = abilities.get(site).ok_or_else(|| ResolveError::UnknownSite { site: site.clone() })?;
        let nodes = blueprint.groups.values().filter(|g| g.site == *site).map(|g| g.count).sum();
        let path = |kind, name: &str| ResourcePath { site: site.clone(), kind, name: name.to_owned() };
        if ability.kinds.contains(&ResourceKind::Image) {
            let spec = ResourceSpec::Image(ImageSpec { release: RELEASE.to_owned() });
            resources.insert(path(ResourceKind::Image, IMAGE), spec);
        }
        if ability.kinds.contains(&ResourceKind::Network) {
            let cidr = declared.settings.get("cidr").and_then(|v| v.as_str()).map(str::to_owned);
            let spec = ResourceSpec::Network(NetworkSpec { nodes, cidr });
            resources.insert(path(ResourceKind::Network, "nodes"), spec);
        }
    }
    Ok(resources)
}

fn machine_spec(
    node: &NodeName,
    group: &Group,
    ordinal: u32,
    (image, open_ports): (Option<String>, Vec<Port>),
) -> MachineSpec {
    let index = ordinal as usize - 1;
    MachineSpec {
        node: node.clone(),
        role: group.role,
        size: group.size,
        disks: group.disks.clone(),
        zone: (!group.zones.is_empty()).then(|| group.zones[index % group.zones.len()].clone()),
        image,
        open_ports,
        existing: group.machines.get(index).cloned(),
        attached: Attachments::default(),
    }
}

/// The ports of a group's nodes that are reachable from outside: those of the stack and those that the group adds.
fn outside_ports(stack: &Stack, group: &Group) -> Vec<Port> {
    let of_stack = stack.ports(group.role).filter(|port| port.from == Reach::Outside).map(ServicePort::port);
    let mut ports: Vec<Port> = of_stack.chain(group.open_ports.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
