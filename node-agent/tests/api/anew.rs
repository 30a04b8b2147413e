//! Admitted anew: an agent whose cluster's keyring was lost changes over to the next one, and its components do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use castrum_agent::http::{Ask, HttpError, request};
use castrum_agent::identity::anew::anew_command;
use castrum_agent::identity::{Identity, join};
use castrum_agent::ledger::Book;
use castrum_agent::paths::Paths;
use castrum_blueprints::boot::{ANEW_DIR, BootConfig, Handover};
use castrum_blueprints::manifest::{Manifest, Target};
use castrum_blueprints::names::Role;
use rustls::ClientConfig;

use crate::world::{Node, TIME, World};

const NAME: &str = "masters-1";

/// Prepares the new identity as the installer does over SSH, up to its certificate.
fn prepare(lost: &World, next: &World, root: &Path) {
    let stage = root.join(ANEW_DIR.trim_start_matches('/'));
    let folder = stage.join("var/lib/castrum");
    fs::create_dir_all(&folder).unwrap();
    let told = fs::read(next.fresh(NAME, Role::Master, 1).join("var/lib/castrum/boot.json")).unwrap();
    let mut boot: BootConfig = serde_json::from_slice(&told).unwrap();
    boot.former_cas = vec![lost.ca_pem().to_owned()];
    fs::write(folder.join("boot.json"), boot.to_text()).unwrap();
    fs::write(folder.join("token"), next.token(NAME, 1).expose().as_bytes()).unwrap();
    let identity = Identity::load(&stage).unwrap();
    let asked = join::prepare(&identity).unwrap();
    let certificate = next.certify_request(&asked, NAME, Role::Master, next.address(1));
    join::accept(&identity, &certificate).unwrap();
}

fn change_over(root: &Path, handover: &Handover) -> Result<(), String> {
    let text = serde_json::to_vec(handover).unwrap();
    anew_command(root, &mut text.as_slice()).map_err(|error| castrum_agent::chain(&error))
}

/// Every file of the agent's own, but for what is prepared.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in walk(&root.join("var/lib/castrum")) {
        if !entry.starts_with(root.join(ANEW_DIR.trim_start_matches('/'))) {
            found.push((entry.clone(), fs::read(entry).unwrap()));
        }
    }
    found.sort();
    found
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

async fn answers(client: &Arc<ClientConfig>, node: &Node) -> Result<u16, HttpError> {
    let target = Target { socket: None, url: format!("https://{}/v1/self", node.address) };
    let quick = Ask { method: "GET", body: None, timeout: TIME, cap: 1000 };
    request(Some(client), &target, quick).await.map(|answer| answer.status)
}

#[tokio::test]
async fn an_agent_changes_over_in_whole_or_not_at_all() {
    let (lost, next) = (World::new(1), World::new(1));
    let (identity, _) = lost.enrolled(NAME, Role::Master, 1);
    let root = identity.root.clone();
    let paths = Paths::new(&root);
    fs::write(paths.pki().join("ca.crt"), lost.ca_pem()).unwrap();
    let held = lost.manifest(NAME, 5, None);
    Book::open(&paths.ledger(), &identity).unwrap().accept(held.clone(), &identity).unwrap();
    let anew = |change: fn(&mut Manifest)| {
        let mut manifest: Manifest = serde_json::from_str(&held.manifest).unwrap();
        change(&mut manifest);
        Some(next.seal(&manifest))
    };
    let handover = Handover { held: anew(|_| {}), relayed: vec![next.manifest("agents-1", 3, None)] };
    prepare(&lost, &next, &root);
    let before = files(&root);
    let wrong = [
        Handover { held: None, ..handover.clone() },
        Handover { held: Some(held.clone()), ..handover.clone() },
        Handover { held: anew(|manifest| manifest.generation = 4), ..handover.clone() },
        Handover { held: anew(|manifest| manifest.generation = 6), ..handover.clone() },
        Handover { held: anew(|manifest| manifest.masters.clear()), ..handover.clone() },
        Handover { relayed: vec![lost.manifest("agents-1", 3, None)], ..handover.clone() },
    ];
    for wrong in wrong {
        change_over(&root, &wrong).expect_err("it is not what the node holds, signed anew");
        assert_eq!(files(&root), before, "it was changed in part");
    }
    change_over(&root, &handover).unwrap();
    assert!(!root.join(ANEW_DIR.trim_start_matches('/')).exists(), "what was prepared is left");
    let identity = Identity::load(&root).unwrap();
    let book = Book::open(&paths.ledger(), &identity).unwrap();
    assert_eq!(book.manifest().unwrap().generation, 5);
    assert!(paths.manifests().join("agents-1.json").exists());
    let trusted = fs::read_to_string(paths.pki().join("ca.crt")).unwrap();
    assert_eq!(trusted, [lost.ca_pem(), next.ca_pem()].concat(), "components trust both, and the first most");
    let unchanged =
        |name: &str| before.contains(&(paths.pki().join(name), fs::read(paths.pki().join(name)).unwrap()));
    assert!(unchanged("node.crt") && unchanged("node.key"), "components keep what they have");
}

#[tokio::test]
async fn an_agent_that_changed_over_hears_the_new_keyring_only_and_still_speaks_to_its_components() {
    let (lost, next) = (World::new(1), World::new(1));
    let component = lost.master(1).await;
    let root = component.ctx.identity.root.clone();
    prepare(&lost, &next, &root);
    change_over(&root, &Handover::default()).unwrap();
    let identity = Identity::load(&root).unwrap();
    let tls = identity.tls().unwrap().unwrap();
    let agent =
        Node::start(identity, tls.clone(), next.address(1), castrum_agent::api::Limits::default()).await;
    assert_eq!(answers(&next.installer(), &agent).await.unwrap(), 200);
    // Whoever has the lost keyring may well trust the new CA; what it shows is not trusted.
    let old = lost.pem(&[castrum_blueprints::trust::INSTALLER_DNS.to_owned()]);
    assert!(answers(&next.client_showing(&old), &agent).await.is_err(), "the lost keyring is heard");
    answers(&tls.components, &component).await.expect("a component was started before");
    assert!(answers(&tls.client, &component).await.is_err(), "an agent of the lost keyring is none of ours");
}
