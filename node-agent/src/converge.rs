//! The loop: whatever happened, look, decide, act, and say how it is.
//!
//! ```text
//! newer manifest · unit changed · check found · action ended · time to try again
//!        │
//!        ▼
//!     look ──▶ decide (pure) ──▶ remember ──▶ begin actions ──▶ sync checks ──▶ say
//! ```
//! Actions run beside the loop and tell it when they ended. Two of them never touch the same process at once, and
//! nothing runs beside the switch's clean-up.

mod peers;
mod say;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use castrum_blueprints::manifest::{Manifest, SignedManifest};
use castrum_blueprints::names::{Digest, Role, Timestamp};
use castrum_blueprints::node::{
    Action, Attempt, Decision, HeldFacts, NodeFacts, UnitFacts, UnitState, decide, runs,
};
use castrum_blueprints::status::{NodeStatus, Phase};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};

use crate::act::Actor;
use crate::act::files::FileError;
use crate::act::probe::probe;
use crate::api::chain;
use crate::checks::{Checks, Due};
use crate::ledger::{Book, Entry, Intent, LedgerError};

pub use peers::Facts;
pub use say::{Speaker, first_status};

/// How long an action that did its work is kept from being done again, if it should still be asked for.
const FORGET_SUCCESS: u64 = 60_000;

/// How long an agent that came back may take until it has seen everything again, in milliseconds.
const BLIND: u64 = 5000;

/// Why one look at the node led to nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("look at the node")]
    Look(#[from] FileError),
    #[error("write down what happened")]
    Ledger(#[from] LedgerError),
}

type Ended = (Action, Result<(), String>);

/// The node's own loop.
#[derive(Debug)]
pub struct Converger {
    actor: Arc<Actor>,
    book: Book,
    checks: Checks,
    speaker: Speaker,
    accepted: watch::Sender<Option<Arc<Manifest>>>,
    in_flight: BTreeSet<Action>,
    attempts: BTreeMap<Action, Attempt>,
    ended: mpsc::UnboundedReceiver<Ended>,
    tell: mpsc::UnboundedSender<Ended>,
    started: Timestamp,
    wake_at: Option<Timestamp>,
    collected: u64,
    comes_back: bool,
}

impl Converger {
    /// A loop that goes on from what `book` remembers. Accepted manifests are shown through `accepted`.
    pub fn new(
        actor: Arc<Actor>,
        book: Book,
        status: watch::Sender<NodeStatus>,
        accepted: watch::Sender<Option<Arc<Manifest>>>,
    ) -> Self {
        let (tell, ended) = mpsc::unbounded_channel();
        let checks = Checks::new(Arc::clone(&actor.tls.components));
        let speaker = Speaker::new(actor.paths.clone(), status);
        let mut converger = Self {
            actor,
            book,
            checks,
            speaker,
            accepted,
            in_flight: BTreeSet::new(),
            attempts: BTreeMap::new(),
            ended,
            tell,
            started: monotonic(),
            wake_at: None,
            collected: 0,
            comes_back: false,
        };
        converger.comes_back = converger.speaker.has_spoken();
        converger.adopt();
        converger
    }

    /// Converges until `stop` ends. What runs on the node goes on then.
    pub async fn run(
        mut self,
        mut manifests: watch::Receiver<Option<SignedManifest>>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        let systemd = self.actor.systemd.clone();
        loop {
            self.round();
            let wake = instant(self.wake_at);
            tokio::select! {
                () = &mut stop => return,
                Ok(()) = manifests.changed() => {
                    let offered = manifests.borrow_and_update().clone();
                    self.offered(offered);
                }
                () = systemd.changed() => {}
                Some(ended) = self.ended.recv() => self.ended(ended),
                found = self.checks.found() => self.checks.note(found),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            while let Ok(ended) = self.ended.try_recv() {
                self.ended(ended);
            }
        }
    }

    fn offered(&mut self, offered: Option<SignedManifest>) {
        let Some(signed) = offered else { return };
        let generation = signed.generation;
        match self.book.accept(signed, &self.actor.context.identity) {
            Ok(true) => {
                tracing::info!(generation, "accepted a manifest");
                self.attempts.clear();
                self.speaker.solved();
                self.adopt();
            }
            Ok(false) => {}
            Err(refusal) => {
                tracing::error!(generation, refusal = chain(&refusal), "refused a manifest");
                self.speaker.problem(chain(&refusal));
            }
        }
    }

    /// Lets everybody know the accepted manifest.
    fn adopt(&mut self) {
        let Some(manifest) = self.book.manifest() else { return };
        self.actor.context.set_masters(&manifest.masters);
        self.accepted.send_replace(Some(Arc::clone(manifest)));
        let carried = self.book.ledger().components.keys();
        let wanted = manifest.components.iter().map(|c| &c.name);
        self.actor.systemd.watch(carried.chain(wanted).cloned().collect());
    }

    fn round(&mut self) {
        let now = monotonic();
        self.attempts.retain(|action, attempt| {
            action.starts() || attempt.error.is_some() || now.since(attempt.last) < FORGET_SUCCESS
        });
        let Some(manifest) = self.book.manifest().cloned() else {
            return self.speaker.waits_for_manifest(self.actor.context.depot.held());
        };
        if let Err(error) = self.converge(&manifest, now) {
            tracing::error!(error = chain(&error), "cannot converge");
            self.speaker.problem(chain(&error));
            self.wake_at = Some(now.plus(5000));
        }
    }

    fn converge(&mut self, manifest: &Arc<Manifest>, now: Timestamp) -> Result<(), RoundError> {
        self.resolve_intents()?;
        let facts = self.look(manifest)?;
        let decision = decide(manifest, &facts, now);
        self.remember(manifest, &decision)?;
        self.wake_at = decision.wake_at;
        for action in &decision.actions {
            self.begin(manifest, action)?;
        }
        self.checks.sync(self.due_checks(manifest, &facts, &decision));
        self.collect_relayed(manifest, &decision);
        if self.still_blind(&facts, now) {
            return Ok(());
        }
        self.speaker.say(
            manifest,
            &facts,
            &decision,
            (self.book.ledger(), &self.actor.systemd, &self.checks),
        );
        Ok(())
    }

    /// Tells what became of starts that were asked for by an agent that died, or whose job went wrong.
    fn resolve_intents(&mut self) -> Result<(), LedgerError> {
        let open = self.book.ledger().components.iter().filter(|(_, entry)| entry.intent.is_some());
        let open: Vec<_> = open.map(|(name, _)| name.clone()).collect();
        for name in open {
            let unit = self.actor.systemd.snapshot(&name);
            let asked =
                self.in_flight.iter().any(|action| action.starts() && action.component() == Some(&name));
            if !asked && self.actor.systemd.is_fresh(&name) {
                self.book.update_entry(&name, |entry| entry.resolve(&unit))?;
            }
        }
        Ok(())
    }

    fn look(&self, manifest: &Manifest) -> Result<NodeFacts, FileError> {
        let held = |(name, entry): (&_, &Entry)| {
            let unit = self.actor.systemd.snapshot(name);
            let unit = UnitFacts {
                state: unit.state,
                restarts: unit.restarts,
                since: unit.since_boot,
                started_with: entry.started.clone(),
            };
            let checks = self.checks.results(name);
            let settled = entry.settled.clone();
            (Clone::clone(name), HeldFacts { wave: entry.wave, unit, member: entry.member, settled, checks })
        };
        let ledger = self.book.ledger();
        Ok(NodeFacts {
            blobs: self.actor.context.depot.held(),
            pinned: self.actor.context.identity.agent.iter().cloned().collect(),
            units_loaded: ledger.units_loaded.clone(),
            components: ledger.components.iter().map(held).collect(),
            attempts: self.attempts.values().cloned().collect(),
            ..probe(&self.actor.paths, manifest)?
        })
    }

    /// Writes down who is healthy for the first time, and forgets what it took.
    fn remember(&mut self, manifest: &Manifest, decision: &Decision) -> Result<(), LedgerError> {
        for component in &manifest.components {
            if decision.phases.get(&component.name).is_none_or(|progress| progress.phase != Phase::Healthy) {
                continue;
            }
            let process = component.process_digest();
            self.attempts.retain(|action, _| action.component() != Some(&component.name));
            self.book.update_entry(&component.name, |entry| entry.settled = Some(process))?;
        }
        Ok(())
    }

    fn begin(&mut self, manifest: &Arc<Manifest>, action: &Action) -> Result<(), LedgerError> {
        if self.in_flight.iter().any(|other| exclude(other, action)) {
            return Ok(());
        }
        self.before(manifest, action)?;
        self.in_flight.insert(action.clone());
        tracing::info!(component = action.component().map(tracing::field::display), "{}", action.as_str());
        let (actor, manifest, action, tell) =
            (Arc::clone(&self.actor), Arc::clone(manifest), action.clone(), self.tell.clone());
        tokio::spawn(async move {
            let result = actor.perform(&manifest, &action).await.map_err(|error| chain(&error));
            // The loop is gone only when the agent ends.
            drop(tell.send((action, result)));
        });
        Ok(())
    }

    /// What has to be written down before an action is begun.
    fn before(&mut self, manifest: &Manifest, action: &Action) -> Result<(), LedgerError> {
        match action {
            Action::Activate { .. } => {
                self.book.update(|ledger| {
                    for component in &manifest.components {
                        let entry = ledger.components.entry(component.name.clone()).or_default();
                        entry.wave = component.wave;
                        entry.applied = Some(component.digest());
                    }
                })?;
                self.adopt();
                Ok(())
            }
            Action::Start { component, process } | Action::Restart { component, process } => {
                let before = self.actor.systemd.snapshot(component).invocation;
                let intent = Intent { process: process.clone(), before };
                self.book.update_entry(component, |entry| entry.intent = Some(intent))
            }
            _ => Ok(()),
        }
    }

    fn ended(&mut self, (action, result): Ended) {
        self.in_flight.remove(&action);
        let result = result.and_then(|()| self.after(&action).map_err(|error| chain(&error)));
        if let Err(error) = &result {
            tracing::warn!(
                component = action.component().map(tracing::field::display),
                error,
                "{}",
                action.as_str()
            );
        }
        let count = self.attempts.get(&action).map_or(0, |attempt| attempt.count) + 1;
        let attempt = Attempt { action: action.clone(), count, last: monotonic(), error: result.err() };
        self.attempts.insert(action, attempt);
    }

    /// What is written down once an action has succeeded.
    fn after(&mut self, action: &Action) -> Result<(), LedgerError> {
        match action {
            Action::Start { component, process } | Action::Restart { component, process } => {
                self.book.update_entry(component, |entry| {
                    entry.started = Some(process.clone());
                    entry.intent = None;
                })
            }
            Action::Reload { units } => self.book.update(|ledger| ledger.units_loaded = Some(units.clone())),
            Action::Join { component } => self.book.update_entry(component, |entry| entry.member = true),
            Action::Forget { component } => {
                self.book.update(|ledger| drop(ledger.components.remove(component)))?;
                self.adopt();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The checks of everything that runs and is a member; not of a process that is about to be replaced.
    fn due_checks(
        &self,
        manifest: &Manifest,
        facts: &NodeFacts,
        decision: &Decision,
    ) -> Vec<(castrum_blueprints::names::ComponentName, Due)> {
        let mut due = Vec::new();
        for component in &manifest.components {
            let name = &component.name;
            let Some(held) = facts.components.get(name) else { continue };
            let phase = decision.phases.get(name).map(|progress| progress.phase);
            let settling = matches!(phase, Some(Phase::Settling | Phase::Healthy | Phase::Failing));
            let asked =
                self.in_flight.iter().any(|action| action.starts() && action.component() == Some(name));
            if !settling || asked || !(component.unit.is_none() || runs(component, held)) {
                continue;
            }
            let invocation = self.actor.systemd.snapshot(name).invocation;
            due.extend(
                component.checks.iter().map(|check| {
                    (name.clone(), Due { check: check.clone(), invocation: invocation.clone() })
                }),
            );
        }
        due
    }

    /// Whether an agent that came back has not seen again what the one before it had: until then, what that one said
    /// stands.
    fn still_blind(&mut self, facts: &NodeFacts, now: Timestamp) -> bool {
        let unknown = facts.components.values().any(|held| held.unit.state == UnitState::Unknown);
        let end = self.started.plus(BLIND);
        self.comes_back &= now < end && (unknown || self.checks.is_pending());
        if self.comes_back {
            self.wake_at = Some(self.wake_at.map_or(end, |wake| wake.min(end)));
        }
        self.comes_back
    }

    /// Masters drop the blobs that no manifest names any more, once a generation has settled.
    fn collect_relayed(&mut self, manifest: &Manifest, decision: &Decision) {
        let settled = decision.actions.is_empty() && decision.wake_at.is_none() && self.in_flight.is_empty();
        if manifest.role != Role::Master || !settled || self.collected == manifest.generation {
            return;
        }
        self.collected = manifest.generation;
        let bundles = manifest.components.iter().filter_map(|component| component.bundle.as_ref());
        let own: BTreeSet<Digest> = bundles.map(|blob| blob.digest.clone()).collect();
        if let Err(error) = self.actor.context.collect(&own) {
            tracing::warn!(error = chain(&error), "cannot collect blobs");
        }
    }
}

/// Whether an action cannot begin while another is under way.
fn exclude(running: &Action, next: &Action) -> bool {
    let whole_node = |action: &Action| matches!(action, Action::Activate { .. } | Action::Reload { .. });
    let collects = |action: &Action| matches!(action, Action::Collect { .. });
    let process = |action: &Action| {
        let stops = matches!(action, Action::Stop { .. } | Action::Forget { .. } | Action::Join { .. });
        action.component().filter(|_| stops || action.starts()).cloned()
    };
    running == next
        || collects(running)
        || collects(next)
        || (whole_node(running) && whole_node(next))
        || process(running).is_some_and(|component| process(next) == Some(component))
}

/// Milliseconds since boot: time for pauses, which nobody can set. The service manager tells times by it as well.
fn monotonic() -> Timestamp {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    Timestamp(seconds.unwrap_or_default() * 1000 + nanos.unwrap_or_default() / 1_000_000)
}

/// The instant of `at`; a long time from now without one.
fn instant(at: Option<Timestamp>) -> Instant {
    let pause = at.map_or(3600 * 1000, |at| at.since(monotonic()).max(1));
    Instant::now() + Duration::from_millis(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_run_beside_what_is_a_table() {
        let etcd = || "etcd".parse().expect("a name");
        let docker = || "docker".parse().expect("a name");
        let digest = Digest::of(b"x");
        let start = Action::Start { component: etcd(), process: digest.clone() };
        let other = Action::Start { component: docker(), process: digest.clone() };
        let join = Action::Join { component: etcd() };
        let account = Action::Account { component: etcd(), account: "etcd".into() };
        let activate = Action::Activate { set: "1-x".into() };
        let reload = Action::Reload { units: digest };
        let none = BTreeSet::new;
        let collect =
            Action::Collect { stores: none(), configs: none(), sets: none(), blobs: BTreeSet::new() };
        assert!(exclude(&start, &start) && exclude(&start, &join) && exclude(&activate, &reload));
        assert!(!exclude(&start, &other) && !exclude(&start, &activate) && !exclude(&account, &start));
        for action in [&start, &account, &activate, &join] {
            assert!(exclude(&collect, action) && exclude(action, &collect), "{action:?}");
        }
    }
}
