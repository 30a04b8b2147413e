//! Manifests go down and statuses go up, at once, and past masters that die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use castrum_agent::api::Context;
use castrum_blueprints::names::{Digest, Role};

use crate::world::{Facts, Node, World, soon, until};

async fn generation(node: &mut Node, wanted: u64) {
    let holds = |held: &Option<castrum_blueprints::manifest::SignedManifest>| {
        held.as_ref().is_some_and(|signed| signed.generation == wanted)
    };
    soon("a manifest", node.manifest.wait_for(holds)).await.unwrap();
}

async fn heard_of(world: &World, masters: &[&Node], node: &str, what: impl Fn(u64) -> bool) {
    soon("a status", async {
        loop {
            for master in masters {
                let seen = world.watch(master, 0).await;
                if seen
                    .statuses
                    .iter()
                    .any(|one| one.status.node.as_str() == node && what(one.status.sequence))
                {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_published_manifest_wakes_the_node_at_once() {
    let world = World::new(1);
    let master = world.master(1).await;
    let mut node = world.agent(7).await;
    let mut took = Vec::new();
    for number in 1..=20 {
        // The node has to be waiting by then.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let signed = world.manifest(&node.name, number, None);
        let begun = Instant::now();
        assert!(world.publish(&master, &[signed]).await.is_empty());
        generation(&mut node, number).await;
        took.push(begun.elapsed());
    }
    took.sort();
    println!("publish to arrival (with a new TLS connection): median {:?}, longest {:?}", took[10], took[19]);
    assert!(took[10] < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_change_of_status_wakes_the_installer_at_once() {
    let world = World::new(1);
    let master = world.master(1).await;
    let node = world.agent(7).await;
    heard_of(&world, &[&master], &node.name, |_| true).await;
    let mut after = world.watch(&master, 0).await.cursor;
    let mut took = Vec::new();
    for number in 1..=10_u64 {
        tokio::time::sleep(Duration::from_millis(80)).await;
        let begun = Instant::now();
        let (seen, ()) = tokio::join!(
            async {
                loop {
                    let seen = world.watch(&master, after).await;
                    after = seen.cursor;
                    if let Some(one) = seen.statuses.into_iter().find(|one| one.status.generation == number) {
                        return one;
                    }
                }
            },
            async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                node.say(|status| status.generation = number);
            }
        );
        took.push(begun.elapsed().saturating_sub(Duration::from_millis(20)));
        assert!(seen.age_ms < 1000);
    }
    took.sort();
    println!("status to installer: median {:?}, longest {:?}", took[5], took[9]);
    assert!(took[5] < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_node_moves_on_when_its_master_dies() {
    let world = World::new(3);
    let mut masters = vec![world.master(1).await, world.master(2).await, world.master(3).await];
    let mut node = world.agent(7).await;
    heard_of(&world, &masters.iter().collect::<Vec<_>>(), &node.name, |_| true).await;
    let mut home = None;
    for (place, master) in masters.iter().enumerate() {
        let seen = world.watch(master, 0).await;
        if seen.statuses.iter().any(|one| one.status.node.as_str() == node.name) {
            home = Some(place);
        }
    }
    masters.remove(home.expect("one has heard of it")).kill().await;
    let begun = Instant::now();
    node.say(|status| status.problem = Some("lonely".to_owned()));
    let left: Vec<&Node> = masters.iter().collect();
    heard_of(&world, &left, &node.name, |sequence| sequence == 2).await;
    println!("status past a dead master: {:?}", begun.elapsed());
    let signed = world.manifest(&node.name, 1, None);
    for master in &masters {
        assert!(world.publish(master, std::slice::from_ref(&signed)).await.is_empty());
    }
    generation(&mut node, 1).await;
    println!("manifest past a dead master: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_report_alone_finds_the_master_that_lives() {
    let world = World::new(3);
    // Wherever it begins, two of three are not there.
    for number in [1, 2, 3] {
        let master = world.master(number).await;
        let (identity, tls) = world.enrolled("agents-7", Role::Agent, 7);
        let name = identity.node.to_string();
        let (_status, said) = tokio::sync::watch::channel(world.status(&name, 1, &[]));
        let ctx = Context::new(identity, tls, Arc::new(Facts), said).unwrap();
        let reporting = tokio::spawn(castrum_agent::api::report(ctx));
        heard_of(&world, &[&master], &name, |_| true).await;
        reporting.abort();
        master.kill().await;
    }
}

#[tokio::test]
async fn a_frozen_master_is_left_as_well() {
    let world = World::new(2);
    // It takes connections, as a stopped process does, and never says a word.
    let frozen = tokio::net::TcpListener::bind((world.address(1), world.port)).await.unwrap();
    let second = world.master(2).await;
    let mut node = world.agent(7).await;
    heard_of(&world, &[&second], &node.name, |_| true).await;
    assert!(world.publish(&second, &[world.manifest(&node.name, 1, None)]).await.is_empty());
    generation(&mut node, 1).await;
    drop(frozen);
}

#[tokio::test]
async fn a_master_is_its_own_relay_and_looks_around_when_it_starts() {
    let world = World::new(2);
    let mut first = world.master(1).await;
    let own = world.manifest("masters-1", 1, None);
    assert!(world.publish(&first, std::slice::from_ref(&own)).await.is_empty());
    generation(&mut first, 1).await;
    heard_of(&world, &[&first], "masters-1", |_| true).await;
    // What was published while the second one was away, it finds at the first.
    assert!(world.publish(&first, &[world.manifest("masters-2", 3, None)]).await.is_empty());
    let mut second = world.master(2).await;
    generation(&mut second, 3).await;
    assert!(world.watch(&second, 0).await.published.contains_key("masters-2"));
}

#[tokio::test]
async fn what_was_published_outlives_the_master_and_damage_does_not() {
    let world = World::new(1);
    let master = world.master(1).await;
    let (a, b) = (world.manifest("agents-7", 4, None), world.manifest("agents-8", 2, None));
    assert!(world.publish(&master, &[a, b]).await.is_empty());
    let before = world.watch(&master, 0).await.cursor;
    let (identity, tls, address) = (master.ctx.identity.clone(), master.tls.clone(), master.address);
    master.kill().await;
    let damaged = identity.root.join("var/lib/castrum/manifests/agents-8.json");
    let text = std::fs::read_to_string(&damaged).unwrap().replace("test", "best");
    std::fs::write(&damaged, text).unwrap();
    let master = Node::start(identity, tls, address.ip(), castrum_agent::api::Limits::default()).await;
    let seen = world.watch(&master, before).await;
    assert!(seen.cursor > before, "a cursor of the life before gets everything");
    let held: Vec<&str> = seen.published.keys().map(castrum_blueprints::names::NodeName::as_str).collect();
    assert_eq!(held, ["agents-7"]);
    let older = world.publish(&master, &[world.manifest("agents-7", 3, None)]).await;
    assert_eq!(older.len(), 1, "{older:?}");
}

#[tokio::test]
async fn a_lying_master_cannot_end_the_talk() {
    let world = World::new(2);
    let first = world.master(1).await;
    let second = world.master(2).await;
    let mut lie = world.manifest("agents-7", 1, None);
    lie.generation = u64::MAX;
    assert_eq!(world.publish(&first, std::slice::from_ref(&lie)).await.len(), 1);
    // Planted behind the relay's back.
    for master in [&first, &second] {
        assert!(world.publish(master, &[world.manifest("agents-7", 1, None)]).await.is_empty());
    }
    let path = first.ctx.identity.root.join("var/lib/castrum/manifests/agents-7.json");
    std::fs::write(path, serde_json::to_vec(&lie).unwrap()).unwrap();
    let mut node = world.agent(7).await;
    generation(&mut node, 1).await;
}

#[tokio::test]
async fn a_master_keeps_the_blobs_that_its_manifests_name() {
    let world = World::new(1);
    let master = world.master(1).await;
    let digest = Digest::of(b"bundle");
    let others = Digest::of(b"other");
    let mut old = Vec::new();
    for (name, bytes) in [(&digest, b"bundle".as_slice()), (&others, b"other"), (&world.agent, b"the agent")]
    {
        old.push(master.ctx.depot.put(name, &mut &bytes[..]).unwrap());
    }
    let blob = castrum_blueprints::manifest::Blob { digest: digest.clone(), size: 6 };
    assert!(world.publish(&master, &[world.manifest("agents-7", 1, Some(blob))]).await.is_empty());
    let hours_ago = std::time::SystemTime::now() - Duration::from_hours(2);
    for path in old {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(hours_ago).unwrap();
    }
    master.ctx.collect(&std::collections::BTreeSet::new()).unwrap();
    until("collected", || !master.ctx.depot.has(&others)).await;
    assert!(master.ctx.depot.has(&digest) && master.ctx.depot.has(&world.agent));
}
