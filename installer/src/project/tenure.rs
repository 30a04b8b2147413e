//! Whether this process still holds its lease: asked before anything is begun, answered from a clock alone.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::lease::{Moment, Term};

/// Now, by a clock that nobody sets and that goes on while the machine sleeps.
pub fn moment() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    Moment(seconds.unwrap_or(0) * 1000 + nanos.unwrap_or(0) / 1_000_000)
}

/// Why a lease is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// Somebody else has it.
    #[error("the lease of `{place}` was taken over by {by}: this run has stopped and writes nothing more")]
    TakenOver {
        /// The place.
        place: String,
        /// Who.
        by: String,
    },
    /// Somebody broke it with `unlock`, and nobody has it.
    #[error(
        "the lease of `{place}` was broken by {by} with `castrum unlock`: this run has stopped and writes nothing more"
    )]
    Broken {
        /// The place.
        place: String,
        /// Who.
        by: String,
    },
    /// It could not be renewed before others may take it.
    #[error("the lease of `{place}` could not be renewed in time ({cause}): this run has stopped")]
    Late {
        /// The place.
        place: String,
        /// Why.
        cause: String,
    },
}

/// The term of a lease that this process holds, or held.
#[derive(Debug)]
pub struct Tenure {
    ends: AtomicU64,
    gone: watch::Sender<Option<Gone>>,
}

impl Tenure {
    /// The tenure of a term that has begun.
    pub fn new(term: Term) -> Self {
        Self { ends: AtomicU64::new(term.ends().0), gone: watch::Sender::new(None) }
    }

    /// Whether nothing was lost, and nobody can have taken over by now.
    pub fn holds(&self) -> bool {
        moment().0 < self.ends.load(Ordering::Acquire) && self.gone.borrow().is_none()
    }

    /// Why it is gone, as soon as that is known.
    pub fn gone(&self) -> Option<Gone> {
        self.gone.borrow().clone()
    }

    /// Waits until it is gone.
    pub async fn wait(&self) {
        let mut gone = self.gone.subscribe();
        if gone.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn renewed(&self, term: Term) {
        self.ends.store(term.ends().0, Ordering::Release);
    }

    pub(super) fn lose(&self, why: Gone) {
        self.gone.send_modify(|gone| {
            gone.get_or_insert(why);
        });
    }
}
