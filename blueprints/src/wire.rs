//! The words between agents, and between the installer and masters: HTTP/1.1 and JSON over mutual TLS.
//!
//! | call | who | answer |
//! |---|---|---|
//! | `POST /v1/join` [`JoinRequest`] | a node without a certificate yet | [`JoinAnswer`], held back up to 25 s until the installer decided |
//! | `GET /v1/blob/<digest>` | any node; without a certificate only the agent's own blob | the bytes |
//! | `GET /v1/holders/<digest>` | any node | `Vec<`[`Peer`](crate::manifest::Peer)`>`: some nodes that said they have the blob |
//! | `GET /v1/manifest/<node>?after=<generation>&wait=<seconds>` | that node | [`SignedManifest`](crate::manifest::SignedManifest), held back up to 25 s; 204 if none is newer |
//! | `PUT /v1/status` [`NodeStatus`] | that node | 204 |
//! | `GET /v1/fact/<component>/<name>` | nodes of the fact's roles | the value as JSON |
//! | `GET /v1/watch?after=<cursor>` | installer | [`WatchAnswer`], held back up to 25 s until something is newer; at once for 0 |
//! | `PUT /v1/manifests` `Vec<SignedManifest>` | installer | [`PublishAnswer`] |
//! | `PUT /v1/joins` `Vec<JoinDecision>` | installer | 204 |
//! | `GET /v1/self` | installer | this node's own [`NodeStatus`] |
//! | `GET /v1/host-keys` | installer | this machine's SSH host keys, a set of `TYPE BASE64` |
//!
//! Who is who is told by the names in the certificate: `installer.castrum.internal`, `<node>.node.castrum.internal`,
//! `<role>.role.castrum.internal`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{Digest, NodeName};
use crate::status::NodeStatus;
pub use crate::trust::JoinRequest;

/// How long a held-back answer may take, in seconds.
pub const HOLD_SECONDS: u64 = 25;

/// What became of a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum JoinAnswer {
    /// Nobody has decided yet; ask again.
    Pending,
    /// Here is the certificate.
    Admitted {
        /// The node's certificate in PEM.
        certificate: String,
    },
    /// It is not admitted.
    Refused {
        /// Why.
        reason: String,
    },
}

/// The installer's decision about one join request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinDecision {
    /// The node.
    pub node: NodeName,
    /// The digest of the CSR's DER bytes, so that the decision is for this request only.
    pub csr: Digest,
    /// The decision.
    pub answer: JoinAnswer,
}

/// What changed since a cursor, as one master knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchAnswer {
    /// Pass this as `after` the next time.
    pub cursor: u64,
    /// The newest status of each node that changed.
    pub statuses: Vec<HeardStatus>,
    /// Join requests that wait for a decision.
    pub joins: Vec<JoinRequest>,
    /// The newest manifest held for each node: generation and content.
    pub published: BTreeMap<NodeName, Published>,
}

/// A status and how old it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardStatus {
    /// How long ago the master received the node's last word, in milliseconds.
    pub age_ms: u64,
    /// What the node said.
    pub status: NodeStatus,
}

/// The manifest that a master holds for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its generation.
    pub generation: u64,
    /// Its content.
    pub content: Digest,
}

/// What a master did with manifests put to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishAnswer {
    /// Manifests that were refused, with the reason.
    pub refused: BTreeMap<NodeName, String>,
}

/// The error body of every answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// What failed, in one line.
    pub error: String,
}
