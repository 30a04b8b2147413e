//! Admitting a node anew over SSH, after the keyring that it joined with was lost.
//!
//! ```text
//! agent other? upload ──▶ folder of its own: boot.json, token ──▶ prepare, admit, accept ──▶ login key ──▶ stop, anew, start
//! ```
//!
//! Until the last of these the node goes on with what it has. The last is one command, so that it is done also when the
//! connection breaks in it. The agent's own manifest, and on masters those of others, are signed anew byte for byte:
//! only what a node itself told over its own session is signed for it.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use castrum_blueprints::boot::{AGENT_FILE, ANEW_DIR, BOOT_FILE, Handover, LOGIN_USER, TOKEN_FILE};
use castrum_blueprints::manifest::SignedManifest;
use castrum_blueprints::names::{NodeName, Role};
use castrum_provider::{Enrollment, Failure, FailureClass};

use super::Shared;
use super::enroll::{COMMAND, Node};
use crate::trust::{Boot, denied};

/// What a node held when it was asked, and under which incarnation it joined.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which machine of its name it is.
    pub incarnation: u64,
    /// The manifest that it holds.
    pub manifest: Option<SignedManifest>,
}

pub(super) async fn readmit(shared: &Shared, enrollment: &Enrollment) -> Result<(), Failure> {
    let all = shared.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let name = &enrollment.reach.peer.name;
    let held = all
        .get(name)
        .ok_or_else(|| Failure::new(FailureClass::Invalid, format!("it is not known what {name} holds")))?;
    let session = shared.session(&enrollment.reach).await?;
    let node = Node { shared, enrollment, session };
    if node.survey().await?.agent != enrollment.agent.digest.as_str() {
        node.upload_agent().await?;
    }
    stage(&node, held.incarnation).await?;
    node.admit(&format!("--root {ANEW_DIR} ")).await?;
    if enrollment.reach.existing.is_none() {
        let_in(&node).await?;
    }
    change_over(&node, handover(&node, held, &all)?).await
}

/// Lays down what the new identity is made from, as if in a machine of its own.
async fn stage(node: &Node<'_>, incarnation: u64) -> Result<(), Failure> {
    let Enrollment { reach, masters, agent } = node.enrollment;
    let (trust, name) = (&node.shared.trust, &reach.peer.name);
    let (token, enrolment) = trust.offer_anew(name, incarnation).map_err(|error| denied(&error))?;
    let boot = trust.boot_config(Boot {
        cluster: &node.shared.cluster,
        node: name,
        role: reach.role,
        enrolment: &enrolment,
        masters: masters.clone(),
        agent: &agent.digest,
    });
    // The request names the machine's host keys, which are found through this link.
    node.root(&format!("mkdir -p {ANEW_DIR} && ln -sfn /etc {ANEW_DIR}/etc"), "", COMMAND).await?;
    node.write_file(&format!("{ANEW_DIR}{TOKEN_FILE}"), 600, token.expose().as_str()).await?;
    node.write_file(&format!("{ANEW_DIR}{BOOT_FILE}"), 600, &boot.to_text()).await
}

/// Lets the new keyring log in, and the one that was lost no more.
async fn let_in(node: &Node<'_>) -> Result<(), Failure> {
    let script = format!(
        "set -e; umask 077; home=$(getent passwd {LOGIN_USER} | cut -d: -f6); keys=$home/.ssh/authorized_keys; \
         mkdir -p $home/.ssh; touch $keys; {{ grep -v ' castrum-{}$' $keys || true; cat; }} > $keys.new; \
         chown -R {LOGIN_USER}: $home/.ssh; mv -f $keys.new $keys",
        node.shared.cluster
    );
    node.root(&script, format!("{}\n", node.shared.trust.ssh_public()), COMMAND).await.map(drop)
}

fn handover(node: &Node<'_>, held: &Held, all: &BTreeMap<NodeName, Held>) -> Result<Handover, Failure> {
    let sign = |manifests: Vec<SignedManifest>| {
        node.shared.trust.sign_anew(&manifests).map_err(|error| denied(&error))
    };
    let relayed = match node.enrollment.reach.role {
        Role::Master => all.values().filter_map(|held| held.manifest.clone()).collect(),
        Role::Agent | Role::PublicAgent => Vec::new(),
    };
    Ok(Handover { held: sign(held.manifest.iter().cloned().collect())?.pop(), relayed: sign(relayed)? })
}

async fn change_over(node: &Node<'_>, handover: Handover) -> Result<(), Failure> {
    let text = serde_json::to_string(&handover).map_err(|error| {
        Failure::new(FailureClass::Invalid, format!("the handover cannot be written: {error}"))
    })?;
    // All of it is read before the agent is stopped, and the agent is started whatever came of it.
    let script = format!(
        "umask 077; cat > {ANEW_DIR}/handover && systemctl stop castrum-agent.service && \
         {{ {AGENT_FILE} join anew < {ANEW_DIR}/handover; done=$?; systemctl start --no-block castrum-agent.service; exit $done; }}"
    );
    node.root(&script, text, COMMAND).await.map(drop)
}
