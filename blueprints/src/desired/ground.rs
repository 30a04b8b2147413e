//! What the machines of a site stand on, as far as the place makes it: network, subnets, firewalls and so on.
//!
//! ```text
//!   zone a                                  zone b
//!   ┌ public-a ───────────────────────┐     ┌ public-b ──────────────┐   masters, public agents, load balancers
//!   │ masters-1  public-1  (gateway)  │     │ masters-2              │
//!   └───────────────▲─────────────────┘     └────────────────────────┘
//!   ┌ private-a ────┴─────────────────┐     ┌ private-b ─────────────┐   private agents, which go out through a gateway
//!   │ agents-1                        │     │ agents-2               │
//!   └─────────────────────────────────┘     └────────────────────────┘
//! ```
//!
//! Who may reach which port follows from the stack: see [`rules_of`].

use std::collections::{BTreeMap, BTreeSet};

use super::{IMAGE, RELEASE, ResolveError, open_ports};
use crate::blueprint::{Blueprint, Group, Port, Protocol, Site};
use crate::manifest::AGENT_PORT;
use crate::names::{GroupName, NodeName, ResourceKind, ResourcePath, Role, SiteName};
use crate::resource::{
    Abilities, AddressSpec, Attachments, Exit, FirewallRule, FirewallSpec, ImageSpec, KeySpec,
    LoadBalancerSpec, MachineSpec, NetworkSpec, PlacementSpec, ResourceSpec, SubnetSpec, VolumeSpec, Zone,
};
use crate::stack::{Reach, ServicePort, Stack};

/// The names of what there is once in a site.
const NETWORK: &str = "nodes";
/// The firewall that every machine carries.
const EVERYBODY: &str = "nodes";
const GATEWAY: &str = "gateway";
const KEY: &str = "access";
const MASTERS: &str = "masters";
const PUBLIC: &str = "public";
const SSH: Port = Port { number: 22, protocol: Protocol::Tcp };
const AGENT: Port = Port { number: AGENT_PORT, protocol: Protocol::Tcp };

/// One site, with what it is to hold.
pub(super) struct Ground<'a> {
    blueprint: &'a Blueprint,
    stack: &'a Stack,
    site: &'a SiteName,
    declared: &'a Site,
    abilities: &'a Abilities,
    /// The zones of the site, where it has subnets.
    zones: Vec<String>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        blueprint: &'a Blueprint,
        stack: &'a Stack,
        (site, declared): (&'a SiteName, &'a Site),
        abilities: &'a Abilities,
    ) -> Result<Self, ResolveError> {
        let mut ground = Self { blueprint, stack, site, declared, abilities, zones: Vec::new() };
        if ground.makes(ResourceKind::Subnet) {
            ground.zones = ground.named_zones();
            if ground.zones.is_empty() {
                return Err(ResolveError::NoZones { site: site.clone() });
            }
        }
        Ok(ground)
    }

    fn makes(&self, kind: ResourceKind) -> bool {
        self.abilities.kinds.contains(&kind)
    }

    /// The zones that the site's settings list, then those that only groups name.
    fn named_zones(&self) -> Vec<String> {
        let listed = self.declared.settings.get("zones").and_then(|value| value.as_array());
        let listed = listed.into_iter().flatten().filter_map(|zone| zone.as_str());
        let of_groups = self.groups().flat_map(|(_, group)| group.zones.iter().map(String::as_str));
        let mut zones: Vec<String> = Vec::new();
        for zone in listed.chain(of_groups) {
            if !zones.iter().any(|known| known == zone) {
                zones.push(zone.to_owned());
            }
        }
        zones
    }

    fn groups(&self) -> impl Iterator<Item = (&'a GroupName, &'a Group)> {
        let site = self.site;
        self.blueprint.groups.iter().filter(move |(_, group)| group.site == *site)
    }

    fn has(&self, role: Role) -> bool {
        self.count(role) > 0
    }

    fn count(&self, role: Role) -> u32 {
        self.groups().filter(|(_, group)| group.role == role).map(|(_, group)| group.count).sum()
    }

    /// Everything but machines and their volumes and addresses.
    pub(super) fn resources(&self) -> BTreeMap<ResourcePath, ResourceSpec> {
        let mut specs = vec![
            (IMAGE.to_owned(), ResourceSpec::Image(ImageSpec { release: RELEASE.to_owned() })),
            (NETWORK.to_owned(), ResourceSpec::Network(self.network())),
        ];
        if !self.zones.is_empty() {
            specs.extend(self.subnets().into_iter().map(|(name, spec)| (name, ResourceSpec::Subnet(spec))));
            specs.extend(self.gateways().into_values().map(|name| {
                let purpose = "the way out of private agents".to_owned();
                (name, ResourceSpec::Address(AddressSpec { purpose }))
            }));
            specs.extend(self.firewalls());
            specs.extend(self.balancers());
        }
        if let Some(public_key) = self.blueprint.access.authorized_keys.first().cloned() {
            specs.push((KEY.to_owned(), ResourceSpec::Key(KeySpec { public_key })));
        }
        if self.count(Role::Master) > 1 {
            let purpose = "masters stand on hardware of their own each".to_owned();
            specs.push((MASTERS.to_owned(), ResourceSpec::Placement(PlacementSpec { purpose })));
        }
        let made = specs.into_iter().filter(|(_, spec)| self.makes(spec.kind()));
        made.map(|(name, spec)| (self.path(spec.kind(), name), spec)).collect()
    }

    fn path(&self, kind: ResourceKind, name: String) -> ResourcePath {
        ResourcePath { site: self.site.clone(), kind, name }
    }

    fn network(&self) -> NetworkSpec {
        let nodes = self.groups().map(|(_, group)| group.count).sum();
        let cidr = self.declared.settings.get("cidr").and_then(|v| v.as_str()).map(str::to_owned);
        NetworkSpec { nodes, cidr }
    }

    /// The public address of the gateway in each zone that has one.
    fn gateways(&self) -> BTreeMap<&str, String> {
        let each = self.declared.settings.get("gateways").and_then(|v| v.as_str()) == Some("per-zone");
        let zones = self.zones.iter().take(if each { self.zones.len() } else { 1 });
        let zones = zones.filter(|_| self.has(Role::Agent) && self.makes(ResourceKind::Address));
        zones.map(|zone| (zone.as_str(), format!("{GATEWAY}-{zone}"))).collect()
    }

    fn subnets(&self) -> Vec<(String, SubnetSpec)> {
        let gateways = self.gateways();
        let subnet = |zone: &str, exit, gateway| SubnetSpec {
            network: NETWORK.to_owned(),
            zone: zone.to_owned(),
            exit,
            gateway,
        };
        let mut subnets = Vec::new();
        for zone in &self.zones {
            let own = gateways.get(zone.as_str());
            subnets.push((public(zone), subnet(zone, Exit::Direct, own.cloned())));
            let through = if own.is_some() { Some(zone.as_str()) } else { gateways.keys().next().copied() };
            if let Some(through) = through {
                subnets.push((private(zone), subnet(zone, Exit::Through(public(through)), None)));
            }
        }
        subnets
    }

    fn firewalls(&self) -> Vec<(String, ResourceSpec)> {
        let mut firewalls = vec![firewall(EVERYBODY, "every node", everybody())];
        for role in Role::ALL.into_iter().filter(|role| self.has(*role)) {
            firewalls.push(firewall(
                carried(role),
                &format!("nodes with the role {role}"),
                self.rules_of(role),
            ));
        }
        for (name, group) in self.groups().filter(|(_, group)| !group.open_ports.is_empty()) {
            let rules = group.open_ports.iter().map(|port| rule(*port, Zone::World));
            firewalls.push(firewall(&opened(name), &format!("ports that {name} opens"), rules.collect()));
        }
        for (name, role, zone) in BALANCERS {
            let rules = self.balanced(role).into_iter().map(|port| rule(port, zone.clone()));
            let rules: BTreeSet<_> = rules.collect();
            if !rules.is_empty() {
                firewalls.push(firewall(&balancer(name), &format!("the load balancer of {name}"), rules));
            }
        }
        firewalls
    }

    /// Who may reach the ports of a role's nodes: what a component offers to the outside is offered to those who run the
    /// cluster, and on public agents to everybody; both also through the load balancer.
    fn rules_of(&self, role: Role) -> BTreeSet<FirewallRule> {
        let mut rules = BTreeSet::new();
        for ServicePort { number, protocol, from, .. } in self.stack.ports(role) {
            let port = Port { number: *number, protocol: *protocol };
            match (from, role) {
                (Reach::Node, _) => {}
                (Reach::Masters, Role::Master) => drop(rules.insert(rule(port, Zone::Own))),
                (Reach::Masters, _) if !self.has(Role::Master) => {}
                (Reach::Masters, _) => drop(rules.insert(rule(port, Zone::Firewall(MASTERS.to_owned())))),
                (Reach::Cluster, _) => drop(rules.insert(rule(port, Zone::Firewall(EVERYBODY.to_owned())))),
                (Reach::Outside, Role::PublicAgent) => drop(rules.insert(rule(port, Zone::World))),
                (Reach::Outside, Role::Master | Role::Agent) => drop(rules.insert(rule(port, Zone::Admin))),
            }
        }
        if role == Role::Master {
            rules.insert(rule(AGENT, Zone::Admin));
        }
        for (name, balanced, _) in BALANCERS.into_iter().filter(|(_, balanced, _)| *balanced == role) {
            let from = || Zone::Firewall(balancer(name));
            rules.extend(self.balanced(balanced).into_iter().map(|port| rule(port, from())));
        }
        rules
    }

    /// The ports that the load balancer of a role hands on.
    fn balanced(&self, role: Role) -> BTreeSet<Port> {
        if !self.makes(ResourceKind::LoadBalancer) || !self.has(role) {
            return BTreeSet::new();
        }
        let of_stack =
            self.stack.ports(role).filter(|port| port.from == Reach::Outside).map(ServicePort::port);
        let groups = self.groups().filter(|(_, group)| group.role == role);
        of_stack.chain(groups.flat_map(|(_, group)| group.open_ports.iter().copied())).collect()
    }

    fn balancers(&self) -> Vec<(String, ResourceSpec)> {
        let mut balancers = Vec::new();
        for (name, role, _) in BALANCERS {
            let ports: Vec<Port> = self.balanced(role).into_iter().collect();
            if ports.is_empty() {
                continue;
            }
            let spec = LoadBalancerSpec {
                network: NETWORK.to_owned(),
                purpose: format!("nodes with the role {role}"),
                subnets: self.zones.iter().map(|zone| public(zone)).collect(),
                firewalls: vec![balancer(name)],
                ports,
            };
            balancers.push((name.to_owned(), ResourceSpec::LoadBalancer(spec)));
        }
        balancers
    }

    /// The machine of a node, with the volumes and the address that only it has.
    pub(super) fn machine(
        &self,
        (name, group): (&GroupName, &Group),
        ordinal: u32,
        image: Option<&str>,
    ) -> Vec<(ResourcePath, ResourceSpec)> {
        let (index, node) = (ordinal as usize - 1, NodeName::of(name, ordinal));
        let zones = if group.zones.is_empty() { &self.zones } else { &group.zones };
        let zone = (!zones.is_empty()).then(|| zones[index % zones.len()].clone());
        let own_image = self.makes(ResourceKind::Image).then(|| IMAGE.to_owned());
        let attached = self.attachments((name, group), &node, zone.as_deref());
        let mut made = self.of_its_own(group, &attached, zone.as_deref());
        let spec = MachineSpec {
            node: node.clone(),
            role: group.role,
            size: group.size,
            disks: group.disks.clone(),
            zone,
            image: own_image.or_else(|| image.map(str::to_owned)),
            open_ports: open_ports(self.stack, group),
            existing: group.machines.get(index).cloned(),
            attached,
        };
        let path = self.path(ResourceKind::Machine, node.to_string());
        made.push((path, ResourceSpec::Machine(Box::new(spec))));
        made
    }

    fn attachments(
        &self,
        (name, group): (&GroupName, &Group),
        node: &NodeName,
        zone: Option<&str>,
    ) -> Attachments {
        let Some(zone) = zone.filter(|_| self.makes(ResourceKind::Subnet)) else {
            return Attachments::default();
        };
        let of = |kind, name: String| self.makes(kind).then_some(name);
        let hidden = group.role == Role::Agent && !self.gateways().is_empty();
        let opened = (!group.open_ports.is_empty()).then(|| opened(name));
        let firewalls = [EVERYBODY, carried(group.role)].map(str::to_owned).into_iter().chain(opened);
        let is_master = group.role == Role::Master;
        let key = (!self.blueprint.access.authorized_keys.is_empty()).then(|| KEY.to_owned());
        let disks = (1..=group.disks.len()).map(|number| format!("{node}-{number}"));
        let balancers = BALANCERS.into_iter().filter(|(_, role, _)| *role == group.role);
        let balancers = balancers.filter(|(_, role, _)| !self.balanced(*role).is_empty());
        Attachments {
            subnet: Some(if hidden { private(zone) } else { public(zone) }),
            firewalls: firewalls.filter(|_| self.makes(ResourceKind::Firewall)).collect(),
            address: of(ResourceKind::Address, node.to_string()).filter(|_| is_master),
            key: key.filter(|_| self.makes(ResourceKind::Key)),
            placement: of(ResourceKind::Placement, MASTERS.to_owned())
                .filter(|_| is_master && self.count(Role::Master) > 1),
            volumes: disks.filter(|_| self.makes(ResourceKind::Volume)).collect(),
            balancers: balancers.map(|(name, ..)| name.to_owned()).collect(),
        }
    }

    /// What one machine alone is attached to.
    fn of_its_own(
        &self,
        group: &Group,
        attached: &Attachments,
        zone: Option<&str>,
    ) -> Vec<(ResourcePath, ResourceSpec)> {
        let mut made = Vec::new();
        if let Some(name) = &attached.address {
            let purpose = "a master stays where it is found".to_owned();
            let path = self.path(ResourceKind::Address, name.clone());
            made.push((path, ResourceSpec::Address(AddressSpec { purpose })));
        }
        for (name, disk) in attached.volumes.iter().zip(&group.disks) {
            let spec = VolumeSpec { zone: zone.unwrap_or_default().to_owned(), size_gib: disk.size_gib };
            made.push((self.path(ResourceKind::Volume, name.clone()), ResourceSpec::Volume(spec)));
        }
        made
    }
}

/// A load balancer: its name, the role whose nodes it hands on to, and who may reach it.
type Balancer = (&'static str, Role, Zone);
const BALANCERS: [Balancer; 2] =
    [(MASTERS, Role::Master, Zone::Admin), (PUBLIC, Role::PublicAgent, Zone::World)];

/// The firewall that nodes of a role carry.
fn carried(role: Role) -> &'static str {
    match role {
        Role::Master => MASTERS,
        Role::Agent => "agents",
        Role::PublicAgent => "public-agents",
    }
}

fn public(zone: &str) -> String {
    format!("public-{zone}")
}

fn private(zone: &str) -> String {
    format!("private-{zone}")
}

fn opened(group: &GroupName) -> String {
    format!("open-{group}")
}

fn balancer(name: &str) -> String {
    format!("{name}-balancer")
}

fn rule(port: Port, from: Zone) -> FirewallRule {
    FirewallRule { port, from }
}

/// All nodes reach each other's agents; those who run the cluster log in.
fn everybody() -> BTreeSet<FirewallRule> {
    BTreeSet::from([rule(SSH, Zone::Admin), rule(AGENT, Zone::Own)])
}

fn firewall(name: &str, purpose: &str, rules: BTreeSet<FirewallRule>) -> (String, ResourceSpec) {
    let spec = FirewallSpec {
        network: NETWORK.to_owned(),
        purpose: purpose.to_owned(),
        rules: rules.into_iter().collect(),
    };
    (name.to_owned(), ResourceSpec::Firewall(spec))
}
