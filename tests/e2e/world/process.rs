//! The program as a process: started, waited for with a bound, or killed in the middle of its work.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `look` finds something, at most this long; else it says what it saw.
pub fn until<T>(within: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => {
                assert!(Instant::now() < deadline, "waited {within:?} for {what}; last seen: {seen}");
            }
        }
        sleep(LOOK);
    }
}

/// For [`until`], where there is no more to say than yes or no.
pub fn whether(there: bool) -> Result<(), String> {
    there.then_some(()).ok_or_else(|| "nothing".to_owned())
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// The end of what it said.
    pub fn tail(&self) -> String {
        let from = |text: &str| {
            text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!("code {} after {:?}\n{}\n{}", self.code, self.took, from(&self.stdout), from(&self.stderr))
    }
}

/// A process that runs. Dropping it kills it.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    started: Instant,
}

impl Running {
    /// Starts `command`; what it says goes to files in `dir`, so that it never waits for a reader.
    pub fn start(mut command: Command, dir: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (dir.join(format!("run-{number}.out")), dir.join(format!("run-{number}.err")));
        let file = |path: &Path| Stdio::from(File::create(path).expect("a file for output"));
        command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
        Self { child: command.spawn().expect("the program starts"), out, err, started: Instant::now() }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    /// Waits for its end, at most this long.
    pub fn wait(mut self, within: Duration) -> Ran {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "no end within {within:?}\n{}", self.said(-1).tail());
            sleep(LOOK);
        };
        self.said(status.code().unwrap_or(-1))
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    fn said(&self, code: i32) -> Ran {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Ran { code, stdout: read(&self.out), stderr: read(&self.err), took: self.started.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
