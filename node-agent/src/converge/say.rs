//! How the node says how it is: to whoever listens, and in `/run/castrum` for people on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use castrum_blueprints::manifest::Manifest;
use castrum_blueprints::names::{ComponentName, Digest, Timestamp};
use castrum_blueprints::node::{Decision, NodeFacts, Progress, UnitState};
use castrum_blueprints::stack::UNIT_CHECK;
use castrum_blueprints::status::{CheckResult, ComponentStatus, NodeStatus, Phase, Verdict};
use tokio::sync::watch;

use crate::act::files::{FileError, beside, make_dir};
use crate::act::systemd::{Systemd, UnitSnapshot};
use crate::checks::{Checks, wall_clock};
use crate::identity::Identity;
use crate::ledger::Ledger;
use crate::paths::Paths;

/// What else is looked at for a status.
type Sources<'a> = (&'a Ledger, &'a Systemd, &'a Checks);

/// Says how the node is.
#[derive(Debug)]
pub struct Speaker {
    paths: Paths,
    status: watch::Sender<NodeStatus>,
    since: BTreeMap<ComponentName, (Phase, Timestamp)>,
    problem: Option<String>,
    silent: bool,
}

/// What a node says before it has looked at anything: what the agent before this one said last, since the same boot.
pub fn first_status(identity: &Identity, paths: &Paths) -> NodeStatus {
    let fresh = empty_status(identity, paths);
    let last =
        fs::read(paths.status()).ok().and_then(|text| serde_json::from_slice::<NodeStatus>(&text).ok());
    let who = |status: &NodeStatus| (status.boot_id.clone(), status.cluster.clone(), status.node.clone());
    match last.filter(|last| who(last) == who(&fresh) && last.incarnation == fresh.incarnation) {
        Some(last) => NodeStatus {
            generation: last.generation,
            content: last.content,
            components: last.components,
            ..fresh
        },
        None => fresh,
    }
}

fn empty_status(identity: &Identity, paths: &Paths) -> NodeStatus {
    let now = wall_clock();
    let boot_id = fs::read_to_string(paths.at("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
    NodeStatus {
        format_version: 1,
        cluster: identity.cluster.clone(),
        node: identity.node.clone(),
        incarnation: identity.incarnation.to_string(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.trim().to_owned(),
        sequence: 0,
        started_at: now,
        at: now,
        generation: 0,
        content: None,
        components: BTreeMap::new(),
        blobs: BTreeSet::new(),
        problem: None,
    }
}

impl Speaker {
    /// Speaks through `status`.
    pub fn new(paths: Paths, status: watch::Sender<NodeStatus>) -> Self {
        let phases = status.borrow().components.clone().into_iter();
        let since = phases.map(|(name, component)| (name, (component.phase, component.since))).collect();
        Self { paths, status, since, problem: None, silent: false }
    }

    /// Whether an agent before this one had something to say.
    pub fn has_spoken(&self) -> bool {
        !self.status.borrow().components.is_empty()
    }

    /// Something keeps the node from converging.
    pub fn problem(&mut self, problem: String) {
        self.problem = Some(problem);
        self.publish(|_| {});
    }

    /// It does not any more.
    pub fn solved(&mut self) {
        self.problem = None;
    }

    /// There is nothing to converge to yet.
    pub fn waits_for_manifest(&mut self, blobs: BTreeSet<Digest>) {
        self.publish(|status| status.blobs = blobs);
    }

    /// Says how the node is, if that has changed.
    pub fn say(&mut self, manifest: &Manifest, facts: &NodeFacts, decision: &Decision, sources: Sources<'_>) {
        let (_, systemd, checks) = sources;
        let now = wall_clock();
        self.since.retain(|name, _| decision.phases.contains_key(name));
        let mut components = BTreeMap::new();
        for (name, progress) in &decision.phases {
            let since = self.since.entry(name.clone()).or_insert((progress.phase, now));
            if since.0 != progress.phase {
                tracing::info!(component = %name, from = %since.0, to = %progress.phase, note = progress.note, "phase");
                *since = (progress.phase, now);
            }
            let since = since.1;
            components.insert(name.clone(), component_status(manifest, name, (progress, since), sources));
        }
        self.silent = !systemd.is_connected();
        let content = manifest.content();
        self.publish(|status| {
            status.generation = manifest.generation;
            status.content = Some(content);
            status.components = components;
            status.blobs.clone_from(&facts.blobs);
        });
        let _: Result<(), FileError> = self.leave("history.json", &checks.history());
    }

    /// Makes the change known, if there is anything in it that listeners would not have guessed.
    fn publish(&mut self, change: impl FnOnce(&mut NodeStatus)) {
        let silent = self.silent.then(|| "the service manager does not answer".to_owned());
        let problem = self.problem.clone().or(silent);
        let news = self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            status.problem = problem;
            status.at = wall_clock();
            status.sequence += 1;
            without_times(before) != without_times(status.clone())
        });
        if news {
            let status = self.status.borrow().clone();
            if let Err(error) = self.leave("status.json", &status) {
                tracing::debug!(error = crate::api::chain(&error), "cannot leave the status for people");
            }
        }
    }

    fn leave(&self, name: &str, what: &impl serde::Serialize) -> Result<(), FileError> {
        let path = self.paths.status().with_file_name(name);
        let text = serde_json::to_vec(what).unwrap_or_default();
        if fs::read(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        make_dir(path.parent().unwrap_or(&path))?;
        // It is in memory only (/run), so it need not survive anything; it must only be whole for who reads it.
        let temporary = beside(&path);
        fs::write(&temporary, text).map_err(FileError::of("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(FileError::of("replace", &path))
    }
}

/// A status without what changes even when nothing does.
fn without_times(mut status: NodeStatus) -> NodeStatus {
    status.at = Timestamp(0);
    status.sequence = 0;
    for component in status.components.values_mut() {
        for check in component.checks.values_mut() {
            check.at = Timestamp(0);
        }
    }
    status
}

fn component_status(
    manifest: &Manifest,
    name: &ComponentName,
    (progress, since): (&Progress, Timestamp),
    (ledger, systemd, checks): Sources<'_>,
) -> ComponentStatus {
    let component = manifest.components.iter().find(|c| c.name == *name);
    let entry = ledger.components.get(name);
    let unit = systemd.snapshot(name);
    let mut results = checks.results(name);
    let has_unit = component.map_or(unit.invocation.is_some(), |c| c.unit.is_some());
    if has_unit && entry.is_some() {
        results.insert(UNIT_CHECK.to_owned(), unit_check(&unit));
    }
    let left = || entry.and_then(|entry| entry.applied.clone()).unwrap_or_else(|| Digest::of(b""));
    ComponentStatus {
        applied: component.map_or_else(left, |component| component.digest()),
        phase: progress.phase,
        since,
        note: progress.note.clone(),
        checks: results,
        restarts: unit.restarts,
    }
}

/// The check that every component with a unit has: the unit is active.
fn unit_check(unit: &UnitSnapshot) -> CheckResult {
    let verdict = match unit.state {
        UnitState::Active => Verdict::Ok,
        UnitState::Inactive | UnitState::Failed => Verdict::Critical,
        UnitState::Activating | UnitState::Deactivating | UnitState::Unknown => Verdict::Unknown,
    };
    CheckResult { verdict, since: unit.since, at: wall_clock(), seen: unit.words.clone() }
}
