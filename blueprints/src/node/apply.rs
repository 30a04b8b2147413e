//! What an action makes of a node when it succeeds: the other half of the simulator's nodes, and of the tests' proof
//! that decisions converge.

use super::facts::{Action, NodeFacts, SetFacts, UnitState, desired_set, store_name};
use crate::manifest::Manifest;
use crate::names::{ComponentName, Digest};

/// Changes `facts` as `action` does when it succeeds. Check results are not its business: a started process has none.
pub fn apply(manifest: &Manifest, facts: &mut NodeFacts, action: &Action) {
    match action {
        Action::Fetch { blob, .. } => {
            facts.blobs.insert(blob.digest.clone());
        }
        Action::Unpack { component, blob } => {
            facts.stores.insert(store_name(component, blob));
        }
        Action::Account { account, .. } => {
            facts.accounts.insert(account.clone());
        }
        Action::Folder { path, .. } => {
            facts.folders.insert(path.clone());
        }
        Action::Configure { tree, .. } => {
            facts.configs.insert(tree.clone());
        }
        Action::Activate { set } => activate(manifest, facts, set),
        Action::Reload { units } => facts.units_loaded = Some(units.clone()),
        Action::Start { component, process } | Action::Restart { component, process } => {
            started(facts, component, process);
        }
        Action::Stop { component } => {
            if let Some(held) = facts.components.get_mut(component) {
                held.unit.state = UnitState::Inactive;
            }
        }
        Action::Forget { component } => {
            facts.components.remove(component);
            facts.linked.remove(component);
        }
        Action::Join { component } => {
            if let Some(held) = facts.components.get_mut(component) {
                held.member = true;
            }
        }
        Action::Collect { stores, configs, sets, blobs } => {
            facts.stores.retain(|name| !stores.contains(name));
            facts.configs.retain(|name| !configs.contains(name));
            facts.sets.retain(|name, _| !sets.contains(name));
            facts.blobs.retain(|digest| !blobs.contains(digest));
        }
    }
}

fn activate(manifest: &Manifest, facts: &mut NodeFacts, set: &str) {
    let target: SetFacts = desired_set(manifest);
    facts.sets.insert(set.to_owned(), target);
    facts.active = Some(set.to_owned());
    for component in &manifest.components {
        if component.unit.is_some() {
            facts.linked.insert(component.name.clone());
        }
        let held = facts.components.entry(component.name.clone()).or_default();
        held.wave = component.wave;
    }
}

fn started(facts: &mut NodeFacts, component: &ComponentName, process: &Digest) {
    let held = facts.components.entry(component.clone()).or_default();
    held.unit.state = UnitState::Active;
    held.unit.restarts = 0;
    held.unit.started_with = Some(process.clone());
    held.checks.clear();
}
