//! The one place that decides about trying again.

use castrum_blueprints::names::Timestamp;
use castrum_provider::{Failure, FailureClass};

/// When a step that failed for the `times + 1`-th time at the same call may be tried again; `None` if that is of no use.
pub(super) fn retry_at(failure: &Failure, times: u32, now: Timestamp) -> Option<Timestamp> {
    if !failure.class.is_retryable() {
        return None;
    }
    let (first, most) = match failure.class {
        FailureClass::Throttled => (1_000, 30_000),
        FailureClass::NotReady => (250, 1_000),
        _ => (250, 10_000),
    };
    let backoff = (first << times.min(8)).min(most);
    Some(now.plus(failure.retry_after_ms.unwrap_or(0).max(backoff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_help_is_not_repeated() {
        for class in
            [FailureClass::Denied, FailureClass::Invalid, FailureClass::NotOurs, FailureClass::Unsupported]
        {
            assert_eq!(retry_at(&Failure::new(class, "x"), 0, Timestamp(5)), None);
        }
    }

    #[test]
    fn waits_grow_and_the_place_may_ask_for_more() {
        let mut failure = Failure::new(FailureClass::Transient, "x");
        let waits: Vec<_> = (0..8).map(|n| retry_at(&failure, n, Timestamp(0)).expect("a time").0).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        failure.retry_after_ms = Some(60_000);
        assert_eq!(retry_at(&failure, 0, Timestamp(0)), Some(Timestamp(60_000)));
    }
}
