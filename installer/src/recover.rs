//! Asking machines who they are, over SSH and with the user's own login: no keyring is needed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use castrum_blueprints::boot::{BOOT_FILE, BootConfig, LOGIN_USER};
use castrum_blueprints::manifest::{Manifest, STATE_DIR, SignedManifest};
use castrum_blueprints::names::{ClusterId, ComponentName, Digest, NodeName, ResourcePath};
use castrum_blueprints::recover::{Answer, Word};
use castrum_blueprints::status::{NodeStatus, Phase};
use castrum_blueprints::trust::signing_input;
use castrum_provider::Reach;
use castrum_provider_ssh::SshOptions;
use castrum_provider_ssh::transport::{
    HostKeyPolicy, Limits, RouteRequest, Session, SshError, parse_public_key,
};
use futures_util::future::join_all;
use ring::signature::{ED25519, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::fleet::Held;
use crate::trust::{Trust, chain};

const CONNECT: Duration = Duration::from_secs(10);
/// The manifest of a node is some tens of KiB.
const MOST: usize = 8 << 20;

/// How machines are asked.
pub struct Inquiry<'a> {
    /// The cluster.
    pub cluster: &'a ClusterId,
    /// The user's SSH configuration and identities.
    pub ssh: &'a SshOptions,
    /// The keyring, if there is one: it may have been brought to some machines already.
    pub trust: Option<&'a Trust>,
    /// Host keys that somebody has accepted, by machine.
    pub accepted: &'a BTreeMap<ResourcePath, String>,
}

/// What came of it.
#[derive(Default)]
pub struct Told {
    /// The answers.
    pub answers: BTreeMap<ResourcePath, Answer>,
    /// Sessions to those that let us in, by the node that they are labelled as.
    pub sessions: BTreeMap<NodeName, Session>,
    /// What those nodes hold.
    pub held: BTreeMap<NodeName, Held>,
    /// Every CA certificate that was named, in PEM, by its fingerprint.
    pub authorities: BTreeMap<Digest, String>,
    /// Host keys that nothing vouches for, as lines, by machine.
    pub unknown: BTreeMap<ResourcePath, String>,
}

/// The fingerprint of a certificate in PEM.
pub fn fingerprint(pem: &str) -> Option<Digest> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| Digest::of(&der))
}

/// Asks all machines at once.
pub async fn ask(inquiry: &Inquiry<'_>, machines: &BTreeMap<ResourcePath, Reach>) -> Told {
    let asked = machines
        .iter()
        .map(|(path, reach)| async move { (path, reach, ask_one(inquiry, path, reach).await) });
    let mut told = Told::default();
    for (path, reach, one) in join_all(asked).await {
        let answer = match one {
            Ok((session, said)) => told.take(inquiry, reach, (session, &said)),
            Err(SshError::HostKeyUnknown { found, line, .. }) => {
                told.unknown.insert(path.clone(), line);
                Answer::UnknownHostKey(found)
            }
            Err(error @ SshError::HostKeyMismatch { .. }) => Answer::OtherHostKey(error.to_string()),
            Err(error) => Answer::Silent(chain(&error)),
        };
        told.answers.insert(path.clone(), answer);
    }
    told
}

/// One line each: the boot file, the ledger, the last status.
async fn ask_one(
    inquiry: &Inquiry<'_>,
    path: &ResourcePath,
    reach: &Reach,
) -> Result<(Session, String), SshError> {
    let session = open(inquiry, path, reach).await?;
    let script = format!(
        "for file in {BOOT_FILE} {STATE_DIR}/ledger.json /run/castrum/status.json; do cat $file 2>/dev/null; echo; done"
    );
    let limits = Limits { stdout: MOST, ..Limits::default() };
    let output = session.check(&session.as_root(&script)?, (), &limits).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((session, text))
}

async fn open(inquiry: &Inquiry<'_>, path: &ResourcePath, reach: &Reach) -> Result<Session, SshError> {
    if let Some(machine) = &reach.existing {
        return Session::open(&inquiry.ssh.route(machine)?, CONNECT).await;
    }
    let mut auth = inquiry.ssh.auth.clone();
    let keyring = inquiry.trust.and_then(|trust| trust.keyring().ok());
    if let Some(key) = keyring.as_ref().and_then(|keyring| keyring.ssh_key().ok()) {
        auth = auth.with_key(key);
    }
    let joined = keyring.as_ref().and_then(|keyring| keyring.enrolment(&reach.peer.name)?.key.clone());
    let pinned = joined.map(|key| key.host_keys).unwrap_or_default();
    let lines: BTreeSet<&String> = pinned.iter().chain(inquiry.accepted.get(path)).collect();
    let keys: Vec<_> = lines.into_iter().filter_map(|line| parse_public_key(line).ok()).collect();
    let route = inquiry.ssh.config.route(&RouteRequest {
        name: reach.address.to_string(),
        port: None,
        user: Some(LOGIN_USER.to_owned()),
        auth,
        policy: (!keys.is_empty()).then_some(HostKeyPolicy::Pinned(keys)),
    })?;
    Session::open(&route, CONNECT).await
}

impl Told {
    fn take(&mut self, inquiry: &Inquiry<'_>, reach: &Reach, (session, said): (Session, &str)) -> Answer {
        let mut lines = said.lines();
        let mut next = || lines.next().unwrap_or_default();
        let (boot, ledger, status) = (next(), next(), next());
        if boot.is_empty() {
            return Answer::NoAgent;
        }
        let boot: BootConfig = match serde_json::from_str(boot) {
            Ok(boot) => boot,
            Err(error) => return Answer::Silent(format!("its boot file cannot be read: {error}")),
        };
        let held = serde_json::from_str::<Ledger>(ledger).ok().and_then(|ledger| ledger.manifest);
        let manifest = held.filter(|held| is_own(held, &boot, (reach, inquiry)));
        let word = Word {
            cluster: boot.cluster.clone(),
            node: boot.node.clone(),
            generation: manifest.as_ref().map_or(0, |manifest| manifest.generation),
            authority: fingerprint(&boot.ca),
            former: boot.former_cas.iter().filter_map(|pem| fingerprint(pem)).collect(),
            unwell: unwell(status),
        };
        for pem in boot.former_cas.iter().chain([&boot.ca]) {
            self.authorities.extend(fingerprint(pem).map(|digest| (digest, pem.clone())));
        }
        let name = &reach.peer.name;
        self.held.insert(name.clone(), Held { incarnation: boot.incarnation, manifest });
        self.sessions.insert(name.clone(), session);
        Answer::Said(word)
    }
}

/// The one field of the agent's ledger that is asked for.
#[derive(serde::Deserialize)]
struct Ledger {
    manifest: Option<SignedManifest>,
}

/// Whether a manifest is for the very node that told it, and was signed by the key that this node was told, or by ours.
fn is_own(held: &SignedManifest, boot: &BootConfig, (reach, inquiry): (&Reach, &Inquiry<'_>)) -> bool {
    let Ok(manifest) = serde_json::from_str::<Manifest>(&held.manifest) else { return false };
    let Ok(signature) = BASE64.decode(&held.signature) else { return false };
    let input = signing_input("manifest", held.manifest.as_bytes());
    let ours = inquiry.trust.map(Trust::verify_key);
    let mut keys =
        ours.into_iter().chain([boot.verify_key.as_str()]).filter_map(|key| BASE64.decode(key).ok());
    let signed = keys.any(|key| UnparsedPublicKey::new(&ED25519, key).verify(&input, &signature).is_ok());
    let outside = (&held.node, held.generation, &held.content);
    signed
        && outside == (&manifest.node, manifest.generation, &manifest.content())
        && manifest.cluster == *inquiry.cluster
        && manifest.node == reach.peer.name
        && manifest.role == reach.role
}

fn unwell(status: &str) -> BTreeSet<ComponentName> {
    let Ok(status) = serde_json::from_str::<NodeStatus>(status) else { return BTreeSet::new() };
    let unwell = status.components.into_iter().filter(|(_, component)| component.phase != Phase::Healthy);
    unwell.map(|(name, _)| name).collect()
}

/// What is known already of machines whose agents are heard: they hold to our keyring, or to none.
pub fn heard(status: &Arc<NodeStatus>, authority: Option<&Digest>) -> Answer {
    let failing = status.components.iter().filter(|(_, component)| component.phase != Phase::Healthy);
    Answer::Said(Word {
        cluster: status.cluster.clone(),
        node: status.node.clone(),
        generation: status.generation,
        authority: authority.cloned(),
        former: BTreeSet::new(),
        unwell: failing.map(|(name, _)| name.clone()).collect(),
    })
}
