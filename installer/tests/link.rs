//! The installer's client against the masters' real server, directly and through a tunnel.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../../node-agent/tests/api/world.rs"]
#[expect(dead_code, unused_imports, reason = "the tests of the API itself need the rest")]
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use castrum::link::{ClientTls, Dial, Direct, LinkClass, LinkError, MasterClient, Stream};
use castrum_agent::api::Limits;
use castrum_agent::identity::{Identity, join};
use castrum_blueprints::names::{Digest, Role};
use castrum_blueprints::trust::{INSTALLER_DNS, node_dns, role_dns};
use castrum_blueprints::wire::{JoinAnswer, JoinDecision};

use world::{World, soon};

fn tls(world: &World, names: &[&str]) -> ClientTls {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let (certificate, key) = world.pem(&names);
    ClientTls::from_pem(&certificate, &key, world.ca_pem()).unwrap()
}

fn client(world: &World, number: u8) -> MasterClient {
    client_as(world, number, &[INSTALLER_DNS])
}

fn client_as(world: &World, number: u8, names: &[&str]) -> MasterClient {
    let at = SocketAddr::new(world.address(number), world.port);
    MasterClient::new(format!("masters-{number}").parse().unwrap(), Arc::new(Direct(at)), tls(world, names))
}

#[tokio::test]
async fn it_publishes_watches_and_asks() {
    let world = World::new(1);
    let mut master = world.master(1).await;
    let client = client(&world, 1);
    assert_eq!(client.self_status().await.unwrap().node.as_str(), "masters-1");
    assert!(client.host_keys().await.unwrap().is_empty(), "a machine without SSH has none");
    let ssh = master.ctx.identity.root.join("etc/ssh");
    std::fs::create_dir_all(&ssh).unwrap();
    std::fs::write(ssh.join("ssh_host_ed25519_key.pub"), "ssh-ed25519 AAAA root@somewhere\n").unwrap();
    assert_eq!(client.host_keys().await.unwrap().into_iter().collect::<Vec<_>>(), ["ssh-ed25519 AAAA"]);
    let manifests = [world.manifest("masters-1", 2, None), world.manifest("agents-7", 1, None)];
    assert!(client.publish(&manifests).await.unwrap().refused.is_empty());
    let older = client.publish(&[world.manifest("masters-1", 1, None)]).await.unwrap();
    assert!(older.refused.values().next().unwrap().contains("older"));
    soon("its manifest", master.manifest.wait_for(Option::is_some)).await.unwrap();
    let seen = client.watch(0).await.unwrap();
    assert_eq!(seen.published.len(), 2);
    let (next, ()) =
        tokio::join!(client.watch(seen.cursor), async { master.say(|status| status.generation = 2) });
    let next = next.unwrap();
    assert!(next.cursor > seen.cursor && next.published.is_empty());
    assert_eq!(next.statuses[0].status.generation, 2);
}

#[tokio::test]
async fn it_admits_a_node() {
    let world = World::new(1);
    let _master = world.master(1).await;
    let client = client(&world, 1);
    let identity = Identity::load(&world.fresh("agents-7", Role::Agent, 1)).unwrap();
    let node = identity.clone();
    let joining = tokio::spawn(async move { join::until_admitted(&node).await });
    let mut after = 0;
    let request = soon("a request", async {
        loop {
            let seen = client.watch(after).await.unwrap();
            after = seen.cursor;
            if let Some(request) = seen.joins.into_iter().next() {
                return request;
            }
        }
    })
    .await;
    let certificate = world.certify_request(&request, "agents-7", Role::Agent, world.address(7));
    let answer = JoinAnswer::Admitted { certificate };
    let csr = Digest::of(&request.statement.csr);
    client.decide_joins(&[JoinDecision { node: request.statement.node, csr, answer }]).await.unwrap();
    soon("admitted", joining).await.unwrap().unwrap();
}

#[tokio::test]
async fn errors_have_a_class() {
    let world = World::new(3);
    let refused = client(&world, 1).self_status().await.unwrap_err();
    assert!(matches!(refused, LinkError::Unreachable { .. }), "{refused:?}");
    assert_eq!(refused.class(), LinkClass::Unreachable);

    let _master = world.master(1).await;
    let node = client_as(&world, 1, &[&node_dns(&"agents-7".parse().unwrap()), &role_dns(Role::Agent)]);
    let error = node.watch(0).await.unwrap_err();
    assert!(matches!(error, LinkError::Refused { status: 403, .. }), "{error:?}");
    assert_eq!(error.class(), LinkClass::Http);

    let theirs = World::new(1);
    let at = SocketAddr::new(world.address(1), world.port);
    let foreign_ca =
        MasterClient::new("masters-1".parse().unwrap(), Arc::new(Direct(at)), tls(&theirs, &[INSTALLER_DNS]));
    assert_eq!(foreign_ca.watch(0).await.unwrap_err().class(), LinkClass::TlsRefused, "we do not trust them");
    let (certificate, key) = theirs.pem(&[INSTALLER_DNS.to_owned()]);
    let mixed = ClientTls::from_pem(&certificate, &key, world.ca_pem()).unwrap();
    let foreign_key = MasterClient::new("masters-1".parse().unwrap(), Arc::new(Direct(at)), mixed);
    let error = foreign_key.watch(0).await.unwrap_err();
    assert_eq!(error.class(), LinkClass::TlsRefused, "they do not trust us: {error:?}");
    let misnamed =
        MasterClient::new("masters-2".parse().unwrap(), Arc::new(Direct(at)), tls(&world, &[INSTALLER_DNS]));
    assert_eq!(misnamed.watch(0).await.unwrap_err().class(), LinkClass::TlsRefused, "another master answers");
    assert_eq!(ClientTls::from_pem("x", "y", "z").unwrap_err().class(), LinkClass::Ours);
}

#[tokio::test]
async fn a_frozen_master_is_unreachable_in_time() {
    struct Frozen;
    #[async_trait]
    impl Dial for Frozen {
        async fn dial(&self) -> io::Result<Box<dyn Stream>> {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(theirs);
            });
            Ok(Box::new(ours))
        }
    }
    let world = World::new(1);
    let client =
        MasterClient::new("masters-1".parse().unwrap(), Arc::new(Frozen), tls(&world, &[INSTALLER_DNS]))
            .connect_within(Duration::from_millis(200));
    let error = soon("an end", client.watch(0)).await.unwrap_err();
    assert!(matches!(error, LinkError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.class(), LinkClass::Unreachable);
}

/// Bytes are copied by somebody in between, as by an SSH channel.
struct Tunnel {
    to: SocketAddr,
    dialled: AtomicUsize,
}

#[async_trait]
impl Dial for Tunnel {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let mut there = tokio::net::TcpStream::connect(self.to).await?;
        let (ours, mut theirs) = tokio::io::duplex(8192);
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut theirs, &mut there).await });
        Ok(Box::new(ours))
    }
}

#[tokio::test]
async fn a_tunnel_is_as_good_and_is_dialled_again_when_it_closed() {
    let world = World::new(1);
    let master = world.master_with(1, Limits { head: Duration::from_millis(200), ..Limits::default() }).await;
    let tunnel = Arc::new(Tunnel { to: master.address, dialled: AtomicUsize::new(0) });
    let dial: Arc<dyn Dial> = tunnel.clone();
    let client = MasterClient::new("masters-1".parse().unwrap(), dial, tls(&world, &[INSTALLER_DNS]));
    for _ in 0..5 {
        client.self_status().await.unwrap();
    }
    assert_eq!(tunnel.dialled.load(Ordering::SeqCst), 1, "one connection is enough");
    // The master closes what is idle.
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.self_status().await.unwrap();
    assert_eq!(tunnel.dialled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn many_manifests_go_in_batches() {
    let world = World::new(1);
    let _master = world.master(1).await;
    let many: Vec<_> =
        (1..=12).map(|number| world.large_manifest(&format!("agents-{number}"), 1, 1 << 20)).collect();
    let client = client(&world, 1);
    let answer = client.publish(&many).await.unwrap();
    assert!(answer.refused.is_empty(), "{:?}", answer.refused);
    assert_eq!(client.watch(0).await.unwrap().published.len(), 12);
}
