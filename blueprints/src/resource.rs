//! Resources of a place: what is wanted of them and what was seen of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::blueprint::{Disk, ExistingMachine, Port, Size};
use crate::names::{Digest, NodeName, ResourceKind, ResourcePath, Role, SiteName, Timestamp};

/// What a place can do, as data for the planner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// The provider's name.
    pub provider: String,
    /// The kinds that it makes.
    pub kinds: Vec<ResourceKind>,
    /// Whether machines read the boot data; if not, the installer brings the agent over SSH.
    pub boot_data: bool,
    /// Whether machines can be powered on and off from outside.
    pub power: bool,
    /// For how many milliseconds a look may miss what was made or removed; 0 where each look shows the present.
    #[serde(default)]
    pub stale_ms: u64,
    /// Whether machines start from images of the place's own, which are looked up once and pinned.
    #[serde(default)]
    pub image_names: bool,
}

/// The properties of one resource, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ResourceSpec {
    /// A machine image.
    Image(ImageSpec),
    /// A private network.
    Network(NetworkSpec),
    /// A public address.
    Address(AddressSpec),
    /// A subnet of the network.
    Subnet(SubnetSpec),
    /// A set of packet filter rules.
    Firewall(FirewallSpec),
    /// An SSH public key.
    Key(KeySpec),
    /// A placement group.
    Placement(PlacementSpec),
    /// A block volume.
    Volume(VolumeSpec),
    /// A load balancer.
    LoadBalancer(LoadBalancerSpec),
    /// A machine.
    Machine(Box<MachineSpec>),
}

/// The name of a resource that another one of the same site needs, with its kind.
pub type Need<'a> = (ResourceKind, &'a str);

impl ResourceSpec {
    /// What kind of resource this is.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Image(_) => ResourceKind::Image,
            Self::Network(_) => ResourceKind::Network,
            Self::Address(_) => ResourceKind::Address,
            Self::Subnet(_) => ResourceKind::Subnet,
            Self::Firewall(_) => ResourceKind::Firewall,
            Self::Key(_) => ResourceKind::Key,
            Self::Placement(_) => ResourceKind::Placement,
            Self::Volume(_) => ResourceKind::Volume,
            Self::LoadBalancer(_) => ResourceKind::LoadBalancer,
            Self::Machine(_) => ResourceKind::Machine,
        }
    }

    /// The resources of the same site that must be ready first, by their names in this spec.
    pub fn needs(&self) -> Vec<Need<'_>> {
        match self {
            Self::Subnet(spec) => spec.needs(),
            Self::Firewall(spec) => spec.needs(),
            Self::LoadBalancer(spec) => spec.needs(),
            Self::Machine(spec) => spec.attached.needs().collect(),
            Self::Image(_)
            | Self::Network(_)
            | Self::Address(_)
            | Self::Key(_)
            | Self::Placement(_)
            | Self::Volume(_) => Vec::new(),
        }
    }

    /// The digest by which a provider and the planner tell whether a resource is as wanted.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a spec is plain data"))
    }
}

/// A machine image, by what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// The operating system release, as in `debian-12`.
    pub release: String,
}

/// A private network for all nodes of the cluster in this site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// How many addresses nodes will need, at the least.
    pub nodes: u32,
    /// The range to use, as in `10.20.0.0/24`; `None`: one derived from the cluster id.
    pub cidr: Option<String>,
}

/// A public address that stays while what it belongs to is stopped or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSpec {
    /// What it is for, in a few words.
    pub purpose: String,
}

/// A subnet of the network, in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// The network that it is a part of.
    pub network: String,
    /// The zone.
    pub zone: String,
    /// How it reaches the world.
    pub exit: Exit,
    /// The public address of the gateway in this subnet, through which subnets without addresses of their own go out.
    pub gateway: Option<String>,
}

/// How a subnet reaches the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// Machines have public addresses, and are reached by them.
    Direct,
    /// Machines go out through the gateway of this subnet, and are not reached from outside.
    Through(String),
}

impl SubnetSpec {
    fn needs(&self) -> Vec<Need<'_>> {
        let mut needs = vec![(ResourceKind::Network, self.network.as_str())];
        needs.extend(self.gateway.iter().map(|address| (ResourceKind::Address, address.as_str())));
        if let Exit::Through(subnet) = &self.exit {
            needs.push((ResourceKind::Subnet, subnet));
        }
        needs
    }
}

/// A set of packet filter rules for machines that carry it. What no rule lets in stays out; everything may go out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallSpec {
    /// The network whose machines carry it.
    pub network: String,
    /// What it is for, in a few words.
    pub purpose: String,
    /// What is let in; sorted, each rule once.
    pub rules: Vec<FirewallRule>,
}

impl FirewallSpec {
    fn needs(&self) -> Vec<Need<'_>> {
        let others: BTreeSet<&str> = self.rules.iter().filter_map(|rule| rule.from.firewall()).collect();
        let others = others.into_iter().map(|name| (ResourceKind::Firewall, name));
        others.chain([(ResourceKind::Network, self.network.as_str())]).collect()
    }
}

/// Lets a port in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FirewallRule {
    /// The port.
    pub port: Port,
    /// From where.
    pub from: Zone,
}

/// Where packets come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zone {
    /// Machines that carry the very firewall that the rule is in.
    Own,
    /// Machines and load balancers that carry the named firewall.
    Firewall(String),
    /// Those who run the cluster, and the installer: ranges that the site's settings name.
    Admin,
    /// Everybody.
    World,
}

impl Zone {
    fn firewall(&self) -> Option<&str> {
        match self {
            Self::Firewall(name) => Some(name),
            Self::Own | Self::Admin | Self::World => None,
        }
    }
}

/// An SSH public key that machines let in beside what their boot data says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySpec {
    /// The public key line.
    pub public_key: String,
}

/// A placement group: its machines stand on hardware of their own each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementSpec {
    /// What it is for, in a few words.
    pub purpose: String,
}

/// A block volume that outlives the machine it is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The zone; its machine's.
    pub zone: String,
    /// Size in GiB.
    pub size_gib: u64,
}

/// A load balancer for TCP and UDP, which machines register with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancerSpec {
    /// The network of its machines.
    pub network: String,
    /// What it is for, in a few words.
    pub purpose: String,
    /// The subnets that it stands in, one a zone.
    pub subnets: Vec<String>,
    /// The firewalls that it carries.
    pub firewalls: Vec<String>,
    /// The ports that it hands on, each to the same port of its machines.
    pub ports: Vec<Port>,
}

impl LoadBalancerSpec {
    fn needs(&self) -> Vec<Need<'_>> {
        let subnets = self.subnets.iter().map(|name| (ResourceKind::Subnet, name.as_str()));
        let firewalls = self.firewalls.iter().map(|name| (ResourceKind::Firewall, name.as_str()));
        subnets.chain(firewalls).chain([(ResourceKind::Network, self.network.as_str())]).collect()
    }
}

/// What a machine is attached to, by the names of resources of the same site. Empty where the place has no such kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// The subnet that it is in.
    pub subnet: Option<String>,
    /// The firewalls that it carries.
    pub firewalls: Vec<String>,
    /// The public address that it keeps.
    pub address: Option<String>,
    /// The SSH key that it lets in.
    pub key: Option<String>,
    /// The placement group that it is in.
    pub placement: Option<String>,
    /// The volumes for its further disks, in their order.
    pub volumes: Vec<String>,
    /// The load balancers that hand on to it.
    pub balancers: Vec<String>,
}

impl Attachments {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn needs(&self) -> impl Iterator<Item = Need<'_>> {
        let single = [
            (ResourceKind::Subnet, &self.subnet),
            (ResourceKind::Address, &self.address),
            (ResourceKind::Key, &self.key),
            (ResourceKind::Placement, &self.placement),
        ];
        let single = single.into_iter().filter_map(|(kind, name)| Some((kind, name.as_deref()?)));
        let several = [
            (ResourceKind::Firewall, &self.firewalls),
            (ResourceKind::Volume, &self.volumes),
            (ResourceKind::LoadBalancer, &self.balancers),
        ];
        let several =
            several.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.as_str())));
        single.chain(several)
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The node that runs on it; also its host name.
    pub node: NodeName,
    /// What the node is for.
    pub role: Role,
    /// What the machine has.
    pub size: Size,
    /// Its further disks.
    pub disks: Vec<Disk>,
    /// The zone it is in.
    pub zone: Option<String>,
    /// The image it starts from: the name of an image resource of the same site, or the place's own id of one.
    pub image: Option<String>,
    /// Ports reachable from outside the cluster.
    pub open_ports: Vec<Port>,
    /// The machine itself, where it exists already.
    pub existing: Option<ExistingMachine>,
    /// What it is attached to.
    #[serde(default, skip_serializing_if = "Attachments::is_empty")]
    pub attached: Attachments,
}

/// One resource as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSeen {
    /// Which resource, from its label.
    pub path: ResourcePath,
    /// The place's own identifier for it.
    pub id: String,
    /// The digest of the spec that it was made from; `None` if the place does not tell.
    pub spec: Option<Digest>,
    /// Whether it can be used: made in whole and not being removed.
    pub ready: bool,
    /// What is wrong or awaited while it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What only machines have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineSeen>,
}

/// What was seen of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSeen {
    /// The address by which other nodes reach it.
    pub address: Option<IpAddr>,
    /// The address by which the installer reaches it, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_address: Option<IpAddr>,
    /// Its power state.
    pub power: PowerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Tells this machine from an earlier or later one of the same name.
    pub incarnation: String,
}

/// The power state of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerState {
    /// Running.
    On,
    /// Not running; its disk is kept.
    Off,
    /// Frozen in the middle of what it did.
    Paused,
    /// The place does not tell.
    Unknown,
}

/// Something that could not be looked at. Blind is not absent: it is never planned against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// The site.
    pub site: SiteName,
    /// The kind that could not be listed; `None`: the whole site.
    pub kind: Option<ResourceKind>,
    /// Why.
    pub reason: String,
}
