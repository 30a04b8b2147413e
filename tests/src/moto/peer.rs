//! The peer: started and ended by the test that needs it, and told over HTTP how to behave.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The region in which everything happens.
pub const REGION: &str = "eu-central-1";
/// No call to the gate takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// A peer with an account of its own. It ends with this value, and with the thread that started it.
pub struct Peer {
    child: Child,
    port: u16,
}

/// One call that came to the peer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiCall {
    /// Its number, from 1.
    pub nth: usize,
    /// What was asked.
    pub action: String,
    /// The access key of whoever asked.
    pub who: String,
    /// Which attempt of the same call it was, by its sender's words.
    pub attempt: u32,
    /// Its client token.
    pub token: Option<String>,
    /// The status of the answer, or `refused`, `lost`, `dropped`.
    pub outcome: Option<Value>,
}

impl ApiCall {
    /// Whether it only looked.
    pub fn looks(&self) -> bool {
        self.action.starts_with("Describe") || self.action.starts_with("Get")
    }
}

/// A moment of a call at which the peer let time stand still.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stood {
    /// The call's number.
    pub nth: usize,
    /// What was asked.
    pub action: String,
    /// `before`, `effect` or `answer`.
    pub moment: String,
}

/// A point at which the peer lets time stand still.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stop {
    /// The call, counted from now on.
    pub nth: usize,
    /// `before`, `effect` or `answer`.
    pub moment: &'static str,
}

/// Where the tests of the peer are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("aws")
}

/// Cargo's folder for what it makes, from where this test runs in.
pub(super) fn target() -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    program.ancestors().nth(3).expect("a folder of Cargo's").to_owned()
}

/// The interpreter with everything that the peer needs; it is installed when it is not there yet.
fn python() -> PathBuf {
    let made = Command::new(folder().join("peer.sh")).arg(target().join("moto-venv")).output();
    let made = made.expect("tests/aws/peer.sh");
    assert!(made.status.success(), "the peer is not installed: {}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim())
}

/// Runs a program of `tests/aws` with the peer's interpreter.
pub(super) fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg("-B").arg(folder().join(name));
    command
}

impl Peer {
    /// Starts a peer, and waits until it listens. Called by the very thread that outlives it.
    pub fn start() -> Self {
        let mut child = script("gate.py").stdout(Stdio::piped()).spawn().expect("the peer starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the peer says its port");
        Self { port: line.trim().parse().expect("a port"), child }
    }

    /// The gate's own tests; what they say.
    pub fn test_gate() -> (bool, String) {
        let tested = script("test_gate.py").output().expect("the tests of the gate start");
        (tested.status.success(), String::from_utf8_lossy(&tested.stderr).into_owned())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = timeout(PATIENCE, exchange).await.expect("the peer answers").expect("the peer is there");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    async fn control(&self, method: &str, what: &str, told: &Value) -> Value {
        let body = if told.is_null() { String::new() } else { told.to_string() };
        let (status, text) = self.send(method, &format!("/_gate/{what}"), "", &body).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON from the gate")
    }

    /// The calls since they were forgotten last.
    pub async fn calls(&self) -> Vec<ApiCall> {
        serde_json::from_value(self.control("GET", "calls", &Value::Null).await).expect("calls")
    }

    /// Forgets the calls so far.
    pub async fn forget_calls(&self) {
        self.control("DELETE", "calls", &Value::Null).await;
    }

    /// More that goes wrong: a list of faults, as `tests/aws/gatehouse/faults.py` describes them.
    pub async fn faults(&self, faults: Value) {
        self.control("POST", "faults", &faults).await;
    }

    /// Limits, delays and seeds, as `tests/aws/gate.py` describes them.
    pub async fn settings(&self, settings: Value) {
        self.control("POST", "settings", &settings).await;
    }

    /// Nothing goes wrong any more.
    pub async fn calm(&self) {
        self.control("DELETE", "faults", &Value::Null).await;
        self.settings(json!({ "buckets": false, "forbidden": [], "stale_ms": 0 })).await;
    }

    /// An account in which nothing was ever made.
    pub async fn reset(&self) {
        self.control("POST", "reset", &Value::Null).await;
    }

    /// So much time passes that the service does not know client tokens any more.
    pub async fn forget_tokens(&self) {
        self.control("DELETE", "tokens", &Value::Null).await;
    }

    /// Lets time stand still at one call.
    pub async fn stop_at(&self, stop: &Stop) {
        self.control("POST", "hold", &json!({ "nth": stop.nth, "moment": stop.moment })).await;
    }

    /// The action at which time stands still; `None` if it does not within so many seconds.
    pub async fn stopped(&self, seconds: u64) -> Option<String> {
        let held = self.control("GET", &format!("held?{seconds}"), &Value::Null).await;
        held["action"].as_str().map(str::to_owned)
    }

    /// Time goes on; the call that was held has no answer.
    pub async fn go_on(&self) {
        self.control("POST", "release", &Value::Null).await;
    }

    /// Lets time stand still at every moment of every call from now on, until [`Self::go_on`].
    pub async fn watch(&self) {
        self.control("POST", "watch", &Value::Null).await;
    }

    /// The moment at which time stands still now; `None` if it does not within so many seconds.
    pub async fn stands(&self, seconds: u64) -> Option<Stood> {
        let held = self.control("GET", &format!("held?{seconds}"), &Value::Null).await;
        serde_json::from_value(held).expect("a moment, or none")
    }

    /// Time goes on to the next moment.
    pub async fn next(&self) {
        self.control("POST", "on", &Value::Null).await;
    }

    /// Keeps a copy of the account, with what the services remember, and tells its number: the same for the same state.
    pub async fn copy(&self) -> u64 {
        self.control("POST", "copy", &Value::Null).await.as_u64().expect("a number")
    }

    /// The account is again what it was when a copy was kept.
    pub async fn restore(&self, copy: u64) {
        self.control("POST", "restore", &json!({ "state": copy })).await;
    }

    /// Everything that the account holds, as the service shows it.
    pub async fn account(&self) -> String {
        pretty(&self.control("GET", "account", &Value::Null).await)
    }

    /// The same without what the place chose by itself: what was made for the same is the same text.
    pub async fn named(&self) -> String {
        pretty(&self.control("GET", "account?named", &Value::Null).await)
    }

    /// The ids of what carries the labels of a cluster's resource.
    pub async fn labelled(&self, cluster: &str, path: &str) -> Vec<String> {
        let account = self.control("GET", "account", &Value::Null).await;
        let tags = account["DescribeTags"]["tagSet"].as_array().cloned().unwrap_or_default();
        let with = |key: &str, value: &str| -> BTreeSet<String> {
            let of_it = tags.iter().filter(|tag| tag["key"] == key && tag["value"] == value);
            of_it.filter_map(|tag| tag["resourceId"].as_str().map(str::to_owned)).collect()
        };
        let (of_cluster, of_path) = (with("castrum-cluster", cluster), with("castrum-resource", path));
        of_cluster.intersection(&of_path).cloned().collect()
    }

    /// One call to a service of the account, as somebody else's; it must succeed.
    pub async fn call(&self, service: &str, action: &str, fields: &[(&str, &str)]) -> String {
        let version = if service == "ec2" { "2016-11-15" } else { "2015-12-01" };
        let mut form = format!("Action={action}&Version={version}");
        for (name, value) in fields {
            write!(form, "&{name}={}", escaped(value)).expect("text");
        }
        let headers = format!(
            "Content-Type: application/x-www-form-urlencoded\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=SOMEBODY/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n"
        );
        let (status, text) = self.send("POST", "/", &headers, &form).await;
        assert_eq!(status, 200, "{action}: {text}");
        text
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("the peer could not be ended: {error}");
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("text");
        }
    }
    escaped
}
