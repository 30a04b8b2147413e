//! Every secret of a cluster, looked for everywhere it might have leaked to.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use crate::world::{Ran, World};

/// Shorter texts are no secrets, and are found everywhere.
const LEAST: usize = 20;

/// The command lines of all processes of this machine, those in nodes too, while it is watched.
pub struct Argv {
    stop: Arc<AtomicBool>,
    watcher: JoinHandle<BTreeSet<String>>,
}

impl Argv {
    /// Begins to watch.
    pub fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watcher = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                look(&mut seen);
                sleep(Duration::from_millis(50));
            }
            seen
        });
        Self { stop, watcher }
    }

    /// Ends watching: all that was seen.
    pub fn seen(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.join().expect("the watcher ends")
    }
}

fn look(seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if !line.is_empty() && !seen.contains(&line) {
            seen.insert(line);
        }
    }
}

/// The secrets of a cluster, each with a name to report it by.
pub struct Canary {
    secrets: Vec<(String, String)>,
}

impl Canary {
    /// Collects every secret, from where it belongs.
    pub fn of(world: &World) -> Self {
        let mut canary = Self { secrets: Vec::new() };
        for node in world.nodes() {
            let user_data = world.on(node, "sudo cat /var/lib/cloud/seed/nocloud/user-data");
            canary.join_token(node, &user_data);
            canary.pem(&format!("key of {node}"), &world.on(node, "sudo cat /var/lib/castrum/pki/node.key"));
        }
        for role in ["manager", "worker"] {
            let token = world.docker("masters-1", &format!("swarm join-token --quiet {role}"));
            canary.secrets.push((format!("{role} token of the swarm"), token.trim().to_owned()));
        }
        let keyring = world.keyring().open().expect("the keyring opens");
        canary.pem("key of the installer", &keyring.ssh_key_openssh().expect("a key"));
        let unlock = world.dir().join("config/castrum/keys").join(world.id().as_str());
        let unlock = fs::read_to_string(unlock).expect("the key beside the keyring");
        canary.secrets.push(("key of the keyring".to_owned(), unlock.trim().to_owned()));
        assert!(canary.secrets.len() >= world.nodes().len() * 2 + 4, "{} secrets", canary.secrets.len());
        assert!(
            canary.secrets.iter().all(|(_, secret)| secret.len() >= LEAST),
            "a secret is too short to look for"
        );
        canary
    }

    fn join_token(&mut self, node: &str, user_data: &str) {
        let yaml: serde_json::Value =
            serde_json::from_str(user_data.trim_start_matches("#cloud-config\n")).expect("user-data is JSON");
        let files = yaml["write_files"].as_array().expect("files");
        let file =
            files.iter().find(|file| file["path"] == castrum_blueprints::boot::TOKEN_FILE).expect("a token");
        let token = file["content"].as_str().expect("a text").trim();
        self.secrets.push((format!("join token of {node}"), token.to_owned()));
    }

    /// The lines of a private key, without those that all keys begin with.
    fn pem(&mut self, name: &str, pem: &str) {
        let body = pem.lines().filter(|line| !line.starts_with("-----"));
        let line = body.max_by_key(|line| line.len()).expect("a body").trim();
        // The beginning of a key is the same for all keys of its kind.
        self.secrets.push((name.to_owned(), line[line.len() / 2..].to_owned()));
    }

    /// Fails if any secret is where it does not belong.
    pub fn stays_hidden(&self, world: &World, made: &Ran, argv: &BTreeSet<String>) {
        assert!(
            argv.iter().any(|line| line.contains("castrum-agent run")),
            "the nodes' processes were not seen"
        );
        let read = |name: &str| fs::read_to_string(world.dir().join(name)).expect("a file of the project");
        let status = world.start(&["status", "--output", "json"]).wait(Duration::from_secs(30));
        let watched = world.watch();
        let mut places = vec![
            ("the journal".to_owned(), read(".castrum/journal.jsonl")),
            ("castrum.lock".to_owned(), read("castrum.lock")),
            ("what apply said".to_owned(), format!("{}{}", made.stdout, made.stderr)),
            ("command lines".to_owned(), argv.iter().cloned().collect::<Vec<_>>().join("\n")),
            ("the status".to_owned(), status.stdout),
            ("what masters tell".to_owned(), serde_json::to_string(&watched).expect("JSON")),
        ];
        for node in world.nodes() {
            places.push((
                format!("the log of {node}"),
                world.on(node, "sudo journalctl --no-pager --output=cat"),
            ));
            let kept = "sudo sh -c 'cat /var/lib/castrum/ledger.json /run/castrum/status.json /var/lib/castrum/manifests/* 2>/dev/null; true'";
            places.push((format!("what {node} keeps"), world.on(node, kept)));
        }
        for (place, text) in &places {
            assert!(!text.is_empty(), "{place} is empty: nothing was looked at");
            for (name, secret) in &self.secrets {
                assert!(!text.contains(secret.as_str()), "the {name} is in {place}");
            }
        }
    }
}
