//! Contact to one master: a watch on its API that is kept up, and a line for manifests.
//!
//! ```text
//! connect (directly, else through SSH) ──▶ watch(after) ──▶ news, join requests ──▶ watch(after) ...
//!    ▲                                        │ failed
//!    └──────── pause 0.2 s, growing to 2 s ◀──┘
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::manifest::{AGENT_PORT, SignedManifest};
use castrum_blueprints::names::NodeName;
use castrum_blueprints::wire::WatchAnswer;
use castrum_provider::{Failure, FailureClass, News, Reach};
use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Shared, admit};
use crate::link::{Dial, Direct, MasterClient, Stream};
use crate::trust::chain;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A master that takes longer is stuck; it gets its manifests when it is back, and nobody waits for it.
const PUBLISH: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);

/// Contact to one master, kept up until it is dropped.
pub(super) struct Contact {
    reach: Reach,
    line: Line,
    tried: watch::Receiver<bool>,
    up: Arc<AtomicBool>,
    hurry: Arc<Notify>,
    task: JoinHandle<()>,
}

/// What sending something to a master needs.
#[derive(Clone)]
pub(super) struct Line {
    shared: Arc<Shared>,
    client: Arc<MasterClient>,
    up: Arc<AtomicBool>,
}

/// The way to a master's API: directly, else through SSH.
struct Way {
    shared: Arc<Shared>,
    reach: Reach,
}

#[async_trait]
impl Dial for Way {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let address = SocketAddr::new(self.reach.address, AGENT_PORT);
        let error = match timeout(CONNECT, Direct(address).dial()).await {
            Ok(Ok(stream)) => return Ok(stream),
            // The machine answers, and its agent does not run yet: no other way would help.
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Err(error),
            Ok(Err(error)) => error,
            Err(_) => ErrorKind::TimedOut.into(),
        };
        let Ok(session) = self.shared.session(&self.reach).await else { return Err(error) };
        let tunnel = session.tunnel("127.0.0.1", AGENT_PORT, CONNECT).await.map_err(io::Error::other)?;
        Ok(Box::new(tunnel))
    }
}

impl Contact {
    pub(super) fn begin(shared: Arc<Shared>, reach: Reach) -> Self {
        let (tell_tried, tried) = watch::channel(false);
        let (hurry, up) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let way = Way { shared: Arc::clone(&shared), reach: reach.clone() };
        let client = MasterClient::new(reach.peer.name.clone(), Arc::new(way), shared.tls.clone());
        let line = Line { shared, client: Arc::new(client), up: Arc::clone(&up) };
        let task = tokio::spawn(keep(line.clone(), tell_tried, Arc::clone(&hurry)));
        Self { reach, line, tried, up, hurry, task }
    }

    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The line to it, if it answered the last time.
    pub(super) fn line(&self) -> Option<Line> {
        self.up.load(Ordering::Relaxed).then(|| self.line.clone())
    }

    /// Waits until the first try has ended, either way.
    pub(super) fn tried(&self) -> impl Future<Output = ()> + use<> {
        let mut tried = self.tried.clone();
        async move {
            let _ = tried.wait_for(|tried| *tried).await;
        }
    }

    /// Tries again at once.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }
}

impl Drop for Contact {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(line: Line, tried: watch::Sender<bool>, hurry: Arc<Notify>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let mut after = 0;
        loop {
            match line.client.watch(after).await {
                Ok(answer) => {
                    pause = FIRST_PAUSE;
                    if after == 0 {
                        line.catch_up(&answer).await;
                    }
                    after = answer.cursor;
                    line.up.store(true, Ordering::Relaxed);
                    line.take(answer).await;
                    tried.send_replace(true);
                }
                Err(error) => {
                    tracing::debug!(master = %line.client.node(), error = chain(&error), "no contact");
                    break;
                }
            }
        }
        line.up.store(false, Ordering::Relaxed);
        tried.send_replace(true);
        let _ = timeout(pause, hurry.notified()).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Line {
    /// Gives a master that was away what was published meanwhile.
    async fn catch_up(&self, answer: &WatchAnswer) {
        let missed: Vec<SignedManifest> = {
            let latest = self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = |signed: &&SignedManifest| {
                answer.published.get(&signed.node).is_none_or(|held| held.generation < signed.generation)
            };
            latest.values().filter(newer).cloned().collect()
        };
        if !missed.is_empty()
            && let Err(error) = self.client.publish(&missed).await
        {
            tracing::warn!(master = %self.client.node(), error = chain(&error), "manifests were not taken");
        }
    }

    async fn take(&self, answer: WatchAnswer) {
        let tell = |news| {
            let _ = self.shared.tell.send(news);
        };
        for (node, published) in answer.published {
            tell(News::Published(node, published));
        }
        for heard in answer.statuses {
            tell(News::Status(Box::new(heard.status), heard.age_ms));
        }
        if answer.joins.is_empty() {
            return;
        }
        let decisions = admit::decide(&self.shared, answer.joins).await;
        if let Err(error) = self.client.decide_joins(&decisions).await {
            tracing::warn!(master = %self.client.node(), error = chain(&error), "join decisions were not taken");
        }
    }
}

/// Gives manifests to every master that answers. Those that do not get them when they are back.
pub(super) async fn publish(
    shared: &Shared,
    lines: Vec<Line>,
    manifests: &[SignedManifest],
) -> Result<BTreeMap<NodeName, String>, Failure> {
    let sends = lines.iter().map(|line| async move {
        let sent = match timeout(PUBLISH, line.client.publish(manifests)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("{} does not answer", line.client.node())),
        };
        if sent.is_err() {
            line.up.store(false, Ordering::Relaxed);
        }
        sent
    });
    let mut refused = BTreeMap::new();
    let (mut taken, mut failure) = (false, None);
    for answer in join_all(sends).await {
        match answer {
            Ok(answer) => {
                taken = true;
                refused.extend(answer.refused);
            }
            Err(error) => failure = Some(error),
        }
    }
    if !taken {
        let why = failure.unwrap_or_else(|| "none answers yet".to_owned());
        return Err(Failure::new(FailureClass::Transient, format!("no master takes manifests: {why}")));
    }
    let mut latest = shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
    for signed in manifests.iter().filter(|signed| !refused.contains_key(&signed.node)) {
        latest.insert(signed.node.clone(), signed.clone());
    }
    Ok(refused)
}
