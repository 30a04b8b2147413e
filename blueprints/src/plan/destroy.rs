//! The loop turned round: everything that carries the cluster's label is removed, machines first.

use std::collections::BTreeMap;

use super::draft::Wait;
use super::{Action, Area, Blocked, Debt, Gate, Plan, Step};
use crate::names::{ResourceKind, ResourcePath, SiteName, Timestamp};
use crate::observed::{Observed, StepFailure};

/// Plans the removal of what was seen. It needs no blueprint: what is ours is known by its label.
pub fn plan_destroy(observed: &Observed, now: Timestamp) -> Plan {
    let (mut plan, order) = (Plan::default(), Order::of(observed, now));
    for (path, seen) in &observed.resources {
        let id = format!("remove {path}");
        if seen.id.is_empty() {
            let (reason, since) = (NAMELESS.to_owned(), observed.taken_at);
            plan.debt.push(Debt { subject: id, reason, since, area: Area::Infrastructure });
            continue;
        }
        if let Some(blocker) = order.blocker(path) {
            let wait = Wait {
                subject: id,
                waits_for: format!("{blocker} to be removed"),
                gate: Gate::Resource { path: blocker.clone() },
                last_seen: "it still exists".to_owned(),
                since: observed.taken_at,
                node: None,
            };
            plan.blocked.push(blocked(wait, order.is_given_up(path)));
            continue;
        }
        let step = Step { id, action: Action::Remove { path: path.clone() }, reason: "destroy".to_owned() };
        add(&mut plan, step, observed, now);
    }
    for blind in &observed.blind {
        let subject = format!("site {}", blind.site);
        let reason = format!("could not be looked at: {}", blind.reason);
        plan.debt.push(Debt { subject, reason, since: observed.taken_at, area: Area::Infrastructure });
    }
    plan
}

fn add(plan: &mut Plan, step: Step, observed: &Observed, now: Timestamp) {
    let Some(failure) = observed.failures.get(&step.id) else { return plan.steps.push(step) };
    match failure.retry_at.filter(|_| !is_given_up(failure, now)) {
        Some(at) if at <= now => plan.steps.push(step),
        Some(at) => {
            plan.wake_at = Some(plan.wake_at.map_or(at, |held| held.min(at)));
            let wait = Wait {
                subject: step.id,
                waits_for: "its next try".to_owned(),
                gate: Gate::NextTry { at },
                last_seen: failure.message.clone(),
                since: failure.first,
                node: None,
            };
            plan.blocked.push(blocked(wait, false));
        }
        None => {
            let reason = unconfirmed(&failure.message, failure.attempts, &step);
            plan.debt.push(Debt {
                subject: step.id,
                reason,
                since: failure.first,
                area: Area::Infrastructure,
            });
        }
    }
}

/// What the place cannot name, it could take for something else.
pub(super) const NAMELESS: &str = "the place shows it without an id of its own, so it is not touched";

/// What is not confirmed can be looked for where it is: by its label.
fn unconfirmed(message: &str, attempts: u32, step: &Step) -> String {
    let label = match &step.action {
        Action::Remove { path } => format!("; look there for what is labelled `castrum-resource={path}`"),
        _ => String::new(),
    };
    format!("{message} (tried {attempts} times){label}")
}

/// How long a removal is tried before it is left unconfirmed: a destroy always ends.
const PATIENCE_MS: u64 = 300_000;

fn is_given_up(failure: &StepFailure, now: Timestamp) -> bool {
    failure.retry_at.is_none() || now.since(failure.first) >= PATIENCE_MS
}

/// Which resources must go before others: a site's later kinds before its earlier ones.
struct Order<'a> {
    /// A resource of the last kind that is still there, by site.
    last: BTreeMap<&'a SiteName, &'a ResourcePath>,
    /// The last kind of which something will not go in this run, by site.
    stuck: BTreeMap<&'a SiteName, ResourceKind>,
}

impl<'a> Order<'a> {
    fn of(observed: &'a Observed, now: Timestamp) -> Self {
        let (mut last, mut stuck) = (BTreeMap::new(), BTreeMap::new());
        // Paths are sorted by site and kind, so that whatever comes later is of a later kind.
        for (path, seen) in &observed.resources {
            last.insert(&path.site, path);
            let failure = observed.failures.get(&format!("remove {path}"));
            if seen.id.is_empty() || failure.is_some_and(|failure| is_given_up(failure, now)) {
                stuck.insert(&path.site, path.kind);
            }
        }
        Self { last, stuck }
    }

    fn blocker(&self, path: &ResourcePath) -> Option<&'a ResourcePath> {
        self.last.get(&path.site).copied().filter(|last| last.kind > path.kind)
    }

    fn is_given_up(&self, path: &ResourcePath) -> bool {
        self.stuck.get(&path.site).is_some_and(|stuck| *stuck > path.kind)
    }
}

fn blocked(wait: Wait, by_debt: bool) -> Blocked {
    let Wait { subject, waits_for, gate, last_seen, since, node } = wait;
    Blocked { subject, waits_for, gate, since, last_seen, node, by_debt }
}
