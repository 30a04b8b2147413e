//! How agents talk: the API that every node serves, the relay that masters are, and the node's own side of it.
//!
//! ```text
//! installer ──PUT manifests──▶ Relay (on masters) ◀──long poll: follow── node
//! installer ◀──long poll: watch── Relay ◀──PUT status: report── node
//! ```
//! Words and calls are those of [`castrum_blueprints::wire`]. Who a caller is, its certificate says; without one it may
//! only ask to join and fetch the agent's own blob.

mod body;
mod caller;
pub(crate) mod changes;
pub(crate) mod client;
mod follow;
pub(crate) mod masters;
pub(crate) mod pace;
pub(crate) mod relay;
mod report;
mod routes;
mod server;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use castrum_blueprints::manifest::Peer;
use castrum_blueprints::names::{ComponentName, Digest, Role};
use castrum_blueprints::status::NodeStatus;
use castrum_blueprints::wire::HOLD_SECONDS;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::depot::{Depot, DepotError, Route};
use crate::identity::{Identity, Tls};
use masters::Masters;
use pace::Bucket;
use relay::Relay;

pub use client::fetch_fact;
pub use follow::follow;
pub use report::report;
pub use server::serve;

/// Blobs that have just come are often for a manifest that is still on its way.
const COLLECT_AGE: Duration = Duration::from_hours(1);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The depot cannot be used.
    #[error("open the depot")]
    Depot(#[source] DepotError),
    /// What was relayed before cannot be read.
    #[error("open the relayed manifests")]
    Relay(#[source] std::io::Error),
}

/// What a component hands to peers, as the agent reads it.
pub trait FactReader: Send + Sync {
    /// Who may ask for the fact; `None` if there is no such fact here.
    fn roles(&self, component: &ComponentName, name: &str) -> Option<BTreeSet<Role>>;

    /// Reads it; the error is for the asker, in a line, and holds nothing of the value.
    fn read(
        &self,
        component: ComponentName,
        name: String,
    ) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send + '_>>;
}

/// What bounds callers. The defaults are for a cluster of thousands of nodes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long an answer is held back.
    pub hold: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take, and an idle connection may last.
    pub head: Duration,
    /// How long a body may take.
    pub body: Duration,
    /// Connections of callers with a certificate.
    pub members: usize,
    /// Connections of callers without one, or of whom it is not known yet.
    pub strangers: usize,
    /// The same, from one address. Many nodes may stand behind one.
    pub strangers_an_address: usize,
    /// Blobs that are given at a time.
    pub blobs: usize,
    /// Join requests a second, and how many at once after a quiet time.
    pub joins_a_second: u32,
    /// Undecided join requests.
    pub joins_pending: usize,
    /// Undecided join requests for one node.
    pub joins_a_node: usize,
    /// The largest body of a join request.
    pub join_body: usize,
    /// The largest body of a status.
    pub status_body: usize,
    /// The largest body of the installer's calls.
    pub installer_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(HOLD_SECONDS),
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(15),
            body: Duration::from_secs(30),
            members: 4096,
            strangers: 512,
            strangers_an_address: 64,
            blobs: 24,
            joins_a_second: 64,
            joins_pending: 1024,
            joins_a_node: 8,
            join_body: 16 * 1024,
            status_body: 512 * 1024,
            installer_body: 8 * 1024 * 1024,
        }
    }
}

/// All that the parts of the API share.
pub struct Context {
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// What this node has, and how it gets the rest.
    pub depot: Arc<Depot>,
    tls: Tls,
    facts: Arc<dyn FactReader>,
    status: watch::Receiver<NodeStatus>,
    masters: Arc<Masters>,
    relay: Option<Arc<Relay>>,
    limits: Limits,
    blobs: Arc<Semaphore>,
    joins: Mutex<Bucket>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("node", &self.identity.node).finish_non_exhaustive()
    }
}

impl Context {
    /// The API of a node: `status` is what the node says of itself.
    pub fn new(
        identity: Arc<Identity>,
        tls: Tls,
        facts: Arc<dyn FactReader>,
        status: watch::Receiver<NodeStatus>,
    ) -> Result<Arc<Self>, ApiError> {
        Self::with_limits(identity, tls, facts, status, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(
        identity: Arc<Identity>,
        tls: Tls,
        facts: Arc<dyn FactReader>,
        status: watch::Receiver<NodeStatus>,
        limits: Limits,
    ) -> Result<Arc<Self>, ApiError> {
        let masters = Arc::new(Masters::new(&identity.node, &identity.masters));
        let relay = match identity.role {
            Role::Master => {
                Some(Arc::new(Relay::open(Arc::clone(&identity), &limits).map_err(ApiError::Relay)?))
            }
            Role::Agent | Role::PublicAgent => None,
        };
        let route = Route {
            me: identity.node.clone(),
            tls: Arc::clone(&tls.client),
            port: identity.api_port,
            masters: Arc::clone(&masters),
            relay: relay.clone(),
        };
        let depot = Arc::new(Depot::with_route(&identity.root, route).map_err(ApiError::Depot)?);
        let blobs = Arc::new(Semaphore::new(limits.blobs));
        let joins = Mutex::new(Bucket::new(limits.joins_a_second * 8, limits.joins_a_second, Instant::now()));
        Ok(Arc::new(Self { identity, depot, tls, facts, status, masters, relay, limits, blobs, joins }))
    }

    /// The masters, as the newest manifest names them.
    pub fn set_masters(&self, masters: &[Peer]) {
        self.masters.replace(masters);
    }

    /// Drops the blobs that nobody needs: not this node, whose own are `own`, and on a master none of those whose
    /// manifests it relays. What has come within the hour stays.
    pub fn collect(&self, own: &BTreeSet<Digest>) -> Result<(), DepotError> {
        let mut keep = own.clone();
        keep.extend(self.identity.agent.clone());
        if let Some(relay) = &self.relay {
            keep.extend(relay.blobs());
        }
        self.depot.collect(&keep, COLLECT_AGE)
    }
}

/// An error and all that it came from, in a line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Runs what waits for the disk on a thread of its own, which ends with it; `None` if there is no thread to be had or it
/// died.
pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("disk".to_owned()).stack_size(256 * 1024);
    // The receiver may be gone by then, which is its right.
    thread.spawn(move || drop(tell.send(work()))).ok()?;
    told.await.ok()
}
