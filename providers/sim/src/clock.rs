//! Virtual time: a fixed beginning, and tokio's clock from there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::names::Timestamp;
use castrum_provider::Clock;
use tokio::time::Instant;

/// When every simulated world begins: 2030-01-01 00:00 UTC.
pub const EPOCH: Timestamp = Timestamp(1_893_456_000_000);

/// A runtime whose time is virtual: it jumps ahead whenever all wait for it.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
}

/// The clock of one world. It begins to run when it is first asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimClock {
    /// What had passed in earlier processes, in milliseconds.
    before: Arc<AtomicU64>,
    began: Arc<OnceLock<Instant>>,
}

impl SimClock {
    pub(crate) fn go_on_from(&self, at: Timestamp) {
        self.before.store(at.since(EPOCH), Ordering::Relaxed);
    }

    pub(crate) fn time(&self) -> Timestamp {
        let began = self.began.get_or_init(Instant::now);
        let passed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        EPOCH.plus(self.before.load(Ordering::Relaxed)).plus(passed)
    }

    pub(crate) async fn pass(&self, millis: u64) {
        // A sleep of nothing would still take a tick of the timer.
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.time()
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.pass(at.since(self.time())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_pass_in_no_time() {
        let begun = std::time::Instant::now();
        let clock = SimClock::default();
        runtime().expect("a runtime").block_on(async {
            assert_eq!(clock.now(), EPOCH);
            clock.sleep_until(EPOCH.plus(7_200_000)).await;
            assert_eq!(clock.now(), EPOCH.plus(7_200_000));
        });
        assert!(begun.elapsed().as_secs() < 60);
    }
}
