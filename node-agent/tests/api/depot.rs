//! Blobs from masters and peers, none of whom is believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use castrum_agent::depot::FetchError;
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{Digest, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::world::{Ask, Facts, Node, World, ask_from, bind, plant, soon};

fn bytes() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_be_bytes).collect()
}

fn blob(bytes: &[u8]) -> Blob {
    Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// Tells `master` that `node` has a blob, from the node's own address.
async fn claim(world: &World, master: &Node, node: (&str, u8), digest: &Digest) {
    let (name, last) = node;
    let names = [
        castrum_blueprints::trust::node_dns(&name.parse().unwrap()),
        castrum_blueprints::trust::role_dns(Role::Agent),
    ];
    let body =
        serde_json::to_vec(&world.status(name, 1_000_000, std::slice::from_ref(digest))).unwrap().into();
    let call = Ask { method: "PUT", path: "/v1/status", body };
    let said = ask_from(&world.client(&names), world.address(last), master.address, call).await;
    assert_eq!(said.0, 204);
}

fn left_overs(node: &Node) -> usize {
    std::fs::read_dir(node.ctx.identity.root.join("var/lib/castrum/depot")).unwrap().count()
}

/// Serves the same bytes for everything as the node `name`, then closes; counts how often.
async fn raw_peer(
    world: &World,
    name: &str,
    last: u8,
    answer: Vec<u8>,
) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let (_, tls) = world.enrolled(name, Role::Agent, last);
    let listener = bind((world.address(last), world.port).into()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream).await.unwrap();
            drop(stream.read(&mut [0; 1024]).await);
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream.write_all(&answer).await);
            drop(stream.shutdown().await);
        }
    });
    (asked, task)
}

#[tokio::test]
async fn a_blob_comes_from_a_master_once_however_many_ask() {
    let world = World::new(1);
    let master = world.master(1).await;
    let bytes = bytes();
    let blob = blob(&bytes);
    master.ctx.depot.put(&blob.digest, &mut bytes.as_slice()).unwrap();
    let node = world.agent(7).await;
    let depot = &node.ctx.depot;
    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let (depot, blob) = (Arc::clone(depot), blob.clone());
            tokio::spawn(async move { depot.fetch(&blob).await })
        })
        .collect();
    for waiter in waiters {
        let path = soon("the blob", waiter).await.unwrap().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), bytes);
    }
    assert_eq!(depot.held().len(), 1);
    assert_eq!(left_overs(&node), 1);
}

#[tokio::test]
async fn many_who_ask_at_a_time_are_one_request() {
    let world = World::new(1);
    let bytes = bytes();
    let blob = blob(&bytes);
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len()).into_bytes();
    answer.extend_from_slice(&bytes);
    // Stands where the master would.
    let (asked, task) = raw_peer(&world, "masters-1", 1, answer).await;
    let (identity, tls) = world.enrolled("agents-7", Role::Agent, 7);
    let status = tokio::sync::watch::channel(world.status("agents-7", 1, &[]));
    let ctx = castrum_agent::api::Context::new(identity, tls, Arc::new(Facts), status.1).unwrap();
    let fetches = futures_util::future::join_all((0..10).map(|_| ctx.depot.fetch(&blob)));
    for fetched in soon("all have it", fetches).await {
        assert!(fetched.is_ok(), "{fetched:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    task.abort();
}

#[tokio::test]
async fn peers_give_what_the_masters_do_not_have_any_more() {
    let world = World::new(2);
    let (first, second) = (world.master(1).await, world.master(2).await);
    let bytes = bytes();
    let blob = blob(&bytes);
    first.ctx.depot.put(&blob.digest, &mut bytes.as_slice()).unwrap();
    let holder = world.agent(8).await;
    soon("the holder has it", holder.ctx.depot.fetch(&blob)).await.unwrap();
    claim(&world, &second, ("agents-8", 8), &blob.digest).await;
    first.kill().await;
    let node = world.agent(7).await;
    let path = soon("from the peer", node.ctx.depot.fetch(&blob)).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

#[tokio::test]
async fn liars_are_refused_and_the_next_one_is_asked() {
    let world = World::new(1);
    let master = world.master(1).await;
    let bytes = bytes();
    let blob = blob(&bytes);
    let liar = world.agent(8).await;
    let mut wrong = bytes.clone();
    wrong[77_777] ^= 1;
    plant(&liar.ctx.identity.root, &blob.digest, &wrong);
    let long = world.agent(9).await;
    plant(&long.ctx.identity.root, &blob.digest, &[bytes.as_slice(), b"more"].concat());
    let mut half = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len()).into_bytes();
    half.extend_from_slice(&bytes[..bytes.len() / 2]);
    let (truncated, first_task) = raw_peer(&world, "agents-10", 10, half).await;
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in bytes.chunks(50_000).chain([bytes[..50_000].as_ref()]) {
        endless.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        endless.extend_from_slice(chunk);
        endless.extend_from_slice(b"\r\n");
    }
    let (oversized, second_task) = raw_peer(&world, "agents-11", 11, endless).await;
    for (name, last) in [("agents-8", 8), ("agents-9", 9), ("agents-10", 10), ("agents-11", 11)] {
        claim(&world, &master, (name, last), &blob.digest).await;
    }
    let node = world.agent(7).await;
    let error = soon("nobody has it", node.ctx.depot.fetch(&blob)).await.unwrap_err();
    let FetchError::Nowhere { tried, .. } = error.as_ref() else { panic!("{error}") };
    let said = [
        "masters-1: does not have it",
        "agents-8: the bytes that came have the sha256",
        "agents-9: offers another",
    ];
    for said in said.into_iter().chain(["agents-10: ", "agents-11: "]) {
        assert!(tried.contains(said), "{said} in {tried}");
    }
    assert_eq!((truncated.load(Ordering::SeqCst), oversized.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(left_overs(&node), 0);

    let honest = world.agent(12).await;
    honest.ctx.depot.put(&blob.digest, &mut bytes.as_slice()).unwrap();
    claim(&world, &master, ("agents-12", 12), &blob.digest).await;
    let path = soon("from the honest one", node.ctx.depot.fetch(&blob)).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    first_task.abort();
    second_task.abort();
}

#[tokio::test]
async fn a_busy_master_is_asked_again() {
    let world = World::new(1);
    let limits = castrum_agent::api::Limits { blobs: 0, ..castrum_agent::api::Limits::default() };
    let master = world.master_with(1, limits).await;
    let bytes = bytes();
    let blob = blob(&bytes);
    master.ctx.depot.put(&blob.digest, &mut bytes.as_slice()).unwrap();
    let node = world.agent(7).await;
    let (depot, wanted) = (Arc::clone(&node.ctx.depot), blob.clone());
    let fetching = tokio::spawn(async move { depot.fetch(&wanted).await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!fetching.is_finished());
    let address = master.address;
    let (identity, tls) = (master.ctx.identity.clone(), master.tls.clone());
    master.kill().await;
    let _master = Node::start(identity, tls, address.ip(), castrum_agent::api::Limits::default()).await;
    soon("its turn", fetching).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_holder_is_named_by_the_address_that_others_reach_it_at() {
    let world = World::new(1);
    let mut master = world.master(1).await;
    // As on a node: one socket for both families.
    let listener = tokio::net::TcpListener::bind("[::]:0").await.unwrap();
    master.address.set_port(listener.local_addr().unwrap().port());
    let serving = tokio::spawn(castrum_agent::api::serve(Arc::clone(&master.ctx), listener));
    let digest = Digest::of(b"x");
    claim(&world, &master, ("agents-7", 7), &digest).await;
    let (_, body) = world.get(&world.installer(), &master, &format!("/v1/holders/{digest}")).await;
    let holders: Vec<castrum_blueprints::manifest::Peer> = serde_json::from_slice(&body).unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].address, world.address(7));
    serving.abort();
}
