//! A person on a node: their terminal connected to a shell there, or to one command.

mod terminal;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::Bytes;
use castrum_provider_ssh::transport::{
    Chunk, ExitStatus, Session, ShellInput, SshError, Stdin, Streaming, TerminalSize,
};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::terminal::{Input, Raw, size_of};

/// Why a person could not work on a node.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The session failed.
    #[error("working on the node")]
    Session(#[source] SshError),
    /// This side's terminal failed.
    #[error("using this terminal")]
    Terminal(#[source] io::Error),
}

/// Where a person sits.
pub struct Terminal {
    /// What is typed.
    pub input: OwnedFd,
    /// What is shown.
    pub output: OwnedFd,
}

impl Terminal {
    /// The terminal that this process was started from.
    pub fn standard() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { input, output: io::stdout().as_fd().try_clone_to_owned()? })
    }
}

/// Connects `terminal` to the login shell on the node until that ends. The terminal is raw meanwhile, and as before
/// afterwards, whatever happens.
pub async fn shell(
    session: &Session,
    terminal: Terminal,
    kind: Option<&str>,
) -> Result<ExitStatus, ShellError> {
    let size = size_of(&terminal.output).map_err(ShellError::Terminal)?;
    let started = session.shell(kind.unwrap_or("xterm"), size).await;
    let (remote, streaming) = started.map_err(ShellError::Session)?;
    let raw = Raw::enter(&terminal.input).map_err(ShellError::Terminal)?;
    let typed = Input::read(terminal.input.try_clone().map_err(ShellError::Terminal)?);
    let resized = signal(SignalKind::window_change()).map_err(ShellError::Terminal)?;
    let ends = Ends { remote, typed: typed.map_err(ShellError::Terminal)?, resized };
    let result = connect(streaming, ends, terminal.output).await;
    drop(raw);
    result
}

/// The sources of what goes to the node.
struct Ends {
    remote: ShellInput,
    typed: Input,
    resized: Signal,
}

/// Both directions at once: a node that takes no more keys for a while must still be able to show something.
async fn connect(streaming: Streaming, ends: Ends, output: OwnedFd) -> Result<ExitStatus, ShellError> {
    let shown = output.try_clone().map_err(ShellError::Terminal)?;
    let screen = tokio::fs::File::from_std(shown.into());
    tokio::select! {
        result = display(streaming, screen) => result,
        Err(error) = type_in(ends, &output) => Err(error),
    }
}

async fn display(mut streaming: Streaming, mut screen: tokio::fs::File) -> Result<ExitStatus, ShellError> {
    let mut status = ExitStatus::Code(0);
    while let Some(chunk) = streaming.next().await.map_err(ShellError::Session)? {
        match chunk {
            Chunk::Stdout(bytes) | Chunk::Stderr(bytes) => show(&mut screen, &bytes).await?,
            Chunk::Exit(code) => status = code,
        }
    }
    Ok(status)
}

async fn type_in(mut ends: Ends, output: &OwnedFd) -> Result<(), ShellError> {
    loop {
        let sent = tokio::select! {
            typed = ends.typed.next() => match typed {
                Some(bytes) => ends.remote.send(bytes).await,
                None => return ends.remote.end().await.map_err(ShellError::Session),
            },
            Some(()) = ends.resized.recv() => {
                let size: TerminalSize = size_of(output).map_err(ShellError::Terminal)?;
                ends.remote.resize(size).await
            }
        };
        sent.map_err(ShellError::Session)?;
    }
}

/// Runs one command on the node with this process's standard input and outputs.
pub async fn command(session: &Session, command: &str) -> Result<ExitStatus, ShellError> {
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(ShellError::Terminal)?;
    let typed = Input::read(input).map_err(ShellError::Terminal)?;
    let (pieces, _guard) = typed.into_pieces();
    let started = session.exec_streaming(command, Stdin::pieces(pieces)).await;
    let mut streaming = started.map_err(ShellError::Session)?;
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let mut status = ExitStatus::Code(0);
    while let Some(chunk) = streaming.next().await.map_err(ShellError::Session)? {
        match chunk {
            Chunk::Stdout(bytes) => show(&mut out, &bytes).await?,
            Chunk::Stderr(bytes) => show(&mut err, &bytes).await?,
            Chunk::Exit(code) => status = code,
        }
    }
    Ok(status)
}

async fn show(to: &mut (impl AsyncWrite + Unpin), bytes: &Bytes) -> Result<(), ShellError> {
    let shown = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    shown.await.map_err(ShellError::Terminal)
}
