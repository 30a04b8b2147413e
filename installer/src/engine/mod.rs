//! The loop between what can be computed and what can be touched: look, plan, do what can be done, look again.
//!
//! ```text
//!            ┌────────────── a step ended · a node spoke · a deadline came ──────────────┐
//!            ▼                                                                           │
//! observe ─▶ plan ─▶ start each step that is not under way ─▶ wait for whichever is first┘
//!              │
//!              └─ nothing to do and nothing awaited ─▶ observe once more ─▶ still so: the run has ended
//! ```
//!
//! Decisions are made in `plan`; here they are only carried out. This is the one place that retries.

mod destroy;
mod execute;
mod pace;
mod recover;
mod retry;
mod sites;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use castrum_blueprints::desired::{Desired, DesiredNode};
use castrum_blueprints::event::What;
use castrum_blueprints::names::{ComponentName, NodeName, Role, Timestamp};
use castrum_blueprints::observed::{Failed as StepFailed, Observed};
use castrum_blueprints::plan::{Action, Debt, Plan, Planner, Progress, Step, Waiting};
use castrum_blueprints::render::RenderError;
use castrum_blueprints::wire::Published;
use castrum_provider::{Change, Clock, Fleet, News, PowerState, Reach, ResourceSeen};
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::cancel::Cancel;
use crate::events::Events;
use execute::{Done, Effect, Failed, Job};
pub use execute::{ProjectPort, Tickets};
use pace::Pace;
pub use sites::Sites;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// How far the cluster is; `None` if the run was interrupted.
    pub progress: Option<Progress>,
    /// The last plan.
    pub plan: Plan,
    /// The world as it was last seen.
    pub observed: Observed,
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A component cannot be rendered.
    #[error("cannot render the stack")]
    Render(#[from] RenderError),
}

/// Everything that a run touches the world through.
pub struct Engine {
    /// The providers.
    pub sites: Sites,
    /// The nodes.
    pub fleet: Arc<dyn Fleet>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What only the project has: tokens, and the lock file.
    pub project: Arc<dyn ProjectPort>,
    /// Who is told.
    pub events: Events,
    /// Whether somebody asked to stop.
    pub cancel: Cancel,
}

/// Whoever has looked for so long does not look again.
const LOOK_PATIENCE_MS: u64 = 60_000;
/// News that come within this time are planned together.
const GATHER_MS: u64 = 20;
/// A place that cannot be seen is looked at again, after these pauses, before it counts as blind: by whoever only looks,
const LOOK_AGAIN_MS: [u64; 3] = [500, 1_500, 4_000];
/// and by a run, which could do nothing there.
const RUN_LOOKS_AGAIN_MS: [u64; 9] = [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000, 8_000];
/// A run in which nothing moves goes on for this long after the last deadline that there may have been.
const STALL_MS: u64 = 60_000;
/// While nothing happens, what is awaited is said this often.
const HEARTBEAT_MS: u64 = 10_000;

impl Engine {
    /// Looks at everything once: the places, and every master.
    pub async fn observe(&self, desired: &Desired) -> Observed {
        self.observe_again(desired, &LOOK_AGAIN_MS).await
    }

    async fn observe_again(&self, desired: &Desired, pauses: &[u64]) -> Observed {
        let mut observed = Observed::default();
        self.look(&mut observed, pauses).await;
        self.fleet.reach(reaches(desired, &observed));
        self.fleet.first_contact().await;
        let mut heard = BTreeSet::new();
        while let Some(news) = self.fleet.news().now_or_never() {
            self.learn(&mut observed, news, &mut heard);
        }
        observed
    }

    /// Takes in what is heard until something is, or until `until`.
    pub async fn hear(&self, observed: &mut Observed, until: Timestamp) {
        let mut heard: BTreeSet<NodeName> = observed.nodes.keys().cloned().collect();
        let news = tokio::select! {
            biased;
            news = self.fleet.news() => news,
            () = self.clock.sleep_until(until) => return,
        };
        self.learn(observed, news, &mut heard);
    }

    async fn look(&self, observed: &mut Observed, pauses: &[u64]) {
        let begun = self.clock.now();
        let mut observation = self.sites.observe().await;
        for pause in pauses.iter().copied() {
            let long = self.clock.now().since(begun) >= LOOK_PATIENCE_MS;
            if observation.blind.is_empty() || self.cancel.is_set() || long {
                break;
            }
            self.clock.sleep_until(self.clock.now().plus(pause)).await;
            observation = self.sites.observe().await;
        }
        observed.taken_at = self.clock.now();
        observed.resources = observation.seen;
        observed.blind = observation.blind;
        let (resources, blind) = (observed.resources.len(), observed.blind.len());
        let heard = observed.nodes.values().filter(|node| node.heard.is_some()).count();
        self.events.say(What::Looked { resources, heard, blind });
    }

    /// Goes on until nothing is left to do, nothing more can be done, or somebody asks to stop.
    pub async fn converge(&self, mut desired: Desired) -> Result<Outcome, EngineError> {
        let mut observed = self.observe_again(&desired, &RUN_LOOKS_AGAIN_MS).await;
        observed.listening_since = Some(self.clock.now());
        let mut run = Run::new(self);
        run.heard.extend(
            observed.nodes.iter().filter(|(_, seen)| seen.heard.is_some()).map(|(name, _)| name.clone()),
        );
        let mut planner = Planner::default();
        let mut confirmed = false;
        loop {
            let now = self.clock.now();
            observed.await_agents(desired.nodes.iter().map(|(name, node)| (name, &node.machine)), now);
            if std::mem::take(&mut run.moved) {
                self.fleet.reach(reaches(&desired, &observed));
            }
            let mut plan = planner.plan(&desired, &observed, now)?;
            run.waiting.note(&mut plan);
            run.tell(&plan);
            if !self.cancel.is_set() {
                run.start(&plan, &desired, &observed).await;
            }
            if run.jobs.is_empty() {
                let ended = plan.progress() != Progress::Pending;
                if self.cancel.is_set() || (ended && confirmed) {
                    let progress = (!self.cancel.is_set()).then(|| plan.progress());
                    return Ok(Outcome { progress, plan, observed });
                }
                if ended {
                    self.look(&mut observed, &RUN_LOOKS_AGAIN_MS).await;
                    (confirmed, run.moved) = (true, true);
                    continue;
                }
                if plan.steps.is_empty() && (plan.wake_at.is_none() || run.is_stalled(&desired)) {
                    // Nothing is under way, and nothing has a deadline or has moved for longer than any: no use waiting.
                    return Ok(Outcome { progress: Some(Progress::Partial), plan, observed });
                }
            }
            confirmed = false;
            run.wait(&plan, &mut observed, &mut desired).await;
        }
    }

    /// Takes in what is new. Whether anything of it was not known.
    fn learn(&self, observed: &mut Observed, news: Vec<News>, heard: &mut BTreeSet<NodeName>) -> bool {
        let now = self.clock.now();
        let mut moved = false;
        for item in news {
            match item {
                News::Status(status, age_ms) => {
                    let node = status.node.clone();
                    let before = observed.nodes.get(&node).and_then(|seen| seen.heard.clone());
                    let phases: Vec<_> = status
                        .components
                        .iter()
                        .map(|(name, component)| (name.clone(), component.phase, component.note.clone()))
                        .collect();
                    if !observed.hear(*status, age_ms, now) {
                        continue;
                    }
                    moved = true;
                    if heard.insert(node.clone()) {
                        self.events.say(What::NodeHeard { node: node.clone() });
                    }
                    for (component, phase, note) in phases {
                        let known = before.as_ref().and_then(|heard| heard.status.components.get(&component));
                        if known.is_none_or(|known| known.phase != phase) {
                            self.events.say(What::ComponentPhase {
                                node: node.clone(),
                                component,
                                phase,
                                note,
                            });
                        }
                    }
                }
                News::Published(node, published) => observed.published(&node, published, now),
                News::Admitted(node) => self.events.say(What::NodeAdmitted { node }),
                News::Refused(node, reason) => self.events.say(What::NodeRefused { node, reason }),
            }
        }
        moved
    }
}

/// Where nodes are reached. Contact to a master that is off or paused would only be waited for.
fn reaches(desired: &Desired, observed: &Observed) -> Vec<Reach> {
    let on = |node: &DesiredNode| observed.resources.get(&node.machine).is_some_and(is_on);
    let nodes = desired.nodes.iter().filter(|(_, node)| node.role != Role::Master || on(node));
    nodes.filter_map(|(name, node)| execute::reach(name, node, desired, observed)).collect()
}

fn is_on(seen: &ResourceSeen) -> bool {
    seen.machine.as_ref().is_some_and(|machine| machine.power == PowerState::On)
}

/// What is under way in one run.
struct Run<'e> {
    engine: &'e Engine,
    jobs: FuturesUnordered<Job<'e>>,
    pace: Arc<Pace>,
    under_way: BTreeSet<String>,
    heard: BTreeSet<NodeName>,
    told_debt: Vec<Debt>,
    waiting: Waiting,
    told_at: Timestamp,
    /// When a step last ended, or a node last said something new.
    moved_at: Timestamp,
    /// Whether some machine was made or changed since the fleet was told where nodes are.
    moved: bool,
}

impl<'e> Run<'e> {
    fn new(engine: &'e Engine) -> Self {
        let told_at = engine.clock.now();
        let (jobs, under_way, heard) = (FuturesUnordered::new(), BTreeSet::new(), BTreeSet::new());
        let (moved_at, pace) = (told_at, Arc::default());
        let (told_debt, waiting) = (Vec::new(), Waiting::default());
        Self { engine, jobs, pace, under_way, heard, told_debt, waiting, told_at, moved_at, moved: true }
    }

    /// Whether nothing has moved for longer than anything is waited for.
    fn is_stalled(&self, desired: &Desired) -> bool {
        let limits = desired.limits;
        let longest = limits.boot_seconds.max(limits.settle_seconds).max(limits.silence_seconds);
        self.engine.clock.now().since(self.moved_at) > u64::from(longest) * 1000 + STALL_MS
    }

    fn tell(&mut self, plan: &Plan) {
        for debt in &plan.debt {
            if !self.told_debt.iter().any(|told| told.subject == debt.subject) {
                self.engine.events.say(What::SetAside { debt: debt.clone() });
                self.told_debt.push(debt.clone());
            }
        }
        let now = self.engine.clock.now();
        if now.since(self.told_at) >= HEARTBEAT_MS && !plan.blocked.is_empty() {
            self.told_at = now;
            self.engine.events.say(What::Waiting { blocked: plan.blocked.clone() });
        }
    }

    async fn start(&mut self, plan: &Plan, desired: &Desired, observed: &Observed) {
        let fresh = self.fresh(plan);
        if fresh.is_empty() {
            return;
        }
        let tickets = match self.engine.project.tickets(desired, observed, &fresh).await {
            Ok(tickets) => tickets,
            Err(failure) => {
                for step in fresh {
                    self.jobs.push(execute::failed(step.id.clone(), failure.clone()));
                }
                return;
            }
        };
        for job in execute::jobs((self.engine, &self.pace), fresh, (desired, observed), tickets) {
            self.jobs.push(job);
        }
    }

    fn fresh(&mut self, plan: &Plan) -> Vec<Step> {
        let mut fresh = Vec::new();
        for step in &plan.steps {
            if !self.overtakes(step) && self.under_way.insert(step.id.clone()) {
                self.engine
                    .events
                    .say(What::StepStarted { id: step.id.clone(), reason: step.reason.clone() });
                fresh.push(step.clone());
            }
        }
        fresh
    }

    /// A manifest waits for the one before it: sent at the same time, the newer could come first, and the older be refused.
    fn overtakes(&self, step: &Step) -> bool {
        let Action::Publish { manifest, .. } = &step.action else { return false };
        let others = format!("publish {}@", manifest.node);
        let first = self.under_way.range(others.clone()..).next();
        first.is_some_and(|id| id.starts_with(&others))
    }

    /// Waits for whatever is first, and takes in all that came with it.
    async fn wait(&mut self, plan: &Plan, observed: &mut Observed, desired: &mut Desired) {
        let engine = self.engine;
        let wake = self.wake(plan);
        let mut effects = Vec::new();
        {
            let mut sleep = pin!(engine.clock.sleep_until(wake));
            let mut news = pin!(engine.fleet.news());
            // In this order and not by lot, so that a seed is enough to play a simulated run again.
            tokio::select! {
                biased;
                () = engine.cancel.wait(), if !engine.cancel.is_set() => engine.events.say(What::Interrupted),
                Some(ended) = self.jobs.next(), if !self.jobs.is_empty() => effects = self.take(ended, observed),
                items = &mut news => self.learn(items, observed),
                () = &mut sleep => {}
            }
        }
        engine.clock.sleep_until(engine.clock.now().plus(GATHER_MS)).await;
        self.take_all(&mut effects, observed);
        for effect in effects {
            apply(effect, observed, desired, engine.clock.now());
        }
        while let Some(items) = engine.fleet.news().now_or_never() {
            self.learn(items, observed);
        }
    }

    fn learn(&mut self, items: Vec<News>, observed: &mut Observed) {
        if self.engine.learn(observed, items, &mut self.heard) {
            self.moved_at = self.engine.clock.now();
        }
    }

    fn wake(&self, plan: &Plan) -> Timestamp {
        let heartbeat = self.engine.clock.now().plus(HEARTBEAT_MS);
        plan.wake_at.map_or(heartbeat, |at| at.min(heartbeat))
    }

    /// Takes in every step that has ended by now. Without tokio's budget, which would let only some hundred of them end
    /// between two plans.
    fn take_all(&mut self, effects: &mut Vec<Effect>, observed: &mut Observed) {
        while let Some(Some(ended)) = tokio::task::unconstrained(self.jobs.next()).now_or_never() {
            effects.extend(self.take(ended, observed));
        }
    }

    /// Says how steps ended, and returns the effects of those that succeeded.
    fn take(&mut self, ended: Vec<Done>, observed: &mut Observed) -> Vec<Effect> {
        let now = self.engine.clock.now();
        self.moved_at = now;
        let mut effects = Vec::new();
        for Done { step, result } in ended {
            self.under_way.remove(&step);
            match result {
                Ok(effect) => {
                    observed.succeeded(&step);
                    self.engine.events.say(What::StepDone { id: step, outcome: effect.describe() });
                    self.moved |= matches!(effect, Effect::Ensured(..));
                    effects.push(effect);
                }
                Err(failed) => self.failed(step, &failed, observed, now),
            }
        }
        effects
    }

    fn failed(&self, id: String, failed: &Failed, observed: &mut Observed, now: Timestamp) {
        let Failed { failure, late } = failed;
        let times = observed.failed_at(&id, failure.at.as_deref());
        let retry_at = retry::retry_at(failure, times, now).filter(|_| !late);
        let (message, hint) = (failure.message.clone(), failure.hint.clone());
        let at = failure.at.clone();
        observed.failed(&id, StepFailed { message: message.clone(), at, retry_at }, now);
        self.engine.events.say(What::StepFailed { id, message, hint, retry_at });
    }
}

/// Takes what a step did into the picture of the world.
fn apply(effect: Effect, observed: &mut Observed, desired: &mut Desired, now: Timestamp) {
    match effect {
        Effect::Ensured(seen, change) => {
            let was_on = observed.resources.get(&seen.path).is_some_and(is_on);
            if let (false, true, Ok(node)) = (was_on, change != Change::Unchanged, seen.path.name.parse())
                && seen.machine.is_some()
            {
                observed.switched_on(&node, now);
            }
            observed.saw(*seen);
        }
        Effect::Removed(path, _) => observed.gone(&path),
        Effect::Enrolled(node) | Effect::Readmitted(node) => {
            observed.nodes.entry(node).or_default().enrolled_at = Some(now);
        }
        Effect::Filled(node, blobs) => observed.filled(&node, blobs.into_iter().map(|blob| blob.digest)),
        Effect::Founded(component, node) => {
            let mut founders = desired.founders.clone();
            founders.insert(component, node);
            *desired = desired.with_founders(founders);
        }
        Effect::Published(publication) => {
            let manifest = &publication.manifest;
            let published =
                Published { generation: manifest.generation, content: publication.content.clone() };
            observed.published(&manifest.node, published, now);
            let opened: Vec<ComponentName> = manifest.components.iter().map(|c| c.name.clone()).collect();
            observed.opened(&manifest.node, opened);
        }
    }
}
