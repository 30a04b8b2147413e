//! The keyring: the only secret of a cluster, and everything that is done with it.
//!
//! It holds the cluster's CA, the key that signs manifests, the key that join tokens are derived from, the SSH key that
//! opens nodes, and the record of which key pair joined as which node. [`Keyring`] is the opened thing in memory,
//! [`KeyringFile`] the one file that it rests in, sealed. Time and chance are arguments.

mod certificate;
mod contents;
mod enrol;
mod error;
mod file;
mod rest;
mod seal;
mod secret;
mod unlock;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use castrum_blueprints::names::{ClusterId, NodeName};
use castrum_blueprints::trust::{Signature, VerifyingKey, signing_input};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

pub use certificate::{InstallerIdentity, IssuedCertificate, NodeIdentity};
pub use enrol::{EnrolledKey, Enrolment};
pub use error::{EnrolError, IssueError, KeyringError};
pub use file::KeyringFile;
pub use rest::{InFile, Rest};
pub use unlock::{PASSPHRASE_ENV, PASSPHRASE_FILE_ENV, Passphrase, Unlock};

use contents::Contents;
use secret::Secret;

/// The opened keyring of one cluster.
pub struct Keyring {
    contents: Contents,
    signer: Ed25519KeyPair,
}

impl Keyring {
    /// A new keyring for `cluster` with keys drawn from `rng`; `now` is in unix seconds.
    pub fn generate(cluster: ClusterId, now: u64, rng: &dyn SecureRandom) -> Result<Self, IssueError> {
        let ca_key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, rng)
            .map_err(|_| IssueError::Random)?;
        let ca_key = Secret::from_slice(ca_key.as_ref());
        let authority = certificate::make_authority(&cluster, &ca_key, now, rng)?;
        let signing_key = Ed25519KeyPair::generate_pkcs8(rng).map_err(|_| IssueError::Random)?;
        Self::from_contents(Contents {
            created: now,
            ca_key,
            ca_certificate: authority.der,
            ca_not_after: authority.not_after,
            signing_key: Secret::from_slice(signing_key.as_ref()),
            join_key: Secret::random(rng)?,
            ssh_seed: Secret::random(rng)?,
            former_cas: Vec::new(),
            enrolments: BTreeMap::new(),
            cluster,
        })
    }

    /// The same keyring as the successor of one that was lost: what that one's CA vouched for stays trusted by components.
    #[must_use]
    pub(super) fn succeeding(mut self, former_cas: Vec<String>) -> Self {
        self.contents.former_cas = former_cas;
        self
    }

    fn from_contents(contents: Contents) -> Result<Self, IssueError> {
        let signer =
            Ed25519KeyPair::from_pkcs8(contents.signing_key.bytes()).map_err(|_| IssueError::SigningKey)?;
        // Found now rather than at the first node: these have a length that serde does not check.
        contents.join_key.array().ok_or(IssueError::KeyLength)?;
        contents.ssh_seed.array().ok_or(IssueError::KeyLength)?;
        Ok(Self { contents, signer })
    }

    /// The cluster that this keyring belongs to.
    pub fn cluster(&self) -> &ClusterId {
        &self.contents.cluster
    }

    /// The CA certificate that everything of this cluster trusts, as TLS libraries take it.
    pub fn ca_der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.contents.ca_certificate.clone())
    }

    /// The CA certificate in PEM, for boot data and component files. Not a secret.
    pub fn ca_pem(&self) -> String {
        certificate::pem("CERTIFICATE", &self.contents.ca_certificate)
    }

    /// The CA certificates of keyrings that were lost, in PEM.
    pub fn former_cas(&self) -> &[String] {
        &self.contents.former_cas
    }

    /// Signs `bytes` as a `kind` (`"manifest"`): Ed25519 over [`signing_input`].
    pub fn sign(&self, kind: &str, bytes: &[u8]) -> Signature {
        let signature = self.signer.sign(&signing_input(kind, bytes));
        let mut raw = [0; 64];
        raw.copy_from_slice(signature.as_ref());
        Signature::from_bytes(raw)
    }

    /// The key that checks what [`Keyring::sign`] made. Not a secret; boot data carries it.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut raw = [0; 32];
        raw.copy_from_slice(self.signer.public_key().as_ref());
        VerifyingKey::from_bytes(raw)
    }

    /// The SSH key that opens the nodes of this cluster.
    pub fn ssh_key(&self) -> Result<PrivateKey, IssueError> {
        let seed = Zeroizing::new(self.contents.ssh_seed.array().ok_or(IssueError::KeyLength)?);
        let pair = Ed25519Keypair::from_seed(&seed);
        PrivateKey::new(pair.into(), format!("castrum-{}", self.contents.cluster)).map_err(IssueError::SshKey)
    }

    /// [`Keyring::ssh_key`] as an OpenSSH private key file, for an `ssh` that Castrum starts.
    pub fn ssh_key_openssh(&self) -> Result<Zeroizing<String>, IssueError> {
        self.ssh_key()?.to_openssh(LineEnding::LF).map_err(IssueError::SshKey)
    }

    /// The line for `authorized_keys` on nodes. Not a secret.
    pub fn ssh_public_line(&self) -> Result<String, IssueError> {
        self.ssh_key()?.public_key().to_openssh().map_err(IssueError::SshKey)
    }

    /// What is recorded about `node`.
    pub fn enrolment(&self, node: &NodeName) -> Option<&Enrolment> {
        self.contents.enrolments.get(node)
    }

    /// Every node that was ever given a token, by name.
    pub fn enrolments(&self) -> impl Iterator<Item = (&NodeName, &Enrolment)> {
        self.contents.enrolments.iter()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("cluster", &self.contents.cluster)
            .field("enrolments", &self.contents.enrolments.len())
            .finish_non_exhaustive()
    }
}
