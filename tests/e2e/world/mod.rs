//! A cluster of its own for each test: its project folder, the program run in it, and what is left of it afterwards.

mod ground;
mod host;
mod journal;
mod nodes;
mod process;
mod site;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use castrum_blueprints::names::ClusterId;

pub use ground::Ground;
pub use journal::{Journal, is, of_component, of_node, of_step};
pub use process::{Ran, Running, until, whether};
pub use site::block_on;

/// The folder of all project folders of these tests; names in it tell the next run what a killed one left.
const PROJECTS: &str = "/var/tmp/castrum-e2e";

/// No apply of these tests takes longer, even on a busy machine.
pub const APPLY: Duration = Duration::from_mins(4);
const DESTROY: Duration = Duration::from_mins(2);

/// Three masters, a private agent and a public one.
pub const LARGE: &[(&str, &str, u32)] =
    &[("masters", "master", 3), ("agents", "agent", 1), ("public", "public-agent", 1)];
/// One of each.
pub const SMALL: &[(&str, &str, u32)] =
    &[("masters", "master", 1), ("agents", "agent", 1), ("public", "public-agent", 1)];

/// One cluster and its project folder. Dropping it removes both, and fails the test if anything stays.
pub struct World {
    dir: PathBuf,
    nodes: Vec<String>,
    /// Only one world of the machine exists at a time.
    _turn: File,
}

impl World {
    /// A project folder with a blueprint of these groups; nothing is made yet.
    pub fn new(name: &str, groups: &[(&str, &str, u32)], limits: &str) -> Self {
        let (dir, turn) = project(name);
        let mut text = heading(name, "local");
        for (group, role, count) in groups {
            writeln!(text, "  {group}: {{ role: {role}, count: {count} }}").expect("a String takes all");
        }
        text.push_str("stack: { name: swarm }\n");
        text.push_str(limits);
        Self::with(dir, turn, groups, &text)
    }

    /// A project folder with a blueprint of these groups, on machines that exist already.
    pub fn on_ground(name: &str, groups: &[(&str, &str, u32)]) -> (Self, Ground) {
        let (dir, turn) = project(name);
        // From here on dropping the world removes what was made, whatever happens.
        let world = Self::with(dir, turn, groups, "");
        let ground = Ground::make(&world.dir, groups.iter().map(|(_, _, count)| count).sum());
        let (mut text, mut numbers) = (heading(name, "ssh"), 1..);
        for (group, role, count) in groups {
            let machines = ground.listed(numbers.by_ref().take(*count as usize));
            writeln!(text, "  {group}: {{ role: {role}, machines: [{machines}] }}")
                .expect("a String takes all");
        }
        text.push_str("stack: { name: swarm }\n");
        fs::write(world.blueprint(), text).expect("a blueprint");
        (world, ground)
    }

    fn with(dir: PathBuf, turn: File, groups: &[(&str, &str, u32)], blueprint: &str) -> Self {
        fs::write(dir.join("cluster.yaml"), blueprint).expect("a blueprint");
        let nodes =
            groups.iter().flat_map(|(group, _, count)| (1..=*count).map(move |n| format!("{group}-{n}")));
        Self { nodes: nodes.collect(), dir, _turn: turn }
    }

    /// The names of all declared nodes.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// The project folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The blueprint.
    pub fn blueprint(&self) -> PathBuf {
        self.dir.join("cluster.yaml")
    }

    /// The cluster's id, from its lock file.
    pub fn id(&self) -> ClusterId {
        cluster_id(&self.dir).expect("a lock file")
    }

    /// The program, to be run in a project folder: with keys of its own, and the artifact cache of this machine.
    pub fn castrum_in(&self, dir: &Path) -> Command {
        castrum(dir, &self.dir.join("config"))
    }

    /// Starts the program in this project folder.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut command = self.castrum_in(&self.dir);
        command.args(words);
        Running::start(command, &self.dir)
    }

    /// Applies the blueprint, and waits for the end.
    pub fn apply(&self) -> Ran {
        self.start(&["apply", "--yes"]).wait(APPLY)
    }

    /// Applies the blueprint, which must succeed.
    pub fn apply_well(&self) -> Ran {
        let ran = self.apply();
        assert_eq!(ran.code, 0, "apply has failed\n{}", ran.tail());
        ran
    }

    /// Removes the cluster; afterwards nothing of it may be on the machine.
    pub fn destroy_well(&self) {
        let id = self.id();
        let ran = self.start(&["destroy", "--yes"]).wait(DESTROY);
        assert_eq!(ran.code, 0, "destroy has failed\n{}", ran.tail());
        let left = leftovers(&id);
        assert!(left.is_empty(), "destroy left {left:#?}");
    }

    /// What was written down of all runs so far.
    pub fn journal(&self) -> Journal {
        Journal::read(&self.dir)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            eprintln!("the end of the journal:\n{}", self.journal().tail(40));
            eprintln!("what components said last:\n{}", said_last(&self.dir));
        }
        let left = sweep(&self.dir);
        assert!(failing || left.is_empty(), "left behind: {left:#?}");
        if !left.is_empty() {
            eprintln!("left behind: {left:#?}");
        }
    }
}

/// The last lines of every component's log on every node that is still there.
fn said_last(project: &Path) -> String {
    let Some(id) = cluster_id(project) else { return String::new() };
    let root = format!("/var/lib/castrum/local/{id}");
    let script = "find \"$0\" -path '*/upper/var/log/journal/*' -type d | sort | while read -r dir; do \
        echo \"-- $dir\"; journalctl -D \"$dir\" -u 'castrum-*' --no-pager -n 60 -o short-precise | cut -c1-400; done";
    let told = Command::new("bash").args(["-c", script, &root]).output();
    told.map_or_else(|error| error.to_string(), |told| String::from_utf8_lossy(&told.stdout).into_owned())
}

/// The programs under test.
pub fn program() -> PathBuf {
    let built = || castrum_tests::idle::built("castrum");
    let path = std::env::var_os("CASTRUM_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "`{}` is not there: build it with `make build`, or set `CASTRUM_BIN`",
        path.display()
    );
    std::path::absolute(path).expect("a path")
}

/// An empty project folder, once it is its turn.
fn project(name: &str) -> (PathBuf, File) {
    assert!(rustix::process::geteuid().is_root(), "nodes are made of namespaces: run these tests as root");
    let turn = take_turn();
    let dir = Path::new(PROJECTS).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a project folder");
    (dir, turn)
}

fn heading(name: &str, provider: &str) -> String {
    format!("apiVersion: castrum/v1\nname: e2e-{name}\nsites:\n  here: {{ provider: {provider} }}\ngroups:\n")
}

fn castrum(dir: &Path, config: &Path) -> Command {
    let mut command = Command::new(program());
    command.current_dir(dir).env("XDG_CONFIG_HOME", config).env_remove("CASTRUM_BLUEPRINT");
    command.env_remove("CASTRUM_OUTPUT").env_remove("CASTRUM_LOG");
    command
}

fn cluster_id(dir: &Path) -> Option<ClusterId> {
    let text = fs::read_to_string(dir.join("castrum.lock")).ok()?;
    Some(castrum_blueprints::lock::Lock::from_text(&text).expect("a lock file of ours").cluster)
}

fn leftovers(id: &ClusterId) -> Vec<String> {
    castrum_provider_local::leftovers(id, &castrum_provider_local::LocalOptions::default())
}

/// Waits for the machine, and removes what killed runs left on it.
fn take_turn() -> File {
    fs::create_dir_all(PROJECTS).expect("a folder for projects");
    let turn = File::create(format!("{PROJECTS}/turn")).expect("a lock");
    turn.lock().expect("the lock");
    for entry in fs::read_dir(PROJECTS).expect("the folder of projects").flatten() {
        if entry.path().is_dir() {
            let left = sweep(&entry.path());
            assert!(left.is_empty(), "a killed run left what cannot be removed: {left:#?}");
        }
    }
    turn
}

/// Destroys the cluster of a project folder, if there is one, and removes the folder unless something stays.
fn sweep(dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    if let Some(id) = cluster_id(dir).filter(|id| !leftovers(id).is_empty()) {
        // An apply of a killed test may still be at work; it ends by itself.
        until(APPLY, "the cluster to be destroyed", || {
            let mut command = castrum(dir, &dir.join("config"));
            command.args(["destroy", "--yes"]);
            let ran = Running::start(command, dir).wait(DESTROY);
            if ran.code == 12 { Err(ran.tail()) } else { Ok(()) }
        });
        left = leftovers(&id);
    }
    left.extend(ground::raze(dir));
    if left.is_empty() {
        fs::remove_dir_all(dir).expect("the project folder is removed");
    }
    left
}
