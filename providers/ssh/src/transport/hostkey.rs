//! Which host key is the right one, decided before anything is said to the host.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
#[cfg(doc)]
use castrum_blueprints::trust::HOST_KEY_PROOF_FILE;
use russh::keys::{Algorithm, EcdsaCurve, PublicKey};

use super::error::{SshError, fingerprint};
use super::known_hosts::{self, Known};
use super::route::Target;

/// By what a host key is accepted. None of them is weaker than `StrictHostKeyChecking yes`.
#[derive(Clone)]
pub enum HostKeyPolicy {
    /// The key is one of these.
    Pinned(Vec<PublicKey>),
    /// The key is in one of these files.
    KnownHosts(KnownHosts),
    /// The key is not known yet. It is accepted provisionally, nothing but a public-key signature that is worthless
    /// elsewhere is given to the host, and the session can be used only after the proof was verified.
    Proven(Arc<dyn HostKeyProof>),
}

/// Files in the format of `known_hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownHosts {
    /// The files; those that do not exist are empty.
    pub files: Vec<PathBuf>,
    /// The name to look for in place of the host's (`HostKeyAlias`).
    pub alias: Option<String>,
}

/// Decides whether a machine's proof fits its host key.
#[async_trait]
pub trait HostKeyProof: Send + Sync {
    /// `host_key` is a line as in `ssh_host_ed25519_key.pub` without comment, `proof` is the text of
    /// [`HOST_KEY_PROOF_FILE`]. An error says why the proof does not hold.
    async fn verify(&self, host_key: &str, proof: &str) -> Result<(), String>;
}

/// Reads a public key line (`ssh-ed25519 AAAA... comment`).
pub fn parse_public_key(line: &str) -> Result<PublicKey, SshError> {
    PublicKey::from_openssh(line.trim())
        .map_err(|error| SshError::Key { name: line.chars().take(60).collect(), reason: error.to_string() })
}

/// A key as a line, without its comment.
pub(crate) fn key_line(key: &PublicKey) -> String {
    PublicKey::new(key.key_data().clone(), "").to_openssh().unwrap_or_default()
}

/// The algorithms whose signatures can be verified here. RSA is not among them: its library has a timing flaw
/// (RUSTSEC-2023-0071), and every OpenSSH server since 2014 has an ed25519 key.
const VERIFIABLE: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

fn is_verifiable(key: &PublicKey) -> bool {
    VERIFIABLE.contains(&key.algorithm())
}

fn verifiable_pins(keys: &[PublicKey], target: &Target) -> Result<Vec<PublicKey>, SshError> {
    let pins: Vec<PublicKey> = keys.iter().filter(|key| is_verifiable(key)).cloned().collect();
    if pins.is_empty() {
        let reason = "declare an ed25519 or ECDSA host key; others cannot be verified".to_owned();
        return Err(SshError::Key { name: format!("host key of {target}"), reason });
    }
    Ok(pins)
}

/// A policy made ready for one host: files are read before the connection, not inside the protocol.
pub(crate) struct HostKeyCheck {
    address: String,
    rule: Rule,
}

enum Rule {
    Pinned(Vec<PublicKey>),
    Known { known: Known, files: Vec<PathBuf> },
    Provisional,
}

impl HostKeyCheck {
    pub(crate) fn new(policy: &HostKeyPolicy, target: &Target) -> Result<Self, SshError> {
        let rule = match policy {
            HostKeyPolicy::Pinned(keys) => Rule::Pinned(verifiable_pins(keys, target)?),
            HostKeyPolicy::Proven(_) => Rule::Provisional,
            HostKeyPolicy::KnownHosts(known) => {
                // An alias stands for the host and its port, as in OpenSSH.
                let (name, port) =
                    known.alias.as_deref().map_or((target.address.as_str(), target.port), |a| (a, 22));
                let mut on_record = known_hosts::look_up(&known.files, name, port)?;
                on_record.trusted.retain(is_verifiable);
                Rule::Known { known: on_record, files: known.files.clone() }
            }
        };
        Ok(Self { address: target.to_string(), rule })
    }

    /// The algorithms to ask for: those of the keys on record, or else the host would present another key of its own.
    pub(crate) fn algorithms(&self) -> Cow<'static, [Algorithm]> {
        let on_record = match &self.rule {
            Rule::Pinned(keys) => keys.as_slice(),
            Rule::Known { known, .. } => known.trusted.as_slice(),
            Rule::Provisional => &[],
        };
        let wanted: Vec<Algorithm> =
            VERIFIABLE.into_iter().filter(|a| on_record.iter().any(|key| key.algorithm() == *a)).collect();
        Cow::Owned(if wanted.is_empty() { VERIFIABLE.to_vec() } else { wanted })
    }

    /// Whether `key` is right, as far as that can be told before authentication.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<(), SshError> {
        let same = |other: &PublicKey| other.key_data() == key.key_data();
        match &self.rule {
            Rule::Provisional => Ok(()),
            Rule::Pinned(keys) if keys.iter().any(same) => Ok(()),
            Rule::Pinned(keys) => Err(self.mismatch(key, keys)),
            Rule::Known { known, .. } if known.revoked.iter().any(same) => {
                Err(self.mismatch(key, &known.trusted))
            }
            Rule::Known { known, .. } if known.trusted.iter().any(same) => Ok(()),
            Rule::Known { known, files } if known.trusted.is_empty() => Err(SshError::HostKeyUnknown {
                address: self.address.clone(),
                found: fingerprint(key),
                line: key_line(key),
                files: files.clone(),
            }),
            Rule::Known { known, .. } => Err(self.mismatch(key, &known.trusted)),
        }
    }

    fn mismatch(&self, key: &PublicKey, expected: &[PublicKey]) -> SshError {
        let mut expected: Vec<String> = expected.iter().map(fingerprint).collect();
        if expected.is_empty() {
            expected.push("any other key: this one is revoked".to_owned());
        }
        SshError::HostKeyMismatch { address: self.address.clone(), expected, found: fingerprint(key) }
    }
}
