//! One blob to many machines: read once, never more than a window of it in memory, slow machines dropped and named.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{AbortHandle, Abortable, join, join_all};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::SshError;
use super::exec::{Limits, Output, Stdin};
use super::session::Session;

/// How a blob is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanOut {
    /// Bytes in one piece.
    pub piece: usize,
    /// How many pieces the fastest machine may be ahead of the slowest; with `piece` it bounds the memory.
    pub ahead: usize,
    /// How long a machine may take nothing before it is dropped.
    pub stall: Duration,
    /// The whole of it, and how much output of each command is kept.
    pub limits: Limits,
}

impl Default for FanOut {
    fn default() -> Self {
        Self {
            piece: 256 * 1024,
            ahead: 16,
            stall: Duration::from_secs(20),
            limits: Limits { deadline: Duration::from_mins(30), ..Limits::default() },
        }
    }
}

/// A machine that receives, and the command there that reads the blob on its standard input. The command must itself
/// verify what it got: a broken session looks to it like the end of the blob.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The session.
    pub session: Session,
    /// The command.
    pub command: String,
}

/// Where one machine's pieces go, and how it is stopped.
struct Outlet {
    pieces: mpsc::Sender<Bytes>,
    stop: AbortHandle,
}

/// Streams `source` to all `receivers` at once, at the pace of the slowest that is not dropped. Each machine has its
/// own result; only a source that cannot be read fails the whole.
pub async fn fan_out<K: Ord + Clone>(
    source: impl AsyncRead + Unpin,
    receivers: &BTreeMap<K, Receiver>,
    options: &FanOut,
) -> Result<BTreeMap<K, Result<Output, SshError>>, SshError> {
    let mut outlets = Vec::new();
    let mut runs = Vec::new();
    for (key, receiver) in receivers {
        let (pieces, queue) = mpsc::channel(options.ahead.max(1));
        let (stop, stopped) = AbortHandle::new_pair();
        outlets.push(Outlet { pieces, stop });
        let run = receiver.session.check(&receiver.command, Stdin::pieces(queue), &options.limits);
        runs.push(async move { (key.clone(), receiver, Abortable::new(run, stopped).await) });
    }
    let (spread, results) = join(spread(source, outlets, options), join_all(runs)).await;
    let stalled = |receiver: &Receiver| SshError::Stalled {
        address: receiver.session.address().to_owned(),
        after: options.stall,
    };
    spread?;
    let named = results
        .into_iter()
        .map(|(key, receiver, result)| (key, result.unwrap_or_else(|_| Err(stalled(receiver)))));
    Ok(named.collect())
}

/// Reads the source piece by piece and hands each piece to everybody.
async fn spread(
    mut source: impl AsyncRead + Unpin,
    mut outlets: Vec<Outlet>,
    options: &FanOut,
) -> Result<(), SshError> {
    while !outlets.is_empty() {
        match read_piece(&mut source, options.piece).await {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => hand_out(&mut outlets, &piece, options.stall).await,
            Err(error) => {
                // Stopped before the queues end, so that no command takes the half for the whole.
                for outlet in &outlets {
                    outlet.stop.abort();
                }
                return Err(SshError::Source(error));
            }
        }
    }
    drain(outlets, options.stall).await;
    Ok(())
}

async fn hand_out(outlets: &mut Vec<Outlet>, piece: &Bytes, stall: Duration) {
    let sends = outlets.iter().map(|outlet| timeout(stall, outlet.pieces.send(piece.clone())));
    let mut results = join_all(sends).await.into_iter();
    outlets.retain(|outlet| match results.next() {
        Some(Ok(Ok(()))) => true,
        // Its command ended; the result is with the run.
        Some(Ok(Err(_))) | None => false,
        Some(Err(_)) => {
            outlet.stop.abort();
            false
        }
    });
}

/// Waits until every queue was taken, as long as each moves on within `stall`.
async fn drain(outlets: Vec<Outlet>, stall: Duration) {
    let waits = outlets.into_iter().map(|outlet| async move {
        let all = outlet.pieces.max_capacity();
        for free in outlet.pieces.capacity() + 1..=all {
            if timeout(stall, outlet.pieces.reserve_many(free)).await.is_err() {
                outlet.stop.abort();
                return;
            }
        }
    });
    join_all(waits).await;
}

async fn read_piece(source: &mut (impl AsyncRead + Unpin), size: usize) -> std::io::Result<Bytes> {
    let mut piece = BytesMut::with_capacity(size);
    while piece.len() < size {
        let room = size - piece.len();
        if source.take(room as u64).read_buf(&mut piece).await? == 0 {
            break;
        }
    }
    Ok(piece.freeze())
}
