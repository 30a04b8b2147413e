//! The loop turned round: everything that carries the cluster's label goes, and the run ends whatever the place does.
//!
//! ```text
//! look ─▶ plan_destroy ─▶ start each removal ─▶ wait ─▶ nothing left that could go ─▶ look once more ─▶ ended
//!             ▲                                            │
//!             └── something is seen (again) ───────────────┘   not earlier than a look is sure to show what there was
//! ```
//!
//! One removal has its deadline; one that fails is tried for a while; what was removed and is still shown is asked for
//! again for a while. Whatever is left after that is debt, and says how to check it.

use std::collections::BTreeMap;
use std::pin::pin;

use castrum_blueprints::event::What;
use castrum_blueprints::names::{ResourcePath, Timestamp};
use castrum_blueprints::observed::{Failed, Observed};
use castrum_blueprints::plan::{Plan, Progress, plan_destroy};
use futures_util::StreamExt as _;

use super::execute::{self, Effect};
use super::{Engine, Outcome, RUN_LOOKS_AGAIN_MS, Run};

/// What was removed and is still shown is asked for again after this time,
const ASK_AGAIN_MS: u64 = 5_000;
/// until so much has passed since it was first removed.
const PATIENCE_MS: u64 = 300_000;

/// When each resource was first removed in this run.
type Removed = BTreeMap<ResourcePath, Timestamp>;

impl Engine {
    /// Removes everything that carries the cluster's label. It always ends; what is unconfirmed is debt.
    pub async fn destroy(&self) -> Outcome {
        let (mut observed, mut removed) = (Observed::default(), Removed::new());
        let sure_at = self.clock.now().plus(self.stale_ms());
        self.look(&mut observed, &RUN_LOOKS_AGAIN_MS).await;
        let mut run = Run::new(self);
        loop {
            let plan = plan_destroy(&observed, self.clock.now());
            run.tell(&plan);
            if !self.cancel.is_set() {
                run.start_removals(&plan);
            }
            if run.jobs.is_empty() {
                let ended = self.cancel.is_set() || plan.progress() != Progress::Pending;
                if ended {
                    self.sleep_until(sure_at).await;
                }
                // Whoever only waits for a next try may wait for something that was not seen.
                let waits =
                    plan.steps.is_empty() && self.clock.now().since(observed.taken_at) >= ASK_AGAIN_MS;
                if ended || waits {
                    self.look(&mut observed, &RUN_LOOKS_AGAIN_MS).await;
                    self.still_shown(&mut observed, &removed);
                }
                let left = plan_destroy(&observed, self.clock.now());
                if ended && (self.cancel.is_set() || left.progress() != Progress::Pending) {
                    let progress = (!self.cancel.is_set()).then(|| left.progress());
                    return Outcome { progress, plan: left, observed };
                }
                if ended || (waits && !left.steps.is_empty()) {
                    continue;
                }
            }
            run.wait_for_removals(&plan, &mut observed, &mut removed).await;
        }
    }

    /// How long what exists may go unseen.
    fn stale_ms(&self) -> u64 {
        self.sites.abilities().values().map(|abilities| abilities.stale_ms).max().unwrap_or(0)
    }

    async fn sleep_until(&self, at: Timestamp) {
        if at > self.clock.now() {
            tokio::select! {
                biased;
                () = self.clock.sleep_until(at) => {}
                () = self.cancel.wait() => {}
            }
        }
    }

    /// A place may show for a while what is gone; for ever, it is not confirmed.
    fn still_shown(&self, observed: &mut Observed, removed: &Removed) {
        let now = self.clock.now();
        let patience = PATIENCE_MS + self.stale_ms();
        for (path, since) in removed {
            if !observed.resources.contains_key(path) {
                continue;
            }
            let retry_at = (now.since(*since) < patience).then(|| now.plus(ASK_AGAIN_MS));
            let message = "the place says that it was removed, and still shows it".to_owned();
            observed.failed(&format!("remove {path}"), Failed { message, at: None, retry_at }, now);
        }
    }
}

impl Run<'_> {
    fn start_removals(&mut self, plan: &Plan) {
        for step in self.fresh(plan) {
            self.jobs.push(execute::removal(self.engine, &self.pace, &step));
        }
    }

    async fn wait_for_removals(&mut self, plan: &Plan, observed: &mut Observed, removed: &mut Removed) {
        let engine = self.engine;
        let mut effects = Vec::new();
        {
            let mut sleep = pin!(engine.clock.sleep_until(self.wake(plan)));
            tokio::select! {
                biased;
                () = engine.cancel.wait(), if !engine.cancel.is_set() => engine.events.say(What::Interrupted),
                Some(ended) = self.jobs.next(), if !self.jobs.is_empty() => effects = self.take(ended, observed),
                () = &mut sleep => {}
            }
        }
        self.take_all(&mut effects, observed);
        for effect in effects {
            if let Effect::Removed(path, _) = effect {
                observed.gone(&path);
                removed.entry(path).or_insert_with(|| engine.clock.now());
            }
        }
    }
}
