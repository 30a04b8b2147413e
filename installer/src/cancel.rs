//! Being asked to stop: the first Ctrl-C starts nothing new, the second leaves at once. A lease that is gone asks as the
//! first Ctrl-C does, and by its deadline alone: also where nobody has found out yet.

use std::sync::Arc;

use tokio::sync::watch;

use crate::project::Tenure;

/// How often somebody asked to stop. Clones ask the same.
#[derive(Clone)]
pub struct Cancel {
    asked: watch::Receiver<u32>,
    tenure: Option<Arc<Tenure>>,
}

/// The other end: asks to stop.
pub struct Canceller(watch::Sender<u32>);

impl Canceller {
    /// Asks to stop, and once more to leave at once.
    pub fn cancel(&self) {
        self.0.send_modify(|asked| *asked += 1);
    }
}

impl Cancel {
    /// A pair of both ends.
    pub fn new() -> (Canceller, Self) {
        let (sender, asked) = watch::channel(0);
        (Canceller(sender), Self { asked, tenure: None })
    }

    /// The same, that also asks when a lease is gone.
    #[must_use]
    pub fn bound_to(self, tenure: Option<Arc<Tenure>>) -> Self {
        Self { tenure, ..self }
    }

    /// Whether somebody asked to stop.
    pub fn is_set(&self) -> bool {
        *self.asked.borrow() > 0 || self.tenure.as_ref().is_some_and(|tenure| !tenure.holds())
    }

    /// Waits until somebody asks to stop.
    pub async fn wait(&self) {
        match &self.tenure {
            Some(tenure) => tokio::select! {
                () = self.times(1) => {}
                () = tenure.wait() => {}
            },
            None => self.times(1).await,
        }
    }

    /// Waits until somebody asks to leave at once.
    pub async fn wait_for_force(&self) {
        self.times(2).await;
    }

    async fn times(&self, wanted: u32) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked >= wanted).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_first_asks_to_stop_and_the_second_to_leave() {
        let (canceller, cancel) = Cancel::new();
        assert!(!cancel.is_set() && cancel.wait().now_or_never().is_none());
        canceller.cancel();
        assert!(cancel.is_set() && cancel.wait().now_or_never().is_some());
        assert!(cancel.wait_for_force().now_or_never().is_none());
        canceller.cancel();
        assert!(cancel.wait_for_force().now_or_never().is_some());
    }
}
