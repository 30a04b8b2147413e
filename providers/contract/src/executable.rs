//! Executables of providers: where they are found, and how one is started and ended.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::BufReader;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connection::{Line, Peer, Told};
use crate::lines::next_line;
use crate::process::Launch;
use crate::{Failure, FailureClass};

/// What the name of every provider's executable begins with.
pub const EXECUTABLE_PREFIX: &str = "castrum-provider-";
/// What opens the keyring is nobody else's.
const KEPT_BACK: [&str; 2] = ["CASTRUM_KEYRING_PASSPHRASE", "CASTRUM_KEYRING_PASSPHRASE_FILE"];
/// How long a process that closed its output may take to end.
const ENDING: Duration = Duration::from_secs(1);
/// How long a program may be written to when it is to be started.
const BUSY: Duration = Duration::from_secs(2);
/// How many of its last lines are told.
const LAST_LINES: usize = 8;
/// The longest line of log that is read as one.
const LOG_LINE: usize = 64 * 1024;

/// The executable of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    name: String,
    path: PathBuf,
}

impl Executable {
    /// The executable at `path` of the provider `name`.
    pub fn at(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into() }
    }

    /// The first executable of the provider `name` in the folders `places`.
    pub fn find(name: &str, places: &[PathBuf]) -> Option<Self> {
        let files = places.iter().map(|place| place.join(format!("{EXECUTABLE_PREFIX}{name}")));
        files.into_iter().find(|file| is_executable(file)).map(|path| Self::at(name, path))
    }

    /// The executables of all providers in the folders `places`, by name; the first of a name counts.
    pub fn all(places: &[PathBuf]) -> BTreeMap<String, Self> {
        let mut found = BTreeMap::new();
        for entry in places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten() {
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_prefix(EXECUTABLE_PREFIX)) else {
                continue;
            };
            if is_executable(&entry.path()) && !found.contains_key(name) {
                found.insert(name.to_owned(), Self::at(name, entry.path()));
            }
        }
        found
    }

    /// The provider's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[async_trait]
impl Launch for Executable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn launch(&self, told: &Told) -> Result<Line, Failure> {
        let mut command = Command::new(&self.path);
        for variable in KEPT_BACK {
            command.env_remove(variable);
        }
        // A group of its own: Ctrl-C asks Castrum to stop, and Castrum lets the provider finish what it does.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command).await.map_err(|error| self.not_started(&error))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(told.failure(FailureClass::Transient, "could not be given pipes"));
        };
        let last = LastLines::default();
        let log = Some(tokio::spawn(log(stderr, last.clone(), told.clone())));
        let peer = Box::new(Process { child, log, last });
        Ok(Line { reader: Box::new(stdout), writer: Box::new(stdin), peer })
    }
}

impl Executable {
    fn not_started(&self, error: &io::Error) -> Failure {
        // Beside being written to just now, what keeps a program from starting stays.
        let class = match error.kind() {
            io::ErrorKind::ExecutableFileBusy | io::ErrorKind::OutOfMemory => FailureClass::Transient,
            _ => FailureClass::Invalid,
        };
        Failure::new(class, format!("`{}` cannot be started: {error}", self.path.display()))
    }
}

/// Starts a program; one that is being written, as when it is replaced by a newer one, is waited for.
async fn spawn(command: &mut Command) -> io::Result<Child> {
    let until = Instant::now() + BUSY;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                sleep(BUSY / 40).await;
            }
            spawned => return spawned,
        }
    }
}

/// The last lines of a log.
#[derive(Clone, Default)]
struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!lines.is_empty()).then(|| lines.iter().map(String::as_str).collect::<Vec<_>>().join(" | "))
    }
}

/// Takes in what the process logs: cleaned, to our own log, and the last of it for failures.
async fn log(stderr: ChildStderr, last: LastLines, told: Told) {
    let (mut reader, mut line) = (BufReader::new(stderr), Vec::new());
    loop {
        let read = match next_line(&mut reader, &mut line, LOG_LINE).await {
            Ok(Some(read)) => read,
            Ok(None) | Err(crate::lines::LineError::Read(_)) => return,
            // The rest of it follows as lines of their own.
            Err(crate::lines::LineError::TooLong(_)) => std::mem::take(&mut line),
        };
        let text = told.veil.clean(&String::from_utf8_lossy(&read));
        if !text.is_empty() {
            tracing::info!(provider = &*told.name, "{text}");
            last.push(text);
        }
    }
}

/// A process that serves.
struct Process {
    child: Child,
    /// Until it was awaited.
    log: Option<JoinHandle<()>>,
    last: LastLines,
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
    }
}

#[async_trait]
impl Peer for Process {
    fn kill(&mut self) {
        // It may have ended by itself; then its own status is what counts.
        let _ = self.child.start_kill();
    }

    async fn ended(&mut self) -> String {
        let status = if let Ok(status) = timeout(ENDING, self.child.wait()).await {
            status
        } else {
            let _ = self.child.start_kill();
            match timeout(ENDING, self.child.wait()).await {
                Ok(status) => status,
                Err(_) => return "does not end, though it was killed".to_owned(),
            }
        };
        // What it wrote last is still on its way.
        if let Some(log) = self.log.take() {
            let _ = timeout(ENDING, log).await;
        }
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        match self.last.text() {
            Some(lines) => format!("ended ({status}) and said last: {lines}"),
            None => format!("ended ({status}) without a word"),
        }
    }
}
