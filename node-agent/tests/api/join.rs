//! Joining: a node without a certificate becomes one of the cluster, and nobody else does.

use std::fs;
use std::time::Duration;

use castrum_agent::identity::{Identity, join};
use castrum_blueprints::names::{Digest, Role};
use castrum_blueprints::trust::JoinRequest;
use castrum_blueprints::wire::{JoinAnswer, JoinDecision};
use rcgen::{CertificateSigningRequestParams, PublicKey};
use rustls_pki_types::CertificateSigningRequestDer;

use crate::world::{Ask, Node, World, ask, soon};

fn key_of(request: &JoinRequest) -> PublicKey {
    let der = CertificateSigningRequestDer::from(request.statement.csr.as_slice());
    CertificateSigningRequestParams::from_der(&der).unwrap().public_key
}

async fn decide(world: &World, master: &Node, request: &JoinRequest, answer: JoinAnswer) {
    let csr = Digest::of(&request.statement.csr);
    let decision = JoinDecision { node: request.statement.node.clone(), csr, answer };
    let body = serde_json::to_vec(&[decision]).unwrap().into();
    let call = Ask { method: "PUT", path: "/v1/joins", body };
    assert_eq!(ask(&world.installer(), master.address, call).await.0, 204);
}

async fn waiting(world: &World, master: &Node) -> JoinRequest {
    let mut after = 0;
    soon("a join request", async {
        loop {
            let seen = world.watch(master, after).await;
            after = seen.cursor;
            if let Some(request) = seen.joins.into_iter().next() {
                return request;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_node_proves_its_token_and_is_admitted_through_a_master() {
    let world = World::new(1);
    let master = world.master(1).await;
    let root = world.fresh("agents-7", Role::Agent, 1);
    fs::create_dir_all(root.join("etc/ssh")).unwrap();
    fs::write(root.join("etc/ssh/ssh_host_ed25519_key.pub"), "ssh-ed25519 AAAA root@somewhere\n").unwrap();
    let identity = Identity::load(&root).unwrap();
    let node = identity.clone();
    let joining = tokio::spawn(async move { join::until_admitted(&node).await });

    let request = waiting(&world, &master).await;
    assert_eq!(request.statement.node.as_str(), "agents-7");
    assert!(request.statement.host_keys.contains("ssh-ed25519 AAAA"));
    request.verify(&world.token("agents-7", 1)).expect("proven with its own token");
    request.verify(&world.token("agents-8", 1)).expect_err("and with no other");
    let token = world.token("agents-7", 1).expose();
    assert!(!serde_json::to_string(&request).unwrap().contains(token.as_str()), "the token is never sent");

    let certificate = world.certify_request(&request, "agents-7", Role::Agent, world.address(7));
    decide(&world, &master, &request, JoinAnswer::Admitted { certificate }).await;
    let tls = soon("admitted", joining).await.unwrap().unwrap();
    assert!(!root.join("var/lib/castrum/token").exists(), "the token is spent");
    let mode = fs::metadata(root.join("var/lib/castrum/pki/node.key")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    let (status, _) = world.get(&tls.client, &master, "/v1/manifest/agents-7?after=0&wait=0").await;
    assert_eq!(status, 204, "it is a node of the cluster now");
}

#[tokio::test]
async fn a_certificate_for_another_node_role_key_or_cluster_is_not_accepted() {
    let world = World::new(1);
    let root = world.fresh("agents-7", Role::Agent, 1);
    let identity = Identity::load(&root).unwrap();
    let request = join::prepare(&identity).unwrap();
    let (key, address) = (key_of(&request), world.address(7));
    let other_key = rcgen::KeyPair::generate().unwrap();
    let wrong = [
        world.certify(&key, "agents-8", Role::Agent, address),
        world.certify(&key, "agents-7", Role::Master, address),
        world.certify(&other_key, "agents-7", Role::Agent, address),
        World::new(1).certify(&key, "agents-7", Role::Agent, address),
        "no certificate".to_owned(),
    ];
    for pem in wrong {
        assert!(join::accept(&identity, &pem).is_err(), "{pem}");
        assert!(!root.join("var/lib/castrum/pki/node.crt").exists());
        assert!(root.join("var/lib/castrum/token").exists());
    }
    join::accept(&identity, &world.certify(&key, "agents-7", Role::Agent, address)).unwrap();
}

#[tokio::test]
async fn enrolment_over_ssh_gives_the_same_key_and_ends_a_loop_that_waits() {
    let world = World::new(1);
    let root = world.fresh("masters-1", Role::Master, 1);
    let identity = Identity::load(&root).unwrap();
    // Its own relay is not up yet, and there is no other master to ask.
    let node = identity.clone();
    let joining = tokio::spawn(async move { join::until_admitted(&node).await });
    let prepare = || {
        let mut out = Vec::new();
        join::prepare_command(&root, &mut out).unwrap();
        serde_json::from_slice::<JoinRequest>(&out).unwrap()
    };
    let (first, second) = (prepare(), prepare());
    assert_eq!(first.statement.csr, second.statement.csr);
    assert_ne!(first.statement.nonce, second.statement.nonce);
    second.verify(&world.token("masters-1", 1)).unwrap();
    let pem = world.certify_request(&second, "masters-1", Role::Master, world.address(1));
    join::accept_command(&root, &mut pem.as_bytes()).unwrap();
    soon("the loop ends", joining).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_node_is_told_once_and_may_ask_again() {
    let world = World::new(1);
    let master = world.master(1).await;
    let identity = Identity::load(&world.fresh("agents-7", Role::Agent, 1)).unwrap();
    let request = join::prepare(&identity).unwrap();
    let body = serde_json::to_vec(&request).unwrap();
    let call = || Ask { method: "POST", path: "/v1/join", body: body.clone().into() };
    let stranger = world.client(&[]);
    let refused = JoinAnswer::Refused { reason: "it is not in the blueprint".to_owned() };
    let (answer, ()) = tokio::join!(ask(&stranger, master.address, call()), async {
        let request = waiting(&world, &master).await;
        decide(&world, &master, &request, refused.clone()).await;
    });
    assert_eq!(serde_json::from_slice::<JoinAnswer>(&answer.1).unwrap(), refused);
    assert!(world.watch(&master, 0).await.joins.is_empty());
    let again =
        tokio::time::timeout(Duration::from_millis(300), ask(&stranger, master.address, call())).await;
    assert!(again.is_err(), "it waits again");
    assert_eq!(world.watch(&master, 0).await.joins.len(), 1);
}

#[tokio::test]
async fn another_key_under_the_same_name_gets_nothing_of_the_decision() {
    let world = World::new(1);
    let master = world.master(1).await;
    let honest = join::prepare(&Identity::load(&world.fresh("agents-7", Role::Agent, 1)).unwrap()).unwrap();
    let liar = join::prepare(&Identity::load(&world.fresh("agents-7", Role::Agent, 2)).unwrap()).unwrap();
    let pem = world.certify_request(&honest, "agents-7", Role::Agent, world.address(7));
    // Decided before anybody asks there: the node may have moved on to another master.
    decide(&world, &master, &honest, JoinAnswer::Admitted { certificate: pem.clone() }).await;
    let stranger = world.client(&[]);
    let call = |request: &JoinRequest| serde_json::to_vec(request).unwrap().into();
    let ask_as = |body| ask(&stranger, master.address, Ask { method: "POST", path: "/v1/join", body });
    let (status, body) = ask_as(call(&honest)).await;
    assert_eq!(status, 200);
    let admitted = JoinAnswer::Admitted { certificate: pem };
    assert_eq!(serde_json::from_slice::<JoinAnswer>(&body).unwrap(), admitted);
    assert!(tokio::time::timeout(Duration::from_millis(300), ask_as(call(&liar))).await.is_err(), "it waits");
}
