//! The writing half of a channel, which closes the channel when nobody holds it any more.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use russh::client::Msg;
use russh::{ChannelReadHalf, ChannelWriteHalf};
use tokio::io::AsyncReadExt as _;

use super::error::SshError;
use super::exec::{Source, Stdin};
use super::session::Session;

/// How much is read from a source at once.
const PIECE: usize = 128 * 1024;

/// What a channel is written by.
pub(crate) struct Writer {
    half: Option<ChannelWriteHalf<Msg>>,
    /// The channel needs its session alive.
    session: Session,
}

impl Writer {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn half(&self) -> Result<&ChannelWriteHalf<Msg>, SshError> {
        self.half.as_ref().ok_or_else(|| self.session.lost())
    }

    /// Sends all of `stdin`, then the end of it. A channel that is gone is told by the reading half, so it is no error.
    pub(crate) async fn feed(&self, stdin: Stdin) -> Result<(), SshError> {
        let half = self.half()?;
        let sent = match stdin.0 {
            Source::Empty => Ok(()),
            Source::Bytes(bytes) => half.data_bytes(bytes).await,
            Source::Pieces(mut pieces) => {
                let mut sent = Ok(());
                while sent.is_ok()
                    && let Some(piece) = pieces.recv().await
                {
                    sent = half.data_bytes(piece).await;
                }
                sent
            }
            Source::Reader(mut reader) => {
                let mut sent = Ok(());
                let mut buffer = BytesMut::new();
                while sent.is_ok() {
                    buffer.reserve(PIECE);
                    if reader.read_buf(&mut buffer).await.map_err(SshError::Source)? == 0 {
                        break;
                    }
                    sent = half.data_bytes(buffer.split().freeze()).await;
                }
                sent
            }
        };
        if sent.is_ok() {
            let _ = half.eof().await;
        }
        Ok(())
    }

    /// Sends `bytes` as far as the window allows; ends with an error when the session does.
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), SshError> {
        let sending = pin!(self.half()?.data_bytes(bytes));
        let gone = pin!(self.session.gone());
        match select(sending, gone).await {
            Either::Left((Ok(()), _)) => Ok(()),
            _ => Err(self.session.lost()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Closing is a message, so it needs a task; without a runtime the session is ending anyway.
        if let (Some(half), Ok(runtime)) = (self.half.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = half.close().await;
            });
        }
    }
}

impl Session {
    /// Opens a session channel.
    pub(crate) async fn channel(&self) -> Result<(ChannelReadHalf, Writer), SshError> {
        let channel = self.handle().channel_open_session().await;
        let (reader, half) = channel.map_err(|error| self.refused("a channel", &error))?.split();
        Ok((reader, Writer { half: Some(half), session: self.clone() }))
    }
}
