//! The loop turned round: everything that carries the cluster's label is removed, machines first.

use super::draft::Wait;
use super::{Action, Area, Blocked, Debt, Plan, Step};
use crate::names::{ResourceKind, ResourcePath, Timestamp};
use crate::observed::Observed;

/// Plans the removal of what was seen. It needs no blueprint: what is ours is known by its label.
pub fn plan_destroy(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for path in observed.resources.keys() {
        let id = format!("remove {path}");
        if let Some(blocker) = blocker(observed, path) {
            plan.blocked.push(blocked(Wait {
                subject: id,
                waits_for: format!("{blocker} to be removed"),
                last_seen: "it still exists".to_owned(),
                since: observed.taken_at,
                node: None,
            }));
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
    match failure.retry_at {
        Some(at) if at <= now && failure.attempts < MAX_ATTEMPTS => plan.steps.push(step),
        Some(at) if failure.attempts < MAX_ATTEMPTS => {
            plan.wake_at = Some(plan.wake_at.map_or(at, |held| held.min(at)));
            plan.blocked.push(blocked(Wait {
                subject: step.id,
                waits_for: "its next try".to_owned(),
                last_seen: failure.message.clone(),
                since: failure.first,
                node: None,
            }));
        }
        _ => {
            let reason = format!("{} (tried {} times)", failure.message, failure.attempts);
            plan.debt.push(Debt {
                subject: step.id,
                reason,
                since: failure.first,
                area: Area::Infrastructure,
            });
        }
    }
}

/// How often a removal is tried before it is left unconfirmed: a destroy always ends.
const MAX_ATTEMPTS: u32 = 6;

/// The resource of the same site that must go first: a later kind of the order in which things are made.
fn blocker<'a>(observed: &'a Observed, path: &ResourcePath) -> Option<&'a ResourcePath> {
    if path.kind == ResourceKind::Machine {
        return None;
    }
    observed.resources.keys().rfind(|other| other.site == path.site && other.kind > path.kind)
}

fn blocked(wait: Wait) -> Blocked {
    let Wait { subject, waits_for, last_seen, since, node } = wait;
    Blocked { subject, waits_for, since, last_seen, node, by_debt: false }
}
