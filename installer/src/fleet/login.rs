//! Logging in to a node: which way, as whom, and by what its host key is accepted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::boot::LOGIN_USER;
use castrum_blueprints::names::NodeName;
use castrum_blueprints::trust::{JoinToken, verify_host_key};
use castrum_provider::{Failure, FailureClass, Reach};
use castrum_provider_ssh::transport::{
    HostKeyPolicy, HostKeyProof, Route, Session, SshError, SshErrorKind, Target, parse_public_key,
};

use super::Shared;
use crate::trust::{chain, denied};

const CONNECT: Duration = Duration::from_secs(10);

impl Shared {
    /// The session to a node; the one that is open, if it still is.
    pub(super) async fn session(&self, reach: &Reach) -> Result<Session, Failure> {
        let node = &reach.peer.name;
        if let Some(session) = self.sessions.lock().await.get(node).filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let route = self.route(reach)?;
        let booting = reach.existing.is_none();
        let session = Session::open(&route, CONNECT).await.map_err(|error| classify(&error, booting))?;
        self.sessions.lock().await.insert(node.clone(), session.clone());
        Ok(session)
    }

    fn route(&self, reach: &Reach) -> Result<Route, Failure> {
        let node = &reach.peer.name;
        if let Some(machine) = &reach.existing {
            return self.ssh.route(machine).map_err(|error| classify(&error, false));
        }
        let keyring = self.trust.keyring().map_err(|error| denied(&error))?;
        let key = keyring.ssh_key().map_err(|error| denied(&error))?;
        let auth = self.ssh.auth.clone().without_agent().with_files([]).with_key(key);
        let target = Target { address: reach.address.to_string(), port: 22, user: LOGIN_USER.to_owned() };
        Ok(Route::direct(target, auth, self.host_keys(node)?))
    }

    /// The host keys that the node proved when it joined; before that, those that it can prove with its token.
    fn host_keys(&self, node: &NodeName) -> Result<HostKeyPolicy, Failure> {
        let known = self.trust.enrolment(node).map_err(|error| denied(&error))?;
        let pinned = known.and_then(|known| known.key).map(|key| key.host_keys).unwrap_or_default();
        let pinned: Vec<_> = pinned.iter().filter_map(|line| parse_public_key(line).ok()).collect();
        if !pinned.is_empty() {
            return Ok(HostKeyPolicy::Pinned(pinned));
        }
        let token = self.trust.token(node).map_err(|error| denied(&error))?;
        Ok(HostKeyPolicy::Proven(Arc::new(Proof(token))))
    }
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
