//! What the sealed part of the keyring file says. It never leaves this folder in the clear.

use std::collections::BTreeMap;

use castrum_blueprints::names::{ClusterId, NodeName};
use serde::{Deserialize, Serialize};

use super::Enrolment;
use super::secret::{Secret, base64_text};

/// Every key of the cluster, and who joined. Not `Debug`: nothing needs to print it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contents {
    pub(super) cluster: ClusterId,
    /// Unix seconds.
    pub(super) created: u64,
    /// ECDSA P-256, PKCS #8.
    pub(super) ca_key: Secret,
    #[serde(with = "base64_text")]
    pub(super) ca_certificate: Vec<u8>,
    /// Unix seconds; no certificate outlives it.
    pub(super) ca_not_after: u64,
    /// Ed25519, PKCS #8.
    pub(super) signing_key: Secret,
    /// 32 random bytes that join tokens are derived from.
    pub(super) join_key: Secret,
    /// The seed of the Ed25519 key that opens nodes over SSH.
    pub(super) ssh_seed: Secret,
    /// The CA certificates of keyrings of this cluster that were lost, in PEM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) former_cas: Vec<String>,
    pub(super) enrolments: BTreeMap<NodeName, Enrolment>,
}
