//! The API limit of a place: a token bucket, as clouds have it.

use castrum_blueprints::names::Timestamp;
use serde::{Deserialize, Serialize};

/// How many calls a place takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// How many calls may come at once.
    pub capacity: u32,
    /// How many more may come each second.
    pub refill_per_second: f64,
}

/// Calls that share a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Looking at the place.
    Observe,
    /// Making or changing an image.
    Image,
    /// Making or changing a network.
    Network,
    /// Making or changing a machine.
    Machine,
    /// Removing anything.
    Remove,
    /// Power control.
    Power,
}

impl Lane {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Observe, Self::Image, Self::Network, Self::Machine, Self::Remove, Self::Power];

    /// Its name in settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Image => "image",
            Self::Network => "network",
            Self::Machine => "machine",
            Self::Remove => "remove",
            Self::Power => "power",
        }
    }

    /// What a call of it does, in a word.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Image | Self::Network | Self::Machine => "ensure",
            _ => self.as_str(),
        }
    }
}

/// Less than any token or millisecond that matters: sums of fractions are not exact.
const NOTHING: f64 = 1e-6;

/// The bucket itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    limit: Limit,
    held: f64,
    at: Timestamp,
}

impl Bucket {
    pub(crate) fn new(limit: Limit, now: Timestamp) -> Self {
        Self { limit, held: f64::from(limit.capacity), at: now }
    }

    /// Takes a token, or says in how many milliseconds there is one.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<(), u64> {
        #[expect(clippy::cast_precision_loss, reason = "a span of virtual time is far below 2^52 ms")]
        let passed = now.since(self.at) as f64 / 1000.0;
        self.held = (self.held + passed * self.limit.refill_per_second).min(f64::from(self.limit.capacity));
        self.at = self.at.max(now);
        if self.held + NOTHING >= 1.0 {
            self.held = (self.held - 1.0).max(0.0);
            return Ok(());
        }
        let wait = (1.0 - self.held) / self.limit.refill_per_second * 1000.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and bounded by an hour"
        )]
        Err((wait - NOTHING).ceil().clamp(1.0, 3_600_000.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_what_it_holds_and_what_time_brings() {
        let limit = Limit { capacity: 2, refill_per_second: 4.0 };
        let mut bucket = Bucket::new(limit, Timestamp(0));
        assert_eq!([bucket.take(Timestamp(0)), bucket.take(Timestamp(0))], [Ok(()), Ok(())]);
        assert_eq!(bucket.take(Timestamp(0)), Err(250));
        assert_eq!(bucket.take(Timestamp(249)), Err(1));
        assert_eq!(bucket.take(Timestamp(250)), Ok(()));
        let late = Timestamp(1_000_000);
        assert_eq!([bucket.take(late), bucket.take(late)], [Ok(()), Ok(())]);
        assert!(bucket.take(late).is_err(), "it never holds more than its capacity");
    }
}
