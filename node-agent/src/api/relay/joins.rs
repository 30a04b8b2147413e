//! Who waits to be admitted, and what was decided. Anybody can ask, so everything here has a bound.
//!
//! A request is known by its node and the digest of its signing request: somebody else who claims to be the node has
//! another key, waits beside it, and gets nothing of its decision.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use castrum_blueprints::names::{Digest, NodeName};
use castrum_blueprints::trust::JoinRequest;
use castrum_blueprints::wire::{JoinAnswer, JoinDecision};
use tokio::sync::watch;

/// How long one that does not ask any more is remembered.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How long a decision waits for the one that it is about.
const KEPT: Duration = Duration::from_mins(10);
/// Decisions come from the installer only; this is a bound for a cluster that is built at once.
const DECISIONS: usize = 4096;
/// What one address may want for one node: the node, and the node again after a restart.
const AN_ADDRESS: usize = 2;

/// Why somebody cannot even wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinRefusal {
    /// Too many in all.
    #[error("too many nodes wait to join")]
    Full,
    /// Too many for this node.
    #[error("too many others claim to be this node")]
    NodeFull,
}

type Key = (NodeName, Digest);

#[derive(Debug)]
pub(super) struct Joins {
    pending: BTreeMap<Key, Pending>,
    decided: BTreeMap<Key, (JoinAnswer, Instant)>,
    most: usize,
    most_a_node: usize,
}

#[derive(Debug)]
struct Pending {
    request: JoinRequest,
    from: IpAddr,
    asked: Instant,
    answer: watch::Sender<Option<JoinAnswer>>,
}

/// What somebody who asks is told.
#[derive(Debug)]
pub(super) enum Asked {
    Decided(JoinAnswer),
    Wait(watch::Receiver<Option<JoinAnswer>>),
}

impl Joins {
    pub(super) fn new(most: usize, most_a_node: usize) -> Self {
        Self { pending: BTreeMap::new(), decided: BTreeMap::new(), most, most_a_node }
    }

    pub(super) fn ask(
        &mut self,
        request: JoinRequest,
        from: IpAddr,
        now: Instant,
    ) -> Result<Asked, JoinRefusal> {
        let node = request.statement.node.clone();
        let key = (node.clone(), Digest::of(&request.statement.csr));
        if let Some((answer, _)) = self.decided.get(&key) {
            let answer = answer.clone();
            // A refusal is told once: when it is asked again, something may have been put right.
            if matches!(answer, JoinAnswer::Refused { .. }) {
                self.decided.remove(&key);
            }
            return Ok(Asked::Decided(answer));
        }
        if let Some(known) = self.pending.get_mut(&key) {
            known.request = request;
            known.asked = now;
            return Ok(Asked::Wait(known.answer.subscribe()));
        }
        let of_node = self.pending.iter().filter(|((other, _), _)| *other == node);
        let (all, here) =
            of_node.fold((0, 0), |(all, here), (_, one)| (all + 1, here + usize::from(one.from == from)));
        if all >= self.most_a_node || here >= AN_ADDRESS {
            return Err(JoinRefusal::NodeFull);
        }
        if self.pending.len() >= self.most {
            return Err(JoinRefusal::Full);
        }
        let (answer, wait) = watch::channel(None);
        self.pending.insert(key, Pending { request, from, asked: now, answer });
        Ok(Asked::Wait(wait))
    }

    pub(super) fn decide(&mut self, decision: JoinDecision, now: Instant) {
        if decision.answer == JoinAnswer::Pending {
            return;
        }
        let key = (decision.node, decision.csr);
        let waits = self.pending.remove(&key).is_some_and(|pending| {
            let waits = pending.answer.receiver_count() > 0;
            pending.answer.send_replace(Some(decision.answer.clone()));
            waits
        });
        let told = waits && matches!(decision.answer, JoinAnswer::Refused { .. });
        if !told && self.decided.len() < DECISIONS {
            self.decided.insert(key, (decision.answer, now));
        }
    }

    pub(super) fn pending(&self, node: &NodeName, csr: &Digest) -> Option<&JoinRequest> {
        self.pending.get(&(node.clone(), csr.clone())).map(|pending| &pending.request)
    }

    /// Forgets those that do not ask any more, and says which.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(NodeName, Digest)> {
        self.decided.retain(|_, (_, at)| now.saturating_duration_since(*at) < KEPT);
        let waits = |pending: &Pending| {
            pending.answer.receiver_count() > 0 || now.saturating_duration_since(pending.asked) < REMEMBERED
        };
        let gone: Vec<Key> =
            self.pending.iter().filter(|(_, pending)| !waits(pending)).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.pending.remove(key);
        }
        gone
    }
}
