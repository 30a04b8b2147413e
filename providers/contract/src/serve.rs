//! A provider served as a process of its own: calls come in as lines, and are answered in the order they are done.
//!
//! ```text
//!   hello ──▶ make the provider ──▶ hello back ──▶ calls at once, each until its answer, its deadline or its cancel
//!                    │ refused                               │ shutdown, or the end of the input
//!                    ▼                                       ▼
//!                  refuse, end                       drop what runs, end
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::lines::{LINE_LIMIT, LineError, next_line, write_lines};
use crate::wire::{
    self, CONTRACT_VERSION, Hello, Verb, Welcome, WireAbilities, WireObservation, WireWanted, place_of,
};
use crate::{Failure, FailureClass, Images, Power, Provider};

/// Who serves.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The provider's name, as in `castrum-provider-NAME`.
    pub name: &'static str,
    /// Its own version.
    pub version: &'static str,
}

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The input broke off, or had a line without end.
    #[error("the input cannot be read")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The first line was something else than a greeting.
    #[error("the input does not begin with a greeting: {0}")]
    NoGreeting(String),
    /// The provider could not be made from the greeting.
    #[error("the greeting was refused")]
    Refused(#[source] Failure),
}

impl From<LineError> for ServeError {
    fn from(error: LineError) -> Self {
        Self::Read(Box::new(error))
    }
}

/// How long answers that are written already may take to leave.
const FLUSH: Duration = Duration::from_secs(5);

/// Serves one provider on standard input and output until the input ends. The whole of a provider's `main`.
pub fn run<P, F>(about: About, make: impl FnOnce(Hello) -> F) -> ExitCode
where
    P: Provider + 'static,
    F: Future<Output = Result<P, Failure>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let served = runtime.block_on(serve(about, make, tokio::io::stdin(), tokio::io::stdout()));
    // A read of standard input that is under way cannot be called back.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the provider that `make` makes from the greeting, until the input ends or asks for the end.
pub async fn serve<P, F>(
    about: About,
    make: impl FnOnce(Hello) -> F,
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), ServeError>
where
    P: Provider + 'static,
    F: Future<Output = Result<P, Failure>>,
{
    let (outbox, lines) = unbounded_channel();
    let writing = tokio::spawn(write_lines(writer, lines));
    let ended = greet_and_serve(about, make, BufReader::new(reader), outbox).await;
    // Whoever does not read the last answers does not keep us.
    let _ = timeout(FLUSH, writing).await;
    ended
}

async fn greet_and_serve<P, F>(
    about: About,
    make: impl FnOnce(Hello) -> F,
    mut reader: BufReader<impl AsyncRead + Unpin>,
    outbox: UnboundedSender<String>,
) -> Result<(), ServeError>
where
    P: Provider + 'static,
    F: Future<Output = Result<P, Failure>>,
{
    let Some(first) = next_line(&mut reader, &mut Vec::new(), LINE_LIMIT).await? else { return Ok(()) };
    let begun = match read_hello(&first)? {
        hello if hello.contract == CONTRACT_VERSION => make(hello).await,
        hello => Err(other_version(about, hello.contract)),
    };
    let provider = match begun {
        Ok(provider) => provider,
        Err(failure) => {
            let _ = outbox.send(wire::refuse(&failure));
            return Err(ServeError::Refused(failure));
        }
    };
    let _ = outbox.send(wire::welcome(&Welcome {
        contract: CONTRACT_VERSION,
        provider: about.name.to_owned(),
        version: about.version.to_owned(),
        abilities: WireAbilities::of(&provider.abilities()),
    }));
    let mut desk =
        Desk { provider: Arc::new(provider), outbox, running: JoinSet::new(), calls: BTreeMap::new() };
    let mut line = Vec::new();
    loop {
        tokio::select! {
            read = next_line(&mut reader, &mut line, LINE_LIMIT) => match read? {
                Some(line) if !desk.take(&line) => return Ok(()),
                Some(_) => {}
                None => return Ok(()),
            },
            Some(done) = desk.running.join_next_with_id() => desk.done(done),
        }
    }
}

fn read_hello(line: &[u8]) -> Result<Hello, ServeError> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| ServeError::NoGreeting(place_of(&error)))?;
    if value["say"] != "hello" {
        return Err(ServeError::NoGreeting("it says something else than `hello`".to_owned()));
    }
    // A greeting of another version may look otherwise; its number is what matters then.
    let version = value["contract"].as_u64();
    serde_json::from_value(value).map_err(|error| match version {
        Some(version) => ServeError::NoGreeting(format!("contract version {version}, {}", place_of(&error))),
        None => ServeError::NoGreeting(place_of(&error)),
    })
}

fn other_version(about: About, version: u32) -> Failure {
    let text = format!(
        "provider `{}` {} speaks version {CONTRACT_VERSION} of the contract, and was greeted in version {version}",
        about.name, about.version
    );
    Failure::new(FailureClass::Unsupported, text)
        .with_hint("use a provider and a Castrum of the same contract version")
}

type Done = (u64, Result<Value, Failure>);

/// The calls under way.
struct Desk<P> {
    provider: Arc<P>,
    outbox: UnboundedSender<String>,
    running: JoinSet<Done>,
    calls: BTreeMap<u64, AbortHandle>,
}

impl<P: Provider + 'static> Desk<P> {
    /// Takes in one line. Whether to go on.
    fn take(&mut self, line: &[u8]) -> bool {
        let message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!("a line that is no message was left out: {}", place_of(&error));
                return true;
            }
        };
        let id = message["id"].as_u64();
        match (message["say"].as_str(), id) {
            (Some("shutdown"), _) => return false,
            (Some("call"), Some(id)) => self.call(id, message),
            (Some("cancel"), Some(id)) => {
                if let Some(call) = self.calls.remove(&id) {
                    call.abort();
                }
            }
            (say, _) => tracing::warn!("a message that is not known was left out: {say:?}"),
        }
        true
    }

    fn call(&mut self, id: u64, message: Value) {
        let deadline = message["deadline_ms"].as_u64().map_or(Duration::MAX, Duration::from_millis);
        let verb = match serde_json::from_value::<Verb>(message) {
            _ if self.calls.contains_key(&id) => {
                return self.answer(id, &Err(invalid(format!("the number {id} is in use"))));
            }
            Ok(verb) => verb,
            // The error's own text may hold what was sent.
            Err(_) => return self.answer(id, &Err(invalid("the call cannot be read".to_owned()))),
        };
        let provider = Arc::clone(&self.provider);
        let work = async move {
            let done = timeout(deadline, perform(&*provider, verb)).await;
            let late = || Failure::new(FailureClass::Transient, "the deadline passed before it was done");
            (id, done.unwrap_or_else(|_| Err(late())))
        };
        self.calls.insert(id, self.running.spawn(work));
    }

    fn done(&mut self, done: Result<(tokio::task::Id, Done), tokio::task::JoinError>) {
        match done {
            Ok((_, (id, result))) => {
                self.calls.remove(&id);
                self.answer(id, &result);
            }
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                let Some(id) = self.calls.iter().find(|(_, call)| call.id() == error.id()).map(|(id, _)| *id)
                else {
                    return;
                };
                self.calls.remove(&id);
                self.answer(id, &Err(invalid("the provider has a fault: it panicked".to_owned())));
            }
        }
    }

    fn answer(&self, id: u64, result: &Result<Value, Failure>) {
        let mut line = wire::answer(id, result);
        if line.len() > LINE_LIMIT {
            let failure = invalid(format!("the answer is longer than {LINE_LIMIT} bytes"));
            line = wire::answer(id, &Err(failure));
        }
        // An installer that is gone reads no answers; the end of the input follows.
        let _ = self.outbox.send(line);
    }
}

fn invalid(text: String) -> Failure {
    Failure::new(FailureClass::Invalid, text)
}

async fn perform(provider: &impl Provider, verb: Verb) -> Result<Value, Failure> {
    match verb {
        Verb::Observe => value(WireObservation::from(provider.observe().await)),
        Verb::Ensure { wanted } => value(ensure(provider, *wanted).await?),
        Verb::Remove { path } => value(provider.remove(&path).await?),
        Verb::PowerState { machine } => value(power(provider)?.state(&machine).await?),
        Verb::PowerSet { machine, power: wanted } => value(power(provider)?.set(&machine, wanted).await?),
        Verb::PowerKill { machine } => value(power(provider)?.kill(&machine).await?),
        Verb::Preflight => value(provider.preflight().await),
        Verb::FindImage { release } => value(images(provider)?.find(&release).await?),
        Verb::Unknown => Err(Failure::new(FailureClass::Unsupported, "the verb is not known")),
    }
}

async fn ensure(provider: &impl Provider, wanted: WireWanted) -> Result<crate::Ensured, Failure> {
    let Some(wanted) = wanted.read() else {
        let text = "the resource has properties that this version of the provider does not know";
        return Err(Failure::new(FailureClass::Unsupported, text).with_hint("bring the provider up to date"));
    };
    provider.ensure(&wanted).await
}

fn power(provider: &impl Provider) -> Result<&dyn Power, Failure> {
    let none = || Failure::new(FailureClass::Unsupported, "this place has no power control");
    provider.power().ok_or_else(none)
}

fn images(provider: &impl Provider) -> Result<&dyn Images, Failure> {
    let none = || Failure::new(FailureClass::Unsupported, "this place has no images to look up");
    provider.images().ok_or_else(none)
}

fn value(answer: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(answer).map_err(|error| invalid(format!("the answer cannot be written: {error}")))
}
