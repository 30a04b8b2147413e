//! Who is not let in, what is not taken, and what is not unpacked.

use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use castrum::trust::unix_seconds;
use castrum_blueprints::boot::BootConfig;
use castrum_blueprints::manifest::{Manifest, SignedManifest};
use castrum_blueprints::names::ComponentName;
use castrum_provider::Publication;
use ring::rand::SystemRandom;

use crate::rogue::Rogue;
use crate::world::{APPLY, Running, SMALL, World, block_on, until, whether};

const NODE: &str = "agents-1";
const SOON: Duration = Duration::from_secs(90);

#[test]
fn what_is_not_proven_is_refused() {
    let world = World::new("trust", SMALL, "");
    world.apply_well();
    wrong_and_spent_tokens_are_refused(&world);
    an_expired_token_is_refused(&world);
    manifests_that_are_old_or_forged_are_refused(&world);
    a_corrupted_blob_is_not_unpacked(&world);
    another_host_key_is_refused(&world);
    world.destroy_well();
}

fn boot_config(world: &World) -> BootConfig {
    serde_json::from_str(&world.on(NODE, "sudo cat /var/lib/castrum/boot.json")).expect("a boot config")
}

fn wrong_and_spent_tokens_are_refused(world: &World) {
    let boot = boot_config(world);
    let wrong = Rogue::new(world, "wrong", &boot, &"5a".repeat(32)).ask();
    world.apply_well();
    let reason = wrong.refused();
    assert!(reason.contains("proof"), "{reason}");

    let token = world.trust().token(&boot.node).expect("the token that the node joined with");
    let spent = Rogue::new(world, "spent", &boot, &token.expose()).ask();
    world.apply_well();
    let reason = spent.refused();
    assert!(reason.contains("key"), "{reason}");
}

/// In a copy of the folder, so that the cluster's own keyring stays as it is.
fn an_expired_token_is_refused(world: &World) {
    let mut boot = boot_config(world);
    let copy = world.dir().join("copy");
    fs::create_dir_all(copy.join(".castrum")).expect("a folder");
    for file in ["cluster.yaml", "castrum.lock", ".castrum/keyring"] {
        fs::copy(world.dir().join(file), copy.join(file)).expect("a copy");
    }
    let now = unix_seconds();
    (boot.incarnation, boot.expires) = (boot.incarnation + 1, now + 1);
    let keyring = world.keyring_in(&copy);
    let offered = keyring.update(&SystemRandom::new(), |keyring| {
        keyring.offer_token(&boot.node, boot.incarnation, boot.expires, now)
    });
    let rogue = Rogue::new(world, "expired", &boot, &offered.expect("a token").expose());
    sleep(Duration::from_secs(2));
    let asked = rogue.ask();
    let mut command = world.castrum_in(&copy);
    command.args(["apply", "--yes"]);
    let ran = Running::start(command, world.dir()).wait(APPLY);
    assert_eq!(ran.code, 0, "{}", ran.tail());
    let reason = asked.refused();
    assert!(reason.contains("expired"), "{reason}");
}

fn manifests_that_are_old_or_forged_are_refused(world: &World) {
    let held = world.on("masters-1", &format!("sudo sh -c 'cat /var/lib/castrum/manifests/{NODE}*'"));
    let held: SignedManifest = serde_json::from_str(&held).expect("a signed manifest");
    let manifest: Manifest = serde_json::from_str(&held.manifest).expect("a manifest");
    let sign = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        let content = manifest.content();
        let publication = Publication { manifest: Arc::new(manifest), content };
        world.trust().sign(&[publication]).expect("signed").remove(0)
    };
    let older = sign(&|manifest| manifest.generation -= 1);
    let other = sign(&|manifest| drop(manifest.components.pop()));
    let mut forged = sign(&|manifest| manifest.generation += 1);
    let mut signature = STANDARD.decode(&forged.signature).expect("base64");
    signature[7] ^= 1;
    forged.signature = STANDARD.encode(signature);
    let foreign = sign(&|manifest| {
        manifest.generation += 1;
        manifest.cluster = "0123456789ab".parse().expect("an id");
    });
    let master = world.master("masters-1");
    for (what, signed) in [("older", older), ("other", other), ("forged", forged), ("foreign", foreign)] {
        let answer = block_on(master.publish(&[signed])).expect("an answer");
        let reason = answer.refused.get(&manifest.node);
        assert!(reason.is_some_and(|reason| !reason.is_empty()), "the {what} manifest was taken");
    }
    let answer = block_on(master.publish(std::slice::from_ref(&held))).expect("an answer");
    assert!(answer.refused.is_empty(), "the same manifest again: {:?}", answer.refused);
    let published = &world.watch()[0].published[&manifest.node];
    assert_eq!(published.generation, held.generation);
}

fn a_corrupted_blob_is_not_unpacked(world: &World) {
    let lock = castrum::project::Project::of(&world.blueprint())
        .read_lock()
        .expect("a lock file")
        .expect("it is there");
    let component: ComponentName = "node-exporter".parse().expect("a name");
    let bundle = lock.components[&component].bundle.as_ref().expect("a bundle").digest.clone();
    let blob = format!("/var/lib/castrum/depot/{bundle}");
    let flip = format!(
        "sudo python3 -c 'f = open(\"{blob}\", \"r+b\"); f.seek(999); b = f.read(1)[0]; f.seek(999); f.write(bytes([b ^ 1]))'"
    );
    for node in ["masters-1", "public-1"] {
        world.on(node, &flip);
    }
    let store = format!("/opt/castrum/store/{component}-{}", &bundle.as_str()[..12]);
    let forget = format!(
        "sudo systemctl stop castrum-agent && sudo test -d {store} && sudo rm -rf {store} {blob} && sudo systemctl start castrum-agent"
    );
    world.on(NODE, &forget);
    let refused =
        || world.on(NODE, "sudo journalctl --no-pager --output=cat --unit=castrum-agent --since=-60s");
    until(SOON, "the agent to refuse the blob", || whether(refused().contains(&bundle.as_str()[..12])));
    sleep(Duration::from_secs(3));
    world.on(NODE, &format!("sudo test ! -e {store} && sudo test ! -e {blob}"));
    for node in ["masters-1", "public-1"] {
        world.on(node, &flip);
    }
    until(SOON, "the whole blob to be unpacked", || {
        whether(world.try_on(NODE, &format!("sudo test -d {store}")).code == 0)
    });
    world.await_healthy(SOON, &[NODE], |_| true);
}

/// The last part: afterwards nobody logs in to that node any more.
fn another_host_key_is_refused(world: &World) {
    world.on(
        NODE,
        "sudo sh -c 'rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N \"\" -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh'",
    );
    let ran = world.try_on(NODE, "true");
    assert_ne!(ran.code, 0, "another machine was logged in to");
    assert!(ran.stderr.contains("host key"), "{}", ran.tail());
}
