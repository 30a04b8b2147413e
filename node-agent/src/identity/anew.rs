//! Admitted anew: the agent changes over to the keys of another keyring of its cluster, after the one before was lost.
//!
//! ```text
//! /var/lib/castrum/anew: boot.json, token ──join prepare──▶ key, request ──join accept──▶ certificate
//!                                                                                            │ join anew
//!     ledger and relayed manifests, signed anew ──▶ ca.crt ──▶ agent.pem ──▶ boot.json ◀─────┘
//! ```
//! `boot.json` comes last: until then the node counts as one that has not changed over, and all of it may be done again.
//! What the components were started with stays where it is, so nothing that runs is touched; only the CAs that they trust
//! become more. The agent must not run meanwhile.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use castrum_blueprints::boot::{ANEW_DIR, Handover};
use castrum_blueprints::manifest::SignedManifest;
use zeroize::Zeroizing;

use super::join::check;
use super::{ANEW_FILE, Identity, IdentityError, ManifestError};
use crate::act::files::{FileError, read_if_there, remove, write_whole};
use crate::ledger::{Book, LedgerError, Refusal};
use crate::paths::Paths;

/// The most that is read: the manifests of some thousand nodes.
const HANDOVER_CAP: u64 = 64 << 20;

/// Why an agent does not change over.
#[derive(Debug, thiserror::Error)]
pub enum AnewError {
    /// One of the two identities cannot be used.
    #[error("read the identities")]
    Identity(#[from] IdentityError),
    /// The prepared identity is of another node.
    #[error("the prepared identity is of {prepared}, and this is {own}")]
    OtherNode {
        /// Cluster and node of the one.
        prepared: String,
        /// Cluster and node of the other.
        own: String,
    },
    /// There is no new certificate.
    #[error("the new identity has no certificate yet")]
    NoCertificate,
    /// The node holds a manifest, and was not handed it.
    #[error("the manifest that this node holds was not handed over")]
    NotHanded,
    /// What was handed over cannot be read.
    #[error("understand what was handed over")]
    Handover(#[source] serde_json::Error),
    /// A file could not be read.
    #[error("read what was prepared")]
    Read(#[source] io::Error),
    /// The ledger cannot be used.
    #[error("open the ledger")]
    Ledger(#[from] LedgerError),
    /// The manifest is not the one that the node holds.
    #[error("take the manifest that was signed anew")]
    Held(#[source] Refusal),
    /// A relayed manifest is not signed by the new key.
    #[error("take the manifest for `{node}` that was signed anew")]
    Relayed {
        /// For whom it is.
        node: String,
        /// Why not.
        source: ManifestError,
    },
    /// A file could not be written.
    #[error("change over")]
    File(#[from] FileError),
}

/// `join anew`: reads what is handed over as JSON.
pub fn anew_command(root: &Path, input: &mut impl Read) -> Result<(), AnewError> {
    let mut text = Vec::new();
    input.take(HANDOVER_CAP).read_to_end(&mut text).map_err(AnewError::Read)?;
    let handover = serde_json::from_slice(&text).map_err(AnewError::Handover)?;
    change_over(root, handover)
}

/// Changes over to the identity that is prepared. Everything is checked before anything is changed.
fn change_over(root: &Path, handover: Handover) -> Result<(), AnewError> {
    let paths = Paths::new(root);
    let stage = paths.at(ANEW_DIR);
    let (own, new) = (Identity::load(root)?, Identity::load(&stage)?);
    let name = |identity: &Identity| format!("{} in cluster {}", identity.node, identity.cluster);
    if (&own.cluster, &own.node) != (&new.cluster, &new.node) {
        return Err(AnewError::OtherNode { prepared: name(&new), own: name(&own) });
    }
    let pair = pair(&new)?;
    let mut book = Book::open(&paths.ledger(), &new)?;
    for signed in &handover.relayed {
        let verified = new.verify(signed);
        verified.map_err(|source| AnewError::Relayed { node: signed.node.to_string(), source })?;
    }
    match handover.held {
        Some(signed) => book.resign(signed, &new).map_err(AnewError::Held)?,
        None if book.ledger().manifest.is_some() => return Err(AnewError::NotHanded),
        None => {}
    }
    for signed in &handover.relayed {
        relay(&paths, signed)?;
    }
    trust(&paths, &new)?;
    write_whole(&paths.pki().join(ANEW_FILE), &pair, 0o600)?;
    let told = fs::read(Paths::new(&stage).boot()).map_err(AnewError::Read)?;
    write_whole(&paths.boot(), &told, 0o600)?;
    Ok(remove(&stage)?)
}

/// The new certificate and its key, which fit each other.
fn pair(new: &Identity) -> Result<Zeroizing<Vec<u8>>, AnewError> {
    let certificate = new.read_pki("node.crt")?.ok_or(AnewError::NoCertificate)?;
    let key = new.read_pki("node.key")?.ok_or(AnewError::NoCertificate)?;
    check(new, &String::from_utf8_lossy(&certificate))?;
    new.tls_from(&certificate, &key)?;
    Ok(Zeroizing::new([certificate.as_slice(), key.as_slice()].concat()))
}

/// Adds to the CAs that components trust. The one that vouched for what they show stays the first: some servers read no
/// more of the file.
fn trust(paths: &Paths, new: &Identity) -> Result<(), AnewError> {
    let path = paths.pki().join("ca.crt");
    let before = read_if_there(&path)?.unwrap_or_default();
    let before = String::from_utf8_lossy(&before);
    let mut trusted = new.trusted.clone();
    trusted.sort_by_key(|pem| before.find(pem.trim()).unwrap_or(usize::MAX));
    Ok(write_whole(&path, trusted.concat().as_bytes(), 0o644)?)
}

fn relay(paths: &Paths, signed: &SignedManifest) -> Result<(), AnewError> {
    let text = serde_json::to_vec(signed).map_err(AnewError::Handover)?;
    Ok(write_whole(&paths.manifests().join(format!("{}.json", signed.node)), &text, 0o644)?)
}
