//! The system's clock.

use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::names::Timestamp;
use castrum_provider::Clock;

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        castrum_provider::now()
    }

    async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep(Duration::from_millis(at.since(self.now()))).await;
    }
}
