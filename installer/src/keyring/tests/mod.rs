//! What the keyring must do, and all that it must refuse.

mod canary;
mod certificates;
mod enrolment;
mod host_keys;
mod processes;
mod resting;

use std::collections::BTreeSet;

use castrum_blueprints::names::{ClusterId, NodeName, Role};
use castrum_blueprints::trust::{JoinRequest, JoinStatement, JoinToken, Nonce};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;

use super::*;

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHvH";

fn rng() -> SystemRandom {
    SystemRandom::new()
}

fn cluster() -> ClusterId {
    "0123456789ab".parse().expect("an id")
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn keyring() -> Keyring {
    Keyring::generate(cluster(), NOW, &rng()).expect("a keyring")
}

fn identity(node: &str) -> NodeIdentity {
    let addresses = vec!["10.1.2.3".parse().expect("an address")];
    NodeIdentity { node: name(node), role: Role::Master, addresses }
}

/// A node's own key pair, and the certificate signing request that it sends.
struct Applicant {
    key: KeyPair,
}

impl Applicant {
    fn new() -> Self {
        Self { key: KeyPair::generate().expect("a key") }
    }

    fn csr(&self) -> Vec<u8> {
        self.csr_for(&CertificateParams::default())
    }

    fn csr_for(&self, params: &CertificateParams) -> Vec<u8> {
        params.serialize_request(&self.key).expect("a request").der().to_vec()
    }

    fn statement(&self, node: &str, incarnation: u64) -> JoinStatement {
        JoinStatement {
            node: name(node),
            incarnation,
            csr: self.csr(),
            host_keys: BTreeSet::from([HOST_KEY.to_owned()]),
            nonce: Nonce::from_bytes([3; 32]),
        }
    }

    fn request(&self, node: &str, token: &JoinToken) -> JoinRequest {
        self.statement(node, 1).prove(token)
    }
}
