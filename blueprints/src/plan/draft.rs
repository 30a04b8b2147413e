//! A plan while it is being made: one place that adds steps, waits and debts.

use std::collections::BTreeSet;

use super::{Action, Area, Blocked, Debt, Gate, Plan, Step};
use crate::desired::Desired;
use crate::names::{NodeName, Timestamp};
use crate::observed::{Observed, StepFailure};

pub(super) struct Draft<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    plan: Plan,
    set_aside: BTreeSet<NodeName>,
}

/// What a wait is about.
pub(super) struct Wait {
    pub(super) subject: String,
    pub(super) waits_for: String,
    pub(super) gate: Gate,
    pub(super) last_seen: String,
    pub(super) since: Timestamp,
    pub(super) node: Option<NodeName>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(desired: &'a Desired, observed: &'a Observed, now: Timestamp) -> Self {
        Self { desired, observed, now, plan: Plan::default(), set_aside: BTreeSet::new() }
    }

    pub(super) fn finish(self) -> Plan {
        self.plan
    }

    /// Whether the step failed in a way, or for so long, that it is not tried again in this run.
    pub(super) fn has_given_up(&self, id: &str) -> bool {
        self.observed.failures.get(id).is_some_and(|failure| !self.may_retry(failure))
    }

    fn may_retry(&self, failure: &StepFailure) -> bool {
        let patience = u64::from(self.desired.limits.boot_seconds) * 1000;
        failure.retry_at.is_some() && self.now.since(failure.first) < patience.max(1)
    }

    /// Adds a step, unless it failed: then it waits for its next try, or is set aside for good.
    pub(super) fn step(&mut self, id: String, action: Action, reason: impl Into<String>) {
        let Some(failure) = self.observed.failures.get(&id) else {
            return self.plan.steps.push(Step { id, action, reason: reason.into() });
        };
        match failure.retry_at.filter(|_| self.may_retry(failure)) {
            None => self.give_up(id, &action, failure),
            Some(at) if at <= self.now => self.plan.steps.push(Step { id, action, reason: reason.into() }),
            Some(at) => self.wait_for_retry(id, &action, failure, at),
        }
    }

    fn wait_for_retry(&mut self, id: String, action: &Action, failure: &StepFailure, at: Timestamp) {
        self.wake(at);
        self.wait(Wait {
            subject: id,
            waits_for: "its next try".to_owned(),
            gate: Gate::NextTry { at },
            last_seen: failure.message.clone(),
            since: failure.first,
            node: action.node(),
        });
    }

    fn give_up(&mut self, id: String, action: &Action, failure: &StepFailure) {
        let reason = format!("{id}: {} (tried {} times)", failure.message, failure.attempts);
        match action.node() {
            Some(node) => self.set_aside(&node, reason, failure.first, action.area()),
            None => self.debt(id.clone(), reason, failure.first, action.area()),
        }
        self.blocked_by_debt(Wait {
            subject: id,
            waits_for: "somebody to look at it".to_owned(),
            gate: Gate::Somebody,
            last_seen: failure.message.clone(),
            since: failure.first,
            node: action.node(),
        });
    }

    /// Records a wait that something else will end.
    pub(super) fn wait(&mut self, wait: Wait) {
        let by_debt = wait.node.as_ref().is_some_and(|node| self.set_aside.contains(node));
        self.block(wait, by_debt);
    }

    /// Records a wait that something may end in this run, or nothing will.
    pub(super) fn wait_in_hope(&mut self, wait: Wait, hope: bool) {
        if hope { self.wait(wait) } else { self.blocked_by_debt(wait) }
    }

    /// Records a wait that nothing will end in this run.
    pub(super) fn blocked_by_debt(&mut self, wait: Wait) {
        self.block(wait, true);
    }

    fn block(&mut self, wait: Wait, by_debt: bool) {
        let Wait { subject, waits_for, gate, last_seen, since, node } = wait;
        self.plan.blocked.push(Blocked { subject, waits_for, gate, since, last_seen, node, by_debt });
    }

    /// Asks to look again at `at`.
    pub(super) fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |held| held.min(at)));
    }

    /// Whether `seconds` have passed since `since`; if not, asks to look again when they have.
    pub(super) fn overdue(&mut self, since: Timestamp, seconds: u32) -> bool {
        let deadline = since.plus(u64::from(seconds) * 1000);
        if deadline <= self.now {
            return true;
        }
        self.wake(deadline);
        false
    }

    pub(super) fn set_aside(&mut self, node: &NodeName, reason: String, since: Timestamp, area: Area) {
        if self.set_aside.insert(node.clone()) {
            self.debt(node.to_string(), reason, since, area);
        }
    }

    pub(super) fn debt(&mut self, subject: String, reason: String, since: Timestamp, area: Area) {
        self.plan.debt.push(Debt { subject, reason, since, area });
    }

    pub(super) fn is_set_aside(&self, node: &NodeName) -> bool {
        self.set_aside.contains(node)
    }
}
