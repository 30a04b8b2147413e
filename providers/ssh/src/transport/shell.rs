//! An interactive shell on a machine: a pseudo-terminal there, its two directions here.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout;

use super::channel::Writer;
use super::error::SshError;
use super::exec::Streaming;
use super::session::{OPENING, Session};

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What goes to a shell.
pub struct ShellInput(Arc<Writer>);

impl ShellInput {
    /// Types `bytes`.
    pub async fn send(&self, bytes: Bytes) -> Result<(), SshError> {
        self.0.send(bytes).await
    }

    /// Tells that the terminal has another size now.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), SshError> {
        let change = self.0.half()?.window_change(size.columns.into(), size.rows.into(), 0, 0);
        self.0.session().request(change).await
    }

    /// Tells that nothing more will be typed.
    pub async fn end(&self) -> Result<(), SshError> {
        self.0.session().request(self.0.half()?.eof()).await
    }
}

impl Session {
    /// Starts the login shell on a pseudo-terminal; `terminal` is the value of `TERM`.
    pub async fn shell(
        &self,
        terminal: &str,
        size: TerminalSize,
    ) -> Result<(ShellInput, Streaming), SshError> {
        let start = async {
            let (reader, writer) = self.channel().await?;
            let (columns, rows) = (size.columns.into(), size.rows.into());
            self.request(writer.half()?.request_pty(true, terminal, columns, rows, 0, 0, &[])).await?;
            self.request(writer.half()?.request_shell(true)).await?;
            let streaming = Streaming::new(reader, writer);
            Ok((ShellInput(streaming.writer()), streaming))
        };
        match timeout(OPENING, start).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out("starting a shell", OPENING)),
        }
    }
}
