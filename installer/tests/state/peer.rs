//! The S3 that these tests speak to: started for each test, and gone with it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// A server of `peer.py`.
pub struct Peer {
    child: Child,
    /// It ends when this is closed.
    _alive: Option<ChildStdin>,
    pub port: u16,
}

impl Peer {
    /// Starts one. Without it these tests fail: what they show cannot be shown otherwise.
    pub fn start() -> Self {
        let target =
            Path::new(env!("CARGO_BIN_EXE_castrum")).ancestors().nth(2).expect("the folder of builds");
        let mut child = Command::new("bash")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/state/peer.sh"))
            .arg(target.join("moto-venv"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let port =
            line.trim().parse().expect("the peer says its port: `peer.sh` tells why not when run by hand");
        Self { _alive: child.stdin.take(), child, port }
    }

    /// Asks for something below `/-/`.
    pub fn ask(&self, what: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the peer listens");
        write!(stream, "GET /-/{what} HTTP/1.0\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(" 200 "), "{what}: {answer}");
        body.to_owned()
    }

    /// Everything that is stored, by name.
    pub fn dump(&self) -> BTreeMap<String, String> {
        serde_json::from_str(&self.ask("dump")).expect("JSON")
    }

    /// `lease.json` as it is.
    pub fn head(&self) -> serde_json::Value {
        serde_json::from_str(&self.dump()["small/lease.json"]).expect("JSON")
    }

    /// Waits until a request is kept back.
    pub fn wait_for_one_kept_back(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.ask("waiting") == "0" {
            assert!(Instant::now() < until, "nothing was kept back");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
