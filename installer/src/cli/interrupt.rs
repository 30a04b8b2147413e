//! How somebody outside asks a run to stop: Ctrl-C, or the signal by which programs ask programs.

use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::cancel::{Cancel, Canceller};

/// What a run says when it is asked to stop.
pub(super) const STOPPING: &str =
    "\nstopping: steps under way are finished, nothing new is begun; Ctrl-C again leaves at once\n";

/// The first Ctrl-C or SIGTERM asks to stop, which is answered with `said`; the second asks to leave at once.
pub(super) fn interruptible(said: &'static str) -> (Cancel, tokio::task::JoinHandle<()>) {
    let (canceller, cancel) = Cancel::new();
    (cancel, tokio::spawn(interrupts(canceller, said)))
}

async fn interrupts(canceller: Canceller, mut said: &'static str) {
    let asked = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = asked else { return };
    loop {
        // Whatever runs us asks with the second signal; it means the same.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        canceller.cancel();
        output::note(said);
        said = "\nleaving at once; what was under way is found by the next run\n";
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_run_that_is_told_to_end_is_asked_to_stop_and_not_killed() {
        let (cancel, listening) = interruptible(STOPPING);
        tokio::task::yield_now().await;
        kill_process(getpid(), Signal::TERM).expect("a signal for ourselves");
        tokio::time::timeout(Duration::from_secs(10), cancel.wait()).await.expect("it is heard");
        kill_process(getpid(), Signal::INT).expect("a signal for ourselves");
        tokio::time::timeout(Duration::from_secs(10), cancel.wait_for_force()).await.expect("it is heard");
        listening.abort();
    }
}
