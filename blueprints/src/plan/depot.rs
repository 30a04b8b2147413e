//! The depot: the installer fills the first masters that are heard; all other nodes fetch from those and from each other.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Action;
use super::draft::Draft;
use super::nodes::{Standing, Standings};
use crate::manifest::Blob;
use crate::names::{Digest, NodeName, Role};

/// Whether everything that is not in the depot may still come there in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depot {
    Hopeful,
    Stuck,
}

pub(super) fn plan(draft: &mut Draft<'_>, standings: &Standings<'_>) -> Depot {
    let wanted = wanted(draft);
    let masters = || standings.iter().filter(|(_, s)| s.node.role == Role::Master && !s.set_aside);
    let mut heard: Vec<_> = masters().filter_map(|(name, s)| Some((*name, s, s.heard?))).collect();
    let awaited = masters().count() > heard.len();
    let given_up: Vec<String> =
        heard.iter().map(|(name, ..)| step_id(name)).filter(|id| draft.has_given_up(id)).collect();
    // Whoever was filled so far is filled on: a master that comes later takes from it.
    heard.sort_by_key(|(name, standing, heard)| {
        let held: BTreeSet<&Digest> = blobs_of(standing).collect();
        let held = wanted.iter().filter(|blob| held.contains(&blob.digest)).count();
        (given_up.contains(&step_id(name)), Reverse(held), heard.status.started_at, *name)
    });
    let held = held(standings);
    let missing: Vec<Blob> = wanted.iter().filter(|blob| !held.contains(&blob.digest)).cloned().collect();
    if missing.is_empty() {
        return Depot::Hopeful;
    }
    let stuck = !awaited && given_up.len() == heard.len();
    for (name, ..) in heard.iter().take(draft.desired.limits.depot_seeds as usize) {
        let reason = format!("{} of {} bundles are in no depot", missing.len(), wanted.len());
        let action = Action::Fill { node: (*name).clone(), blobs: missing.clone() };
        draft.step(step_id(name), action, reason);
    }
    if stuck { Depot::Stuck } else { Depot::Hopeful }
}

fn step_id(node: &NodeName) -> String {
    format!("fill {node}")
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
