//! The journal: every event of every run, a JSON document a line. For people and for `timeline`, never the truth.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use castrum_blueprints::event::Event;

use crate::events::Listener;

/// Writes events as they happen.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens the journal at `path`, or begins it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file })
    }
}

impl Listener for Journal {
    fn hear(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        // One write a line: lines of two processes do not mix. A full disk must not end a run that is under way.
        if let Err(error) = self.file.write_all(&line) {
            tracing::warn!(%error, "the journal cannot be written");
        }
    }
}

/// Reads the journal; lines that are cut or of another format are skipped, and counted.
pub fn read_journal(path: &Path) -> io::Result<(Vec<Event>, usize)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let (mut events, mut skipped) = (Vec::new(), 0);
    for line in BufReader::new(file).split(b'\n') {
        match serde_json::from_slice(&line?) {
            Ok(event) => events.push(event),
            Err(_) => skipped += 1,
        }
    }
    Ok((events, skipped))
}

/// The runs of a journal, oldest first, each with its events.
pub fn runs(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut runs: Vec<Vec<Event>> = Vec::new();
    for event in events {
        match runs.iter_mut().rfind(|run| run[0].run == event.run) {
            Some(run) => run.push(event),
            None => runs.push(vec![event]),
        }
    }
    runs
}
