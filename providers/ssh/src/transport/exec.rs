//! Commands on a machine: run to the end with bounded output, or followed while they run.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::{ChannelMsg, ChannelReadHalf};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::channel::Writer;
use super::error::SshError;
use super::session::{OPENING, Session};

/// How much of a command and its standard error an error message shows.
const SHOWN: usize = 400;

/// What a command reads. Secrets go here, never into the command.
pub struct Stdin(pub(crate) Source);

pub(crate) enum Source {
    Empty,
    Bytes(Bytes),
    Reader(Box<dyn AsyncRead + Send + Unpin>),
    Pieces(mpsc::Receiver<Bytes>),
}

impl Stdin {
    /// Streams from `reader`; only a small piece of it is in memory at a time.
    pub fn reader(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Source::Reader(Box::new(reader)))
    }

    /// Sends what comes through `pieces`, until all their senders are gone.
    pub fn pieces(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self(Source::Pieces(pieces))
    }
}

impl From<()> for Stdin {
    fn from((): ()) -> Self {
        Self(Source::Empty)
    }
}

impl From<Bytes> for Stdin {
    fn from(bytes: Bytes) -> Self {
        Self(Source::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Stdin {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Source::Bytes(bytes.into()))
    }
}

impl From<String> for Stdin {
    fn from(text: String) -> Self {
        Self(Source::Bytes(text.into()))
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        Self(Source::Bytes(Bytes::copy_from_slice(text.as_bytes())))
    }
}

/// How long a command may run, and how much of its output is kept; the rest is read and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the request to the end of the command.
    pub deadline: Duration,
    /// Bytes of standard output.
    pub stdout: usize,
    /// Bytes of standard error.
    pub stderr: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_mins(1), stdout: 1 << 20, stderr: 64 << 10 }
    }
}

impl Limits {
    /// The usual limits with another deadline.
    pub fn within(deadline: Duration) -> Self {
        Self { deadline, ..Self::default() }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited.
    Code(u32),
    /// A signal ended it.
    Signal(String),
}

impl ExitStatus {
    /// Whether it exited with 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// The begin of its standard output.
    pub stdout: Bytes,
    /// The begin of its standard error.
    pub stderr: Bytes,
    /// Whether there was more output than was kept.
    pub truncated: bool,
}

/// A piece of a running command's output, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Standard output.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The command ended.
    Exit(ExitStatus),
}

impl Session {
    /// Runs `command` with the login shell of the user; any exit status is an answer. A dropped future closes the
    /// command's channel, and with it its standard input and output.
    pub async fn exec(
        &self,
        command: &str,
        stdin: impl Into<Stdin>,
        limits: &Limits,
    ) -> Result<Output, SshError> {
        let work = self.run(command, stdin.into(), limits);
        match timeout(limits.deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(&format!("`{}`", shortened(command)), limits.deadline)),
        }
    }

    /// As [`Self::exec`], but a command that fails is an error.
    pub async fn check(
        &self,
        command: &str,
        stdin: impl Into<Stdin>,
        limits: &Limits,
    ) -> Result<Output, SshError> {
        let output = self.exec(command, stdin, limits).await?;
        if output.status.is_success() {
            return Ok(output);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stderr = stderr.trim();
        let from = stderr.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
        Err(SshError::CommandFailed {
            address: self.address().to_owned(),
            command: shortened(command),
            status: output.status,
            stderr: stderr[from..].to_owned(),
        })
    }

    /// Starts `command` and hands out what it says while it runs. Whoever has the answer must keep reading it: what is
    /// not read holds up everything else on this session.
    pub async fn exec_streaming(
        &self,
        command: &str,
        stdin: impl Into<Stdin>,
    ) -> Result<Streaming, SshError> {
        let stdin = stdin.into();
        let start = async {
            let (reader, writer) = self.channel().await?;
            self.request(writer.half()?.exec(true, command)).await?;
            Ok(Streaming::new(reader, writer))
        };
        let mut streaming = match timeout(OPENING, start).await {
            Ok(streaming) => streaming?,
            Err(_) => return Err(self.timed_out(&format!("starting `{}`", shortened(command)), OPENING)),
        };
        let writer = streaming.writer.clone();
        streaming.feeding = Some(tokio::spawn(async move { writer.feed(stdin).await }));
        Ok(streaming)
    }

    /// Sends a request on a channel; a session that is gone cannot take it.
    pub(crate) async fn request(
        &self,
        request: impl Future<Output = Result<(), russh::Error>>,
    ) -> Result<(), SshError> {
        request.await.map_err(|_| self.lost())
    }

    async fn run(&self, command: &str, stdin: Stdin, limits: &Limits) -> Result<Output, SshError> {
        let (mut reader, writer) = self.channel().await?;
        self.request(writer.half()?.exec(true, command)).await?;
        let mut gathered = Gathered::new(limits);
        let mut feeding = pin!(writer.feed(stdin));
        let mut fed = false;
        loop {
            tokio::select! {
                message = reader.wait() => match message {
                    Some(ChannelMsg::Failure) => return Err(refused_command(self, command)),
                    Some(ChannelMsg::Close) | None => break,
                    Some(message) => gathered.take(message),
                },
                result = &mut feeding, if !fed => {
                    fed = true;
                    result?;
                }
            }
        }
        gathered.finish().ok_or_else(|| self.lost())
    }
}

fn refused_command(session: &Session, command: &str) -> SshError {
    SshError::Refused {
        address: session.address().to_owned(),
        what: format!("`{}`", shortened(command)),
        reason: "commands are not allowed".to_owned(),
    }
}

fn shortened(command: &str) -> String {
    match command.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &command[..at]),
        None => command.to_owned(),
    }
}

/// Output as it comes in, up to the limits.
struct Gathered {
    stdout: BytesMut,
    stderr: BytesMut,
    most: [usize; 2],
    truncated: bool,
    status: Option<ExitStatus>,
}

impl Gathered {
    fn new(limits: &Limits) -> Self {
        Self {
            stdout: BytesMut::new(),
            stderr: BytesMut::new(),
            most: [limits.stdout, limits.stderr],
            truncated: false,
            status: None,
        }
    }

    fn take(&mut self, message: ChannelMsg) {
        let (kept, most, data) = match message {
            ChannelMsg::Data { data } => (&mut self.stdout, self.most[0], data),
            ChannelMsg::ExtendedData { data, ext: 1 } => (&mut self.stderr, self.most[1], data),
            other => {
                if let Some(status) = exit_of(&other) {
                    self.status = Some(status);
                }
                return;
            }
        };
        let room = most.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(&data[..room]);
        self.truncated |= room < data.len();
    }

    fn finish(self) -> Option<Output> {
        let (stdout, stderr) = (self.stdout.freeze(), self.stderr.freeze());
        self.status.map(|status| Output { status, stdout, stderr, truncated: self.truncated })
    }
}

fn exit_of(message: &ChannelMsg) -> Option<ExitStatus> {
    match message {
        ChannelMsg::ExitStatus { exit_status } => Some(ExitStatus::Code(*exit_status)),
        ChannelMsg::ExitSignal { signal_name, .. } => {
            Some(ExitStatus::Signal(format!("{signal_name:?}").to_uppercase()))
        }
        _ => None,
    }
}

/// A command that runs. Dropping it closes the command's channel.
pub struct Streaming {
    reader: ChannelReadHalf,
    writer: std::sync::Arc<Writer>,
    feeding: Option<tokio::task::JoinHandle<Result<(), SshError>>>,
    ended: bool,
}

impl Streaming {
    pub(crate) fn new(reader: ChannelReadHalf, writer: Writer) -> Self {
        Self { reader, writer: std::sync::Arc::new(writer), feeding: None, ended: false }
    }

    pub(crate) fn writer(&self) -> std::sync::Arc<Writer> {
        self.writer.clone()
    }

    /// The next piece; `None` after the end. It has no deadline, since a log may be silent; a dead machine is noticed
    /// by its missing signs of life. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Chunk>, SshError> {
        while let Some(message) = self.reader.wait().await {
            match message {
                ChannelMsg::Data { data } => return Ok(Some(Chunk::Stdout(data))),
                ChannelMsg::ExtendedData { data, ext: 1 } => return Ok(Some(Chunk::Stderr(data))),
                ChannelMsg::Failure => {
                    return Err(refused_command(self.writer.session(), "the command"));
                }
                ChannelMsg::Close => break,
                other => {
                    if let Some(status) = exit_of(&other) {
                        self.ended = true;
                        return Ok(Some(Chunk::Exit(status)));
                    }
                }
            }
        }
        if self.ended { Ok(None) } else { Err(self.writer.session().lost()) }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(feeding) = &self.feeding {
            feeding.abort();
        }
    }
}
