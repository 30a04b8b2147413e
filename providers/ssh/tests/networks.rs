//! Machines on networks of their own: jumps through a gate, and a link that goes dead.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod support;

use std::time::{Duration, Instant};

use castrum_provider_ssh::transport::{
    Auth, ClientConfig, Limits, RouteRequest, Session, SshErrorKind, Stdin,
};
use support::{KeyPair, SOON, Server, Setup};

fn on_its_own() -> Server {
    Server::with(&Setup { own_network: true, ..Setup::default() })
}

/// A gate that is reached from here, and a machine that only the gate reaches.
fn gate_and_inner() -> (Server, Server) {
    let mut gate = on_its_own();
    gate.link_from_here();
    let mut inner = on_its_own();
    inner.link_from(&gate);
    (gate, inner)
}

fn config(gate: &Server, inner: &Server) -> ClientConfig {
    let known = |server: &Server| format!("{} {}\n", server.address, server.host.public_line());
    std::fs::write(gate.path("known"), known(gate) + &known(inner)).unwrap();
    let text = format!(
        "Host inner\n HostName {}\n ProxyJump gate\n IdentityFile {}\nHost gate\n HostName {}\n IdentityFile {}\n\
         Host *\n User root\n UserKnownHostsFile ~/known\n",
        inner.address,
        inner.client.0.display(),
        gate.address,
        gate.client.0.display()
    );
    ClientConfig::parse(&text, gate.dir.path(), "me").unwrap()
}

fn request() -> RouteRequest {
    RouteRequest { name: "inner".into(), port: None, user: None, auth: Auth::default(), policy: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_behind_a_gate_is_reached_through_it() {
    let (gate, inner) = gate_and_inner();
    let config = config(&gate, &inner);
    let session = Session::open(&config.route(&request()).unwrap(), SOON).await.unwrap();
    assert_eq!(session.host_key_line(), inner.host.public_line());
    let counted = session.check("wc -c", vec![1; 5_000_000], &Limits::default()).await.unwrap();
    assert_eq!(&counted.stdout[..], b"5000000\n");
    let addresses = session.check("ip -4 -o addr show eth0", (), &Limits::default()).await.unwrap();
    assert!(String::from_utf8_lossy(&addresses.stdout).contains(&inner.address));
    let direct =
        Session::connect(&inner.target(), &inner.auth(), inner.pinned(), Duration::from_secs(1)).await;
    assert!(direct.is_err(), "the machine must not be reachable without the gate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_host_on_the_way_has_to_be_the_right_one() {
    let (gate, inner) = gate_and_inner();
    let config = config(&gate, &inner);
    let other = KeyPair::new(gate.path("other"), "ed25519", "").public_line();
    let known = |gate_key: &str, inner_key: &str| {
        let text = format!("{} {gate_key}\n{} {inner_key}\n", gate.address, inner.address);
        std::fs::write(gate.path("known"), text).unwrap();
    };
    for (gate_key, inner_key, liar) in
        [(other.clone(), inner.host.public_line(), &gate), (gate.host.public_line(), other.clone(), &inner)]
    {
        known(&gate_key, &inner_key);
        let error = Session::open(&config.route(&request()).unwrap(), SOON).await.unwrap_err();
        assert_eq!(error.kind(), SshErrorKind::HostKey);
        assert!(error.to_string().contains(&liar.address), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_dies_takes_the_session_with_it() {
    let (mut gate, inner) = gate_and_inner();
    let session = Session::open(&config(&gate, &inner).route(&request()).unwrap(), SOON).await.unwrap();
    let limits = Limits::default();
    let running = session.exec("sleep 1000", (), &limits);
    let death = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.kill();
        Instant::now()
    };
    let (result, killed) = tokio::join!(running, death);
    assert_eq!(result.unwrap_err().kind(), SshErrorKind::Lost);
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_goes_dead_is_noticed_without_any_deadline_of_the_caller() {
    let mut server = on_its_own();
    server.link_from_here();
    let session = Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap();
    let forever = Limits::within(Duration::from_hours(1));
    let idle = session.exec("sleep 1000", (), &forever);
    let busy = Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap();
    let stream = busy.exec("cat > /dev/null", Stdin::reader(tokio::io::repeat(1)), &forever);
    let cutter = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.inside(&["ip", "link", "set", "eth0", "down"]);
        Instant::now()
    };
    let both = async { tokio::join!(idle, stream, cutter) };
    let (idle, stream, cut) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    assert_eq!(idle.unwrap_err().kind(), SshErrorKind::Lost);
    assert_eq!(stream.unwrap_err().kind(), SshErrorKind::Lost);
    assert!(cut.elapsed() < Duration::from_secs(40), "{:?}", cut.elapsed());
}
