//! Clusters for the tests: made in a folder of their own, and removed whatever happens.

use std::cell::RefCell;
use std::future::Future;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use castrum_blueprints::blueprint::Size;
use castrum_blueprints::names::{ClusterId, ResourceKind, ResourcePath, Role};
use castrum_provider::{
    Attachments, BootData, Change, ImageSpec, MachineSpec, NetworkSpec, Provider, Removed, ResourceSpec,
    Wanted,
};
use castrum_provider_local::{Local, LocalOptions, leftovers};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(90);

/// One test: its folder, its runtime, and the clusters that it must not leave behind.
pub struct Test {
    pub options: LocalOptions,
    runtime: Runtime,
    clusters: Rc<RefCell<Vec<ClusterId>>>,
    _folder: tempfile::TempDir,
}

impl Test {
    pub fn new() -> Self {
        // Not below /tmp, which may be a file system that cannot carry an overlay.
        let folder = tempfile::Builder::new().prefix("castrum-local-").tempdir_in("/var/tmp").unwrap();
        let state_root = folder.path().join("state");
        let options = LocalOptions { state_root, ..LocalOptions::default() };
        Self { options, runtime: Runtime::new().unwrap(), clusters: Rc::default(), _folder: folder }
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Starts another process that makes the cluster, and kills it after `delay`.
    pub fn kill_a_maker(&self, cluster: &ClusterId, delay: Duration) {
        let mut maker = Command::new(std::env::current_exe().unwrap())
            .args(["maker", cluster.as_str()])
            .args([&self.options.state_root, &self.options.image_cache])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        maker.kill().unwrap();
        maker.wait().unwrap();
    }

    pub fn world(&self, cluster: ClusterId) -> World {
        self.clusters.borrow_mut().push(cluster.clone());
        World::new(self, cluster)
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        for cluster in
            self.clusters.borrow().iter().filter(|cluster| !leftovers(cluster, &self.options).is_empty())
        {
            let world = World::new(self, cluster.clone());
            let seen = self.run(world.provider.observe()).seen;
            for path in seen.keys().rev() {
                if let Err(failure) = self.run(world.provider.remove(path)) {
                    eprintln!("  left behind: `{path}`: {failure}");
                }
            }
        }
    }
}

/// One cluster with one site.
pub struct World {
    pub cluster: ClusterId,
    pub provider: Local,
    options: LocalOptions,
}

impl World {
    pub fn new(test: &Test, cluster: ClusterId) -> Self {
        Self::at(test.options.clone(), cluster)
    }

    fn at(options: LocalOptions, cluster: ClusterId) -> Self {
        let provider = Local::new(cluster.clone(), "here".parse().unwrap(), options.clone());
        Self { cluster, provider, options }
    }

    /// Ensures image, network and `count` machines (these at once); what changed, in this order.
    pub async fn ensure_all(&self, count: u32) -> Vec<Change> {
        let image = ResourceSpec::Image(ImageSpec { release: "debian-12".to_owned() });
        let network = ResourceSpec::Network(NetworkSpec { nodes: count, cidr: None });
        let mut changes = Vec::new();
        for wanted in
            [wanted(ResourceKind::Image, "base", image), wanted(ResourceKind::Network, "main", network)]
        {
            changes.push(self.provider.ensure(&wanted).await.unwrap().change);
        }
        let tasks: Vec<_> = (1..=count)
            .map(|node| {
                let (provider, wanted) = (self.provider.clone(), wanted_machine(node));
                tokio::spawn(async move { provider.ensure(&wanted).await.unwrap() })
            })
            .collect();
        for task in tasks {
            let ensured = task.await.unwrap();
            assert!(ensured.seen.ready);
            changes.push(ensured.change);
        }
        changes
    }

    pub async fn make(&self, count: u32) {
        let changes = self.ensure_all(count).await;
        assert!(changes[2..].iter().all(|change| *change == Change::Created), "{changes:?}");
    }

    pub async fn remove_machines(&self, count: u32) -> Vec<Removed> {
        let mut removed = Vec::new();
        for node in 1..=count {
            let machine = path(ResourceKind::Machine, &format!("node-{node}"));
            removed.push(self.provider.remove(&machine).await.unwrap());
        }
        removed
    }

    pub async fn remove_all(&self, count: u32) {
        self.remove_machines(count).await;
        for (kind, name) in [(ResourceKind::Network, "main"), (ResourceKind::Image, "base")] {
            self.provider.remove(&path(kind, name)).await.unwrap();
            assert_eq!(self.provider.remove(&path(kind, name)).await.unwrap(), Removed::Absent);
        }
    }

    fn folder(&self, node: u32) -> PathBuf {
        self.options.state_root.join(self.cluster.as_str()).join("here/machine").join(format!("node-{node}"))
    }

    pub fn address(&self, node: u32) -> Ipv4Addr {
        let text = std::fs::read_to_string(self.folder(node).join("record.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        record["made"]["machine"]["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn has_banner(&self, node: u32) -> bool {
        let socket = SocketAddr::new(IpAddr::V4(self.address(node)), 22);
        let Ok(mut stream) = TcpStream::connect_timeout(&socket, Duration::from_millis(500)) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).is_ok() && banner == *b"SSH-"
    }

    pub fn wait_banner(&self, node: u32) {
        wait("an sshd banner", node, || self.has_banner(node));
    }

    pub fn wait_cloud_init(&self, node: u32) {
        let result = self.folder(node).join("upper/var/lib/cloud/data/result.json");
        wait("cloud-init's result", node, || result.exists());
        let text = std::fs::read_to_string(result).unwrap();
        let result: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(result["v1"]["errors"], serde_json::json!([]), "node {node}");
        assert!(result["v1"]["datasource"].as_str().unwrap().contains("NoCloud"), "node {node}");
    }

    /// Runs a shell line inside the node; what it printed.
    pub fn in_node(&self, node: u32, line: &str) -> String {
        let text = std::fs::read_to_string(self.folder(node).join("init.json")).unwrap();
        let init: serde_json::Value = serde_json::from_str(&text).unwrap();
        let output = Command::new("nsenter")
            .args(["--target", &init["pid"].to_string(), "--all", "--root", "--wd=/", "bash", "-c", line])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "`{line}` in node {node}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many processes of the cluster are PID 1 of a node.
    pub fn inits(&self) -> usize {
        let all = Command::new("grep")
            .args(["-l", &format!("/castrum/{}/", self.cluster)])
            .args(process_files("cgroup"))
            .output()
            .unwrap();
        let listed = String::from_utf8(all.stdout).unwrap();
        let status =
            |file: &str| std::fs::read_to_string(file.replace("cgroup", "status")).unwrap_or_default();
        let is_init = |status: &str| {
            let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            // The dead are listed until somebody asks how they ended.
            let lives = !status.lines().any(|line| line.starts_with("State:\tZ"));
            lives && pids.is_some_and(|pids| pids.split_whitespace().nth(1) == Some("1"))
        };
        listed.lines().filter(|file| is_init(&status(file))).count()
    }
}

/// The path of a resource of the only site.
pub fn path(kind: ResourceKind, name: &str) -> ResourcePath {
    ResourcePath { site: "here".parse().unwrap(), kind, name: name.to_owned() }
}

/// A machine as the planner would want it.
pub fn wanted_machine(node: u32) -> Wanted {
    let name = format!("node-{node}");
    let spec = MachineSpec {
        node: name.parse().unwrap(),
        role: Role::Agent,
        size: Size { cpus: 1, memory_mib: 512, disk_gib: 8 },
        disks: vec![],
        zone: None,
        image: Some("base".to_owned()),
        open_ports: vec![],
        existing: None,
        attached: Attachments::default(),
    };
    let told = format!(
        "#cloud-config\nlocale: false\nssh_genkeytypes: [ed25519]\nmanage_etc_hosts: true\n\
         write_files:\n- {{path: /root/told, content: \"boot data of {name}\\n\"}}\n\
         runcmd:\n- [sh, -c, \"echo ran > /root/ran\"]\n"
    );
    let mut wanted = wanted(ResourceKind::Machine, &name, ResourceSpec::Machine(Box::new(spec)));
    wanted.boot_data = Some(BootData::new(told));
    wanted
}

fn wanted(kind: ResourceKind, name: &str, spec: ResourceSpec) -> Wanted {
    Wanted { path: path(kind, name), spec, generation: 0, boot_data: None }
}

fn wait(what: &str, node: u32, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "no {what} of node {node} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn process_files(name: &str) -> Vec<String> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| pid.parse::<u32>().is_ok()).map(|pid| format!("/proc/{pid}/{name}")).collect()
}

/// Waits until no process names `text` in its arguments.
pub fn wait_no_process(text: &str) {
    let named = |file: &String| std::fs::read_to_string(file).unwrap_or_default().contains(text);
    let began = Instant::now();
    while process_files("cmdline").iter().any(named) {
        assert!(began.elapsed() < Duration::from_secs(5), "processes of `{text}` outlive their maker");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A cluster id that no other run uses.
pub fn fresh_cluster() -> ClusterId {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let bytes = castrum_blueprints::names::Digest::of(format!("{nanos} {}", std::process::id()).as_bytes());
    bytes.short().parse().unwrap()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the killed maker runs: the arguments are the cluster and the state folder.
pub fn run_maker(arguments: &[String]) -> ExitCode {
    let (state_root, image_cache) = (PathBuf::from(&arguments[1]), PathBuf::from(&arguments[2]));
    let options = LocalOptions { state_root, image_cache, ..LocalOptions::default() };
    let world = World::at(options, arguments[0].parse().unwrap());
    Runtime::new().unwrap().block_on(world.ensure_all(2));
    ExitCode::SUCCESS
}
