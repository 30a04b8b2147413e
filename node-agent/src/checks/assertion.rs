//! Asserts one thing about the node. What cannot be told is `Unknown`, and never taken for good.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use castrum_blueprints::manifest::{Assertion, HttpAssertion, Target};
use castrum_blueprints::status::Verdict;
use rustix::process::{Pid, Signal, kill_process_group};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::api::chain;
use crate::http::{Answer, Ask, HttpError, request};

/// The most of an answer or of a command's output that is looked at.
const MOST: usize = 256 * 1024;
const MOST_OUTPUT: u64 = 4096;
/// The most that is told of what was seen.
const MOST_SEEN: usize = 200;
/// What a command finds.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Tells whether `assertion` holds, and what was seen, in a line.
pub(crate) async fn check(
    tls: Option<&Arc<ClientConfig>>,
    assertion: &Assertion,
    patience: Duration,
) -> (Verdict, String) {
    let (verdict, seen) = match assertion {
        Assertion::Http(http) => check_http(tls, http, patience).await,
        Assertion::Tcp(to) => check_tcp(to, patience).await,
        Assertion::Exec(command) => check_exec(command, patience).await,
    };
    let line = seen.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    (verdict, line.chars().take(MOST_SEEN).collect())
}

async fn check_http(
    tls: Option<&Arc<ClientConfig>>,
    http: &HttpAssertion,
    patience: Duration,
) -> (Verdict, String) {
    let target = Target { socket: http.socket.clone(), url: http.url.clone() };
    let ask = Ask { method: "GET", body: None, timeout: patience, cap: MOST };
    match request(tls, &target, ask).await {
        Ok(answer) => judge(http, &answer),
        Err(error @ (HttpError::Connect { .. } | HttpError::Tls { .. })) => {
            (Verdict::Critical, chain(&error))
        }
        Err(error) => (Verdict::Unknown, chain(&error)),
    }
}

fn judge(http: &HttpAssertion, answer: &Answer) -> (Verdict, String) {
    let expected = http.status.map_or((200..300).contains(&answer.status), |status| status == answer.status);
    if !expected {
        return (Verdict::Critical, format!("status {}", answer.status));
    }
    let Some(pointer) = &http.pointer else { return (Verdict::Ok, format!("status {}", answer.status)) };
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return (Verdict::Unknown, "the answer is not JSON".to_owned());
    };
    match (body.pointer(pointer), &http.equals) {
        (None | Some(Value::Null), None) => (Verdict::Critical, format!("nothing at `{pointer}`")),
        (None, Some(expected)) => (Verdict::Critical, format!("nothing at `{pointer}`, expected {expected}")),
        (Some(seen), Some(expected)) if seen != expected => {
            (Verdict::Critical, format!("`{pointer}` is {seen}, expected {expected}"))
        }
        (Some(_), None) => (Verdict::Ok, format!("`{pointer}` is there")),
        (Some(seen), Some(_)) => (Verdict::Ok, format!("`{pointer}` is {seen}")),
    }
}

async fn check_tcp(to: &str, patience: Duration) -> (Verdict, String) {
    let Some(address) = address(to) else {
        return (Verdict::Unknown, format!("`{to}` is not an address with a port"));
    };
    match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(_)) => (Verdict::Ok, format!("{to} accepts")),
        Ok(Err(error)) => (Verdict::Critical, format!("{to}: {error}")),
        Err(_) => (Verdict::Unknown, format!("{to}: no answer within {} ms", patience.as_millis())),
    }
}

fn address(to: &str) -> Option<SocketAddr> {
    let (host, port) = to.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host: IpAddr = if host == "localhost" { Ipv4Addr::LOCALHOST.into() } else { host.parse().ok()? };
    Some(SocketAddr::new(host, port.parse().ok()?))
}

async fn check_exec(command: &[String], patience: Duration) -> (Verdict, String) {
    let Some((program, arguments)) = command.split_first() else {
        return (Verdict::Unknown, "no command is given".to_owned());
    };
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return (Verdict::Unknown, format!("cannot run `{program}`: {error}")),
    };
    let _group = Group::of(&child);
    match timeout(patience, ended(&mut child)).await {
        Ok(Ok((status, output))) => {
            let seen = if output.trim().is_empty() { status.to_string() } else { output };
            (verdict_of(status), seen)
        }
        Ok(Err(error)) => (Verdict::Unknown, format!("`{program}`: {error}")),
        Err(_) => (Verdict::Unknown, format!("`{program}` did not end within {} ms", patience.as_millis())),
    }
}

/// The end of the command itself: what it left running in the background may hold its output open, and is not waited for.
async fn ended(child: &mut Child) -> std::io::Result<(ExitStatus, String)> {
    let stdout = child.stdout.take();
    let mut output = Vec::new();
    let status = {
        let read = async {
            let Some(mut stdout) = stdout else { return };
            // Output that cannot be read is output that was not there; the status decides.
            let _: std::io::Result<usize> = (&mut stdout).take(MOST_OUTPUT).read_to_end(&mut output).await;
            let _: std::io::Result<u64> = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
        };
        let mut read = std::pin::pin!(read);
        tokio::select! {
            status = child.wait() => {
                let _: Result<(), _> = timeout(Duration::from_millis(20), &mut read).await;
                status?
            }
            () = &mut read => child.wait().await?,
        }
    };
    Ok((status, String::from_utf8_lossy(&output).into_owned()))
}

fn verdict_of(status: ExitStatus) -> Verdict {
    match status.code() {
        Some(0) => Verdict::Ok,
        Some(1) => Verdict::Warning,
        Some(2) => Verdict::Critical,
        _ => Verdict::Unknown,
    }
}

/// The process group of a command. It ends with the check, also when the check is given up.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // There may be nothing left of it, which is what is wanted.
            let _: rustix::io::Result<()> = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, UnixListener};

    const PATIENCE: Duration = Duration::from_millis(500);

    fn http(url: String) -> HttpAssertion {
        HttpAssertion { socket: None, url, status: None, pointer: None, equals: None }
    }

    /// Answers every connection with `text`.
    async fn serve(text: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        address
    }

    const HEALTHY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"health\":\"true\"}";

    async fn verdict(assertion: Assertion) -> (Verdict, String) {
        check(None, &assertion, PATIENCE).await
    }

    #[tokio::test]
    async fn http_answers_are_judged() {
        let url = format!("http://{}/health", serve(HEALTHY).await);
        let ask = |status, pointer: Option<&str>, equals| {
            let (pointer, url) = (pointer.map(str::to_owned), url.clone());
            verdict(Assertion::Http(HttpAssertion { status, pointer, equals, ..http(url) }))
        };
        assert_eq!(ask(None, None, None).await, (Verdict::Ok, "status 200".to_owned()));
        assert_eq!(ask(Some(204), None, None).await.0, Verdict::Critical);
        assert_eq!(ask(None, Some("/health"), Some(json!("true"))).await.0, Verdict::Ok);
        assert_eq!(ask(None, Some("/health"), Some(json!(true))).await.0, Verdict::Critical);
        assert_eq!(ask(None, Some("/health"), None).await.0, Verdict::Ok);
        assert_eq!(ask(None, Some("/other"), None).await.0, Verdict::Critical);
    }

    #[tokio::test]
    async fn what_is_not_understood_is_unknown() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let url = format!("http://{}/", serve(text).await);
        let pointer = Some("/a".to_owned());
        assert_eq!(
            verdict(Assertion::Http(HttpAssertion { pointer, ..http(url) })).await.0,
            Verdict::Unknown
        );
        let url = format!("http://{}/", serve("SSH-2.0-OpenSSH\r\n").await);
        assert_eq!(verdict(Assertion::Http(http(url))).await.0, Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_unix_socket_can_be_asked() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(HEALTHY.as_bytes()).await;
        });
        let socket = Some(socket.to_string_lossy().into_owned());
        let assertion = HttpAssertion { socket, ..http("http://docker/_ping".to_owned()) };
        assert_eq!(verdict(Assertion::Http(assertion)).await, (Verdict::Ok, "status 200".to_owned()));
    }

    #[tokio::test]
    async fn a_closed_port_is_critical_and_a_silent_one_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(verdict(Assertion::Tcp(address.to_string())).await.0, Verdict::Ok);
        assert_eq!(verdict(Assertion::Http(http(format!("http://{address}/")))).await.0, Verdict::Unknown);
        drop(listener);
        assert_eq!(verdict(Assertion::Tcp(address.to_string())).await.0, Verdict::Critical);
        assert_eq!(verdict(Assertion::Http(http(format!("http://{address}/")))).await.0, Verdict::Critical);
        assert_eq!(verdict(Assertion::Tcp("etcd:2379".to_owned())).await.0, Verdict::Unknown);
    }

    async fn exec(script: &str) -> (Verdict, String) {
        verdict(Assertion::Exec(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()])).await
    }

    #[tokio::test]
    async fn commands_tell_by_their_status_and_last_line() {
        assert_eq!(exec("echo a; echo b").await, (Verdict::Ok, "b".to_owned()));
        assert_eq!(exec("exit 1").await.0, Verdict::Warning);
        assert_eq!(exec("exit 2").await.0, Verdict::Critical);
        assert_eq!(exec("exit 3").await.0, Verdict::Unknown);
        assert_eq!(exec("kill -9 $$").await.0, Verdict::Unknown);
        assert_eq!(exec("yes | head -c 1000000; echo; echo end").await.0, Verdict::Ok);
        assert_eq!(verdict(Assertion::Exec(vec!["/no/such".to_owned()])).await.0, Verdict::Unknown);
        assert_eq!(verdict(Assertion::Exec(Vec::new())).await.0, Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_ended_with_all_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let start = Instant::now();
        let (verdict, _) = exec(&format!("sleep 600 & echo $! > {}; wait", pid.display())).await;
        assert_eq!(verdict, Verdict::Unknown);
        assert!(start.elapsed() < Duration::from_secs(3));
        let pid: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        for _ in 0..50 {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the child of the command still runs");
    }
}
