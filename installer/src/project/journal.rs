//! The journal: every event of every run, a JSON document a line. For people and for `timeline`, never the truth.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
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
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        // A line that was cut by the death of its process ends here, so that it takes no other with it.
        let mut last = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
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
    let lines: io::Result<Vec<Vec<u8>>> = BufReader::new(file).split(b'\n').collect();
    Ok(read_lines(lines?))
}

/// Reads lines as those of a journal.
pub fn read_lines(lines: Vec<Vec<u8>>) -> (Vec<Event>, usize) {
    let (mut events, mut skipped) = (Vec::new(), 0);
    for line in lines {
        match serde_json::from_slice(&line) {
            Ok(event) => events.push(event),
            Err(_) => skipped += 1,
        }
    }
    (events, skipped)
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

#[cfg(test)]
mod tests {
    use castrum_blueprints::event::{EVENT_FORMAT, What};
    use castrum_blueprints::names::Timestamp;

    use super::*;

    #[test]
    fn a_journal_cut_at_any_byte_loses_the_line_that_was_cut_and_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal.jsonl");
        let event = |run: &str| Event {
            format_version: EVENT_FORMAT,
            at: Timestamp(1),
            run: run.to_owned(),
            what: What::Interrupted,
        };
        let write = |run: &str| Journal::open(&path).expect("opened").hear(&event(run));
        write("one");
        let whole = std::fs::read(&path).expect("read");
        for cut in 0..=whole.len() {
            std::fs::write(&path, [&whole[..], &whole[..cut]].concat()).expect("written");
            write("two");
            write("three");
            let (events, skipped) = read_journal(&path).expect("read");
            let runs: Vec<&str> = events.iter().map(|event| event.run.as_str()).collect();
            let kept = cut + 1 >= whole.len();
            assert_eq!(
                runs,
                if kept { vec!["one", "one", "two", "three"] } else { vec!["one", "two", "three"] }
            );
            assert_eq!(skipped, usize::from(cut > 0 && !kept), "cut after {cut} bytes");
        }
    }
}
