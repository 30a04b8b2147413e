//! The journal in an object store: each run's events in pieces, one object for each, that are never changed.
//!
//! Pieces are named after token, run and number, so that their names sort as they happened. They are written every few
//! seconds and at the end, by a task of their own: a journal is for people and never the truth, so a piece that cannot be
//! written is kept for the next time, and holds up nothing. What could not be written at the end is warned of; the journal
//! beside the blueprint has it all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castrum_blueprints::event::Event;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::place::{Place, PlaceError, When};
use super::tenure::Tenure;
use crate::events::Listener;

/// How long an event waits for others.
const GATHER: Duration = Duration::from_secs(3);
/// So many pieces are read at once.
const AT_ONCE: usize = 16;

/// What the task is told.
pub enum Entry {
    /// A line.
    Line(Vec<u8>),
    /// The run is over: write what is left.
    End(oneshot::Sender<()>),
}

/// Hands events to the task.
pub struct Chronicle(pub mpsc::UnboundedSender<Entry>);

impl Listener for Chronicle {
    fn hear(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        // The task ends before its run only with the process.
        let _ = self.0.send(Entry::Line(line));
    }
}

/// Writes pieces named `journal/{name}/...` as long as the lease is held.
pub async fn write(
    (place, tenure): (Arc<dyn Place>, Arc<Tenure>),
    name: String,
    mut entries: mpsc::UnboundedReceiver<Entry>,
) {
    let (mut lines, mut piece, mut number, mut warned) = (Vec::new(), Vec::new(), 1_u32, false);
    loop {
        let ended = gather(&mut entries, &mut lines).await;
        if piece.is_empty() {
            std::mem::swap(&mut piece, &mut lines);
        }
        while !piece.is_empty() && tenure.holds() {
            let object = format!("journal/{name}/{number:06}.jsonl");
            match place.write(&object, Bytes::from(piece.clone()), When::Absent).await {
                // There already: the answer of the last time was lost. A piece stays as it was when it was first sent.
                Ok(_) | Err(PlaceError::Conflict { .. }) => {
                    piece = std::mem::take(&mut lines);
                    number += 1;
                }
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(%error, "the journal cannot be written to the place of the state");
                    }
                    break;
                }
            }
        }
        match ended {
            Gathered::More => {}
            Gathered::End(answer) => {
                if !piece.is_empty() {
                    tracing::warn!("the end of this run's journal is only in the folder `.castrum/`");
                }
                let _ = answer.send(());
                return;
            }
            Gathered::Left => return,
        }
    }
}

enum Gathered {
    More,
    End(oneshot::Sender<()>),
    Left,
}

async fn gather(entries: &mut mpsc::UnboundedReceiver<Entry>, lines: &mut Vec<u8>) -> Gathered {
    let mut pause = std::pin::pin!(tokio::time::sleep(GATHER));
    loop {
        tokio::select! {
            entry = entries.recv() => match entry {
                Some(Entry::Line(line)) => lines.extend(line),
                Some(Entry::End(answer)) => return Gathered::End(answer),
                None => return Gathered::Left,
            },
            () = &mut pause => return Gathered::More,
        }
    }
}

/// Pieces that were read, by name: none of them changes.
#[derive(Debug, Default)]
pub struct Pieces(BTreeMap<String, Bytes>);

impl Pieces {
    /// Reads the pieces that are new since the last time.
    pub async fn refresh(&mut self, place: &dyn Place) -> Result<(), PlaceError> {
        let names = place.list("journal").await?;
        let new = names.into_iter().filter(|name| !self.0.contains_key(name));
        let read = |name: String| async move {
            let kept = place.read(&name).await?;
            Ok::<_, PlaceError>((name, kept.map(|kept| kept.bytes).unwrap_or_default()))
        };
        let read: Vec<_> = futures_util::stream::iter(new.map(read)).buffered(AT_ONCE).try_collect().await?;
        self.0.extend(read);
        Ok(())
    }

    /// All lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.values().flat_map(|piece| piece.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty())
    }
}
