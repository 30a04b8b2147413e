//! As fast as a place takes calls, and no faster. What the bucket is, nobody knows but the place: it is learnt.
//!
//! ```text
//!   free ── throttled ──▶ paced: one call each `spacing`, in turn
//!    ▲                      │  throttled again: the spacing grows by what was missing
//!    └── (a new run)        └─ every so often one call more at once: if it is taken, the spacing is halved
//! ```
//!
//! A call that was throttled had no effect and is sent again from here, so that hundreds of them are no hundreds of failed
//! steps. One that is throttled again and again is given back to whoever plans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use castrum_blueprints::names::{ResourceKind, SiteName, Timestamp};
use castrum_provider::{Clock, Failure, FailureClass};

use crate::cancel::Cancel;

/// Calls that a place counts together: of a site, making one kind, or removing.
pub(super) type LaneKey = (SiteName, Option<ResourceKind>);

/// The lanes of one run.
#[derive(Default)]
pub(super) struct Pace {
    lanes: Mutex<BTreeMap<LaneKey, Arc<Lane>>>,
}

/// So many calls are sent at once as long as nothing is known of a bucket,
const BURST: u32 = 16;
/// and twice as many after so many milliseconds: time for the place to say that it was too much.
const BURST_MS: u64 = 50;
/// After so many calls that were taken, one more is tried.
const PROBE_AFTER: u32 = 64;
/// What is assumed to be missing where the place does not say.
const UNSAID_MS: u64 = 250;
/// A call that was throttled so often is given up for now.
const TRIES: u32 = 8;

struct Lane {
    /// Whose turn it is; in the order in which they came.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The time between two calls; 0: nothing is known of a limit.
    spacing: u64,
    next: Timestamp,
    /// How many calls may still be sent at `next`, while nothing is known of a limit, of how many.
    burst: (u32, u32),
    /// Grows when the spacing changes: what was sent before says nothing of it.
    epoch: u32,
    /// How many were taken since the last probe.
    taken: u32,
    /// When a call was last sent in its time.
    sent_at: Timestamp,
}

/// The right to send one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Permit {
    epoch: u32,
    probe: bool,
}

impl Pace {
    /// Sends `call` when its turn comes, and again for as long as the place asks for fewer calls.
    pub(super) async fn send<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        key: LaneKey,
        (clock, cancel): (&dyn Clock, &Cancel),
        call: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let lane = self.lane(key, clock.now());
        let mut tries = 0;
        loop {
            let Some(permit) = lane.admit(clock, cancel).await else {
                let text = "it was not sent: somebody asked to stop";
                return Err(Failure::new(FailureClass::NotReady, text));
            };
            tries += 1;
            match call().await {
                Err(failure) if failure.class == FailureClass::Throttled => {
                    lane.state().throttled(permit, failure.retry_after_ms, clock.now());
                    if tries >= TRIES {
                        return Err(failure);
                    }
                }
                result => {
                    lane.state().taken(permit);
                    return result;
                }
            }
        }
    }

    fn lane(&self, key: LaneKey, now: Timestamp) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(key).or_insert_with(|| Arc::new(Lane::new(now))))
    }
}

impl Lane {
    fn new(now: Timestamp) -> Self {
        let state =
            State { spacing: 0, next: now, burst: (BURST, BURST), epoch: 0, taken: 0, sent_at: Timestamp(0) };
        Self { turn: tokio::sync::Mutex::default(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn, and then for its time; `None` if somebody asked to stop before.
    async fn admit(&self, clock: &dyn Clock, cancel: &Cancel) -> Option<Permit> {
        let _turn = self.turn.lock().await;
        loop {
            if cancel.is_set() {
                return None;
            }
            let until = match self.state().admit(clock.now()) {
                Ok(permit) => return Some(permit),
                Err(until) => until,
            };
            tokio::select! {
                biased;
                () = clock.sleep_until(until) => {}
                () = cancel.wait() => {}
            }
        }
    }
}

impl State {
    /// The right to send a call now, or when to ask again.
    fn admit(&mut self, now: Timestamp) -> Result<Permit, Timestamp> {
        // Right after another, so that it does not take what the next one will need.
        let probe = self.spacing > 0 && self.taken >= PROBE_AFTER && self.sent_at == now;
        if probe {
            self.taken = 0;
            return Ok(Permit { epoch: self.epoch, probe });
        }
        if self.next > now {
            return Err(self.next);
        }
        if self.spacing > 0 {
            // Whoever came late leaves the next one its time: the bucket was filled meanwhile. But not for long.
            let latest = Timestamp(now.0.saturating_sub(self.spacing));
            self.next = self.next.max(latest).plus(self.spacing);
            self.sent_at = now;
        } else {
            let (left, of) = self.burst;
            self.burst.0 = left.saturating_sub(1);
            if left <= 1 {
                (self.burst, self.next) = ((of.saturating_mul(2), of.saturating_mul(2)), now.plus(BURST_MS));
            }
        }
        Ok(Permit { epoch: self.epoch, probe })
    }

    fn throttled(&mut self, permit: Permit, missing: Option<u64>, now: Timestamp) {
        // Whatever was sent together with the first that was refused says the same once more.
        if permit.epoch != self.epoch || permit.probe {
            return;
        }
        let missing = missing.unwrap_or_else(|| self.spacing.max(UNSAID_MS)).max(1);
        self.spacing += missing;
        self.next = now.plus(missing);
        (self.epoch, self.taken) = (self.epoch + 1, 0);
    }

    fn taken(&mut self, permit: Permit) {
        if self.spacing == 0 {
            return;
        }
        self.taken += 1;
        if permit.probe && permit.epoch == self.epoch {
            self.spacing = (self.spacing / 2).max(1);
            self.epoch += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            spacing: 0,
            next: Timestamp(0),
            burst: (BURST, BURST),
            epoch: 0,
            taken: 0,
            sent_at: Timestamp(0),
        }
    }

    #[test]
    fn a_burst_that_is_refused_is_learnt_from_once() {
        let mut state = state();
        let permits: Vec<Permit> =
            (0..BURST).map(|_| state.admit(Timestamp(5)).expect("nothing is known")).collect();
        assert_eq!(state.admit(Timestamp(5)), Err(Timestamp(5 + BURST_MS)));
        for permit in &permits[5..] {
            state.throttled(*permit, Some(500), Timestamp(5));
        }
        assert_eq!((state.spacing, state.next), (500, Timestamp(505)));
        assert!(state.admit(Timestamp(504)).is_err());
        assert!(state.admit(Timestamp(520)).is_ok() && state.admit(Timestamp(520)) == Err(Timestamp(1_005)));
        assert!(
            state.admit(Timestamp(9_000)).is_ok() && state.admit(Timestamp(9_000)).is_ok(),
            "one that is late"
        );
        assert_eq!(state.admit(Timestamp(9_000)), Err(Timestamp(9_500)));
    }

    #[test]
    fn a_spacing_that_is_too_short_grows_by_what_was_missing() {
        let mut state = State { spacing: 200, next: Timestamp(0), ..state() };
        let permit = state.admit(Timestamp(0)).expect("its time has come");
        state.throttled(permit, Some(300), Timestamp(0));
        assert_eq!((state.spacing, state.next), (500, Timestamp(300)));
        let unsaid = state.admit(Timestamp(300)).expect("its time has come");
        state.throttled(unsaid, None, Timestamp(300));
        assert_eq!(state.spacing, 1_000, "where nothing is said, it doubles");
    }

    #[test]
    fn now_and_then_one_more_is_tried_and_costs_nothing_else_when_it_is_refused() {
        let mut state = State { spacing: 500, next: Timestamp(100), taken: PROBE_AFTER, ..state() };
        assert_eq!(state.admit(Timestamp(50)), Err(Timestamp(100)), "not between two calls");
        assert!(!state.admit(Timestamp(100)).expect("its time has come").probe);
        let probe = state.admit(Timestamp(100)).expect("a probe does not wait");
        assert!(probe.probe && state.admit(Timestamp(100)) == Err(Timestamp(600)));
        state.throttled(probe, Some(400), Timestamp(100));
        assert_eq!((state.spacing, state.next), (500, Timestamp(600)));
        state.taken(probe);
        assert_eq!(state.spacing, 250, "it was taken: there is room");
    }
}
