//! A cluster in an account: the blueprint in words of Rust, the provider's executable, and runs of the engine on both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use castrum::cancel::{Cancel, Canceller};
use castrum::engine::{Engine, Outcome, ProjectPort, Sites};
use castrum::events::Events;
use castrum_blueprints::blueprint::{Blueprint, Disk, Size};
use castrum_blueprints::desired::{Desired, resolve};
use castrum_blueprints::lock::Lock;
use castrum_blueprints::names::{ClusterId, Role};
use castrum_blueprints::plan::{Progress, plan};
use castrum_provider::{Deadlines, Executable, Failure, Hello, ProcessProvider, Provider};
use castrum_provider_sim::World;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::peer::{Peer, REGION, target};
use super::twin::{Pairs, Twin};
use crate::cluster::{Cluster, site};
use crate::rig::{Heard, MemoryProject};

/// The public key that machines let in.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8n1Xc6xAwyKfXhL4T4zMyWbqTqnYCyRrVqYkC8sRJb somebody";
/// Runs one after the other until nothing is set aside: so many at most.
const RUNS: usize = 12;

/// What the blueprint says about the site: two zones, and looks that show the present.
pub fn settings() -> BTreeMap<String, Value> {
    let settings = json!({
        "region": REGION,
        "zones": ["eu-central-1a", "eu-central-1b"],
        "admin": ["203.0.113.0/24"],
        "stale": 0,
    });
    serde_json::from_value(settings).expect("an object")
}

/// The provider's executable: `CASTRUM_PROVIDER_AWS`, or where `make` and Cargo put it.
fn executable() -> PathBuf {
    if let Some(named) = std::env::var_os("CASTRUM_PROVIDER_AWS") {
        return PathBuf::from(named);
    }
    let places = ["dist", "release", "debug"].map(|place| target().join(place).join("castrum-provider-aws"));
    let found = places.into_iter().find(|place| place.is_file());
    found.expect("castrum-provider-aws is built: `make build-aws`, or name it in CASTRUM_PROVIDER_AWS")
}

/// A program in `folder` that is the provider, with an environment in which it finds the peer and nothing else.
pub fn wrapped(peer: &Peer, folder: &Path, more: &[(&str, &str)]) -> PathBuf {
    let url = peer.url();
    let mut environment = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    environment.extend(more.iter().copied());
    let mut text = "#!/bin/sh\n".to_owned();
    for (name, value) in environment {
        writeln!(text, "export {name}='{value}'").expect("text");
    }
    // Its log goes to a file too where a test wants to read all of it.
    text += "[ -z \"$CASTRUM_TEST_LOG\" ] || exec 2>> \"$CASTRUM_TEST_LOG\"\n";
    writeln!(text, "exec '{}' \"$@\"", executable().display()).expect("text");
    let path = folder.join("castrum-provider-aws");
    write_program(&path, &text);
    path
}

/// Written by another process: what this one has open for writing, whoever is started meanwhile has open too, and a
/// program that is open for writing cannot be run.
fn write_program(path: &Path, text: &str) {
    let script = "cat > \"$0\" && chmod 755 \"$0\"";
    let mut shell =
        Command::new("sh").args(["-c", script]).arg(path).stdin(Stdio::piped()).spawn().expect("sh runs");
    let mut input = shell.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it is read");
    drop(input);
    assert!(shell.wait().expect("sh ends").success(), "`{}` cannot be written", path.display());
}

/// Starts the provider for a cluster.
pub async fn provider(
    program: &Path,
    cluster: &ClusterId,
    settings: &BTreeMap<String, Value>,
) -> Result<ProcessProvider, Failure> {
    let hello = Hello::new(cluster.clone(), site(), settings.clone());
    ProcessProvider::start(Executable::at("aws", program), hello, Deadlines::default()).await
}

/// A cluster in the account of a peer.
pub struct Camp {
    /// The account.
    pub peer: Peer,
    /// What is declared.
    pub cluster: Cluster,
    /// The nodes.
    pub world: Arc<World>,
    /// The lock file.
    pub project: Arc<MemoryProject>,
    /// The provider.
    pub cloud: Arc<ProcessProvider>,
    twin: Arc<Twin>,
    program: PathBuf,
    _folder: TempDir,
}

/// Everything that is left when installer and provider are killed at a moment: the account, the lock file, and the nodes.
pub struct Left {
    account: u64,
    lock: Lock,
    world: Arc<World>,
    pairs: Pairs,
}

impl Left {
    /// What tells it from another moment, leaving out times.
    pub fn fingerprint(&self) -> (u64, String) {
        (self.account, format!("{:?} {:?} {:?}", self.lock, self.world.portrait(), self.pairs.1))
    }
}

impl Camp {
    /// A cluster of which nothing exists, in the account of a peer.
    pub async fn new(peer: Peer, mut cluster: Cluster) -> Self {
        declare(&mut cluster.blueprint);
        let folder = tempfile::tempdir().expect("a folder");
        let program = wrapped(&peer, folder.path(), &[]);
        let site_settings = &cluster.blueprint.sites[&site()].settings;
        let cloud =
            provider(&program, &cluster.lock.cluster, site_settings).await.expect("the provider starts");
        let cloud = Arc::new(cloud);
        let world = World::new(cluster.lock.cluster.clone());
        let twin = Arc::new(Twin::new(Arc::clone(&cloud), &world));
        let sites = Sites(BTreeMap::from([(site(), Arc::clone(&twin) as Arc<dyn Provider>)]));
        castrum::pin::pin_images(&sites, &mut cluster.lock).await.expect("the account has images");
        let project = Arc::new(MemoryProject::new(cluster.lock.clone()));
        Self { peer, cluster, world, project, cloud, twin, program, _folder: folder }
    }

    /// Kills the provider's process, and goes on with another that knows nothing of it.
    pub async fn restart(&mut self) {
        self.cloud.kill_process().await;
        let settings = &self.cluster.blueprint.sites[&site()].settings;
        let cloud = provider(&self.program, &self.cluster.lock.cluster, settings).await;
        self.cloud = Arc::new(cloud.expect("the provider starts"));
        self.twin = Arc::new(self.twin.with(Arc::clone(&self.cloud)));
    }

    /// What there would be if everybody were killed now.
    pub async fn left(&self) -> Left {
        let (lock, world, pairs) = (self.project.lock(), self.world.copy(), self.twin.pairs());
        Left { account: self.peer.copy().await, lock, world, pairs }
    }

    /// Everybody was killed then; another process of the provider goes on with what was left.
    pub async fn back_to(&mut self, left: &Left) {
        self.peer.restore(left.account).await;
        self.world = left.world.copy();
        self.project = Arc::new(MemoryProject::new(left.lock.clone()));
        self.restart().await;
        self.twin = Arc::new(Twin::of(Arc::clone(&self.cloud), &self.world, left.pairs.clone()));
    }

    /// Declares another cluster: the same one, larger, smaller or other.
    pub fn declare(&mut self, cluster: Cluster) {
        self.cluster = Cluster { lock: self.project.lock(), ..cluster };
        declare(&mut self.cluster.blueprint);
    }

    /// What the blueprint and the lock file say now.
    pub fn desired(&self) -> Desired {
        let abilities = BTreeMap::from([(site(), self.cloud.abilities())]);
        let lock = self.project.lock();
        resolve(&self.cluster.blueprint, &self.cluster.stack, &lock, &abilities).expect("it can be resolved")
    }

    /// What a plan would do now, each step with its reason.
    pub async fn plan(&self) -> BTreeMap<String, String> {
        let (engine, _heard, _canceller) = self.engine();
        let desired = self.desired();
        let observed = engine.observe(&desired).await;
        let plan = plan(&desired, &observed, self.world.now()).expect("rendered");
        plan.steps.into_iter().map(|step| (step.id, step.reason)).collect()
    }

    /// A fresh engine, as a new process has it.
    pub fn engine(&self) -> (Engine, Heard, Canceller) {
        let heard = Heard::default();
        let (canceller, cancel) = Cancel::new();
        let clock = self.world.clock();
        let engine = Engine {
            sites: Sites(BTreeMap::from([(site(), Arc::clone(&self.twin) as Arc<dyn Provider>)])),
            fleet: self.world.fleet(),
            events: Events::new("test", Arc::clone(&clock), vec![Box::new(heard.clone())]),
            clock,
            project: Arc::clone(&self.project) as Arc<dyn ProjectPort>,
            cancel,
        };
        (engine, heard, canceller)
    }

    /// One `apply`.
    pub async fn apply(&self) -> (Outcome, Heard) {
        let (engine, heard, _canceller) = self.engine();
        (engine.converge(self.desired()).await.expect("rendered"), heard)
    }

    /// As many applies as it takes until nothing is set aside, and how many there were.
    pub async fn apply_until_whole(&self) -> (Outcome, usize) {
        for run in 1..=RUNS {
            let (outcome, _) = self.apply().await;
            if outcome.progress == Some(Progress::Converged) || run == RUNS {
                return (outcome, run);
            }
        }
        unreachable!("the last run returns")
    }

    /// One `destroy`.
    pub async fn destroy(&self) -> (Outcome, Heard) {
        let (engine, heard, _canceller) = self.engine();
        (engine.destroy().await, heard)
    }

    /// As many destroys as it takes, and how many there were.
    pub async fn destroy_until_gone(&self) -> (Outcome, usize) {
        for run in 1..=RUNS {
            let (outcome, _) = self.destroy().await;
            if outcome.progress == Some(Progress::Converged) || run == RUNS {
                return (outcome, run);
            }
        }
        unreachable!("the last run returns")
    }
}

/// The cluster on the provider `aws`: small machines, agents with a further disk, and a port that public agents open.
fn declare(blueprint: &mut Blueprint) {
    let site = blueprint.sites.get_mut(&site()).expect("the only site");
    "aws".clone_into(&mut site.provider);
    if site.settings.is_empty() {
        site.settings = settings();
    }
    blueprint.access.authorized_keys = vec![KEY.to_owned()];
    for group in blueprint.groups.values_mut() {
        group.size = Size { cpus: 2, memory_mib: 1024, disk_gib: 8 };
        if group.role == Role::Agent {
            group.disks = vec![Disk { size_gib: 10, mount: "/data".to_owned() }];
        }
    }
}
