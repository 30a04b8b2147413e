//! Real nodes: SSH to bring the agent and fill depots, the agents' own API for everything else.

mod admit;
mod contact;
mod enroll;
mod fill;
mod login;
mod readmit;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use castrum_blueprints::manifest::{Blob, SignedManifest};
use castrum_blueprints::names::{ClusterId, NodeName, Role};
use castrum_provider::{Enrollment, Failure, Fleet, News, Publication, Reach};
use castrum_provider_ssh::SshOptions;
use castrum_provider_ssh::transport::Session;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::artifacts::Cache;
use crate::link::ClientTls;
use crate::trust::{Trust, denied};
use contact::Contact;
pub use readmit::Held;

/// The nodes of a real cluster.
pub struct RealFleet {
    shared: Arc<Shared>,
    contacts: Mutex<BTreeMap<NodeName, Contact>>,
    news: AsyncMutex<mpsc::UnboundedReceiver<News>>,
}

/// What contacts, enrollments and fills have in common.
struct Shared {
    cluster: ClusterId,
    trust: Arc<Trust>,
    blobs: Cache,
    ssh: SshOptions,
    tls: ClientTls,
    /// The newest manifest of each node that was published in this run.
    latest: Mutex<BTreeMap<NodeName, SignedManifest>>,
    sessions: AsyncMutex<BTreeMap<NodeName, Session>>,
    reaches: Mutex<BTreeMap<NodeName, Reach>>,
    /// What nodes held that joined with a keyring which was lost.
    held: Mutex<BTreeMap<NodeName, Held>>,
    tell: mpsc::UnboundedSender<News>,
}

/// What a fleet is made from.
pub struct FleetOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its keyring in use.
    pub trust: Arc<Trust>,
    /// Where bundles lie.
    pub blobs: Cache,
    /// The user's SSH configuration and identities, for machines that exist already.
    pub ssh: SshOptions,
    /// The TLS configuration of this run.
    pub tls: ClientTls,
}

impl RealFleet {
    /// A fleet that has contact to nobody yet.
    pub fn new(options: FleetOptions) -> Self {
        let (tell, news) = mpsc::unbounded_channel();
        let FleetOptions { cluster, trust, blobs, ssh, tls } = options;
        let shared = Shared {
            cluster,
            trust,
            blobs,
            ssh,
            tls,
            latest: Mutex::new(BTreeMap::new()),
            sessions: AsyncMutex::new(BTreeMap::new()),
            reaches: Mutex::new(BTreeMap::new()),
            held: Mutex::new(BTreeMap::new()),
            tell,
        };
        Self { shared: Arc::new(shared), contacts: Mutex::new(BTreeMap::new()), news: AsyncMutex::new(news) }
    }

    /// Its agent answers from now on: no need to wait for the next try.
    fn hurry(&self, node: &NodeName) {
        let contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(contact) = contacts.get(node) {
            contact.hurry();
        }
    }

    /// Takes over sessions to nodes that let nobody in by this keyring yet, and what they hold.
    pub async fn take_over(&self, sessions: BTreeMap<NodeName, Session>, held: BTreeMap<NodeName, Held>) {
        self.shared.sessions.lock().await.extend(sessions);
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
    }

    /// An SSH session to a node, for a person or a command of one.
    pub async fn session(&self, reach: &Reach) -> Result<Session, Failure> {
        self.shared.session(reach).await
    }
}

#[async_trait]
impl Fleet for RealFleet {
    fn reach(&self, nodes: Vec<Reach>) {
        let mut contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        for reach in nodes {
            self.shared.remember(&reach);
            let name = reach.peer.name.clone();
            if reach.role == Role::Master
                && contacts.get(&name).is_none_or(|contact| *contact.reach() != reach)
            {
                contacts.insert(name, Contact::begin(Arc::clone(&self.shared), reach));
            }
        }
    }

    async fn first_contact(&self) {
        let tries: Vec<_> = {
            let contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
            contacts.values().map(Contact::tried).collect()
        };
        for tried in tries {
            tried.await;
        }
    }

    async fn enroll(&self, enrollment: &Enrollment) -> Result<(), Failure> {
        enroll::enroll(&self.shared, enrollment).await?;
        self.hurry(&enrollment.reach.peer.name);
        Ok(())
    }

    async fn readmit(&self, enrollment: &Enrollment) -> Result<(), Failure> {
        readmit::readmit(&self.shared, enrollment).await?;
        self.hurry(&enrollment.reach.peer.name);
        Ok(())
    }

    async fn fill(
        &self,
        node: &NodeName,
        blobs: &[Blob],
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Failure> {
        fill::fill(&self.shared, node, blobs, sent).await
    }

    async fn publish(&self, manifests: &[Publication]) -> Result<BTreeMap<NodeName, String>, Failure> {
        let signed = self.shared.trust.sign(manifests).map_err(|error| denied(&error))?;
        let lines: Vec<_> = {
            let contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
            contacts.values().filter_map(Contact::line).collect()
        };
        contact::publish(&self.shared, lines, &signed).await
    }

    async fn news(&self) -> Vec<News> {
        let mut news = self.news.lock().await;
        let mut all = Vec::new();
        match news.recv().await {
            Some(first) => all.push(first),
            // The sender lives as long as this fleet.
            None => std::future::pending().await,
        }
        while let Ok(next) = news.try_recv() {
            all.push(next);
        }
        all
    }
}

impl Shared {
    fn remember(&self, reach: &Reach) {
        let mut reaches = self.reaches.lock().unwrap_or_else(PoisonError::into_inner);
        reaches.insert(reach.peer.name.clone(), reach.clone());
    }

    fn reach_of(&self, node: &NodeName) -> Option<Reach> {
        self.reaches.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }
}
