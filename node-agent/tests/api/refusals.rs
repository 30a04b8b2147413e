//! Who may not: every call without a certificate, with the wrong one, and with the wrong content.

use castrum_blueprints::names::{Digest, Role};
use castrum_blueprints::trust::{node_dns, role_dns};

use crate::world::{Ask, World, ask};

#[tokio::test]
async fn without_a_certificate_there_is_joining_and_the_agents_own_blob() {
    let world = World::new(1);
    let master = world.master(1).await;
    let secret = Digest::of(b"secret");
    master.ctx.depot.put(&secret, &mut b"secret".as_slice()).unwrap();
    master.ctx.depot.put(&world.agent, &mut b"the agent".as_slice()).unwrap();
    let stranger = world.client(&[]);
    let calls = [
        ("GET", format!("/v1/blob/{secret}")),
        ("GET", format!("/v1/holders/{secret}")),
        ("GET", "/v1/manifest/agents-7?after=0".to_owned()),
        ("PUT", "/v1/status".to_owned()),
        ("GET", "/v1/fact/etcd/token".to_owned()),
        ("GET", "/v1/watch?after=0".to_owned()),
        ("PUT", "/v1/manifests".to_owned()),
        ("PUT", "/v1/joins".to_owned()),
        ("GET", "/v1/self".to_owned()),
        ("GET", "/v1/host-keys".to_owned()),
    ];
    for (method, path) in &calls {
        let (status, _) = ask(&stranger, master.address, Ask { method, path, body: "[]".into() }).await;
        assert_eq!(status, 401, "{method} {path}");
    }
    let (status, body) = world.get(&stranger, &master, &format!("/v1/blob/{}", world.agent)).await;
    assert_eq!((status, body.as_ref()), (200, b"the agent".as_slice()));
}

#[tokio::test]
async fn a_node_may_ask_only_what_is_its_own() {
    let world = World::new(1);
    let master = world.master(1).await;
    let node = world.client(&[node_dns(&"agents-7".parse().unwrap()), role_dns(Role::Agent)]);
    let status = |node: &str| serde_json::to_vec(&world.status(node, 1, &[])).unwrap().into();
    let put = |body| Ask { method: "PUT", path: "/v1/status", body };
    assert_eq!(ask(&node, master.address, put(status("agents-7"))).await.0, 204);
    assert_eq!(ask(&node, master.address, put(status("agents-8"))).await.0, 403, "another node's status");
    assert_eq!(
        world.get(&node, &master, "/v1/manifest/agents-8?after=0").await.0,
        403,
        "another node's manifest"
    );
    assert_eq!(world.get(&node, &master, "/v1/manifest/agents-7?after=0&wait=0").await.0, 204);
    for path in ["/v1/watch?after=0", "/v1/self", "/v1/host-keys"] {
        assert_eq!(world.get(&node, &master, path).await.0, 403, "{path}");
    }
    for path in ["/v1/manifests", "/v1/joins"] {
        let (status, _) = ask(&node, master.address, Ask { method: "PUT", path, body: "[]".into() }).await;
        assert_eq!(status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_fact_is_for_its_roles_only() {
    let world = World::new(1);
    let master = world.master(1).await;
    let agent = world.client(&[node_dns(&"agents-7".parse().unwrap()), role_dns(Role::Agent)]);
    let peer = world.client(&[node_dns(&"masters-2".parse().unwrap()), role_dns(Role::Master)]);
    let (status, body) = world.get(&peer, &master, "/v1/fact/etcd/token").await;
    assert_eq!((status, body.as_ref()), (200, b"\"sesame\"".as_slice()));
    assert_eq!(world.get(&agent, &master, "/v1/fact/etcd/token").await.0, 403);
    assert_eq!(world.get(&world.installer(), &master, "/v1/fact/etcd/token").await.0, 403);
    assert_eq!(world.get(&peer, &master, "/v1/fact/etcd/nothing").await.0, 404);
    assert_eq!(world.get(&peer, &master, "/v1/fact/etcd/broken").await.0, 503);
    let second = world.master(2).await;
    let first =
        castrum_blueprints::manifest::Peer { name: "masters-1".parse().unwrap(), address: world.address(1) };
    let etcd = "etcd".parse().unwrap();
    let value = castrum_agent::api::fetch_fact(&second.ctx, &first, &etcd, "token").await.unwrap();
    assert_eq!(value, "sesame");
    let imposter =
        castrum_blueprints::manifest::Peer { name: "masters-3".parse().unwrap(), address: world.address(1) };
    let error = castrum_agent::api::fetch_fact(&second.ctx, &imposter, &etcd, "token").await.unwrap_err();
    assert!(matches!(error, castrum_agent::http::HttpError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_cluster_does_not_get_in() {
    let world = World::new(1);
    let master = world.master(1).await;
    let theirs = World::new(1);
    let (_, foreign) = theirs.enrolled("masters-1", Role::Master, 1);
    let target = castrum_blueprints::manifest::Target {
        socket: None,
        url: format!("https://{}/v1/self", master.address),
    };
    let quick =
        castrum_agent::http::Ask { method: "GET", body: None, timeout: crate::world::TIME, cap: 1000 };
    let error = castrum_agent::http::request(Some(&foreign.client), &target, quick).await.unwrap_err();
    assert!(matches!(error, castrum_agent::http::HttpError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_manifest_that_is_not_newer_or_not_signed_is_refused() {
    let world = World::new(1);
    let master = world.master(1).await;
    let good = world.manifest("agents-7", 5, None);
    assert!(world.publish(&master, std::slice::from_ref(&good)).await.is_empty());
    assert!(
        world.publish(&master, std::slice::from_ref(&good)).await.is_empty(),
        "the same again changes nothing"
    );
    let blob = castrum_blueprints::manifest::Blob { digest: Digest::of(b"x"), size: 1 };
    let mut forged = world.manifest("agents-7", 6, None);
    forged.manifest = forged.manifest.replace("\"generation\":6", "\"generation\":7");
    let mut relabelled = world.manifest("agents-7", 6, None);
    relabelled.generation = 9;
    let mut renamed = world.manifest("agents-7", 6, None);
    renamed.node = "agents-8".parse().unwrap();
    let refused = [
        (world.manifest("agents-7", 4, None), "older"),
        (world.manifest("agents-7", 5, Some(blob)), "other content"),
        (forged, "signature"),
        (relabelled, "generation is not what was signed"),
        (renamed, "node is not what was signed"),
        (World::new(1).manifest("agents-7", 6, None), "signature"),
    ];
    for (signed, why) in refused {
        let said = world.publish(&master, &[signed]).await;
        assert!(said.values().any(|said| said.contains(why)), "{why}: {said:?}");
    }
    let held = world.watch(&master, 0).await.published;
    assert_eq!(held.len(), 1);
    assert_eq!(held.values().next().unwrap().generation, 5);
}

#[tokio::test]
async fn a_machine_that_was_replaced_is_not_heard_any_more() {
    let world = World::new(1);
    let master = world.master(1).await;
    let node = world.client(&[node_dns(&"agents-7".parse().unwrap()), role_dns(Role::Agent)]);
    let say = async |incarnation: &str, sequence| {
        let mut status = world.status("agents-7", sequence, &[]);
        status.incarnation = incarnation.to_owned();
        let body = serde_json::to_vec(&status).unwrap().into();
        ask(&node, master.address, Ask { method: "PUT", path: "/v1/status", body }).await.0
    };
    assert_eq!(say("2", 10).await, 204);
    assert_eq!(say("1", 11).await, 409);
    assert_eq!(say("2", 9).await, 204, "overtaken: heard, and not told");
    let heard = world.watch(&master, 0).await.statuses;
    let of_node = heard.iter().find(|heard| heard.status.node.as_str() == "agents-7").unwrap();
    assert_eq!((of_node.status.incarnation.as_str(), of_node.status.sequence), ("2", 10));
}
