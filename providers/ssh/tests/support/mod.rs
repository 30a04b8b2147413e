//! Real SSH servers for tests: each in namespaces of its own, gone with the process that started them.
//!
//! A server's mount namespace has its own `/run`, `/root` and `/var/log`, and a throw-away layer over `/etc`, `/opt` and
//! `/var/lib`, so that it is a machine of its own as far as files go; its pid namespace dies with its first process, and
//! that with the test.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use castrum_provider_ssh::transport::{
    Auth, HostKeyPolicy, PrivateKey, PublicKey, Target, parse_private_key, parse_public_key,
};

pub const SOON: Duration = Duration::from_secs(20);

const BOOT: &str = r#"set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs "$DIR/layer"
for d in etc opt var/lib; do
  mkdir -p "$DIR/layer/$d/up" "$DIR/layer/$d/work"
  mount -t overlay overlay -o "lowerdir=/$d,upperdir=$DIR/layer/$d/up,workdir=$DIR/layer/$d/work" "/$d"
done
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /root
mount -t tmpfs tmpfs /var/log
mkdir -p /run/sshd /run/castrum
[ ! -e "$DIR/proof" ] || cp "$DIR/proof" /run/castrum/hostkeys.proof
[ -z "$NET" ] || ip link set lo up
exec /usr/sbin/sshd -D -e -f "$DIR/sshd_config""#;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Runs a command that has to succeed.
pub fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

/// A key pair in files.
pub struct KeyPair(pub PathBuf);

impl KeyPair {
    pub fn new(path: PathBuf, kind: &str, passphrase: &str) -> Self {
        let file = path.to_str().unwrap();
        run(&["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", file]);
        Self(path)
    }

    pub fn private(&self) -> PrivateKey {
        parse_private_key(&std::fs::read_to_string(&self.0).unwrap()).unwrap()
    }

    pub fn public_line(&self) -> String {
        std::fs::read_to_string(self.0.with_extension("pub")).unwrap().trim().to_owned()
    }

    pub fn public(&self) -> PublicKey {
        parse_public_key(&self.public_line()).unwrap()
    }
}

/// What a server is like.
#[derive(Default)]
pub struct Setup {
    /// The text of the host key proof.
    pub proof: Option<String>,
    /// More lines for `sshd_config`.
    pub config: String,
    /// In a network namespace of its own, without any link yet.
    pub own_network: bool,
}

/// An SSH server; `client` is the key that it accepts for root.
pub struct Server {
    process: Child,
    pub dir: tempfile::TempDir,
    pub address: String,
    pub port: u16,
    pub client: KeyPair,
    pub host: KeyPair,
    links: Vec<String>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&Setup::default())
    }

    pub fn with(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client = KeyPair::new(dir.path().join("client"), "ed25519", "");
        let host = KeyPair::new(dir.path().join("host"), "ed25519", "");
        let port = if setup.own_network { 22 } else { free_port() };
        write_files(dir.path(), setup, port);
        let process = spawn(dir.path(), setup.own_network);
        let server =
            Self { process, dir, address: "127.0.0.1".into(), port, client, host, links: Vec::new() };
        if !setup.own_network {
            server.wait_for_banner();
        }
        server
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn target(&self) -> Target {
        Target { address: self.address.clone(), port: self.port, user: "root".into() }
    }

    pub fn auth(&self) -> Auth {
        Auth::default().with_key(self.client.private())
    }

    pub fn pinned(&self) -> HostKeyPolicy {
        HostKeyPolicy::Pinned(vec![self.host.public()])
    }

    pub fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.process.id())
    }

    /// Runs a command in the server's network.
    pub fn inside(&self, words: &[&str]) -> String {
        let network = format!("--net={}", self.network());
        run(&[&["nsenter", network.as_str()], words].concat())
    }

    /// A link from here to the server, with the second address of a range of two; the range is new each time.
    pub fn link_from_here(&mut self) {
        let (here, there) = addresses();
        let name = self.link(&[], &here, &there);
        self.links.push(name);
        self.address = there;
        self.wait_for_banner();
    }

    /// A link from `gate` to the server, which nobody else can use.
    pub fn link_from(&mut self, gate: &Self) {
        let (here, there) = addresses();
        self.link(&["nsenter", &format!("--net={}", gate.network())], &here, &there);
        self.address = there;
        self.wait_for("Server listening");
    }

    fn link(&self, at: &[&str], here: &str, there: &str) -> String {
        let name = format!("cs{:x}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let pid = self.process.id().to_string();
        let ip = |words: &str| {
            run(&[at, &["ip"], words.split(' ').collect::<Vec<_>>().as_slice()].concat());
        };
        ip(&format!("link add {name} type veth peer name eth0 netns {pid}"));
        ip(&format!("addr add {here}/30 dev {name}"));
        ip(&format!("link set {name} up"));
        self.inside(&["ip", "addr", "add", &format!("{there}/30"), "dev", "eth0"]);
        self.inside(&["ip", "link", "set", "eth0", "up"]);
        name
    }

    pub fn wait_for_banner(&self) {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if let Ok(mut stream) = TcpStream::connect((self.address.as_str(), self.port)) {
                let mut banner = [0; 4];
                if stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-" {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no server: {}", std::fs::read_to_string(self.path("log")).unwrap_or_default());
    }

    fn wait_for(&self, line: &str) {
        let until = Instant::now() + SOON;
        while !std::fs::read_to_string(self.path("log")).unwrap().contains(line) {
            assert!(Instant::now() < until, "no `{line}` in the log of the server");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to all of the server's processes.
    pub fn signal(&self, name: &str) {
        for pid in descendants(self.process.id()) {
            // A process may have ended by itself meanwhile.
            let _ = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }

    /// Ends all of the server's processes, and waits until they are gone with their sockets.
    pub fn kill(&mut self) {
        let inside = descendants(self.process.id());
        let _ = self.process.kill();
        let _ = self.process.wait();
        let until = Instant::now() + SOON;
        while Instant::now() < until && inside.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        for link in &self.links {
            // Gone already if the kernel was quick to remove the namespace.
            let _ = Command::new("ip").args(["link", "del", link]).stderr(Stdio::null()).status();
        }
    }
}

fn spawn(dir: &Path, own_network: bool) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(own_network.then_some("--net"));
    command.args(["sh", "-c", BOOT]).env("DIR", dir).env("NET", if own_network { "yes" } else { "" });
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let process = command.spawn().unwrap();
    if own_network {
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", process.id());
        let until = Instant::now() + SOON;
        while std::fs::read_link(&theirs).unwrap() == ours {
            assert!(Instant::now() < until, "no network namespace");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    process
}

fn write_files(dir: &Path, setup: &Setup, port: u16) {
    std::fs::create_dir(dir.join("layer")).unwrap();
    std::fs::copy(dir.join("client.pub"), dir.join("authorized_keys")).unwrap();
    if let Some(proof) = &setup.proof {
        std::fs::write(dir.join("proof"), proof).unwrap();
    }
    let listen = if setup.own_network { "0.0.0.0" } else { "127.0.0.1" };
    let d = dir.display();
    let text = format!(
        "ListenAddress {listen}\nPort {port}\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized_keys\n\
         StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPidFile none\nUseDNS no\n{}",
        setup.config
    );
    std::fs::write(dir.join("sshd_config"), text).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Two addresses of a range of four that no other test of any process uses.
fn addresses() -> (String, String) {
    let number = std::process::id() * 8 + NUMBER.fetch_add(1, Ordering::Relaxed);
    let base = (number * 4) & 0xffff;
    let at = |offset: u32| format!("198.18.{}.{}", (base >> 8) & 0xff, (base & 0xff) + offset);
    (at(1), at(2))
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    for child in all.clone() {
        all.extend(descendants(child));
    }
    all
}

/// An ssh-agent that holds `keys`.
pub struct Agent {
    process: Child,
    dir: tempfile::TempDir,
}

impl Agent {
    pub fn with(keys: &[&KeyPair]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ssh-agent", "-D", "-a"]).arg(&socket);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self { process, dir };
        let until = Instant::now() + SOON;
        while !socket.exists() {
            assert!(Instant::now() < until, "no agent");
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            agent.add(key);
        }
        agent
    }

    /// The passphrase of an encrypted key is always `secret`.
    fn add(&self, key: &KeyPair) {
        let ask = self.dir.path().join("ask");
        std::fs::write(&ask, "#!/bin/sh\necho secret\n").unwrap();
        run(&["chmod", "700", ask.to_str().unwrap()]);
        let mut command = Command::new("ssh-add");
        command.arg(&key.0).env("SSH_AUTH_SOCK", self.socket());
        command.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force");
        assert!(command.stderr(Stdio::null()).status().unwrap().success());
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
