//! The decision itself: one pass over the manifest in boot order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::facts::{
    Action, HeldFacts, NodeFacts, UnitState, backoff, config_name, desired_set, set_digest, set_name,
    store_name, units_digest,
};
use crate::manifest::{ComponentManifest, Manifest};
use crate::names::{ComponentName, Digest, Role, Timestamp};
use crate::status::{Phase, Verdict};

/// How long a process that ended before must run until it is believed, in milliseconds.
const WATCHED: u64 = 3000;
/// The same for one that nothing but its running speaks for.
const UNCHECKED: u64 = 1000;

/// What is due on a node, and how far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Decision {
    /// What is due now. The actions do not depend on each other.
    pub actions: Vec<Action>,
    /// How far each component is; also those that are on their way out.
    pub phases: BTreeMap<ComponentName, Progress>,
    /// When to decide again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// How far one component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// What is awaited or wrong, in a line.
    pub note: Option<String>,
}

/// Decides what `manifest` takes on a node that looks like `facts`.
pub fn decide(manifest: &Manifest, facts: &NodeFacts, now: Timestamp) -> Decision {
    let mut round = Round { manifest, facts, now, decision: Decision::default() };
    let unprepared: BTreeSet<&ComponentName> =
        manifest.components.iter().filter(|c| !round.prepare(c)).map(|c| &c.name).collect();
    let retired = round.retire(unprepared.is_empty());
    let current = unprepared.is_empty() && retired && round.activate();
    for component in &manifest.components {
        if !unprepared.contains(&component.name) {
            round.run(component, current, &unprepared);
        }
    }
    if current && round.decision.actions.is_empty() && round.all_run() {
        round.collect();
    }
    round.decision
}

struct Round<'a> {
    manifest: &'a Manifest,
    facts: &'a NodeFacts,
    now: Timestamp,
    decision: Decision,
}

impl Round<'_> {
    /// Lays down everything that the component needs before it can be switched to. True if all of it is there.
    fn prepare(&mut self, component: &ComponentManifest) -> bool {
        let mut due = Vec::new();
        let mut phase = Phase::Preparing;
        let name = component.name.clone();
        if let Some(blob) = &component.bundle
            && !self.facts.stores.contains(&store_name(&name, blob))
        {
            phase = Phase::Fetching;
            let (component, blob) = (name.clone(), blob.clone());
            due.push(if self.facts.blobs.contains(&blob.digest) {
                Action::Unpack { component, blob }
            } else {
                Action::Fetch { component, blob }
            });
        }
        if let Some(tree) = config_name(component)
            && !self.facts.configs.contains(&tree)
        {
            due.push(Action::Configure { component: name.clone(), tree });
        }
        match &component.account {
            Some(account) if !self.facts.accounts.contains(account) => {
                due.push(Action::Account { component: name.clone(), account: account.clone() });
            }
            // Folders wait for the account, which may own them.
            _ => due.extend(self.missing_folders(component)),
        }
        if due.is_empty() {
            return true;
        }
        let note = due.iter().find_map(|action| self.error_of(action));
        for action in due {
            self.want(action);
        }
        self.say(&name, phase, note);
        false
    }

    fn missing_folders(&self, component: &ComponentManifest) -> Vec<Action> {
        let missing = component.folders.iter().filter(|f| !self.facts.folders.contains(&f.path));
        missing.map(|f| Action::Folder { component: component.name.clone(), path: f.path.clone() }).collect()
    }

    /// Stops what the manifest does not name any more, last wave first. True if nothing of that is left.
    fn retire(&mut self, prepared: bool) -> bool {
        let wanted: BTreeSet<&ComponentName> = self.manifest.components.iter().map(|c| &c.name).collect();
        let facts = self.facts;
        let leaving: Vec<_> = facts.components.iter().filter(|(name, _)| !wanted.contains(name)).collect();
        let Some(last_wave) = leaving.iter().map(|(_, held)| held.wave).max() else { return true };
        for (name, held) in leaving {
            let turn = prepared && held.wave == last_wave;
            let note = if turn { "it is being stopped" } else { "it is to be stopped" };
            self.say(name, Phase::Waiting, Some(note.to_owned()));
            if turn {
                self.retire_one(name, held.unit.state);
            }
        }
        false
    }

    fn retire_one(&mut self, name: &ComponentName, state: UnitState) {
        let component = name.clone();
        match state {
            UnitState::Inactive | UnitState::Failed => self.want(Action::Forget { component }),
            UnitState::Active | UnitState::Activating => self.want(Action::Stop { component }),
            UnitState::Deactivating | UnitState::Unknown => {}
        }
    }

    /// Switches to the manifest's set and lets the service manager read it. True if both is so.
    fn activate(&mut self) -> bool {
        let digest = set_digest(self.manifest);
        let is_it = |set: &String| set.rsplit('-').next() == Some(digest.short());
        let units = self.manifest.components.iter().filter(|c| c.unit.is_some());
        let linked = units.clone().all(|c| self.facts.linked.contains(&c.name));
        let held = self.manifest.components.iter().all(|c| self.facts.components.contains_key(&c.name));
        if !(self.facts.active.as_ref().is_some_and(is_it) && linked && held) {
            let existing = self.facts.sets.keys().find(|set| is_it(set)).cloned();
            self.want(Action::Activate { set: existing.unwrap_or_else(|| set_name(self.manifest)) });
            return false;
        }
        let units = units_digest(self.manifest);
        if self.facts.units_loaded.as_ref() == Some(&units) {
            return true;
        }
        self.want(Action::Reload { units });
        false
    }

    /// Starts what shall run, makes it a member, and tells how far it is.
    fn run(&mut self, component: &ComponentManifest, current: bool, unprepared: &BTreeSet<&ComponentName>) {
        let unheld = HeldFacts::default();
        let held = self.facts.components.get(&component.name).unwrap_or(&unheld);
        if runs(component, held) {
            return self.settle(component, held, current);
        }
        let name = &component.name;
        if !current {
            let note = match unprepared.first() {
                Some(other) => format!("its files are ready; waits for those of `{other}`"),
                None => "waits for the switch to its set".to_owned(),
            };
            let note = self.switch_error().unwrap_or(note);
            return self.say(name, Phase::Waiting, Some(note));
        }
        if component.unit.is_none() {
            return self.without_unit(component, held);
        }
        let process = component.process_digest();
        let ours = held.unit.started_with.as_ref() == Some(&process);
        match held.unit.state {
            UnitState::Unknown => {
                self.say(name, Phase::Starting, Some("the service manager does not answer".to_owned()));
            }
            UnitState::Deactivating => {
                self.say(name, Phase::Starting, Some("its old process is ending".to_owned()));
            }
            UnitState::Activating if ours => self.say_starting(component, held, &process),
            UnitState::Activating | UnitState::Active => {
                let action = Action::Restart { component: name.clone(), process: process.clone() };
                self.start(component, held, action);
            }
            UnitState::Inactive | UnitState::Failed => {
                let action = Action::Start { component: name.clone(), process: process.clone() };
                self.start(component, held, action);
            }
        }
    }

    /// A component without a process of its own needs those that it requires: healthy at first, running ever after.
    fn without_unit(&mut self, component: &ComponentManifest, held: &HeldFacts) {
        if matches!(held.unit.state, UnitState::Active | UnitState::Activating) {
            // It may lose its unit from one manifest to the next; its old process ends then.
            self.want(Action::Stop { component: component.name.clone() });
            let note = Some("its old process is being stopped".to_owned());
            return self.say(&component.name, Phase::Starting, note);
        }
        let was_well = held.settled.as_ref() == Some(&component.process_digest());
        let awaited = self
            .awaited(component, |other| if was_well { self.stands(other) } else { self.is_healthy(other) });
        match awaited {
            Some(note) => self.say(&component.name, Phase::Waiting, Some(note)),
            None => self.settle(component, held, true),
        }
    }

    fn say_starting(&mut self, component: &ComponentManifest, held: &HeldFacts, process: &Digest) {
        let again = held.unit.restarts > 0;
        let was_well = held.settled.as_ref() == Some(process);
        let phase = if again && was_well { Phase::Failing } else { Phase::Starting };
        let note = if again { restarted(held.unit.restarts) } else { "it is not ready yet".to_owned() };
        self.say(&component.name, phase, Some(note));
    }

    fn start(&mut self, component: &ComponentManifest, held: &HeldFacts, action: Action) {
        if let Some(note) = self.awaited(component, |other| self.is_healthy(other)) {
            return self.say(&component.name, Phase::Waiting, Some(note));
        }
        let failed = held.unit.state == UnitState::Failed;
        let tried = self.facts.attempts.iter().any(|attempt| attempt.action == action);
        let was_well = held.settled.is_some() && held.settled == held.unit.started_with;
        let broken = failed || (held.unit.state == UnitState::Inactive && was_well && tried);
        let phase = if broken { Phase::Failing } else { Phase::Starting };
        let note = self.error_of(&action).or_else(|| failed.then(|| "its unit failed".to_owned()));
        self.want(action);
        self.say(&component.name, phase, note);
    }

    /// The first of what the component requires on this node that is not well enough, in words.
    fn awaited(
        &self,
        component: &ComponentManifest,
        enough: impl Fn(&ComponentManifest) -> bool,
    ) -> Option<String> {
        component.requires.iter().find_map(|required| {
            let Some(other) = self.manifest.components.iter().find(|c| c.name == *required) else {
                return Some(format!("waits for `{required}`, which this node does not carry"));
            };
            if enough(other) {
                return None;
            }
            Some(match self.decision.phases.get(required) {
                Some(Progress { phase, note: Some(note) }) => {
                    format!("waits for `{required}`: {phase}: {note}")
                }
                Some(Progress { phase, note: None }) => format!("waits for `{required}`: {phase}"),
                None => format!("waits for `{required}`"),
            })
        })
    }

    /// Whether this round has found the component healthy; what is required comes before what requires it.
    fn is_healthy(&self, component: &ComponentManifest) -> bool {
        self.decision.phases.get(&component.name).is_some_and(|progress| progress.phase == Phase::Healthy)
    }

    /// Whether the component is there, whatever its checks say.
    fn stands(&self, component: &ComponentManifest) -> bool {
        let held = self.facts.components.get(&component.name);
        held.is_some_and(|held| component.unit.is_none() || runs(component, held))
    }

    fn settle(&mut self, component: &ComponentManifest, held: &HeldFacts, current: bool) {
        let name = &component.name;
        if component.membership.is_some() && !held.member {
            let action = Action::Join { component: name.clone() };
            let note = self.error_of(&action);
            if current {
                self.want(action);
            }
            return self.say(name, Phase::Joining, note);
        }
        let was_well = held.settled.as_ref() == Some(&component.process_digest());
        let Some(note) = unmet(component, held) else { return self.watch(component, held, was_well) };
        // A check that was not run yet is no sign that something broke.
        let broken = component
            .checks
            .iter()
            .any(|check| held.checks.get(&check.name).is_some_and(|result| result.verdict != Verdict::Ok));
        let phase = if was_well && broken { Phase::Failing } else { Phase::Settling };
        self.say(name, phase, Some(note));
    }

    /// Lets some time pass before a process that comes and goes is called healthy.
    fn watch(&mut self, component: &ComponentManifest, held: &HeldFacts, was_well: bool) {
        let steady = steady_at(component, held);
        if steady <= self.now {
            return self.say(&component.name, Phase::Healthy, None);
        }
        self.wake(steady);
        let restarts = held.unit.restarts;
        let phase = if was_well && restarts > 0 { Phase::Failing } else { Phase::Settling };
        let note = match restarts {
            0 => "it has only just started".to_owned(),
            times => restarted(times),
        };
        self.say(&component.name, phase, Some(note));
    }

    /// Whether no process reads an older set any more.
    fn all_run(&self) -> bool {
        self.manifest.components.iter().all(|component| {
            component.unit.is_none()
                || self.facts.components.get(&component.name).is_some_and(|held| runs(component, held))
        })
    }

    /// Removes what neither the active set nor the one before refers to.
    fn collect(&mut self) {
        let facts = self.facts;
        let generation = |set: &String| set.split('-').next().and_then(|text| text.parse::<u64>().ok());
        let others = facts.sets.keys().filter(|set| Some(*set) != facts.active.as_ref());
        let before = others.max_by_key(|set| generation(set));
        let kept: BTreeSet<&String> = facts.active.iter().chain(before).collect();
        let mut wanted = desired_set(self.manifest);
        for set in kept.iter().filter_map(|set| facts.sets.get(*set)) {
            wanted.stores.extend(set.stores.iter().cloned());
            wanted.configs.extend(set.configs.iter().cloned());
        }
        let stores: BTreeSet<_> = facts.stores.difference(&wanted.stores).cloned().collect();
        let configs: BTreeSet<_> = facts.configs.difference(&wanted.configs).cloned().collect();
        let sets: BTreeSet<_> = facts.sets.keys().filter(|set| !kept.contains(set)).cloned().collect();
        let blobs = self.unwanted_blobs();
        if !(stores.is_empty() && configs.is_empty() && sets.is_empty() && blobs.is_empty()) {
            self.want(Action::Collect { stores, configs, sets, blobs });
        }
    }

    /// Masters keep every blob: they serve nodes whose manifests they do not know of.
    fn unwanted_blobs(&self) -> BTreeSet<Digest> {
        if self.manifest.role == Role::Master {
            return BTreeSet::new();
        }
        let bundles = self.manifest.components.iter().filter_map(|c| c.bundle.as_ref());
        let wanted: BTreeSet<&Digest> = bundles.map(|b| &b.digest).chain(&self.facts.pinned).collect();
        self.facts.blobs.iter().filter(|blob| !wanted.contains(blob)).cloned().collect()
    }

    /// Makes `action` due, or says when it is due again.
    fn want(&mut self, action: Action) {
        let attempt = self.facts.attempts.iter().find(|attempt| attempt.action == action);
        let due = attempt.map(|attempt| attempt.last.plus(backoff(&action, attempt.count)));
        match due.filter(|due| *due > self.now) {
            Some(due) => self.wake(due),
            None => self.decision.actions.push(action),
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.decision.wake_at = Some(self.decision.wake_at.map_or(at, |wake| wake.min(at)));
    }

    fn error_of(&self, action: &Action) -> Option<String> {
        self.facts.attempts.iter().find(|attempt| attempt.action == *action)?.error.clone()
    }

    fn switch_error(&self) -> Option<String> {
        let node_wide = |action: &Action| matches!(action, Action::Activate { .. } | Action::Reload { .. });
        self.facts.attempts.iter().filter(|a| node_wide(&a.action)).find_map(|a| a.error.clone())
    }

    fn say(&mut self, component: &ComponentName, phase: Phase, note: Option<String>) {
        self.decision.phases.insert(component.clone(), Progress { phase, note });
    }
}

/// Whether the component's process runs and reads what it shall.
pub fn runs(component: &ComponentManifest, held: &HeldFacts) -> bool {
    component.unit.is_some()
        && held.unit.state == UnitState::Active
        && held.unit.started_with.as_ref() == Some(&component.process_digest())
}

fn restarted(times: u32) -> String {
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    format!("its process ended, and was restarted {times}")
}

/// The first check that is not ok, in words.
fn unmet(component: &ComponentManifest, held: &HeldFacts) -> Option<String> {
    component.checks.iter().find_map(|check| match held.checks.get(&check.name) {
        Some(result) if result.verdict == Verdict::Ok => None,
        Some(result) => Some(format!("check `{}` is {}: {}", check.name, result.verdict, result.seen)),
        None => Some(format!("check `{}` has not been run yet", check.name)),
    })
}

/// From when on the component's process is believed to stay.
fn steady_at(component: &ComponentManifest, held: &HeldFacts) -> Timestamp {
    if component.unit.is_none() {
        return Timestamp(0);
    }
    let watched = match held.unit.restarts {
        0 if !component.checks.is_empty() => return Timestamp(0),
        0 => UNCHECKED,
        _ => WATCHED,
    };
    held.unit.since.plus(watched)
}
