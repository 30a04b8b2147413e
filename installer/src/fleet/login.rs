//! Logging in to a node: which way, as whom, and by what its host key is accepted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::boot::LOGIN_USER;
use castrum_blueprints::manifest::AGENT_PORT;
use castrum_blueprints::names::NodeName;
use castrum_blueprints::trust::{JoinToken, verify_host_key};
use castrum_provider::{Failure, FailureClass, Reach};
use castrum_provider_ssh::transport::{
    HostKeyPolicy, HostKeyProof, Route, Session, SshError, SshErrorKind, Target, parse_public_key,
};

use super::Shared;
use crate::link::{Direct, MasterClient};
use crate::trust::{chain, denied};

const CONNECT: Duration = Duration::from_secs(10);
/// An agent that runs answers at once.
const ASK: Duration = Duration::from_secs(3);

impl Shared {
    /// The session to a node; the one that is open, if it still is.
    pub(super) async fn session(&self, reach: &Reach) -> Result<Session, Failure> {
        let node = &reach.peer.name;
        if let Some(session) = self.sessions.lock().await.get(node).filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = self.open(reach).await?;
        self.sessions.lock().await.insert(node.clone(), session.clone());
        Ok(session)
    }

    async fn open(&self, reach: &Reach) -> Result<Session, Failure> {
        if let Some(machine) = &reach.existing {
            let route = self.ssh.route(machine).map_err(|error| classify(&error, false))?;
            return Session::open(&route, CONNECT).await.map_err(|error| classify(&error, false));
        }
        let remembered = self.remembered(&reach.peer.name);
        let joined = matches!(remembered, Ok(HostKeyPolicy::Pinned(_)));
        let failed = match remembered {
            Ok(keys) => match Session::open(&self.route(reach, keys)?, CONNECT).await {
                Err(error) if error.kind() == SshErrorKind::HostKey && !joined => classify(&error, true),
                opened => return opened.map_err(|error| classify(&error, true)),
            },
            Err(error) => error,
        };
        // Another copy of the keyring may have admitted the machine: its agent then has a certificate of our CA.
        let Some(keys) = self.told(reach).await else { return Err(failed) };
        Session::open(&self.route(reach, keys)?, CONNECT).await.map_err(|error| classify(&error, true))
    }

    fn route(&self, reach: &Reach, host_keys: HostKeyPolicy) -> Result<Route, Failure> {
        let keyring = self.trust.keyring().map_err(|error| denied(&error))?;
        let key = keyring.ssh_key().map_err(|error| denied(&error))?;
        let auth = self.ssh.auth.clone().without_agent().with_files([]).with_key(key);
        let target = Target { address: reach.address.to_string(), port: 22, user: LOGIN_USER.to_owned() };
        Ok(Route::direct(target, auth, host_keys))
    }

    /// The host keys that the node proved when it joined; before that, those that it can prove with its token.
    fn remembered(&self, node: &NodeName) -> Result<HostKeyPolicy, Failure> {
        let known = self.trust.enrolment(node).map_err(|error| denied(&error))?;
        let pinned = known.and_then(|known| known.key).map(|key| key.host_keys).unwrap_or_default();
        if let Some(pinned) = pinned_to(&pinned) {
            return Ok(pinned);
        }
        let token = self.trust.token(node).map_err(|error| denied(&error))?;
        Ok(HostKeyPolicy::Proven(Arc::new(Proof(token))))
    }

    /// The host keys that the node's agent tells, once it has proven to be that node.
    async fn told(&self, reach: &Reach) -> Option<HostKeyPolicy> {
        let way = Arc::new(Direct(SocketAddr::new(reach.address, AGENT_PORT)));
        let client = MasterClient::new(reach.peer.name.clone(), way, self.tls.clone()).connect_within(ASK);
        let told = client.host_keys().await;
        if let Err(error) = &told {
            tracing::debug!(node = %reach.peer.name, error = chain(error), "its agent tells no host keys");
        }
        pinned_to(&told.ok()?)
    }
}

fn pinned_to(lines: &BTreeSet<String>) -> Option<HostKeyPolicy> {
    let keys: Vec<_> = lines.iter().filter_map(|line| parse_public_key(line).ok()).collect();
    (!keys.is_empty()).then_some(HostKeyPolicy::Pinned(keys))
}

struct Proof(JoinToken);

#[async_trait]
impl HostKeyProof for Proof {
    async fn verify(&self, host_key: &str, proof: &str) -> Result<(), String> {
        verify_host_key(&self.0, host_key, proof).map_err(|error| error.to_string())
    }
}

/// What an SSH failure means. While a machine boots, its login user may not be there yet.
pub(super) fn classify(error: &SshError, booting: bool) -> Failure {
    let class = match error.kind() {
        SshErrorKind::Unreachable | SshErrorKind::Refused if booting => FailureClass::NotReady,
        SshErrorKind::Refused | SshErrorKind::HostKey => FailureClass::Denied,
        SshErrorKind::Unreachable | SshErrorKind::TimedOut | SshErrorKind::Lost | SshErrorKind::Command => {
            FailureClass::Transient
        }
        SshErrorKind::Local => FailureClass::Invalid,
    };
    let failure = Failure::new(class, chain(error));
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
