//! The newest word of each node, kept as the JSON that it is handed on as.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use castrum_blueprints::manifest::Peer;
use castrum_blueprints::names::{Digest, NodeName, Timestamp};
use castrum_blueprints::status::NodeStatus;

/// Of more holders nobody needs to know.
const HOLDERS: usize = 16;

/// A machine that was replaced goes on talking.
#[derive(Debug, thiserror::Error)]
#[error("a newer machine of this name has reported: {held} is newer than {said}")]
pub(crate) struct Stale {
    held: u64,
    said: u64,
}

#[derive(Debug, Default)]
pub(super) struct Statuses {
    heard: BTreeMap<NodeName, Heard>,
}

#[derive(Debug)]
struct Heard {
    json: Bytes,
    incarnation: u64,
    process: Timestamp,
    sequence: u64,
    blobs: BTreeSet<Digest>,
    from: Option<IpAddr>,
    at: Instant,
}

impl Statuses {
    /// Takes a status; whether it is to be told.
    pub(super) fn hear(
        &mut self,
        status: &NodeStatus,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Result<bool, Stale> {
        let said = status.incarnation.parse().unwrap_or_default();
        if let Some(held) = self.heard.get(&status.node) {
            if said < held.incarnation {
                return Err(Stale { held: held.incarnation, said });
            }
            let same_process = said == held.incarnation && status.started_at == held.process;
            if same_process && status.sequence < held.sequence {
                // One that was overtaken on another way.
                return Ok(false);
            }
        }
        let heard = Heard {
            json: serde_json::to_vec(status).expect("a status is plain data").into(),
            incarnation: said,
            process: status.started_at,
            sequence: status.sequence,
            blobs: status.blobs.clone(),
            from,
            at: now,
        };
        self.heard.insert(status.node.clone(), heard);
        Ok(true)
    }

    /// How old the word of `node` is in milliseconds, and the word.
    pub(super) fn heard(&self, node: &NodeName, now: Instant) -> Option<(u128, &[u8])> {
        let heard = self.heard.get(node)?;
        Some((now.saturating_duration_since(heard.at).as_millis(), &heard.json))
    }

    pub(super) fn holders(&self, digest: &Digest) -> Vec<Peer> {
        let mut all: Vec<Peer> = self
            .heard
            .iter()
            .filter(|(_, heard)| heard.blobs.contains(digest))
            .filter_map(|(name, heard)| Some(Peer { name: name.clone(), address: heard.from? }))
            .collect();
        // Begin somewhere else each time, so that not all ask the same.
        let skip = crate::api::pace::below(all.len());
        all.rotate_left(skip);
        all.truncate(HOLDERS);
        all
    }
}
