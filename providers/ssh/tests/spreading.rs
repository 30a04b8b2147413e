//! One blob to several machines: speed, memory, and machines that do not keep up. One test, since it measures the
//! memory of its process.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod support;

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use castrum_provider_ssh::transport::{FanOut, Receiver, Session, SshError, SshErrorKind, fan_out};
use support::{SOON, Server};
use tokio::io::{AsyncRead, ReadBuf};

const BLOB: u64 = 200 << 20;
/// The most that streaming may add to the process: window, queues and buffers, not the blob.
const MEMORY: u64 = 40 << 20;

/// A blob that exists only while it is read; every eighth byte counts up, so that a lost or doubled piece shows.
struct Blob {
    at: u64,
    breaks_at: u64,
}

impl AsyncRead for Blob {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at >= self.breaks_at {
            return Poll::Ready(Err(io::Error::other("the disk broke")));
        }
        let left = usize::try_from((BLOB - self.at) / 8).unwrap();
        for _ in 0..left.min(buf.remaining() / 8) {
            let word = (self.at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            buf.put_slice(&word.to_le_bytes());
            self.at += 8;
        }
        Poll::Ready(Ok(()))
    }
}

fn whole() -> Blob {
    Blob { at: 0, breaks_at: u64::MAX }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Watches the memory of this process until it is dropped.
struct Watch {
    most: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Watch {
    fn start() -> Self {
        let (most, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (m, d) = (most.clone(), done.clone());
        std::thread::spawn(move || {
            while !d.load(Ordering::Relaxed) {
                m.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { most, done }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

async fn receivers(servers: &[Server], command: &str) -> BTreeMap<usize, Receiver> {
    let mut receivers = BTreeMap::new();
    for (number, server) in servers.iter().enumerate() {
        let session =
            Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap();
        receivers.insert(number, Receiver { session, command: command.to_owned() });
    }
    receivers
}

async fn digest_here() -> String {
    let mut child = tokio::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::copy(&mut whole(), &mut stdin).await.unwrap();
    drop(stdin);
    String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_read_once_and_a_machine_that_stalls_is_dropped_and_named() {
    let servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
    let expected = digest_here().await;
    let to = receivers(&servers, "sha256sum").await;
    let before = resident();
    let watch = Watch::start();
    let start = Instant::now();
    let results = fan_out(whole(), &to, &FanOut::default()).await.unwrap();
    let took = start.elapsed();
    let grown = watch.most.load(Ordering::Relaxed).saturating_sub(before);
    for result in results.values() {
        assert_eq!(String::from_utf8_lossy(&result.as_ref().unwrap().stdout), expected);
    }
    let rate = 3.0 * 200.0 / took.as_secs_f64();
    println!("200 MiB to 3 machines: {took:?}, {rate:.0} MiB/s in sum, {} MiB more memory", grown >> 20);
    assert!(grown < MEMORY, "memory grew by {grown} bytes");

    one_stalls_and_one_fails(&servers, &expected).await;
    a_broken_source_fails_everywhere(&servers).await;
}

async fn one_stalls_and_one_fails(servers: &[Server], expected: &str) {
    let mut to = receivers(servers, "sha256sum").await;
    to.get_mut(&1).unwrap().command = String::from("head -c 1000000 > /dev/null; sleep 1000");
    to.get_mut(&2).unwrap().command = String::from("head -c 1000 > /dev/null; echo full >&2; exit 28");
    let options = FanOut { stall: Duration::from_secs(2), ..FanOut::default() };
    let spread = fan_out(whole(), &to, &options);
    let mut results = tokio::time::timeout(Duration::from_mins(1), spread).await.unwrap().unwrap();
    let healthy = results.remove(&0).unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&healthy.stdout), expected);
    let stalled = results.remove(&1).unwrap().unwrap_err();
    assert!(matches!(stalled, SshError::Stalled { .. }), "{stalled}");
    assert!(stalled.to_string().contains(&servers[1].port.to_string()), "{stalled}");
    let failed = results.remove(&2).unwrap().unwrap_err();
    assert_eq!(failed.kind(), SshErrorKind::Command);
}

async fn a_broken_source_fails_everywhere(servers: &[Server]) {
    let to = receivers(servers, "cat > /dev/null").await;
    let source = Blob { at: 0, breaks_at: 10 << 20 };
    let broken = fan_out(source, &to, &FanOut::default()).await.unwrap_err();
    assert!(matches!(broken, SshError::Source(_)), "{broken}");
}
