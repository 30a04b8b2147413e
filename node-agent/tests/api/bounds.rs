//! What nobody can do to a master: fill it, hold it, or make it wait.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use castrum_agent::api::Limits;
use castrum_agent::identity::{Identity, join};
use castrum_blueprints::names::Role;
use castrum_blueprints::trust::{node_dns, role_dns};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{Ask, World, ask, ask_from, dial, soon};

fn strict() -> Limits {
    Limits {
        hold: Duration::from_millis(400),
        handshake: Duration::from_millis(300),
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        joins_pending: 3,
        joins_a_node: 2,
        ..Limits::default()
    }
}

#[tokio::test]
async fn bodies_have_a_size() {
    let world = World::new(1);
    let master = world.master(1).await;
    let node = world.client(&[node_dns(&"agents-7".parse().unwrap()), role_dns(Role::Agent)]);
    let limits = Limits::default();
    let sizes = [
        (world.client(&[]), "POST", "/v1/join", limits.join_body),
        (node, "PUT", "/v1/status", limits.status_body),
        (world.installer(), "PUT", "/v1/manifests", limits.installer_body),
    ];
    for (tls, method, path, cap) in sizes {
        let (status, _) =
            ask(&tls, master.address, Ask { method, path, body: vec![b' '; cap + 1].into() }).await;
        assert_eq!(status, 413, "{path}");
        let (status, _) = ask(&tls, master.address, Ask { method, path, body: vec![b' '; cap].into() }).await;
        assert_eq!(status, 400, "{path}: of that size it is read, and found to be nothing");
    }
}

#[tokio::test]
async fn a_body_without_a_length_has_a_size_too() {
    let world = World::new(1);
    let master = world.master(1).await;
    let mut stream = dial(&world.client(&[]), Ipv4Addr::LOCALHOST.into(), master.address).await;
    stream
        .write_all(b"POST /v1/join HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..40 {
        let chunk = [b"400\r\n".as_slice(), &[b' '; 1024], b"\r\n"].concat();
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut head = [0; 12];
    soon("an answer", stream.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[tokio::test]
async fn who_is_slow_is_sent_away() {
    let world = World::new(1);
    let master = world.master_with(1, strict()).await;
    let begun = Instant::now();
    let silent = async {
        let mut stream = TcpStream::connect(master.address).await.unwrap();
        stream.read(&mut [0; 1]).await.unwrap_or_default()
    };
    let slow_head = async {
        let mut stream = dial(&world.client(&[]), Ipv4Addr::LOCALHOST.into(), master.address).await;
        stream.write_all(b"GET /v1/self HTTP/1.1\r\nx-slow: ").await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if stream.write_all(b"a").await.is_err() || stream.flush().await.is_err() {
                break;
            }
        }
        drop(stream.read(&mut [0; 64]).await);
    };
    let idle = async {
        let mut stream = dial(&world.client(&[]), Ipv4Addr::LOCALHOST.into(), master.address).await;
        stream.read(&mut [0; 1]).await.unwrap_or_default()
    };
    let slow_body = async {
        let mut stream = dial(&world.client(&[]), Ipv4Addr::LOCALHOST.into(), master.address).await;
        stream.write_all(b"POST /v1/join HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        head
    };
    let (silent, (), idle, slow_body) =
        soon("all are sent away", Box::pin(async { tokio::join!(silent, slow_head, idle, slow_body) })).await;
    assert_eq!((silent, idle), (0, 0));
    assert_eq!(&slow_body, b"HTTP/1.1 408");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(world.get(&world.installer(), &master, "/v1/self").await.0, 200, "and the others are served");
}

#[tokio::test]
async fn only_so_many_wait_to_join() {
    let world = World::new(1);
    let master = world.master_with(1, strict()).await;
    let stranger = world.client(&[]);
    let join_from = |last: u8, name: &str, incarnation| {
        let identity = Identity::load(&world.fresh(name, Role::Agent, incarnation)).unwrap();
        let body = serde_json::to_vec(&join::prepare(&identity).unwrap()).unwrap().into();
        let call = Ask { method: "POST", path: "/v1/join", body };
        ask_from(&stranger, world.address(last), master.address, call)
    };
    let (first, second, third) =
        tokio::join!(join_from(1, "agents-1", 1), join_from(2, "agents-1", 2), join_from(3, "agents-1", 3));
    let refused = [&first, &second, &third].iter().filter(|(status, _)| *status == 429).count();
    assert_eq!(refused, 1, "two may claim to be one node, wherever they are");
    let pending = br#"{"decision":"pending"}"#;
    assert_eq!([first, second, third].iter().filter(|(_, body)| body.as_ref() == pending).count(), 2);
    let join_as = |name, incarnation| join_from(4, name, incarnation);
    assert_eq!(join_as("agents-2", 1).await.0, 200);
    assert_eq!(join_as("agents-3", 1).await.0, 429, "three in all");
    assert_eq!(join_as("agents-2", 1).await.0, 200, "who waits already may go on");
}

#[tokio::test]
async fn join_requests_have_a_rate() {
    let world = World::new(1);
    let master = world.master_with(1, Limits { joins_a_second: 1, ..strict() }).await;
    let stranger = world.client(&[]);
    let mut refused = 0;
    for _ in 0..12 {
        let call = Ask { method: "POST", path: "/v1/join", body: "{}".into() };
        refused += usize::from(ask(&stranger, master.address, call).await.0 == 429);
    }
    assert!(refused >= 1, "eight at once, then one a second");
}

#[tokio::test]
async fn strangers_do_not_keep_members_out() {
    let world = World::new(1);
    let limits = Limits { strangers_an_address: 4, handshake: Duration::from_secs(5), ..Limits::default() };
    let master = world.master_with(1, limits).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(TcpStream::connect(master.address).await.unwrap());
    }
    let mut turned_away = 0;
    for stream in &mut held {
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut [0; 1])).await;
        turned_away += usize::from(read.is_ok());
    }
    assert_eq!(turned_away, 4);
    let from_elsewhere = Ask { method: "GET", path: "/v1/self", body: "".into() };
    let (status, _) = ask_from(&world.installer(), world.address(9), master.address, from_elsewhere).await;
    assert_eq!(status, 200);
}
