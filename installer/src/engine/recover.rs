//! The loop that brings a new keyring to nodes which hold to one that was lost, and does nothing else.

use castrum_blueprints::desired::Desired;
use castrum_blueprints::plan::{Progress, plan_recover};
use castrum_blueprints::recover::Strangers;

use super::{Engine, Outcome, RUN_LOOKS_AGAIN_MS, Run, reaches};
use castrum_blueprints::observed::Observed;

impl Engine {
    /// Admits `strangers` anew until all are well, nothing more can be done, or somebody asks to stop.
    pub async fn recover(&self, mut desired: Desired, strangers: &Strangers) -> Outcome {
        let mut observed = Observed::default();
        self.look(&mut observed, &RUN_LOOKS_AGAIN_MS).await;
        observed.listening_since = Some(self.clock.now());
        let mut run = Run::new(self);
        self.fleet.reach(reaches(&desired, &observed));
        loop {
            let plan = plan_recover(&desired, &observed, strangers, self.clock.now());
            run.tell(&plan);
            if !self.cancel.is_set() {
                run.start(&plan, &desired, &observed).await;
            }
            if run.jobs.is_empty() {
                let progress = plan.progress();
                if self.cancel.is_set() {
                    return Outcome { progress: None, plan, observed };
                }
                if progress != Progress::Pending {
                    return Outcome { progress: Some(progress), plan, observed };
                }
                if plan.steps.is_empty() && (plan.wake_at.is_none() || run.is_stalled(&desired)) {
                    return Outcome { progress: Some(Progress::Partial), plan, observed };
                }
            }
            run.wait(&plan, &mut observed, &mut desired).await;
        }
    }
}
