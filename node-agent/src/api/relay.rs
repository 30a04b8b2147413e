//! What a master keeps for others: the newest manifest and the newest status of each node, and who waits to join.
//!
//! Every change has a number, the cursor; whoever watches is told what changed since theirs, as soon as something did.

mod joins;
mod manifests;
mod statuses;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use castrum_blueprints::manifest::{Peer, SignedManifest};
use castrum_blueprints::names::{Digest, NodeName};
use castrum_blueprints::status::NodeStatus;
use castrum_blueprints::trust::JoinRequest;
use castrum_blueprints::wire::{JoinAnswer, JoinDecision, Published};
use tokio::sync::watch;

use super::Limits;
use super::changes::Changes;
use crate::identity::Identity;
use joins::{Asked, Joins};
use manifests::Manifests;
use statuses::Statuses;

pub(crate) use joins::JoinRefusal;
pub(crate) use manifests::Refusal;
pub(crate) use statuses::Stale;

/// A thing that can change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Status(NodeName),
    Manifest(NodeName),
    Join(NodeName, Digest),
}

/// The relay of a master.
#[derive(Debug)]
pub(crate) struct Relay {
    identity: Arc<Identity>,
    state: Mutex<State>,
    cursor: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    changes: Changes<Subject>,
    manifests: Manifests,
    statuses: Statuses,
    joins: Joins,
    /// Wakes those who wait for a newer manifest of one node.
    generations: BTreeMap<NodeName, watch::Sender<u64>>,
}

impl Relay {
    /// With what was relayed before; what is damaged is left out.
    pub(crate) fn open(identity: Arc<Identity>, limits: &Limits) -> io::Result<Self> {
        let manifests = Manifests::open(&identity)?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut changes = Changes::new(u64::try_from(since_1970.as_millis()).unwrap_or_default());
        for node in manifests.nodes() {
            changes.touch(Subject::Manifest(node.clone()));
        }
        let cursor = watch::Sender::new(changes.newest());
        let joins = Joins::new(limits.joins_pending, limits.joins_a_node);
        let (statuses, generations) = (Statuses::default(), BTreeMap::new());
        let state = State { changes, manifests, statuses, joins, generations };
        Ok(Self { identity, state: Mutex::new(state), cursor })
    }

    /// Takes a manifest, if it is newer than what is held, and signed.
    pub(crate) fn publish(&self, signed: &SignedManifest) -> Result<(), Refusal> {
        // Checked outside the lock: it is most of the work.
        let manifest = self.identity.verify(signed).map_err(Refusal::Unproven)?;
        let mut state = self.state();
        if state.manifests.take(signed, &manifest)? {
            if let Some(waiting) = state.generations.get(&signed.node) {
                waiting.send_replace(signed.generation);
            }
            self.changed(&mut state, Subject::Manifest(signed.node.clone()));
        }
        Ok(())
    }

    /// The manifest of `node` that is newer than `after`, as soon as there is one; `None` if there was none for `hold`.
    pub(crate) async fn newer(
        &self,
        node: &NodeName,
        after: u64,
        hold: Duration,
    ) -> Option<io::Result<SignedManifest>> {
        let mut waiting = {
            let mut state = self.state();
            let newest = state.manifests.generation(node);
            let waiting = state.generations.entry(node.clone()).or_insert_with(|| watch::Sender::new(newest));
            waiting.subscribe()
        };
        let woken = tokio::time::timeout(hold, waiting.wait_for(|generation| *generation > after)).await;
        woken.ok()?.ok()?;
        Some(self.state().manifests.read(node))
    }

    /// Takes what a node says of itself, heard from `from`.
    pub(crate) fn hear(&self, status: &NodeStatus, from: Option<IpAddr>) -> Result<(), Stale> {
        let mut state = self.state();
        if state.statuses.hear(status, from, Instant::now())? {
            self.changed(&mut state, Subject::Status(status.node.clone()));
        }
        Ok(())
    }

    /// Some nodes that said they have the blob, and where they are.
    pub(crate) fn holders(&self, digest: &Digest) -> Vec<Peer> {
        self.state().statuses.holders(digest)
    }

    /// All blobs that manifests name.
    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        self.state().manifests.blobs()
    }

    /// Asks for somebody to be admitted, and waits up to `hold` for the decision.
    pub(crate) async fn join(
        &self,
        request: JoinRequest,
        from: IpAddr,
        hold: Duration,
    ) -> Result<JoinAnswer, JoinRefusal> {
        let asked = {
            let mut state = self.state();
            state.expire();
            let (node, csr) = (request.statement.node.clone(), Digest::of(&request.statement.csr));
            let asked = state.joins.ask(request, from, Instant::now())?;
            if matches!(asked, Asked::Wait(_)) {
                self.changed(&mut state, Subject::Join(node, csr));
            }
            asked
        };
        let mut wait = match asked {
            Asked::Decided(answer) => return Ok(answer),
            Asked::Wait(wait) => wait,
        };
        let decided = tokio::time::timeout(hold, wait.wait_for(Option::is_some)).await;
        Ok(decided.ok().and_then(|told| told.ok()?.clone()).unwrap_or(JoinAnswer::Pending))
    }

    /// Takes the installer's decisions.
    pub(crate) fn decide(&self, decisions: Vec<JoinDecision>) {
        let mut state = self.state();
        for decision in decisions {
            state.changes.forget(&Subject::Join(decision.node.clone(), decision.csr.clone()));
            state.joins.decide(decision, Instant::now());
        }
    }

    /// What changed since `after`, as a [`castrum_blueprints::wire::WatchAnswer`] in JSON: at once if anything did, or
    /// after `hold`.
    pub(crate) async fn watch(&self, after: u64, hold: Duration) -> Result<Bytes, serde_json::Error> {
        if after > 0 && after <= *self.cursor.borrow() {
            let mut cursor = self.cursor.subscribe();
            // Told or not, what there is now is the answer.
            drop(tokio::time::timeout(hold, cursor.wait_for(|now| *now > after)).await);
        }
        let mut state = self.state();
        state.expire();
        state.answer(after)
    }

    fn changed(&self, state: &mut State, subject: Subject) {
        let number = state.changes.touch(subject);
        self.cursor.send_replace(number);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn expire(&mut self) {
        for (node, csr) in self.joins.expire(Instant::now()) {
            self.changes.forget(&Subject::Join(node, csr));
        }
    }

    /// Written piece by piece: the statuses are kept as JSON, which takes a tenth of the memory.
    fn answer(&self, after: u64) -> Result<Bytes, serde_json::Error> {
        let now = Instant::now();
        let mut statuses = Vec::new();
        let mut joins: Vec<&JoinRequest> = Vec::new();
        let mut published: BTreeMap<&NodeName, &Published> = BTreeMap::new();
        for subject in self.changes.since(after) {
            match subject {
                Subject::Status(node) => {
                    let heard = self.statuses.heard(node, now).into_iter();
                    for (age_ms, json) in heard {
                        statuses.extend_from_slice(if statuses.is_empty() { b"" } else { b"," });
                        statuses.extend_from_slice(format!("{{\"age_ms\":{age_ms},\"status\":").as_bytes());
                        statuses.extend_from_slice(json);
                        statuses.push(b'}');
                    }
                }
                Subject::Manifest(node) => {
                    published.extend(self.manifests.published(node).map(|held| (node, held)));
                }
                Subject::Join(node, csr) => joins.extend(self.joins.pending(node, csr)),
            }
        }
        let mut out = format!("{{\"cursor\":{},\"statuses\":[", self.changes.newest()).into_bytes();
        out.append(&mut statuses);
        out.extend_from_slice(b"],\"joins\":");
        serde_json::to_writer(&mut out, &joins)?;
        out.extend_from_slice(b",\"published\":");
        serde_json::to_writer(&mut out, &published)?;
        out.push(b'}');
        Ok(Bytes::from(out))
    }
}
