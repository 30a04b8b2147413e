//! The provider contract: few verbs, all idempotent, over a closed list of resource kinds.
//!
//! A provider is calls and mapping. It does not retry, plan or print: failures are classified ([`Failure`]) and one
//! place in the installer decides about retrying. `providers/CONTRACT.md` is the table of MUSTs, and [`conformance`]
//! holds a provider to it. A provider may live in a process of its own: [`run`] serves it there, and
//! [`ProcessProvider`] is it here; what goes between them is `providers/PROTOCOL.md`.

pub mod conformance;
mod connection;
mod executable;
mod failure;
mod fleet;
mod lines;
mod process;
mod resource;
mod serve;
mod veil;
mod wire;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use castrum_blueprints::names::{ClusterId, ResourcePath, Timestamp};

pub use connection::{Line, Peer, Told};
pub use executable::{EXECUTABLE_PREFIX, Executable};
pub use failure::{Failure, FailureClass};
pub use fleet::{Clock, Enrollment, Fleet, News, Publication, Reach};
pub use process::{Deadlines, Launch, ProcessProvider};
pub use resource::{
    Abilities, AddressSpec, Attachments, Blind, BootData, Change, Ensured, Exit, FirewallRule, FirewallSpec,
    ImageSpec, KeySpec, LoadBalancerSpec, MachineSeen, MachineSpec, NetworkSpec, Observation, PlacementSpec,
    PowerState, Removed, ResourceSeen, ResourceSpec, SubnetSpec, VolumeSpec, Wanted, Zone,
};
pub use serve::{About, ServeError, run, serve};
pub use wire::{CONTRACT_VERSION, Hello};

/// One site of one cluster, as a provider serves it.
///
/// A value of this trait is made for one cluster: everything it makes carries the labels
/// `castrum-cluster=<id>` and `castrum-resource=<path>`, and it neither lists nor touches anything else.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What this place can do, as data for the planner. Asks nobody and changes nothing.
    fn abilities(&self) -> Abilities;

    /// Everything of this cluster that exists in the place.
    ///
    /// Failure is inside the answer: what could not be seen is listed as [`Blind`], never left out.
    async fn observe(&self) -> Observation;

    /// Makes the resource as wanted, or finds it so. A repeated or concurrent call is the same call.
    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure>;

    /// Removes the resource; one that does not exist is removed already. Proves ownership first.
    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure>;

    /// Power control of machines, where the place has it.
    fn power(&self) -> Option<&dyn Power> {
        None
    }

    /// Looking up images by name, where machines start from images of the place's own.
    fn images(&self) -> Option<&dyn Images> {
        None
    }

    /// Nodes and time of the place, where they live in this process.
    fn within(&self) -> Option<Within> {
        None
    }

    /// What must be true of this host or account before anything is made; each finding carries its remedy.
    async fn preflight(&self) -> Vec<Failure> {
        Vec::new()
    }
}

/// Nodes and time of a place that lives in this process.
pub struct Within {
    /// The nodes themselves.
    pub fleet: Arc<dyn Fleet>,
    /// The place's own clock: its time is virtual.
    pub clock: Arc<dyn Clock>,
}

/// Power control of machines, from outside them.
#[async_trait]
pub trait Power: Send + Sync {
    /// The machine's power state.
    async fn state(&self, machine: &ResourcePath) -> Result<PowerState, Failure>;
    /// Brings the machine into `wanted`; being there already is success. Stopping asks the system to shut down first.
    async fn set(&self, machine: &ResourcePath, wanted: PowerState) -> Result<(), Failure>;
    /// Takes the power away at once, as pulling the plug does.
    async fn kill(&self, machine: &ResourcePath) -> Result<(), Failure>;
}

/// The images of a place.
#[async_trait]
pub trait Images: Send + Sync {
    /// The id of the newest image of a release, as in `debian-12`, to be pinned: it is asked for once in a cluster's life.
    async fn find(&self, release: &str) -> Result<String, Failure>;
}

/// The value of the label that says which cluster a resource belongs to.
pub const CLUSTER_LABEL: &str = "castrum-cluster";
/// The label that says which resource of the cluster it is.
pub const RESOURCE_LABEL: &str = "castrum-resource";

/// The time by this machine's clock, as it is written down beside what is made and seen.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The key under which a create of `path` is the same create, however often it is sent.
///
/// `generation` grows when a resource is replaced on purpose.
pub fn idempotency_key(cluster: &ClusterId, path: &ResourcePath, generation: u32) -> String {
    let text = format!("castrum\0{cluster}\0{path}\0{generation}");
    castrum_blueprints::names::Digest::of(text.as_bytes()).as_str()[..32].to_owned()
}
