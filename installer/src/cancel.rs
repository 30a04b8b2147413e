//! Being asked to stop: the first Ctrl-C starts nothing new, the second leaves at once.

use tokio::sync::watch;

/// Whether somebody asked to stop. Clones ask the same.
#[derive(Clone)]
pub struct Cancel {
    asked: watch::Receiver<bool>,
}

/// The other end: asks to stop.
pub struct Canceller(watch::Sender<bool>);

impl Canceller {
    /// Asks to stop; `false` if somebody had asked before.
    pub fn cancel(&self) -> bool {
        !self.0.send_replace(true)
    }
}

impl Cancel {
    /// A pair of both ends.
    pub fn new() -> (Canceller, Self) {
        let (sender, asked) = watch::channel(false);
        (Canceller(sender), Self { asked })
    }

    /// Whether somebody asked to stop.
    pub fn is_set(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until somebody asks to stop.
    pub async fn wait(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}
