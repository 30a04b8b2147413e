//! How fast is enough: waits that grow between tries, and a bucket that bounds what strangers may ask.

use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(3);

/// Waits from 0.2 to 3 seconds, with chance in them so that nodes that failed together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// What to wait before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.tries.min(4)).min(LONGEST);
        self.tries += 1;
        // Between 70 and 100 percent.
        full.mul_f64(0.7 + 0.3 * chance())
    }

    /// It worked: begin anew with the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// From 0 to 1. Without random bytes it is 0: a jitter is no secret.
fn chance() -> f64 {
    f64::from(random()) / f64::from(u32::MAX)
}

/// A number below `bound`, or 0.
pub(crate) fn below(bound: usize) -> usize {
    usize::try_from(random()).unwrap_or_default() % bound.max(1)
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).map_or(0, |()| u32::from_be_bytes(bytes))
}

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    size: f64,
    a_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket of `size` that is filled with `a_second`.
    pub(crate) fn new(size: u32, a_second: u32, now: Instant) -> Self {
        Self { size: size.into(), a_second: a_second.into(), left: size.into(), at: now }
    }

    /// Whether there was one left to take.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.a_second;
        self.left = (self.left + gained).min(self.size);
        self.at = now;
        let some = self.left >= 1.0;
        if some {
            self.left -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..8).map(|_| backoff.next()).collect();
        assert!(waits[0] >= Duration::from_millis(140) && waits[0] <= FIRST, "{waits:?}");
        assert!(waits[7] >= Duration::from_millis(2100) && waits[7] <= LONGEST, "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn a_bucket_gives_no_more_than_it_gets() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, 2, start);
        let taken = (0..10).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(start + Duration::from_millis(400)));
        assert!(bucket.take(start + Duration::from_millis(600)));
        let later = start + Duration::from_mins(1);
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 3);
    }
}
