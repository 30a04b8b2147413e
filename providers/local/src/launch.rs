//! Starting a node: the launcher program is run in two stages, and told and heard over pipes.
//!
//! ```text
//! us ──spec──▶ outer: joins the cgroup, makes the namespaces
//!    ◀─ready── outer: its network namespace exists, by its pid
//!    ── ip ──  the cable is put into it
//!    ──go────▶ outer ──spec──▶ inner, PID 1: mounts, drops capabilities, becomes /sbin/init
//!    ◀─started or failed── and end of file at the very moment of the exec
//! ```
//!
//! If we die before `go`, outer reads end of file and ends; after it, the node lives on without us.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::LocalError;
use crate::process::Process;

/// The first argument that makes the launcher program a node's init.
pub(crate) const INIT_ARGUMENT: &str = "castrum-local-node-init";

/// Everything that a node's init needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeSpec {
    pub hostname: String,
    pub cgroup: PathBuf,
    pub lower: PathBuf,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Where the root is put together; seen only inside the node's own mount namespace.
    pub root: PathBuf,
    /// Real folders: source on this machine, absolute place in the node.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Where the pid of the node's PID 1 is noted.
    pub init_note: PathBuf,
}

/// What the stages tell us, one JSON text a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    Ready { pid: i32 },
    Started { init: Process },
    Failed { reason: String },
}

/// Starts the node; `connect` is called with a pid in its network namespace before its PID 1 exists.
pub(crate) fn launch(
    launcher: &Path,
    spec: &NodeSpec,
    connect: impl FnOnce(i32) -> Result<(), LocalError>,
) -> Result<Process, LocalError> {
    let spawn_failed = |source| LocalError::Spawn { program: launcher.display().to_string(), source };
    let mut child = Command::new(launcher)
        .args([INIT_ARGUMENT, "outer"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(spawn_failed)?;
    let told = converse(&mut child, spec, connect);
    // Closes its end, so that a stage that waits for `go` ends.
    drop(child.stdin.take());
    child.wait().map_err(spawn_failed)?;
    told
}

fn converse(
    child: &mut Child,
    spec: &NodeSpec,
    connect: impl FnOnce(i32) -> Result<(), LocalError>,
) -> Result<Process, LocalError> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(LocalError::Launch { reason: "it has no pipes".to_owned() });
    };
    let mut stdout = BufReader::new(stdout);
    let text = serde_json::to_string(spec).expect("a node spec is plain data");
    say(&mut stdin, &text)?;
    match hear(&mut stdout)? {
        Some(Told::Ready { pid }) => connect(pid)?,
        other => return Err(unexpected(other)),
    }
    say(&mut stdin, "go")?;
    let mut init = None;
    while let Some(told) = hear(&mut stdout)? {
        match told {
            Told::Started { init: process } => init = Some(process),
            other => return Err(unexpected(Some(other))),
        }
    }
    init.ok_or_else(|| unexpected(None))
}

fn say(stdin: &mut impl Write, line: &str) -> Result<(), LocalError> {
    let sent =
        stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n")).and_then(|()| stdin.flush());
    sent.map_err(|error| LocalError::Launch { reason: format!("its launcher does not listen ({error})") })
}

fn hear(stdout: &mut BufReader<ChildStdout>) -> Result<Option<Told>, LocalError> {
    let mut line = String::new();
    let read =
        stdout.read_line(&mut line).map_err(|error| LocalError::Launch { reason: error.to_string() })?;
    if read == 0 {
        return Ok(None);
    }
    let told = serde_json::from_str(&line);
    told.map(Some).map_err(|_| LocalError::Launch {
        reason: format!(
            "the launcher said `{}`; does its `main` call `maybe_run_node_init` first?",
            line.trim()
        ),
    })
}

fn unexpected(told: Option<Told>) -> LocalError {
    let reason = match told {
        Some(Told::Failed { reason }) => reason,
        Some(other) => format!("its launcher said {other:?} out of turn"),
        None => "its launcher ended early".to_owned(),
    };
    LocalError::Launch { reason }
}
