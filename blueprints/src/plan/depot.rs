//! The depot: the installer fills the first masters that are heard; all other nodes fetch from those and from each other.

use std::collections::BTreeSet;

use super::Action;
use super::draft::Draft;
use super::nodes::{Standing, Standings};
use crate::manifest::Blob;
use crate::names::{Digest, Role};

pub(super) fn plan(draft: &mut Draft<'_>, standings: &Standings<'_>) {
    let wanted = wanted(draft);
    let held = held(standings);
    let masters = standings.iter().filter(|(_, s)| s.node.role == Role::Master && !s.set_aside);
    for (position, (name, standing)) in masters.filter(|(_, s)| s.heard.is_some()).enumerate() {
        // The first masters get everything; the others get it from them.
        if position >= draft.desired.limits.depot_seeds as usize {
            break;
        }
        let lacks = |blob: &&Blob| {
            let elsewhere = position > 0 && held.contains(&blob.digest);
            !elsewhere && !blobs_of(standing).any(|digest| *digest == blob.digest)
        };
        let blobs: Vec<Blob> = wanted.iter().filter(lacks).cloned().collect();
        if !blobs.is_empty() {
            let reason = format!("lacks {} of {} bundles", blobs.len(), wanted.len());
            draft.step(format!("fill {name}"), Action::Fill { node: (*name).clone(), blobs }, reason);
        }
    }
}

/// Every bundle, in boot order, the agent's own first: new nodes ask for it before anything else.
fn wanted(draft: &Draft<'_>) -> Vec<Blob> {
    let renderer = &draft.desired.renderer;
    let mut names: Vec<_> = renderer.names().collect();
    names.sort_by_key(|name| (renderer.wave(name), *name));
    let mut blobs = vec![draft.desired.agent.clone()];
    for blob in names.into_iter().filter_map(|name| renderer.bundle(name)) {
        if !blobs.contains(blob) {
            blobs.push(blob.clone());
        }
    }
    blobs
}

/// The blobs that some master which is heard holds.
pub(super) fn held<'a>(standings: &Standings<'a>) -> BTreeSet<&'a Digest> {
    let masters = |s: &&Standing<'a>| s.node.role == Role::Master;
    standings.values().filter(masters).flat_map(blobs_of).collect()
}

/// What a node says that it has, and what was put there since.
fn blobs_of<'a>(standing: &Standing<'a>) -> impl Iterator<Item = &'a Digest> + use<'a> {
    let filled = standing.heard.and(standing.seen).into_iter().flat_map(|seen| &seen.filled);
    standing.heard.into_iter().flat_map(|heard| &heard.status.blobs).chain(filled)
}
