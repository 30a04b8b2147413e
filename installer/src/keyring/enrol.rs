//! Joining: who may, how often, and with which key.
//!
//! ```text
//! (nothing) ──offer_token──▶ offered ──enrol──▶ enrolled ──enrol, issue_node: same key──▶ enrolled
//!                              │  ▲                │
//!                     expired  ▼  │ offer_token    │ another key: refused
//!                            expired               ▼
//!                                        offer_token with a higher incarnation: offered again
//! ```

use std::collections::BTreeSet;

use castrum_blueprints::names::{Digest, NodeName};
use castrum_blueprints::trust::{JoinRequest, JoinTerms, JoinToken};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::certificate::NodeKey;
use super::{EnrolError, IssueError, IssuedCertificate, Keyring, NodeIdentity};

/// What the keyring remembers about one node. Not a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Which machine of that name.
    pub incarnation: u64,
    /// The unix second from which on its token is worth nothing.
    pub token_expires: u64,
    /// The key that joined, once one has.
    pub key: Option<EnrolledKey>,
}

/// The one key that a token was spent on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledKey {
    /// The sha256 of the public key with its algorithm (SPKI).
    pub spki_sha256: Digest,
    /// The serial number of the latest certificate, in hexadecimal.
    pub serial: String,
    /// The unix second in which the latest certificate ends.
    pub not_after: u64,
    /// The unix second in which the node joined.
    pub joined: u64,
    /// The machine's SSH host keys as it proved them, each `TYPE BASE64`: what to pin from now on.
    pub host_keys: BTreeSet<String>,
}

impl Keyring {
    /// The token for the boot data of `node`, good until the unix second `expires`.
    ///
    /// Asked again for the same machine, it is the same token with the expiry of the first time, so that rendered boot
    /// data does not change; only a token that expired unused is made anew. A higher incarnation forgets the machine
    /// before it.
    pub fn offer_token(
        &mut self,
        node: &NodeName,
        incarnation: u64,
        expires: u64,
        now: u64,
    ) -> Result<JoinToken, EnrolError> {
        let known = self.contents.enrolments.get(node);
        if let Some(known) = known.filter(|known| known.incarnation > incarnation) {
            let current = known.incarnation;
            return Err(EnrolError::OtherIncarnation { node: node.clone(), asked: incarnation, current });
        }
        let keep = known.is_some_and(|known| {
            known.incarnation == incarnation && (known.key.is_some() || known.token_expires > now)
        });
        if !keep {
            if expires <= now {
                return Err(EnrolError::Expired { node: node.clone(), expired: expires });
            }
            let fresh = Enrolment { incarnation, token_expires: expires, key: None };
            self.contents.enrolments.insert(node.clone(), fresh);
        }
        self.token(node)
    }

    /// The token that `node` was given, to check the proof of its SSH host keys with.
    pub fn token(&self, node: &NodeName) -> Result<JoinToken, EnrolError> {
        let known = self.enrolment(node).ok_or_else(|| EnrolError::Unknown(node.clone()))?;
        let join_key = self.contents.join_key.array().map(Zeroizing::new);
        let join_key = join_key
            .ok_or_else(|| EnrolError::Issue { node: node.clone(), source: IssueError::KeyLength })?;
        let terms = JoinTerms {
            cluster: self.cluster(),
            node,
            incarnation: known.incarnation,
            expires: known.token_expires,
        };
        Ok(JoinToken::derive(&join_key, &terms))
    }

    /// Lets a node join: checks its proof, spends its token on its key, and gives that key a certificate.
    ///
    /// The same request may come again: a key that joined gets another certificate, even after the token expired. Hand
    /// the certificate out only after the keyring was saved, which [`super::KeyringFile::update`] does in this order.
    pub fn enrol(
        &mut self,
        request: &JoinRequest,
        identity: &NodeIdentity,
        now: u64,
        rng: &dyn SecureRandom,
    ) -> Result<IssuedCertificate, EnrolError> {
        let node = &identity.node;
        let said = &request.statement;
        if said.node != *node {
            return Err(EnrolError::OtherNode { asked: said.node.clone(), from: node.clone() });
        }
        let known = self.enrolment(node).ok_or_else(|| EnrolError::Unknown(node.clone()))?;
        if known.incarnation != said.incarnation {
            let (asked, current) = (said.incarnation, known.incarnation);
            return Err(EnrolError::OtherIncarnation { node: node.clone(), asked, current });
        }
        request
            .verify(&self.token(node)?)
            .map_err(|source| EnrolError::Proof { node: node.clone(), source })?;
        let key = NodeKey::from_der(&said.csr)
            .map_err(|source| EnrolError::Issue { node: node.clone(), source })?;
        match &known.key {
            Some(joined) if joined.spki_sha256 != key.fingerprint() => {
                return Err(EnrolError::Spent(node.clone()));
            }
            None if known.token_expires <= now => {
                return Err(EnrolError::Expired { node: node.clone(), expired: known.token_expires });
            }
            Some(_) | None => {}
        }
        let issued = self.record(&key, identity, now, rng)?;
        if let Some(joined) = self.contents.enrolments.get_mut(node).and_then(|known| known.key.as_mut()) {
            joined.host_keys.clone_from(&said.host_keys);
        }
        Ok(issued)
    }

    /// Another certificate for a node that has joined with the key of this request: before the last one ends, or
    /// because its role or addresses changed. The request's signature shows that the node still has the key.
    pub fn issue_node(
        &mut self,
        csr_pem: &str,
        identity: &NodeIdentity,
        now: u64,
        rng: &dyn SecureRandom,
    ) -> Result<IssuedCertificate, EnrolError> {
        let node = &identity.node;
        let known = self.enrolment(node).ok_or_else(|| EnrolError::Unknown(node.clone()))?;
        let key =
            NodeKey::from_pem(csr_pem).map_err(|source| EnrolError::Issue { node: node.clone(), source })?;
        if known.key.as_ref().is_none_or(|joined| joined.spki_sha256 != key.fingerprint()) {
            return Err(EnrolError::NotEnrolled(node.clone()));
        }
        self.record(&key, identity, now, rng)
    }

    /// Forgets a node that was removed from the cluster: its token and key are worth nothing from now on.
    pub fn forget(&mut self, node: &NodeName) -> bool {
        self.contents.enrolments.remove(node).is_some()
    }

    fn record(
        &mut self,
        key: &NodeKey,
        identity: &NodeIdentity,
        now: u64,
        rng: &dyn SecureRandom,
    ) -> Result<IssuedCertificate, EnrolError> {
        let node = &identity.node;
        let issued = self.issue_leaf(key, identity, now, rng);
        let issued = issued.map_err(|source| EnrolError::Issue { node: node.clone(), source })?;
        if let Some(known) = self.contents.enrolments.get_mut(node) {
            let before = known.key.take();
            known.key = Some(EnrolledKey {
                spki_sha256: key.fingerprint(),
                serial: issued.serial.clone(),
                not_after: issued.not_after,
                joined: before.as_ref().map_or(now, |before| before.joined),
                host_keys: before.map(|before| before.host_keys).unwrap_or_default(),
            });
        }
        Ok(issued)
    }
}
