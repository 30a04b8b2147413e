//! Resources of a place: what is wanted of them and what was seen of them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::blueprint::{Disk, ExistingMachine, Port, Size};
use crate::names::{Digest, NodeName, ResourceKind, ResourcePath, Role, SiteName, Timestamp};

/// What a place can do, as data for the planner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// The properties of one resource, by kind. Kinds that no provider here makes yet have no spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ResourceSpec {
    /// A machine image.
    Image(ImageSpec),
    /// A private network.
    Network(NetworkSpec),
    /// A machine.
    Machine(Box<MachineSpec>),
}

impl ResourceSpec {
    /// What kind of resource this is.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Image(_) => ResourceKind::Image,
            Self::Network(_) => ResourceKind::Network,
            Self::Machine(_) => ResourceKind::Machine,
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
    /// The image it starts from; the name of an image resource of the same site.
    pub image: Option<String>,
    /// Ports reachable from outside the cluster.
    pub open_ports: Vec<Port>,
    /// The machine itself, where it exists already.
    pub existing: Option<ExistingMachine>,
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
