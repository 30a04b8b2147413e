//! Deciding about nodes that ask to join through a master.

use std::sync::Arc;

use castrum_blueprints::names::{Digest, NodeName};
use castrum_blueprints::trust::JoinRequest;
use castrum_blueprints::wire::{JoinAnswer, JoinDecision};
use castrum_provider::News;

use super::Shared;
use crate::keyring::EnrolError;
use crate::trust::chain;

/// Decides about each request. A node whose keyring entry cannot be read just now is left to ask again.
pub(super) async fn decide(shared: &Arc<Shared>, requests: Vec<JoinRequest>) -> Vec<JoinDecision> {
    let mut decisions = Vec::new();
    for request in requests {
        let node = request.statement.node.clone();
        let csr = Digest::of(&request.statement.csr);
        let answer = {
            let shared = Arc::clone(shared);
            tokio::task::spawn_blocking(move || admit(&shared, &request)).await
        };
        let Ok(Some(answer)) = answer else { continue };
        let news = match &answer {
            JoinAnswer::Refused { reason } => News::Refused(node.clone(), reason.clone()),
            JoinAnswer::Admitted { .. } | JoinAnswer::Pending => News::Admitted(node.clone()),
        };
        let _ = shared.tell.send(news);
        decisions.push(JoinDecision { node, csr, answer });
    }
    decisions
}

fn admit(shared: &Shared, request: &JoinRequest) -> Option<JoinAnswer> {
    let node: &NodeName = &request.statement.node;
    let refuse = |reason: String| Some(JoinAnswer::Refused { reason });
    // Where its machine is, the places told; until they have, the node asks again.
    let reach = shared.reach_of(node)?;
    match shared.trust.admit(request, reach.role, reach.peer.address) {
        Ok(certificate) => Some(JoinAnswer::Admitted { certificate }),
        Err(EnrolError::Keyring(error)) => {
            tracing::warn!(%node, error = chain(&error), "the keyring cannot be used");
            None
        }
        // The one who made the machine may be at work beside us, and knows it: a refusal would cost the node its pause.
        Err(error @ EnrolError::Unknown(_)) => {
            tracing::warn!(%node, error = chain(&error), "it asks to join, and is left to whoever made it");
            None
        }
        Err(error) => refuse(chain(&error)),
    }
}
