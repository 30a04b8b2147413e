//! The keyring in use: with the system's clock and randomness, for whoever signs, admits or logs in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use castrum_blueprints::boot::{BootConfig, BootDisk, UserData, disks, user_data};
use castrum_blueprints::desired::Desired;
use castrum_blueprints::manifest::{Manifest, Peer, SignedManifest};
use castrum_blueprints::names::{ClusterId, ComponentName, Digest, NodeName, Role};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Action, EnsureStep, Step};
use castrum_blueprints::resource::{ResourceSeen, ResourceSpec};
use castrum_blueprints::trust::{JoinRequest, JoinToken};
use castrum_provider::{BootData, Failure, FailureClass, Publication};
use ring::rand::SystemRandom;

use crate::engine::{ProjectPort, Tickets};
use crate::keyring::{
    EnrolError, Enrolment, InstallerIdentity, Keyring, KeyringError, KeyringFile, NodeIdentity,
};
use crate::project::Project;

/// A join token is good for this long, in seconds: longer than any machine takes to boot, shorter than a working day.
const TOKEN_LIFE: u64 = 4 * 3600;

/// One cluster's keyring in use.
pub struct Trust {
    file: KeyringFile,
    rng: SystemRandom,
    ca: String,
    former_cas: Vec<String>,
    verify_key: String,
    ssh_public: String,
    authorized_keys: Vec<String>,
}

impl Trust {
    /// Opens the keyring. `authorized_keys` may log in to new nodes beside Castrum itself.
    pub fn open(file: KeyringFile, authorized_keys: Vec<String>) -> Result<Self, KeyringError> {
        let keyring = file.open()?;
        let (ca, ssh_public) = (keyring.ca_pem(), keyring.ssh_public_line()?);
        let verify_key = BASE64.encode(keyring.verifying_key().as_bytes());
        let (rng, former_cas) = (SystemRandom::new(), keyring.former_cas().to_vec());
        Ok(Self { file, rng, ca, former_cas, verify_key, ssh_public, authorized_keys })
    }

    /// The keyring as it is on disk now.
    pub fn keyring(&self) -> Result<Keyring, KeyringError> {
        self.file.open()
    }

    /// The cluster's CA certificate in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// The key that manifests are checked with, in base64.
    pub fn verify_key(&self) -> &str {
        &self.verify_key
    }

    /// The line by which nodes let Castrum log in.
    pub fn ssh_public(&self) -> &str {
        &self.ssh_public
    }

    /// A client certificate for this run.
    pub fn identity(&self) -> Result<InstallerIdentity, KeyringError> {
        Ok(self.file.open()?.issue_installer(unix_seconds(), &self.rng)?)
    }

    /// What is remembered of a node.
    pub fn enrolment(&self, node: &NodeName) -> Result<Option<Enrolment>, KeyringError> {
        Ok(self.file.open()?.enrolment(node).cloned())
    }

    /// The token that a node was given.
    pub fn token(&self, node: &NodeName) -> Result<JoinToken, EnrolError> {
        self.file.open()?.token(node)
    }

    /// Whether a node was given a token and has not joined with it: its machine may be there, and not made in whole.
    fn is_offered(&self, node: &NodeName) -> Result<bool, KeyringError> {
        Ok(self.enrolment(node)?.is_some_and(|known| known.key.is_none()))
    }

    /// A token for each node whose machine is about to be made: a new one where a machine of that name joined before.
    pub fn offer(
        &self,
        nodes: &[NodeName],
    ) -> Result<BTreeMap<NodeName, (JoinToken, Enrolment)>, EnrolError> {
        let now = unix_seconds();
        self.file.update(&self.rng, |keyring| {
            let mut offered = BTreeMap::new();
            for node in nodes {
                let incarnation = match keyring.enrolment(node) {
                    Some(known) if known.key.is_some() || known.token_expires <= now => known.incarnation + 1,
                    Some(known) => known.incarnation,
                    None => 1,
                };
                let token = keyring.offer_token(node, incarnation, now + TOKEN_LIFE, now)?;
                let enrolment = keyring.enrolment(node).cloned();
                let enrolment = enrolment.ok_or_else(|| EnrolError::Unknown(node.clone()))?;
                offered.insert(node.clone(), (token, enrolment));
            }
            Ok(offered)
        })
    }

    /// A token for a machine that joined with a keyring which was lost, under the incarnation that it has.
    pub fn offer_anew(
        &self,
        node: &NodeName,
        incarnation: u64,
    ) -> Result<(JoinToken, Enrolment), EnrolError> {
        let now = unix_seconds();
        self.file.update(&self.rng, |keyring| {
            let token = keyring.offer_token(node, incarnation, now + TOKEN_LIFE, now)?;
            let enrolment = keyring.enrolment(node).cloned();
            Ok((token, enrolment.ok_or_else(|| EnrolError::Unknown(node.clone()))?))
        })
    }

    /// Admits a node that proves its token: its certificate in PEM, once the keyring is safely on disk.
    pub fn admit(&self, request: &JoinRequest, role: Role, address: IpAddr) -> Result<String, EnrolError> {
        let identity = NodeIdentity { node: request.statement.node.clone(), role, addresses: vec![address] };
        self.file.update(&self.rng, |keyring| {
            Ok(keyring.enrol(request, &identity, unix_seconds(), &self.rng)?.pem)
        })
    }

    /// Signs manifests.
    pub fn sign(&self, publications: &[Publication]) -> Result<Vec<SignedManifest>, KeyringError> {
        let keyring = self.file.open()?;
        let sign = |publication: &Publication| {
            let manifest: &Manifest = &publication.manifest;
            let text = serde_json::to_string(manifest).unwrap_or_default();
            SignedManifest {
                node: manifest.node.clone(),
                generation: manifest.generation,
                content: publication.content.clone(),
                signature: BASE64.encode(keyring.sign("manifest", text.as_bytes()).as_bytes()),
                manifest: text,
            }
        };
        Ok(publications.iter().map(sign).collect())
    }

    /// Signs manifests that nodes hold already, byte for byte.
    pub fn sign_anew(&self, held: &[SignedManifest]) -> Result<Vec<SignedManifest>, KeyringError> {
        let keyring = self.file.open()?;
        let sign = |held: &SignedManifest| SignedManifest {
            signature: BASE64.encode(keyring.sign("manifest", held.manifest.as_bytes()).as_bytes()),
            ..held.clone()
        };
        Ok(held.iter().map(sign).collect())
    }

    /// What an agent must know before it has its first manifest.
    pub fn boot_config(&self, boot: Boot<'_>) -> BootConfig {
        BootConfig {
            format_version: BootConfig::FORMAT,
            cluster: boot.cluster.clone(),
            node: boot.node.clone(),
            role: boot.role,
            incarnation: boot.enrolment.incarnation,
            expires: boot.enrolment.token_expires,
            masters: boot.masters,
            ca: self.ca.clone(),
            verify_key: self.verify_key.clone(),
            agent: Some(boot.agent.clone()),
            api_port: BootConfig::PORT,
            former_cas: self.former_cas.clone(),
        }
    }

    fn user_data(
        &self,
        (node, disks): (&NodeName, Vec<BootDisk>),
        token: &JoinToken,
        joins: Option<&BootConfig>,
    ) -> BootData {
        let mut authorized_keys = vec![self.ssh_public.clone()];
        authorized_keys.extend(self.authorized_keys.iter().cloned());
        BootData::new(user_data(&UserData { node, authorized_keys, token, disks, joins }))
    }
}

/// What a [`BootConfig`] is made from.
pub struct Boot<'a> {
    /// The cluster.
    pub cluster: &'a ClusterId,
    /// The node.
    pub node: &'a NodeName,
    /// What it is for.
    pub role: Role,
    /// Its token's terms.
    pub enrolment: &'a Enrolment,
    /// The masters known so far.
    pub masters: Vec<Peer>,
    /// The agent's blob.
    pub agent: &'a Digest,
}

/// Seconds since 1970 by the system's clock.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The project as the engine needs it.
pub struct TrustedProject {
    /// The keyring in use.
    pub trust: std::sync::Arc<Trust>,
    /// Where the lock file is.
    pub project: std::sync::Arc<Project>,
}

#[async_trait]
impl ProjectPort for TrustedProject {
    async fn tickets(
        &self,
        desired: &Desired,
        observed: &Observed,
        steps: &[Step],
    ) -> Result<Tickets, Failure> {
        let mut creates = BTreeMap::new();
        for step in steps {
            if let Action::Ensure(EnsureStep { create, joins, path, .. }) = &step.action
                && let Some(node) = step.action.node()
                && desired.nodes.get(&node).is_some_and(|wanted| wanted.boot_data && wanted.machine == *path)
                && (*create
                    || is_lost(observed.resources.get(path))
                    || self.trust.is_offered(&node).map_err(|error| denied(&error))?)
            {
                creates.insert(node, *joins);
            }
        }
        if creates.is_empty() {
            return Ok(Tickets::new());
        }
        let names: Vec<NodeName> = creates.keys().cloned().collect();
        let offered = self.trust.offer(&names).map_err(|error| denied(&error))?;
        let masters = masters(desired, observed);
        let tickets = offered.iter().map(|(node, (token, enrolment))| {
            let boot = Boot {
                cluster: &desired.cluster,
                node,
                role: desired.nodes[node].role,
                enrolment,
                masters: masters.clone(),
                agent: &desired.agent.digest,
            };
            let config = creates[node].then(|| self.trust.boot_config(boot));
            (
                node.clone(),
                self.trust.user_data((node, disks_of(node, desired, observed)), token, config.as_ref()),
            )
        });
        Ok(tickets.collect())
    }

    async fn pin_founder(&self, component: &ComponentName, node: &NodeName) -> Result<(), Failure> {
        let pin = |lock: &mut castrum_blueprints::lock::Lock| {
            lock.founders.entry(component.clone()).or_insert_with(|| node.clone());
        };
        self.project.update_lock(pin).map_err(|error| denied(&error))
    }
}

fn disks_of(node: &NodeName, desired: &Desired, observed: &Observed) -> Vec<BootDisk> {
    let machine = &desired.nodes[node].machine;
    match desired.resources.get(machine) {
        Some(ResourceSpec::Machine(spec)) => disks(machine, spec, &observed.resources),
        _ => Vec::new(),
    }
}

/// Whether only traces of a machine are left, without its label: it will be made anew, whoever joined from it before.
fn is_lost(seen: Option<&ResourceSeen>) -> bool {
    seen.is_some_and(|seen| !seen.ready && seen.spec.is_none())
}

fn masters(desired: &Desired, observed: &Observed) -> Vec<Peer> {
    let masters = desired.nodes.iter().filter(|(_, node)| node.role == Role::Master);
    let address = |path| observed.resources.get(path)?.machine.as_ref()?.address;
    masters
        .filter_map(|(name, node)| Some(Peer { name: name.clone(), address: address(&node.machine)? }))
        .collect()
}

/// A failure of our own files: no use trying again before somebody looked.
pub(crate) fn denied(error: &dyn std::error::Error) -> Failure {
    Failure::new(FailureClass::Denied, chain(error))
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Where the keyring of a project is.
pub fn keyring_path(project: &Project) -> PathBuf {
    project.keyring_path()
}

#[cfg(test)]
mod tests {
    use castrum_blueprints::names::ResourcePath;

    use super::*;

    #[test]
    fn only_traces_of_a_machine_are_a_lost_one() {
        let path: ResourcePath = "here/machine/masters-1".parse().expect("a path");
        let spec = Some(Digest::of(b"spec"));
        let traces =
            ResourceSeen { id: path.to_string(), path, spec: None, ready: false, note: None, machine: None };
        assert!(is_lost(Some(&traces)));
        let half_made = ResourceSeen { spec: spec.clone(), ..traces.clone() };
        let whole = ResourceSeen { spec, ready: true, ..traces };
        assert!(![None, Some(&half_made), Some(&whole)].into_iter().any(is_lost));
    }
}
