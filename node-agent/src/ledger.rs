//! What the agent remembers across its own death and the machine's: written whole or not at all.
//!
//! It holds the accepted manifest, with what each process was started with, so that an agent that comes back restarts
//! nothing. A start is written down *before* it is asked for, with the invocation that the unit had until then: whether
//! it took place can so be told afterwards, wherever the agent died.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use castrum_blueprints::manifest::{Manifest, SignedManifest};
use castrum_blueprints::names::{ComponentName, Digest, NodeName};
use castrum_blueprints::node::UnitState;
use serde::{Deserialize, Serialize};

use crate::act::files::{FileError, read_if_there, write_whole};
use crate::act::systemd::UnitSnapshot;
use crate::identity::{Identity, ManifestError};

const LEDGER_FORMAT: u32 = 1;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It could not be read or written.
    #[error("use the ledger")]
    File(#[from] FileError),
    /// It is not what this agent wrote.
    #[error("understand the ledger `{}`", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("the ledger has the form {found}, and this agent understands {LEDGER_FORMAT} only")]
    Format {
        /// The version that it has.
        found: u32,
    },
    /// It does not fit into JSON, which cannot be.
    #[error("write the ledger as JSON")]
    Json(#[source] serde_json::Error),
}

/// Why a manifest is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is not signed for this cluster, or not what it says.
    #[error("the manifest is not taken")]
    Unverified(#[from] ManifestError),
    /// It is for another node.
    #[error("the manifest is for `{0}`")]
    OtherNode(NodeName),
    /// The node is further already.
    #[error("the manifest has generation {offered}, and this node holds {held}")]
    Older {
        /// Its generation.
        offered: u64,
        /// What the node holds.
        held: u64,
    },
    /// The same generation with other content.
    #[error("the manifest has other content than the generation {0} that this node holds")]
    OtherContent(u64),
    /// It could not be written down.
    #[error("write the manifest down")]
    Ledger(#[from] LedgerError),
}

/// What is remembered of one component that the node carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its wave.
    pub wave: u32,
    /// The digest of the component as it was last activated.
    pub applied: Option<Digest>,
    /// The process digest that its unit was started with.
    pub started: Option<Digest>,
    /// A start that was about to be asked for.
    pub intent: Option<Intent>,
    /// Whether the node became a member.
    pub member: bool,
    /// The process digest with which it was healthy once.
    pub settled: Option<Digest>,
}

/// A start that was about to be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The process digest of it.
    pub process: Digest,
    /// The invocation that the unit had before.
    pub before: Option<String>,
}

impl Entry {
    /// Tells from what the unit is now whether an intended start took place.
    pub fn resolve(&mut self, unit: &UnitSnapshot) {
        // While the old process is ending, the start may still be to come.
        if unit.state == UnitState::Deactivating {
            return;
        }
        let Some(intent) = self.intent.take() else { return };
        if unit.invocation.is_some() && unit.invocation != intent.before {
            self.started = Some(intent.process);
        }
    }
}

/// Everything that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    format_version: u32,
    /// The manifest as it was signed.
    pub manifest: Option<SignedManifest>,
    /// The digest of the unit files that the service manager last read.
    pub units_loaded: Option<Digest>,
    /// What the node carries.
    pub components: BTreeMap<ComponentName, Entry>,
}

/// The ledger and its file.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    ledger: Ledger,
    manifest: Option<Arc<Manifest>>,
}

impl Book {
    /// Opens the ledger at `path`; a file that is not there yet is an empty one.
    pub fn open(path: &Path, identity: &Identity) -> Result<Self, LedgerError> {
        let empty = Ledger {
            format_version: LEDGER_FORMAT,
            manifest: None,
            units_loaded: None,
            components: BTreeMap::new(),
        };
        let ledger = match read_if_there(path)? {
            None => empty,
            Some(text) => serde_json::from_slice(&text)
                .map_err(|source| LedgerError::Form { path: path.to_owned(), source })?,
        };
        if ledger.format_version != LEDGER_FORMAT {
            return Err(LedgerError::Format { found: ledger.format_version });
        }
        let mut book = Self { path: path.to_owned(), ledger, manifest: None };
        // A manifest that this identity no longer trusts is as good as none.
        book.manifest =
            book.ledger.manifest.as_ref().and_then(|signed| identity.verify(signed).ok()).map(Arc::new);
        Ok(book)
    }

    /// What is remembered.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The accepted manifest.
    pub fn manifest(&self) -> Option<&Arc<Manifest>> {
        self.manifest.as_ref()
    }

    /// Takes a manifest, unless it is not for this node, or older than what is held. True if it is a new one.
    pub fn accept(&mut self, signed: SignedManifest, identity: &Identity) -> Result<bool, Refusal> {
        let manifest = identity.verify(&signed)?;
        if manifest.node != identity.node {
            return Err(Refusal::OtherNode(manifest.node));
        }
        if let (Some(held), Some(_)) = (&self.ledger.manifest, &self.manifest) {
            if signed.generation < held.generation {
                return Err(Refusal::Older { offered: signed.generation, held: held.generation });
            }
            if signed.generation == held.generation && signed.content != held.content {
                return Err(Refusal::OtherContent(held.generation));
            }
            if signed.generation == held.generation {
                return Ok(false);
            }
        }
        self.update(|ledger| ledger.manifest = Some(signed))?;
        self.manifest = Some(Arc::new(manifest));
        Ok(true)
    }

    /// Takes the manifest that is held already under another signature: that of the key which `identity` trusts from now
    /// on. The generation and the content stay, and so does everything that follows from them.
    pub fn resign(&mut self, signed: SignedManifest, identity: &Identity) -> Result<(), Refusal> {
        let manifest = identity.verify(&signed)?;
        if manifest.node != identity.node {
            return Err(Refusal::OtherNode(manifest.node));
        }
        if let Some(held) = &self.ledger.manifest {
            if signed.generation < held.generation {
                return Err(Refusal::Older { offered: signed.generation, held: held.generation });
            }
            if (signed.generation, &signed.content) != (held.generation, &held.content) {
                return Err(Refusal::OtherContent(held.generation));
            }
        }
        self.update(|ledger| ledger.manifest = Some(signed))?;
        self.manifest = Some(Arc::new(manifest));
        Ok(())
    }

    /// Changes what is remembered. Nothing is written if nothing changes; nothing is changed if it cannot be written.
    pub fn update(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), LedgerError> {
        let mut next = self.ledger.clone();
        change(&mut next);
        if next == self.ledger {
            return Ok(());
        }
        let text = serde_json::to_vec(&next).map_err(LedgerError::Json)?;
        write_whole(&self.path, &text, 0o600)?;
        self.ledger = next;
        Ok(())
    }

    /// Changes what is remembered of one component, if the node carries it.
    pub fn update_entry(
        &mut self,
        component: &ComponentName,
        change: impl FnOnce(&mut Entry),
    ) -> Result<(), LedgerError> {
        self.update(|ledger| {
            if let Some(entry) = ledger.components.get_mut(component) {
                change(entry);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use castrum_blueprints::names::Role;
    use castrum_blueprints::trust::signing_input;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    struct Cluster {
        dir: tempfile::TempDir,
        key: Ed25519KeyPair,
    }

    impl Cluster {
        fn new() -> Self {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Self {
                dir: tempfile::tempdir().unwrap(),
                key: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(),
            }
        }

        fn identity(&self) -> Arc<Identity> {
            let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem();
            let boot = serde_json::json!({
                "format_version": 1, "cluster": "0123456789ab", "node": "agents-1", "role": "agent", "incarnation": 1,
                "expires": 1, "masters": [], "ca": ca, "agent": null, "api_port": 7443,
                "verify_key": STANDARD.encode(self.key.public_key().as_ref()),
            });
            let state = self.dir.path().join("var/lib/castrum");
            std::fs::create_dir_all(&state).unwrap();
            std::fs::write(state.join("boot.json"), boot.to_string()).unwrap();
            Identity::load(self.dir.path()).unwrap()
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("var/lib/castrum/ledger.json")
        }

        fn manifest(&self, node: &str, generation: u64, name: &str) -> SignedManifest {
            let manifest = Manifest {
                format_version: 1,
                cluster: "0123456789ab".parse().unwrap(),
                cluster_name: name.parse().unwrap(),
                node: node.parse().unwrap(),
                role: Role::Agent,
                generation,
                masters: Vec::new(),
                components: Vec::new(),
            };
            let text = serde_json::to_string(&manifest).unwrap();
            SignedManifest {
                node: manifest.node.clone(),
                generation,
                content: manifest.content(),
                signature: STANDARD.encode(self.key.sign(&signing_input("manifest", text.as_bytes()))),
                manifest: text,
            }
        }
    }

    fn refused(result: Result<bool, Refusal>) -> String {
        match result {
            Err(Refusal::Unverified(_)) => "unverified".into(),
            Err(Refusal::OtherNode(_)) => "other node".into(),
            Err(Refusal::Older { .. }) => "older".into(),
            Err(Refusal::OtherContent(_)) => "other content".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn generations_only_grow_also_over_a_restart() {
        let cluster = Cluster::new();
        let identity = cluster.identity();
        let mut book = Book::open(&cluster.path(), &identity).unwrap();
        assert!(book.accept(cluster.manifest("agents-1", 2, "demo"), &identity).unwrap());
        for _ in 0..2 {
            assert!(
                !book.accept(cluster.manifest("agents-1", 2, "demo"), &identity).unwrap(),
                "the same is nothing new"
            );
            assert_eq!(refused(book.accept(cluster.manifest("agents-1", 1, "demo"), &identity)), "older");
            assert_eq!(
                refused(book.accept(cluster.manifest("agents-1", 2, "other"), &identity)),
                "other content"
            );
            book = Book::open(&cluster.path(), &identity).unwrap();
        }
        assert!(book.accept(cluster.manifest("agents-1", 3, "other"), &identity).unwrap());
        assert_eq!(book.manifest().unwrap().generation, 3);
    }

    #[test]
    fn what_is_not_for_this_node_by_this_cluster_is_refused_first() {
        let (cluster, stranger) = (Cluster::new(), Cluster::new());
        let identity = cluster.identity();
        let mut book = Book::open(&cluster.path(), &identity).unwrap();
        assert_eq!(refused(book.accept(stranger.manifest("agents-1", 9, "demo"), &identity)), "unverified");
        assert_eq!(refused(book.accept(cluster.manifest("agents-2", 9, "demo"), &identity)), "other node");
        let mut bent = cluster.manifest("agents-1", 1, "demo");
        bent.generation = 9;
        assert_eq!(refused(book.accept(bent, &identity)), "unverified");
        assert!(book.manifest().is_none() && !cluster.path().exists());
    }

    #[test]
    fn what_is_held_is_signed_anew_and_nothing_else_is_taken_for_it() {
        let (cluster, successor) = (Cluster::new(), Cluster::new());
        let identity = cluster.identity();
        let mut book = Book::open(&cluster.path(), &identity).unwrap();
        book.accept(cluster.manifest("agents-1", 7, "demo"), &identity).unwrap();
        let identity = successor.identity();
        let mut book = Book::open(&cluster.path(), &identity).unwrap();
        assert!(book.manifest().is_none(), "the key before is not trusted any more");
        let resigned = |book: &mut Book, signed| refused(book.resign(signed, &identity).map(|()| true));
        assert_eq!(resigned(&mut book, cluster.manifest("agents-1", 7, "demo")), "unverified");
        assert_eq!(resigned(&mut book, successor.manifest("agents-2", 7, "demo")), "other node");
        assert_eq!(resigned(&mut book, successor.manifest("agents-1", 6, "demo")), "older");
        assert_eq!(resigned(&mut book, successor.manifest("agents-1", 7, "other")), "other content");
        assert_eq!(resigned(&mut book, successor.manifest("agents-1", 8, "demo")), "other content");
        book.resign(successor.manifest("agents-1", 7, "demo"), &identity).unwrap();
        let mut book = Book::open(&cluster.path(), &identity).unwrap();
        assert_eq!(book.manifest().unwrap().generation, 7);
        assert_eq!(refused(book.accept(successor.manifest("agents-1", 6, "demo"), &identity)), "older");
        assert!(book.accept(successor.manifest("agents-1", 8, "other"), &identity).unwrap());
    }

    #[test]
    fn a_ledger_that_cannot_be_written_is_not_changed() {
        let cluster = Cluster::new();
        let identity = cluster.identity();
        let mut book = Book::open(Path::new("/proc/castrum/ledger.json"), &identity).unwrap();
        let accepted = book.accept(cluster.manifest("agents-1", 1, "demo"), &identity);
        assert!(matches!(accepted, Err(Refusal::Ledger(LedgerError::File(_)))), "{accepted:?}");
        assert!(book.manifest().is_none() && book.ledger().manifest.is_none());
    }

    #[test]
    fn a_torn_or_unknown_ledger_is_an_error_and_not_an_empty_one() {
        let cluster = Cluster::new();
        let identity = cluster.identity();
        std::fs::write(cluster.path(), "{\"format_ver").unwrap();
        assert!(matches!(Book::open(&cluster.path(), &identity), Err(LedgerError::Form { .. })));
        let newer = r#"{"format_version":2,"manifest":null,"units_loaded":null,"components":{}}"#;
        std::fs::write(cluster.path(), newer).unwrap();
        assert!(matches!(Book::open(&cluster.path(), &identity), Err(LedgerError::Format { found: 2 })));
    }

    #[test]
    fn an_intended_start_is_told_by_the_invocation() {
        let process = Digest::of(b"new");
        let unit = |state, invocation: Option<&str>| UnitSnapshot {
            state,
            invocation: invocation.map(str::to_owned),
            ..UnitSnapshot::default()
        };
        let started = |before: Option<&str>, now: &UnitSnapshot| {
            let intent = Intent { process: process.clone(), before: before.map(str::to_owned) };
            let mut entry = Entry { intent: Some(intent), ..Entry::default() };
            entry.resolve(now);
            (entry.started.is_some(), entry.intent.is_some())
        };
        assert_eq!(started(None, &unit(UnitState::Inactive, None)), (false, false), "never asked for");
        assert_eq!(started(None, &unit(UnitState::Active, Some("a"))), (true, false));
        assert_eq!(
            started(Some("a"), &unit(UnitState::Active, Some("a"))),
            (false, false),
            "not restarted yet"
        );
        assert_eq!(started(Some("a"), &unit(UnitState::Activating, Some("b"))), (true, false));
        assert_eq!(
            started(Some("a"), &unit(UnitState::Deactivating, Some("a"))),
            (false, true),
            "still to come"
        );
    }
}
