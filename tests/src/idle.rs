//! The built programs at rest and at their start: what they take of files, memory and time.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use castrum::keyring::{Keyring, NodeIdentity};
use castrum::trust::unix_seconds;
use castrum_blueprints::boot::{BOOT_FILE, BootConfig, TOKEN_FILE};
use castrum_blueprints::names::{ClusterId, NodeName, Role};
use ring::rand::SystemRandom;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long an agent may take until it answers.
const STARTS: Duration = Duration::from_secs(10);

/// What an agent takes that has nothing to do.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// The size of its file, in MiB.
    pub file: f64,
    /// Its resident memory, in MiB.
    pub resident: f64,
    /// Its threads.
    pub threads: f64,
}

/// Starts the agent `program` in a folder of its own, as a node that has joined and holds no manifest, and measures it.
pub fn agent(program: &Path) -> Outcome<Idle> {
    let root = tempfile::tempdir()?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    join(program, root.path(), port)?;
    let agent =
        Agent(Command::new(program).arg("--root").arg(root.path()).arg("run").stderr(Stdio::null()).spawn()?);
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if begun.elapsed() > STARTS {
            return Err("the agent does not answer".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.0.id()))?;
    let field = |name: &str| -> Outcome<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    };
    #[expect(clippy::cast_precision_loss, reason = "a few million bytes")]
    let file = fs::metadata(program)?.len() as f64 / f64::from(1 << 20);
    Ok(Idle { file, resident: field("VmRSS:")? / 1024.0, threads: field("Threads:")? })
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Admits a node without any master, as the installer does over SSH.
fn join(program: &Path, root: &Path, port: u16) -> Outcome<()> {
    let (rng, now) = (SystemRandom::new(), unix_seconds());
    let (cluster, node): (ClusterId, NodeName) = ("0123456789ab".parse()?, "agents-1".parse()?);
    let mut keyring = Keyring::generate(cluster.clone(), now, &rng)?;
    let expires = now + 600;
    let token = keyring.offer_token(&node, 1, expires, now)?;
    let boot = BootConfig {
        format_version: BootConfig::FORMAT,
        cluster,
        node: node.clone(),
        role: Role::Agent,
        incarnation: 1,
        expires,
        masters: Vec::new(),
        ca: keyring.ca_pem(),
        verify_key: BASE64.encode(keyring.verifying_key().as_bytes()),
        agent: None,
        api_port: port,
        former_cas: Vec::new(),
    };
    write(&root.join(BOOT_FILE.trim_start_matches('/')), &boot.to_text())?;
    write(&root.join(TOKEN_FILE.trim_start_matches('/')), token.expose().as_str())?;
    let asked = Command::new(program).arg("--root").arg(root).args(["join", "prepare"]).output()?;
    let request = serde_json::from_slice(&asked.stdout)?;
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let identity = NodeIdentity { node, role: Role::Agent, addresses: vec![address] };
    let certificate = keyring.enrol(&request, &identity, now, &rng)?.pem;
    let mut accept = Command::new(program);
    accept.arg("--root").arg(root).args(["join", "accept"]).stdin(Stdio::piped());
    let mut accept = accept.spawn()?;
    accept.stdin.take().ok_or("no stdin")?.write_all(certificate.as_bytes())?;
    if accept.wait()?.success() { Ok(()) } else { Err("the agent does not accept its certificate".into()) }
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    Ok(fs::write(path, text)?)
}

/// The shortest of some runs of `plan` for a cluster of three nodes, each a new process; in milliseconds.
pub fn cold_plan(program: &Path) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let blueprint = dir.path().join("cluster.yaml");
    fs::write(
        &blueprint,
        "apiVersion: castrum/v1\nname: three\nsites:\n  here: { provider: sim }\ngroups:\n  \
         masters: { role: master, count: 1 }\n  agents: { role: agent, count: 1 }\n  \
         public: { role: public-agent, count: 1 }\nstack: { name: swarm }\n",
    )?;
    let mut shortest = f64::INFINITY;
    for _ in 0..10 {
        let begun = Instant::now();
        let ended = Command::new(program)
            .arg("plan")
            .arg(&blueprint)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        shortest = shortest.min(begun.elapsed().as_secs_f64() * 1000.0);
        // 2 says that there is something to do.
        if !matches!(ended.code(), Some(0 | 2)) {
            return Err(format!("plan ended with {ended}").into());
        }
    }
    Ok(shortest)
}

/// Where `make build` puts a program.
pub fn built(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    target.join("dist").join(name)
}
