//! Sessions with a real server on this machine: who gets in, whom we believe, what happens when it goes wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod support;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use castrum_provider_ssh::transport::{
    Auth, Chunk, ClientConfig, ExitStatus, HostKeyPolicy, HostKeyProof, KnownHosts, Limits, RouteRequest,
    Session, SshError, SshErrorKind, Stdin, TerminalSize, command_line,
};
use support::{Agent, KeyPair, SOON, Server, Setup, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn connect(server: &Server) -> Session {
    Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap()
}

async fn whoami(session: &Session) -> String {
    let output = session.check("id -un", (), &Limits::default()).await.unwrap();
    String::from_utf8(output.stdout.to_vec()).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gets_its_input_and_gives_output_and_status() {
    let server = Server::start();
    let session = connect(&server).await;
    assert_eq!(session.host_key_line(), server.host.public_line());
    let limits = Limits::default();
    let output = session.exec("cat; echo oops >&2; exit 7", "text in", &limits).await.unwrap();
    assert_eq!(output.status, ExitStatus::Code(7));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"text in"[..], &b"oops\n"[..]));
    let killed = session.exec("kill -9 $$", (), &limits).await.unwrap();
    assert_eq!(killed.status, ExitStatus::Signal("KILL".into()));
    let failed = session.check("echo why >&2; exit 3", (), &limits).await.unwrap_err();
    assert_eq!(failed.kind(), SshErrorKind::Command);
    assert!(failed.to_string().ends_with("(exit status 3): why"), "{failed}");
    let words = ["printf", "%s|", "a b", "$(id)", "it's", "*"];
    let echoed = session.check(&command_line(&words).unwrap(), (), &limits).await.unwrap();
    assert_eq!(&echoed.stdout[..], b"a b|$(id)|it's|*|");
    let root = session.as_root("id -un; echo 'x y'").unwrap();
    assert_eq!(&session.check(&root, (), &limits).await.unwrap().stdout[..], b"root\nx y\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_capped_and_large_input_flows() {
    let server = Server::start();
    let session = connect(&server).await;
    let small = Limits { stdout: 1000, ..Limits::default() };
    let output = session.check("head -c 5000000 /dev/zero", (), &small).await.unwrap();
    assert_eq!((output.stdout.len(), output.truncated), (1000, true));
    let counted = session.check("wc -c", vec![7; 9_000_000], &small).await.unwrap();
    assert_eq!(&counted.stdout[..], b"9000000\n");
    let file = tokio::io::repeat(3).take(5_000_001);
    let counted = session.check("wc -c", Stdin::reader(file), &small).await.unwrap();
    assert_eq!(&counted.stdout[..], b"5000001\n");
    let unread = session.check("exit 0", vec![7; 9_000_000], &small).await.unwrap();
    assert!(unread.status.is_success(), "a command need not read its input");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_from_memory_agent_and_files() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let stranger = KeyPair::new(dir.path().join("stranger"), "ed25519", "");
    let locked = KeyPair::new(dir.path().join("locked"), "ed25519", "secret");
    let rsa = KeyPair::new(dir.path().join("rsa"), "rsa", "");
    let accepted = [&server.client, &locked, &rsa].map(KeyPair::public_line).join("\n");
    std::fs::write(server.path("authorized_keys"), accepted).unwrap();
    let nobody = HostKeyPolicy::Pinned(vec![]);
    let unpinned = Session::connect(&server.target(), &server.auth(), nobody, SOON).await.unwrap_err();
    assert_eq!(unpinned.kind(), SshErrorKind::Local, "without a pin there is no connection at all");

    let login =
        async |auth: Auth| Session::connect(&server.target(), &auth, server.pinned(), SOON).await.map(|_| ());
    login(Auth::default().with_key(stranger.private()).with_key(server.client.private())).await.unwrap();
    login(Auth::default().with_files([stranger.0.clone(), server.client.0.clone()])).await.unwrap();

    let refused = login(Auth::default().with_files([locked.0.clone(), rsa.0.clone()])).await.unwrap_err();
    assert_eq!(refused.kind(), SshErrorKind::Refused);
    let text = refused.to_string();
    assert!(text.contains("locked: encrypted, and not in the agent"), "{text}");
    assert!(text.contains("rsa: an RSA key, which only the agent can use"), "{text}");
    assert!(refused.hint().unwrap().contains("authorized_keys"));

    for key in [&locked, &rsa, &server.client] {
        let agent = Agent::with(&[&stranger, key]);
        login(Auth::default().with_agent(agent.socket())).await.unwrap();
        let listed = Auth::default().with_agent(agent.socket()).with_files([key.0.clone()]).only_listed();
        login(listed).await.unwrap();
        let other = Auth::default().with_agent(agent.socket()).with_files([stranger.0.clone()]).only_listed();
        assert_eq!(login(other).await.unwrap_err().kind(), SshErrorKind::Refused);
    }
}

fn server_target() -> castrum_provider_ssh::transport::Target {
    castrum_provider_ssh::transport::Target { address: "127.0.0.1".into(), port: 1, user: "root".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_files_that_others_may_read_are_not_used() {
    let server = Server::start();
    run(&["chmod", "644", server.client.0.to_str().unwrap()]);
    let auth = Auth::default().with_files([server.client.0.clone()]);
    let refused = Session::connect(&server.target(), &auth, server.pinned(), SOON).await.unwrap_err();
    assert!(refused.to_string().contains("others may read it (mode 644)"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_host_key_is_refused_with_both_fingerprints() {
    let server = Server::start();
    let other = KeyPair::new(server.path("other"), "ed25519", "");
    let policy = HostKeyPolicy::Pinned(vec![other.public()]);
    let error = Session::connect(&server.target(), &server.auth(), policy, SOON).await.unwrap_err();
    assert!(matches!(error, SshError::HostKeyMismatch { .. }), "{error}");
    for key in [&server.host, &other] {
        let shown = run(&["ssh-keygen", "-l", "-f", key.0.to_str().unwrap()]);
        let fingerprint = shown.split(' ').nth(1).unwrap();
        assert!(error.to_string().contains(fingerprint), "{error} lacks {fingerprint}");
    }
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    assert!(!log.contains("Accepted"), "nothing is said to a host with a wrong key: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_hosts_decide_and_the_type_of_key_on_record_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let ecdsa = KeyPair::new(dir.path().join("ecdsa"), "ecdsa", "");
    let server =
        Server::with(&Setup { config: format!("HostKey {}\n", ecdsa.0.display()), ..Setup::default() });
    let file = dir.path().join("known_hosts");
    let policy = || HostKeyPolicy::KnownHosts(KnownHosts { files: vec![file.clone()], alias: None });
    let login = async || Session::connect(&server.target(), &server.auth(), policy(), SOON).await;
    let unknown = login().await.unwrap_err();
    assert!(matches!(unknown, SshError::HostKeyUnknown { .. }), "{unknown}");
    assert!(unknown.hint().unwrap().contains(&server.host.public_line()));
    std::fs::write(&file, format!("[127.0.0.1]:{} {}\n", server.port, ecdsa.public_line())).unwrap();
    assert_eq!(login().await.unwrap().host_key_line(), ecdsa.public_line());
    run(&["ssh-keygen", "-q", "-H", "-f", file.to_str().unwrap()]);
    login().await.unwrap();
    let revoked = format!("@revoked * {}\n* {}\n", ecdsa.public_line(), ecdsa.public_line());
    std::fs::write(&file, revoked).unwrap();
    let error = login().await.unwrap_err();
    assert!(error.to_string().contains("revoked") || error.to_string().contains("expected"), "{error}");
}

/// Accepts the proof that says `good <host key line>`.
struct Verifier(Mutex<Vec<String>>);

#[async_trait]
impl HostKeyProof for Verifier {
    async fn verify(&self, host_key: &str, proof: &str) -> Result<(), String> {
        self.0.lock().unwrap().push(proof.to_owned());
        if proof.trim() == format!("good {host_key}") { Ok(()) } else { Err("wrong signature".into()) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_contact_is_used_only_after_its_proof_was_verified() {
    let verifier = Arc::new(Verifier(Mutex::default()));
    let policy = HostKeyPolicy::Proven(verifier.clone());
    let server = Server::start();
    let login = async || Session::connect(&server.target(), &server.auth(), policy.clone(), SOON).await;
    let missing = login().await.unwrap_err();
    assert!(matches!(missing, SshError::HostKeyProofMissing { .. }), "{missing}");
    assert_eq!(missing.kind(), SshErrorKind::Unreachable, "the machine may still be starting");

    let admin = connect(&server).await;
    let write = "cat > /run/castrum/hostkeys.proof";
    let good = format!("good {}\n", server.host.public_line());
    admin.check(write, good, &Limits::default()).await.unwrap();
    assert_eq!(whoami(&login().await.unwrap()).await, "root");

    admin.check(write, "good somebody else\n", &Limits::default()).await.unwrap();
    let forged = login().await.unwrap_err();
    assert!(matches!(forged, SshError::HostKeyUnproven { .. }), "{forged}");
    assert!(forged.to_string().contains("man in the middle"), "{forged}");
    assert_eq!(verifier.0.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_configuration_leads_to_the_host() {
    let server = Server::start();
    let ssh = server.path(".ssh");
    std::fs::create_dir(&ssh).unwrap();
    let known = format!("box {}\n", server.host.public_line());
    std::fs::write(server.path("known"), known).unwrap();
    let text = format!(
        "Host box\n HostName 127.0.0.1\n Port {}\n User root\n IdentityFile ~/client\n IdentitiesOnly yes\n \
         HostKeyAlias box\n UserKnownHostsFile ~/known\n StrictHostKeyChecking no\n",
        server.port
    );
    let config = ClientConfig::parse(&text, server.dir.path(), "nobody").unwrap();
    let request =
        RouteRequest { name: "box".into(), port: None, user: None, auth: Auth::default(), policy: None };
    let session = Session::open(&config.route(&request).unwrap(), SOON).await.unwrap();
    assert_eq!(whoami(&session).await, "root");
    std::fs::write(server.path("known"), "").unwrap();
    let error = Session::open(&config.route(&request).unwrap(), SOON).await.unwrap_err();
    assert!(matches!(error, SshError::HostKeyUnknown { .. }), "`no` must not weaken it: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_followed_and_dropping_it_ends_the_command() {
    let server = Server::start();
    let session = connect(&server).await;
    let command = "trap 'echo gone > /run/ended' PIPE; echo first; echo second >&2; while sleep 0.05; do echo . || break; done; echo gone > /run/ended";
    let mut log = session.exec_streaming(command, ()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match log.next().await.unwrap().unwrap() {
            Chunk::Stdout(text) if text.starts_with(b"first") => seen.push("first"),
            Chunk::Stderr(text) if text.starts_with(b"second") => seen.push("second"),
            _ => {}
        }
    }
    drop(log);
    let ended = "for i in $(seq 100); do [ -e /run/ended ] && exit 0; sleep 0.1; done; exit 1";
    session.check(ended, (), &Limits::default()).await.unwrap();
    let mut short = session.exec_streaming("cat; exit 4", "abc").await.unwrap();
    assert_eq!(short.next().await.unwrap(), Some(Chunk::Stdout(Bytes::from_static(b"abc"))));
    assert_eq!(short.next().await.unwrap(), Some(Chunk::Exit(ExitStatus::Code(4))));
    assert_eq!(short.next().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_a_socket() {
    let server = Server::start();
    let session = connect(&server).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = socket.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap()
    });
    let mut tunnel = session.tunnel("127.0.0.1", port, SOON).await.unwrap();
    drop(session);
    let sent = vec![42; 3_000_000];
    let (mut reader, mut writer) = tokio::io::split(&mut tunnel);
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let ((), read) = tokio::join!(write, reader.read_to_end(&mut back));
    read.unwrap();
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
    assert_eq!(echo.await.unwrap(), 3_000_000);
    let session = connect(&server).await;
    let closed = session.tunnel("127.0.0.1", 1, SOON).await.err().unwrap();
    assert_eq!(closed.kind(), SshErrorKind::Refused);
    assert!(closed.hint().unwrap().contains("AllowTcpForwarding"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_of_a_lost_session_is_not_an_end_of_file() {
    let mut server = Server::start();
    let session = connect(&server).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tunnel = session.tunnel("127.0.0.1", port, SOON).await.unwrap();
    let (_held, _) = listener.accept().await.unwrap();
    let filled = tokio::time::timeout(Duration::from_secs(2), tunnel.write_all(&vec![0; 64 << 20])).await;
    assert!(filled.is_err(), "nobody reads, so the window must fill");
    server.kill();
    let (mut reader, mut writer) = tokio::io::split(tunnel);
    let mut buffer = [0; 16];
    let writing = writer.write_all(&[1; 8]);
    let both = async { tokio::join!(reader.read(&mut buffer), writing) };
    let (read, wrote) = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(wrote.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_has_a_terminal_that_can_change_its_size() {
    let server = Server::start();
    let session = connect(&server).await;
    let size = TerminalSize { columns: 101, rows: 33 };
    let (input, mut output) = session.shell("xterm", size).await.unwrap();
    input.send(Bytes::from_static(b"echo $TERM; stty size\n")).await.unwrap();
    let mut text = String::new();
    let mut resized = false;
    let status = loop {
        match output.next().await.unwrap().unwrap() {
            Chunk::Stdout(data) => text.push_str(&String::from_utf8_lossy(&data)),
            Chunk::Stderr(_) => {}
            Chunk::Exit(status) => break status,
        }
        if text.contains("33 101") && !resized {
            resized = true;
            input.resize(TerminalSize { columns: 77, rows: 22 }).await.unwrap();
            input.send(Bytes::from_static(b"stty size; exit 5\n")).await.unwrap();
        }
    };
    assert_eq!(status, ExitStatus::Code(5));
    assert!(text.contains("xterm") && text.contains("22 77"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_mid_stream_is_noticed_at_once() {
    let mut server = Server::start();
    let session = connect(&server).await;
    let endless = Stdin::reader(tokio::io::repeat(1));
    // The command reads a little and then nothing, so that the sender waits for the window when the server dies.
    let limits = Limits::default();
    let stream = session.exec("head -c 1000000 > /dev/null; sleep 1000", endless, &limits);
    let death = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.kill();
        Instant::now()
    };
    let (result, killed) = tokio::join!(stream, death);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), SshErrorKind::Lost, "{error}");
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert!(session.is_closed());
    let after = session.exec("true", (), &Limits::default()).await.unwrap_err();
    assert_eq!(after.kind(), SshErrorKind::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_server_hits_the_deadline_and_leaves_no_socket() {
    let server = Server::start();
    let session = connect(&server).await;
    let limits = Limits::within(Duration::from_secs(2));
    let before = Instant::now();
    // Several at once, so that more is on its way than the sockets of both sides hold, and writing itself hangs.
    let endless = || Stdin::reader(tokio::io::repeat(1));
    let streams = (0..8).map(|_| session.exec("cat > /dev/null", endless(), &limits));
    let freeze = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.signal("STOP");
    };
    let (results, ()) = tokio::join!(futures_util::future::join_all(streams), freeze);
    for hung in results {
        let hung = hung.unwrap_err();
        assert!(matches!(hung, SshError::TimedOut { .. }), "{hung}");
    }
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    assert!(sockets_to(server.port) > 0);
    drop(session);
    let until = Instant::now() + Duration::from_secs(5);
    while sockets_to(server.port) > 0 {
        assert!(Instant::now() < until, "the connection stays open although nobody holds the session");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = Duration::from_secs(1);
    let late = Session::connect(&server.target(), &server.auth(), server.pinned(), second).await.unwrap_err();
    assert!(late.to_string().starts_with("the SSH handshake with `127.0.0.1:"), "{late}");
}

/// How many sockets of this process are connected to `port` here.
fn sockets_to(port: u16) -> usize {
    let ours: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f[2].ends_with(&remote) && ours.iter().any(|inode| inode == f[9])).count()
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_with_a_hint() {
    let auth = Auth::default();
    let policy = || HostKeyPolicy::KnownHosts(KnownHosts::default());
    let mut target = server_target();
    let closed = Session::connect(&target, &auth, policy(), SOON).await.unwrap_err();
    assert_eq!(closed.kind(), SshErrorKind::Unreachable);
    assert!(closed.hint().unwrap().contains("is sshd running"));
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    target.port = silent.local_addr().unwrap().port();
    let error = Session::connect(&target, &auth, policy(), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), SshErrorKind::TimedOut);
    let web = tokio::spawn(async move {
        let (mut socket, _) = silent.accept().await.unwrap();
        let (mut second, _) = silent.accept().await.unwrap();
        socket.shutdown().await.unwrap();
        second.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let other = Session::connect(&target, &auth, policy(), SOON).await.unwrap_err();
    assert!(matches!(other, SshError::Handshake { .. }), "{other}");
    web.await.unwrap();
}
