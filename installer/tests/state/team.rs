//! People who share a cluster: each has a checkout, and nothing else in common but the place of the state and the world.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What must never be read in anything that is said or stored.
pub const SECRET: &str = "the-secret-of-the-bucket";

/// All their checkouts, and the simulated world that they meet in.
pub struct Team {
    folder: TempDir,
    state: String,
}

impl Team {
    /// A team whose state lies where `state` says (the fields of a blueprint).
    pub fn new(state: &str) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), state: state.to_owned() }
    }

    /// A team with leases of so many seconds at the peer.
    pub fn at(port: u16, lease: u32) -> Self {
        Self::new(&format!(
            "place: \"s3://clusters/small\", endpoint: \"http://127.0.0.1:{port}\", lease: {lease}s"
        ))
    }

    /// A checkout of the blueprint alone.
    pub fn checkout(&self, name: &str) -> Checkout {
        self.checkout_with(name, "world.json")
    }

    /// A checkout whose simulated world is another one: a world that is stopped in the middle of a call cannot be gone on
    /// with by another process, as real places can.
    pub fn checkout_elsewhere(&self, name: &str) -> Checkout {
        self.checkout_with(name, "elsewhere.json")
    }

    fn checkout_with(&self, name: &str, world: &str) -> Checkout {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).expect("made");
        let blueprint = format!(
            "apiVersion: castrum/v1\nname: small\n\
             sites: {{ here: {{ provider: sim, settings: {{ state: {} }} }} }}\n\
             groups:\n  masters: {{ role: master, count: 3 }}\n  agents: {{ role: agent, count: 2 }}\n\
             stack: {{ name: swarm }}\nstate: {{ {} }}\n",
            self.folder.path().join(world).display(),
            self.state
        );
        fs::write(folder.join("cluster.yaml"), blueprint).expect("written");
        Checkout { folder }
    }
}

/// One person's folder.
pub struct Checkout {
    folder: PathBuf,
}

impl Checkout {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castrum"));
        command
            .args(words)
            .current_dir(&self.folder)
            .env_clear()
            .env("HOME", &self.folder)
            .env("PATH", "/usr/bin:/bin")
            .env("USER", self.folder.file_name().expect("a name"))
            .env("AWS_ACCESS_KEY_ID", "somebody")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("CASTRUM_KEYRING_PASSPHRASE", "of the whole team")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Ended {
        Ended::from(self.command(words).output().expect("castrum runs"))
    }

    /// Begins a command.
    pub fn begin(&self, words: &[&str]) -> Running {
        Running(Some(self.command(words).spawn().expect("castrum runs")))
    }

    /// The folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The lock file.
    pub fn lock(&self) -> String {
        read(&self.path("castrum.lock"))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A command that has ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().unwrap_or(-1);
        let ended = Self { code, out: text(output.stdout), err: text(output.stderr) };
        assert!(!ended.err.contains(SECRET) && !ended.out.contains(SECRET), "{}", ended.err);
        ended
    }
}

impl Ended {
    /// Asserts how it ended, and that it said all of `words`.
    #[track_caller]
    pub fn assert(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}", self.err);
        let missing: Vec<_> = words.iter().filter(|word| !self.err.contains(**word)).collect();
        assert!(missing.is_empty(), "{missing:?} are not in:\n{}", self.err);
        self
    }
}

/// A command that runs; killed when dropped.
pub struct Running(Option<Child>);

impl Running {
    fn child(&self) -> &Child {
        self.0.as_ref().expect("it runs")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child()), signal).expect("it is there");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().expect("it runs").try_wait().expect("it is ours").is_some()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        Ended::from(self.0.take().expect("it runs").wait_with_output().expect("it is ours"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
