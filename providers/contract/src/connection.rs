//! One conversation with a provider in another process: numbered calls out, answers in as they come.
//!
//! Every wait has an end: the greeting, each answer, and the last words of a process that is going.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::lines::{LINE_LIMIT, LineError, next_line, write_lines};
use crate::veil::Veil;
use crate::wire::{self, CONTRACT_VERSION, Hello, Refusal, Verb, Welcome, place_of};
use crate::{Failure, FailureClass};

/// The other end of a conversation.
pub struct Line {
    /// What it says.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it is told.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its life.
    pub peer: Box<dyn Peer>,
}

/// The life of whoever is at the other end.
#[async_trait]
pub trait Peer: Send {
    /// Ends it at once.
    fn kill(&mut self);
    /// Waits a moment for its end, helps where it does not come, and says how it ended. The text is not cleaned.
    async fn ended(&mut self) -> String;
}

/// A provider that answered the greeting.
pub(crate) struct Greeted {
    pub(crate) connection: Connection,
    pub(crate) welcome: Welcome,
}

/// What failures and logs call a provider, and what they must not show.
#[derive(Clone)]
pub struct Told {
    pub(crate) name: Arc<str>,
    pub(crate) veil: Arc<Veil>,
}

impl Told {
    pub(crate) fn failure(&self, class: FailureClass, text: &str) -> Failure {
        Failure::new(class, format!("provider `{}` {}", self.name, self.veil.clean(text)))
    }

    pub(crate) fn cleaned(&self, mut failure: Failure) -> Failure {
        failure.message = self.veil.clean(&failure.message);
        failure.hint = failure.hint.map(|hint| self.veil.clean(&hint));
        failure
    }
}

/// A conversation that was begun.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    outbox: UnboundedSender<String>,
    next: AtomicU64,
    over: watch::Receiver<bool>,
    tasks: [AbortHandle; 2],
}

struct Shared {
    told: Told,
    state: Mutex<State>,
    kill: Notify,
}

struct State {
    pending: BTreeMap<u64, oneshot::Sender<Result<Value, Failure>>>,
    /// Why nothing more will come.
    ended: Option<Failure>,
    heard: Instant,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much longer than its deadline an answer is awaited, for its way.
const GRACE: Duration = Duration::from_secs(2);

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Greets whoever is at the other end; it has `limit` to answer.
pub(crate) async fn greet(
    mut line: Line,
    hello: &Hello,
    told: Told,
    limit: Duration,
) -> Result<Greeted, Failure> {
    let mut reader = BufReader::new(line.reader);
    let greeting = async {
        // One that is gone already, or has not read yet, is told apart by what it says.
        let _ = line.writer.write_all(wire::hello(hello).as_bytes()).await;
        let _ = line.writer.flush().await;
        first_word(&mut reader).await
    };
    let welcome = match timeout(limit, greeting).await {
        Err(_) => {
            line.peer.kill();
            let text = format!("did not answer the greeting within {limit:?}; {}", line.peer.ended().await);
            return Err(told.failure(FailureClass::Transient, &text));
        }
        Ok(First::Welcome(welcome)) if welcome.contract != CONTRACT_VERSION => {
            let text = format!(
                "{} speaks version {} of the contract, and this Castrum speaks version {CONTRACT_VERSION}",
                welcome.version, welcome.contract
            );
            let hint = "use a provider and a Castrum of the same contract version";
            return Err(told.failure(FailureClass::Unsupported, &text).with_hint(hint));
        }
        Ok(First::Welcome(welcome)) => welcome,
        Ok(First::Refused(refusal)) => return Err(told.cleaned(refusal.failure)),
        Ok(First::Rubbish(text)) => return Err(told.breach(&text)),
        Ok(First::End) => {
            let text = format!("ended before it answered the greeting; {}", line.peer.ended().await);
            return Err(told.failure(FailureClass::Transient, &text));
        }
    };
    let (outbox, lines) = unbounded_channel();
    let shared = Arc::new(Shared {
        told,
        state: Mutex::new(State { pending: BTreeMap::new(), ended: None, heard: Instant::now() }),
        kill: Notify::new(),
    });
    let (tell_over, over) = watch::channel(false);
    let reading = tokio::spawn(read_lines(reader, line.peer, Arc::clone(&shared), tell_over));
    let writing = tokio::spawn(write_lines(line.writer, lines));
    let tasks = [reading.abort_handle(), writing.abort_handle()];
    Ok(Greeted { connection: Connection { shared, outbox, next: AtomicU64::new(1), over, tasks }, welcome })
}

enum First {
    Welcome(Welcome),
    Refused(Refusal),
    Rubbish(String),
    End,
}

async fn first_word(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> First {
    let mut line = Vec::new();
    loop {
        let line = match next_line(reader, &mut line, LINE_LIMIT).await {
            Ok(Some(line)) => line,
            Ok(None) | Err(LineError::Read(_)) => return First::End,
            Err(error) => return First::Rubbish(error.to_string()),
        };
        let Some(message) = parse(&line) else { return First::Rubbish(rubbish(&line)) };
        let read = match message["say"].as_str() {
            Some("hello") => serde_json::from_value(message).map(First::Welcome),
            Some("refuse") => serde_json::from_value(message).map(First::Refused),
            _ => continue,
        };
        return read.unwrap_or_else(|error| First::Rubbish(place_of(&error)));
    }
}

/// A message is an object.
fn parse(line: &[u8]) -> Option<Value> {
    serde_json::from_slice(line).ok().filter(Value::is_object)
}

fn rubbish(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    format!("no message: {}", text.chars().take(80).collect::<String>())
}

impl Told {
    fn breach(&self, text: &str) -> Failure {
        self.failure(FailureClass::Invalid, &format!("does not keep to the protocol: {text}"))
            .with_hint("a provider writes messages to standard output, and all else to standard error")
    }
}

async fn read_lines(
    mut reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    mut peer: Box<dyn Peer>,
    shared: Arc<Shared>,
    over: watch::Sender<bool>,
) {
    let mut line = Vec::new();
    let breach = loop {
        let read = tokio::select! {
            read = next_line(&mut reader, &mut line, LINE_LIMIT) => read,
            () = shared.kill.notified() => {
                peer.kill();
                break None;
            }
        };
        match read {
            Ok(Some(line)) => match parse(&line) {
                Some(message) => shared.hear(message),
                None => break Some(rubbish(&line)),
            },
            Ok(None) | Err(LineError::Read(_)) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    let failure = match breach {
        Some(text) => {
            peer.kill();
            shared.told.breach(&text)
        }
        None => shared.told.failure(FailureClass::Transient, &peer.ended().await),
    };
    let pending = {
        let mut state = shared.state();
        state.ended = Some(failure.clone());
        std::mem::take(&mut state.pending)
    };
    over.send_replace(true);
    for answer in pending.into_values() {
        let _ = answer.send(Err(failure.clone()));
    }
    // What breached the protocol is gone before anybody starts another.
    peer.ended().await;
}

impl Shared {
    fn hear(&self, mut message: Value) {
        let id = message["id"].as_u64();
        let said = message["say"].as_str().unwrap_or_default().to_owned();
        let result = match (said.as_str(), id) {
            ("answer", Some(_)) => Ok(message["result"].take()),
            ("failure", Some(_)) => Err(match serde_json::from_value(message["failure"].take()) {
                Ok(failure) => self.told.cleaned(failure),
                Err(error) => self.told.breach(&format!("a failure cannot be read ({})", place_of(&error))),
            }),
            _ => {
                tracing::debug!(provider = &*self.told.name, "a message that is not known was left out");
                return;
            }
        };
        let mut state = self.state();
        state.heard = Instant::now();
        let awaited = id.and_then(|id| state.pending.remove(&id));
        drop(state);
        if let Some(awaited) = awaited {
            let _ = awaited.send(result);
        } else {
            // The second answer to a call, or one to a call that was given up.
            tracing::debug!(provider = &*self.told.name, id, "an answer that nobody awaits");
        }
    }
}

impl Connection {
    /// Why nothing more will come of it.
    pub(crate) fn ended(&self) -> Option<Failure> {
        self.shared.state().ended.clone()
    }

    /// Ends the other end at once.
    pub(crate) fn kill(&self) {
        self.shared.kill.notify_one();
    }

    /// Waits until nothing more will come, at most so long. Whether it is so.
    pub(crate) async fn over(&self, limit: Duration) -> bool {
        let mut over = self.over.clone();
        timeout(limit, over.wait_for(|over| *over)).await.is_ok()
    }

    /// Asks for the end, and waits for it as long as `limit`.
    pub(crate) async fn shutdown(&self, limit: Duration) {
        let _ = self.outbox.send(wire::shutdown());
        if !self.over(limit).await {
            self.kill();
        }
    }

    /// Asks, and waits for the answer until the deadline. A call that is dropped is cancelled.
    pub(crate) async fn call(&self, verb: &Verb, deadline: Duration) -> Result<Value, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let line = wire::call(id, deadline_ms, verb);
        if line.len() > LINE_LIMIT {
            return Err(self.shared.told.failure(FailureClass::Invalid, "cannot be asked this much at once"));
        }
        let (answer, mut answered) = oneshot::channel();
        let sent = {
            let mut state = self.shared.state();
            if let Some(ended) = &state.ended {
                return Err(ended.clone());
            }
            state.pending.insert(id, answer);
            Instant::now()
        };
        let _asking = Asking { connection: self, id };
        let _ = self.outbox.send(line);
        match timeout(deadline + GRACE, &mut answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.shared.told.failure(FailureClass::Transient, "was given up")),
            Err(_) => {
                if self.shared.state().heard <= sent {
                    // Not a word since the question: it hangs, and the next call gets a new one.
                    self.kill();
                }
                Err(self
                    .shared
                    .told
                    .failure(FailureClass::Transient, &format!("did not answer within {deadline:?}")))
            }
        }
    }
}

/// A call under way. When it is dropped without an answer, the other end is told that nobody waits any more.
struct Asking<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.connection.shared.state().pending.remove(&self.id).is_some() {
            let _ = self.connection.outbox.send(wire::cancel(self.id));
        }
    }
}
