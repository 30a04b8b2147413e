//! `.castrum/` and the key that opens the keyring are lost: the cluster is found again, gets new keys, and does not notice.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use castrum::keyring::{KeyringFile, Unlock};
use castrum::link::{ClientTls, Direct, MasterClient};
use castrum::trust::Trust;
use castrum_blueprints::manifest::AGENT_PORT;
use castrum_provider::PowerState;

use crate::world::{APPLY, Ran, Running, World, block_on, of_step, until, whether};

const PAIR: &[(&str, &str, u32)] = &[("masters", "master", 1), ("agents", "agent", 1)];
const REFUSED: i32 = 24;
const SETTLE: Duration = Duration::from_secs(90);

#[test]
fn a_cluster_whose_keyring_is_lost_gets_new_keys_and_does_not_notice() {
    let key = Key::new();
    let access = format!("access: {{ authorizedKeys: [\"{}\"] }}\n", key.public);
    let world = World::new("recover", PAIR, &access);
    world.apply_well();
    let (units, generations, old) = (world.units(), generations(&world), Lost::aside(&world));
    lose(&world);
    the_loss_is_said(&world);
    nothing_is_changed_without_consent(&world, &key);
    a_machine_that_contradicts_its_label_is_refused(&world, &key);

    killed_in_the_middle(&world, &key);
    let ran = recover(&world, &key, &["--yes", "--accept-host-keys"]);
    assert_eq!(ran.code, 0, "{}", ran.tail());
    eprintln!("recovered after {:?}", ran.took);
    let readmitted = world.journal().last_steps();
    assert!(readmitted.iter().all(|step| step.starts_with("readmit ")), "{readmitted:?}");
    world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "there was something left to do");
    assert_eq!(self::generations(&world), generations);
    let agents = |unit: &(String, String)| unit.1 == "castrum-agent.service";
    for (unit, start) in world.units() {
        assert_eq!(units[&unit] == start, !agents(&unit), "{unit:?}");
    }
    old.is_refused(&world);
    a_second_one_changes_nothing(&world, &key);
    what_starts_again_still_fits_together(&world);
    world.destroy_well();
}

#[test]
fn machines_that_exist_get_new_keys_by_the_login_that_the_blueprint_names() {
    let three = &[("masters", "master", 3), ("agents", "agent", 1)];
    let (world, _ground) = World::on_ground("recover-ssh", three);
    world.apply_well();
    let units = world.units();
    lose(&world);
    let ran = world.start(&["recover", "--yes"]).wait(APPLY);
    assert_eq!(ran.code, 0, "{}", ran.tail());
    eprintln!("recovered after {:?}", ran.took);
    let order = ["masters-1", "masters-2", "masters-3", "agents-1"].map(|node| format!("readmit {node}"));
    assert_eq!(world.journal().last_steps(), order);
    assert!(one_after_another(&world), "two masters were changed at a time");
    world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "there was something left to do");
    for (unit, start) in world.units() {
        assert_eq!(units[&unit] == start, unit.1 != "castrum-agent.service", "{unit:?}");
    }
    world.destroy_well();
}

/// Whether each step ended before the next began.
fn one_after_another(world: &World) -> bool {
    let mut under_way = 0;
    let journal = world.journal();
    journal.last_run().iter().all(|event| {
        under_way += i32::from(of_step(event, "step-started", "readmit "));
        under_way -= i32::from(of_step(event, "step-done", "readmit "));
        under_way <= 1
    })
}

fn generations(world: &World) -> BTreeMap<String, u64> {
    world.statuses().into_iter().map(|(node, heard)| (node, heard.status.generation)).collect()
}

fn lose(world: &World) {
    for folder in [".castrum", "config"] {
        fs::remove_dir_all(world.dir().join(folder)).expect("it was there");
    }
}

fn the_loss_is_said(world: &World) {
    for (words, code) in [(&["plan"][..], 0), (&["status"], 0), (&["apply", "--yes"], REFUSED)] {
        let ran = world.start(words).wait(SETTLE);
        assert_eq!(ran.code, code, "{words:?}\n{}", ran.tail());
        assert!(ran.stderr.contains("keyring") && ran.stderr.contains("castrum recover"), "{}", ran.tail());
    }
}

/// As a user whose home holds the key that the blueprint names.
fn start(world: &World, key: &Key, words: &[&str]) -> Running {
    let cache = castrum::artifacts::Cache::default_root();
    let mut command = world.castrum_in(world.dir());
    command.arg("recover").args(words).env("HOME", &key.home).env_remove("SSH_AUTH_SOCK");
    command.env("XDG_CACHE_HOME", cache.parent().expect("a folder"));
    Running::start(command, world.dir())
}

fn recover(world: &World, key: &Key, words: &[&str]) -> Ran {
    start(world, key, words).wait(APPLY)
}

fn has_keyring(world: &World) -> bool {
    world.dir().join(".castrum/keyring").exists()
}

fn nothing_is_changed_without_consent(world: &World, key: &Key) {
    let ran = recover(world, key, &["--yes"]);
    assert_eq!(ran.code, REFUSED, "{}", ran.tail());
    assert!(ran.stderr.contains("SHA256:") && ran.stderr.contains("--accept-host-keys"), "{}", ran.tail());
    let ran = recover(world, key, &["--accept-host-keys"]);
    assert_eq!(ran.code, 64, "there is nobody to ask\n{}", ran.tail());
    assert_eq!(ran.stdout.matches("certain").count(), 3, "two machines, and their number\n{}", ran.tail());
    assert!(!has_keyring(world));
}

fn a_machine_that_contradicts_its_label_is_refused(world: &World, key: &Key) {
    let swap = |from: &str, to: &str| {
        let line =
            format!("sudo sed -i 's/\"node\":\"{from}\"/\"node\":\"{to}\"/' /var/lib/castrum/boot.json");
        key.on(world, "agents-1", &line);
    };
    swap("agents-1", "masters-1");
    let ran = recover(world, key, &["--yes", "--accept-host-keys"]);
    assert_eq!(ran.code, REFUSED, "{}", ran.tail());
    assert!(ran.stdout.contains("ambiguous"), "{}", ran.tail());
    assert!(ran.stderr.contains("its label says agents-1, and its agent masters-1"), "{}", ran.tail());
    assert!(!has_keyring(world));
    swap("masters-1", "agents-1");
}

fn killed_in_the_middle(world: &World, key: &Key) {
    let mut run = start(world, key, &["--yes", "--accept-host-keys"]);
    until(SETTLE, "the master to be admitted anew", || {
        let begun = |event: &_| of_step(event, "step-started", "readmit masters-1");
        whether(run.has_ended() || world.journal().0.iter().any(begun))
    });
    assert!(!run.has_ended(), "{}", run.wait(SETTLE).tail());
    run.kill();
}

fn a_second_one_changes_nothing(world: &World, key: &Key) {
    let read = || fs::read(world.dir().join(".castrum/keyring")).expect("a keyring");
    let before = read();
    let ran = recover(world, key, &[]);
    assert_eq!(ran.code, 0, "{}", ran.tail());
    assert!(ran.stderr.contains("nothing is changed"), "{}", ran.tail());
    assert_eq!(read(), before);
    fs::remove_file(world.dir().join(".castrum/journal.jsonl")).expect("a journal");
    assert_eq!(recover(world, key, &[]).code, 0, "only the journal is lost");
}

/// After a restart components read what is in the files by then.
fn what_starts_again_still_fits_together(world: &World) {
    let started = |world: &World| -> BTreeMap<String, u64> {
        world.statuses().into_iter().map(|(node, heard)| (node, heard.status.started_at.0)).collect()
    };
    let before = started(world);
    let nodes: Vec<&str> = world.nodes().iter().map(String::as_str).collect();
    world.set_power(&nodes, PowerState::Off);
    world.set_power(&nodes, PowerState::On);
    world.await_healthy(SETTLE * 2, &nodes, |status| before[status.node.as_str()] < status.started_at.0);
    world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "an apply after a reboot did something");
}

/// A user's own key, in a home of its own.
struct Key {
    home: PathBuf,
    public: String,
    _folder: tempfile::TempDir,
}

impl Key {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_owned();
        fs::create_dir(home.join(".ssh")).expect("a folder");
        let private = home.join(".ssh/id_ed25519");
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "me@home", "-f"]).arg(&private);
        assert!(command.stdin(Stdio::null()).status().expect("`ssh-keygen` starts").success());
        let public = fs::read_to_string(home.join(".ssh/id_ed25519.pub")).expect("a public key");
        Self { home, public: public.trim().to_owned(), _folder: folder }
    }

    fn on(&self, world: &World, node: &str, line: &str) {
        let private = self.home.join(".ssh/id_ed25519");
        assert!(ssh(world, node, &private, line), "`{line}` on {node}");
    }
}

fn ssh(world: &World, node: &str, key: &Path, line: &str) -> bool {
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]);
    command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i"]).arg(key);
    command.arg(format!("castrum@{}", world.address(node))).arg(line).env_remove("SSH_AUTH_SOCK");
    command.stdin(Stdio::null()).status().expect("`ssh` starts").success()
}

/// The keyring that is lost, as somebody else might have found it.
struct Lost {
    trust: Trust,
    folder: tempfile::TempDir,
}

impl Lost {
    fn aside(world: &World) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sealing = world.dir().join("config/castrum/keys").join(world.id().as_str());
        for (from, to) in [(world.dir().join(".castrum/keyring"), "keyring"), (sealing, "sealing")] {
            fs::copy(from, folder.path().join(to)).expect("a copy");
        }
        let unlock = Unlock::KeyFile(folder.path().join("sealing"));
        let file = KeyringFile::new(folder.path().join("keyring"), world.id(), unlock);
        let lost = Self { trust: Trust::open(file, Vec::new()).expect("it opens"), folder };
        assert!(lost.is_heard(world, "masters-1") && lost.logs_in(world, "agents-1"), "it was the cluster's");
        lost
    }

    fn is_refused(&self, world: &World) {
        for node in world.nodes() {
            assert!(!self.is_heard(world, node), "the agent of {node} hears the lost keyring");
            assert!(!self.logs_in(world, node), "{node} lets the lost keyring in");
        }
    }

    fn is_heard(&self, world: &World, node: &str) -> bool {
        let identity = self.trust.identity().expect("a certificate");
        // Whom the agent is to us must not be what it fails by.
        let authorities = [self.trust.ca_pem().to_owned(), world.trust().ca_pem().to_owned()].concat();
        let tls = ClientTls::from_pem(&identity.certificate.pem, &identity.private_key_pem(), &authorities);
        let way = Direct(SocketAddr::new(world.address(node), AGENT_PORT));
        let client =
            MasterClient::new(node.parse().expect("a name"), Arc::new(way), tls.expect("an identity"));
        block_on(client.self_status()).is_ok()
    }

    fn logs_in(&self, world: &World, node: &str) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join("ssh-key");
        let key = self.trust.keyring().expect("it opens").ssh_key_openssh().expect("a key");
        fs::write(&path, &*key).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
        ssh(world, node, &path, "true")
    }
}
