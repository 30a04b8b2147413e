//! The blueprint as checked: every value is valid, every reference resolves, defaults are filled in.
//!
//! It is made from a [`Document`](crate::document) by `check` and never changed afterwards. What is still open here
//! (ids, versions, digests) is closed by `resolve`, which makes a [`Desired`](crate::desired::Desired).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::{ClusterName, GroupName, Role, SiteName};

/// One cluster, as its blueprint declares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blueprint {
    /// The cluster's name.
    pub name: ClusterName,
    /// The places that nodes are made in.
    pub sites: BTreeMap<SiteName, Site>,
    /// The groups of nodes; at least one has the role `master`.
    pub groups: BTreeMap<GroupName, Group>,
    /// The platform stack and its settings.
    pub stack: StackChoice,
    /// Checks beside those of the stack, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, OwnCheck>,
    /// How much may be disturbed or waited for.
    pub limits: Limits,
    /// Who else may log in to the nodes.
    pub access: Access,
    /// The object store that working state lies in; `None`: the folder `.castrum/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StatePlace>,
}

/// A place that nodes are made in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// The provider's name: `local`, `ssh`, `sim`, or that of an executable `castrum-provider-NAME`.
    pub provider: String,
    /// What the provider is told about this site; its meaning is the provider's.
    pub settings: BTreeMap<String, Value>,
}

/// Nodes declared together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// What the nodes are for.
    pub role: Role,
    /// Where they are.
    pub site: SiteName,
    /// How many there are.
    pub count: u32,
    /// What each machine has.
    pub size: Size,
    /// Further disks of each machine.
    pub disks: Vec<Disk>,
    /// The zones of the site over which the nodes are spread, in turn; empty: the provider's choice.
    pub zones: Vec<String>,
    /// Ports opened to the outside beside those of the stack.
    pub open_ports: Vec<Port>,
    /// Labels that workloads can choose nodes by.
    pub labels: BTreeMap<String, String>,
    /// The machines that exist already, for providers that make none; then `count` is their number.
    pub machines: Vec<ExistingMachine>,
}

/// What a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Processors.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Root disk, in GiB.
    pub disk_gib: u64,
}

/// A further disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Size in GiB.
    pub size_gib: u64,
    /// Where it is mounted: an absolute path.
    pub mount: String,
}

/// A port with its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The number, 1 to 65535.
    pub number: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A machine that exists already, reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExistingMachine {
    /// A host name or an address; an alias of `~/.ssh/config` works too.
    pub address: String,
    /// The address by which the other nodes reach it, if it is not `address`.
    pub private_address: Option<IpAddr>,
    /// The SSH port; `None`: that of `~/.ssh/config`, else 22.
    pub port: Option<u16>,
    /// The user to log in as; it must be root or have sudo without a password.
    pub user: Option<String>,
    /// The path of a private key; `None`: agent and default keys.
    pub key: Option<String>,
    /// The host's public key line (`ssh-ed25519 AAAA...`); `None`: it must be in `known_hosts`.
    pub host_key: Option<String>,
}

/// A check of the blueprint's own: a script that nodes run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCheck {
    /// What holds when it is ok.
    pub description: String,
    /// The path of the script, below the blueprint's folder.
    pub run: String,
    /// Whose nodes run it.
    pub roles: BTreeSet<Role>,
    /// Seconds between two runs once it is ok.
    pub every_seconds: u32,
    /// Seconds after which a run counts as failed.
    pub timeout_seconds: u32,
}

/// Which stack, and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackChoice {
    /// A stack that Castrum brings along, or a path (with a `/`) to a folder that holds `stack.yaml`.
    pub name: String,
    /// Settings by component, checked against what the stack declares.
    pub settings: BTreeMap<String, BTreeMap<String, Value>>,
}

/// How much may be disturbed or waited for. Every time is in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From a machine being made until its agent is heard; past it the node is set aside as debt.
    pub boot_seconds: u32,
    /// From a component being started until its checks are ok; past it the node is set aside as debt.
    pub settle_seconds: u32,
    /// From an agent's last word until its node counts as silent.
    pub silence_seconds: u32,
    /// How many agents may be changed at once; masters are always changed one at a time.
    pub agents_at_once: u32,
    /// How many masters the installer fills the depot of; all others fetch from those.
    pub depot_seeds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            boot_seconds: 300,
            settle_seconds: 180,
            silence_seconds: 30,
            agents_at_once: 10,
            depot_seeds: 1,
        }
    }
}

/// Who may log in to the nodes beside Castrum itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Access {
    /// Public key lines for the login user `castrum`.
    pub authorized_keys: Vec<String>,
}

/// An object store that keyring, journal and lease lie in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePlace {
    /// The kind of store.
    pub store: Store,
    /// The bucket or container.
    pub bucket: String,
    /// What the names of all objects begin with; empty: nothing.
    pub prefix: String,
    /// Where the store answers, if it is not the cloud's own.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
    /// How long a lease lasts that is not renewed.
    pub lease_seconds: u32,
}

impl std::fmt::Display for StatePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.store.scheme(), self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// A kind of object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// S3, and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Store {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::S3, Self::Gcs, Self::Azure];

    /// What a place of this kind begins with.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}
