//! The depot: the installer fills the first masters that are heard; all other nodes fetch from those and from each other.

use std::collections::BTreeSet;

use super::Action;
use super::draft::Draft;
use super::nodes::{Standing, Standings};
use crate::manifest::Blob;
use crate::names::{Digest, Role};

pub(super) fn plan(draft: &mut Draft<'_>, standings: &Standings<'_>) {
    let wanted = wanted(draft);
    let masters = || standings.iter().filter(|(_, s)| s.node.role == Role::Master && !s.set_aside);
    let heard: Vec<_> = masters().filter_map(|(name, s)| Some((*name, s.heard?))).collect();
    let held: BTreeSet<&Digest> = heard.iter().flat_map(|(_, heard)| &heard.status.blobs).collect();
    for (position, (name, heard)) in heard.iter().enumerate() {
        // The first masters get everything; the others get it from them.
        if position >= draft.desired.limits.depot_seeds as usize {
            break;
        }
        let lacks = |blob: &&Blob| {
            let elsewhere = position > 0 && held.contains(&blob.digest);
            !heard.status.blobs.contains(&blob.digest) && !elsewhere
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
    standings.values().filter(masters).filter_map(|s| s.heard).flat_map(|heard| &heard.status.blobs).collect()
}
