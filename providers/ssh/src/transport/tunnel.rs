//! A connection from a machine to somewhere it can reach, used here as if it were a socket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use russh::ChannelStream;
use russh::client::Msg;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::error::SshError;
use super::session::Session;

/// A tunnel (`direct-tcpip`). It keeps its session alive, and fails when the session ends. Whoever has one must keep
/// reading it: what is not read holds up everything else on the session.
pub struct Tunnel {
    stream: ChannelStream<Msg>,
    session: Session,
    /// One for each direction, since each wakes only the task that polled it last.
    gone: [Pin<Box<dyn Future<Output = ()> + Send + Sync>>; 2],
    was_lost: bool,
}

impl Session {
    /// Connects from the machine to `host` on `port`.
    pub async fn tunnel(&self, host: &str, port: u16, within: Duration) -> Result<Tunnel, SshError> {
        match timeout(within, self.open_tunnel(host, port)).await {
            Ok(tunnel) => tunnel,
            Err(_) => Err(self.timed_out(&format!("a tunnel to `{host}:{port}`"), within)),
        }
    }

    pub(crate) async fn open_tunnel(&self, host: &str, port: u16) -> Result<Tunnel, SshError> {
        let opened = self.handle().channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await;
        let what = format!("a tunnel to `{host}:{port}`");
        let stream = opened.map_err(|error| self.refused(&what, &error))?.into_stream();
        let gone = [self.gone(), self.gone()].map(|gone| Box::pin(gone) as Pin<Box<_>>);
        Ok(Tunnel { stream, session: self.clone(), gone, was_lost: false })
    }
}

impl Tunnel {
    fn lost(&self) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, self.session.lost())
    }

    /// Whether the session has ended; wakes the task when it does.
    fn poll_lost(&mut self, direction: usize, cx: &mut Context<'_>) -> bool {
        // A future must not be polled after its end.
        self.was_lost = self.was_lost || self.gone[direction].as_mut().poll(cx).is_ready();
        self.was_lost
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        // The channel's own end and that of a broken session look the same; only the first is an end of file.
        if buf.filled().len() == before && buf.remaining() > 0 && self.poll_lost(0, cx) {
            return Poll::Ready(Err(self.lost()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.poll_lost(1, cx) {
            return Poll::Ready(Err(self.lost()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_lost(1, cx) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
