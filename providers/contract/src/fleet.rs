//! The nodes of a cluster as the installer talks to them, and the clock that it goes by.
//!
//! On real places the installer has one fleet for all of them (SSH and the agents' API). A simulated place brings its
//! own fleet and its own clock, since its nodes live in this process and in virtual time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use castrum_blueprints::blueprint::ExistingMachine;
use castrum_blueprints::manifest::{Blob, Manifest, Peer};
use castrum_blueprints::names::{Digest, NodeName, Role, Timestamp};
use castrum_blueprints::status::NodeStatus;
use castrum_blueprints::wire::Published;

use crate::{Failure, FailureClass};

/// The nodes of a cluster.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Says where nodes are reached. Contact to the masters among them is made and kept in the background.
    fn reach(&self, nodes: Vec<Reach>);

    /// Waits until each master was tried once, or until there is no master to try.
    async fn first_contact(&self);

    /// Brings the agent to a machine, admits it and starts it. A repeated call finds what is done already.
    async fn enroll(&self, enrollment: &Enrollment) -> Result<(), Failure>;

    /// Admits a node anew that joined with a keyring which was lost. What runs on it goes on, and it keeps its generation.
    async fn readmit(&self, enrollment: &Enrollment) -> Result<(), Failure> {
        let message = format!("{} has no keys to change", enrollment.reach.peer.name);
        Err(Failure::new(FailureClass::Unsupported, message))
    }

    /// Puts blobs into a master's depot; those that it has are skipped. `sent` is told bytes as they go.
    async fn fill(
        &self,
        node: &NodeName,
        blobs: &[Blob],
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Failure>;

    /// Gives manifests to the masters, signed. The answer holds those that were refused, with the reason.
    async fn publish(&self, manifests: &[Publication]) -> Result<BTreeMap<NodeName, String>, Failure>;

    /// Waits until there is something new, and returns all of it.
    async fn news(&self) -> Vec<News>;
}

/// A node and where the installer reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The node, with its address inside the cluster.
    pub peer: Peer,
    /// What the node is for.
    pub role: Role,
    /// The address from here.
    pub address: IpAddr,
    /// How to log in, where the blueprint says so.
    pub existing: Option<ExistingMachine>,
}

/// What bringing the agent to a machine needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// The node and where it is reached.
    pub reach: Reach,
    /// The masters known so far.
    pub masters: Vec<Peer>,
    /// The agent's program.
    pub agent: Blob,
}

/// A manifest to be signed and given to its node.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Its content.
    pub content: Digest,
}

/// Something that was learnt of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// A node's word, and how long ago it was said, in milliseconds.
    Status(Box<NodeStatus>, u64),
    /// A master holds a manifest for a node.
    Published(NodeName, Published),
    /// A node proved its token and got its certificate.
    Admitted(NodeName),
    /// A node was not admitted.
    Refused(NodeName, String),
}

/// What the installer goes by.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;
    /// Waits until `at`.
    async fn sleep_until(&self, at: Timestamp);
}
