//! The whole desired state of one node, its signature and its number.
//!
//! A manifest is complete: the agent renders nothing and chooses nothing. Its generation only grows; a node refuses an
//! older generation, and the same generation with other content. So stale, repeated and concurrent installers are harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::{ClusterId, ClusterName, ComponentName, Digest, NodeName, Role};

/// The version of the manifest's form; an agent refuses one it does not know.
pub const MANIFEST_FORMAT: u32 = 1;

/// Where the agent keeps components, extracted, side by side.
pub const STORE_DIR: &str = "/opt/castrum/store";
/// The link to the active set; one rename switches all of it. `ACTIVE_DIR/<component>/{store,config,unit}`.
pub const ACTIVE_DIR: &str = "/opt/castrum/active";
/// The agent's own state: ledger, keys, depot.
pub const STATE_DIR: &str = "/var/lib/castrum";
/// The node's certificates and key: `ca.crt`, `node.crt`, `node.key`.
pub const PKI_DIR: &str = "/var/lib/castrum/pki";
/// The port of the agent's own API (mutual TLS).
pub const AGENT_PORT: u16 = 7443;

/// Everything that one node shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format_version: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's name, for people.
    pub cluster_name: ClusterName,
    /// The node that this is for.
    pub node: NodeName,
    /// What the node is for.
    pub role: Role,
    /// Grows with every change of content.
    pub generation: u64,
    /// The masters, in order of name: where manifests and blobs come from and status goes to.
    pub masters: Vec<Peer>,
    /// The components whose wave has opened, in boot order.
    pub components: Vec<Arc<ComponentManifest>>,
}

impl Manifest {
    /// The digest of all but the generation.
    pub fn content(&self) -> Digest {
        let digests: Vec<Digest> = self.components.iter().map(|c| c.digest()).collect();
        self.content_with(&digests.iter().collect::<Vec<_>>())
    }

    /// [`Self::content`], where the digests of the components are known already.
    pub(crate) fn content_with(&self, components: &[&Digest]) -> Digest {
        let head =
            (self.format_version, &self.cluster, &self.cluster_name, &self.node, self.role, &self.masters);
        Digest::of(&serde_json::to_vec(&(head, components)).expect("a manifest is plain data"))
    }
}

/// A node that others talk to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Its address inside the cluster.
    pub address: IpAddr,
}

/// One component as one node shall run it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentManifest {
    /// The component.
    pub name: ComponentName,
    /// Its place in the boot order.
    pub wave: u32,
    /// The components of the same node that must run before it.
    pub requires: BTreeSet<ComponentName>,
    /// Its files; `None` if it has none.
    pub bundle: Option<Blob>,
    /// The system account that it runs as.
    pub account: Option<String>,
    /// Data folders.
    pub folders: Vec<FolderManifest>,
    /// Rendered config files, by path in the config tree.
    pub config: BTreeMap<String, String>,
    /// The rendered systemd unit `castrum-<name>.service`.
    pub unit: Option<String>,
    /// How it becomes part of the cluster.
    pub membership: Option<MembershipManifest>,
    /// What the node hands to peers.
    pub facts: BTreeMap<String, FactManifest>,
    /// What must hold for it to count as healthy.
    pub checks: Vec<Check>,
    /// The digests that were asked for already. A clone has none, and only a clone may be changed.
    #[serde(skip)]
    pub digests: Digests,
}

/// The digests of a component, each computed once: nodes decide often, and about the same.
#[derive(Default)]
pub struct Digests {
    whole: OnceLock<Digest>,
    process: OnceLock<Digest>,
    config: OnceLock<Digest>,
    unit: OnceLock<Digest>,
}

impl Clone for Digests {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Digests {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl ComponentManifest {
    /// The digest of the whole: what a status names as applied.
    pub fn digest(&self) -> Digest {
        self.digests.whole.get_or_init(|| digest_of(self)).clone()
    }

    /// The digest of what its process reads: a restart is due when it changes.
    pub fn process_digest(&self) -> Digest {
        let read = || digest_of(&(&self.bundle, &self.account, &self.config, &self.unit));
        self.digests.process.get_or_init(read).clone()
    }

    /// The digest of its unit.
    pub fn unit_digest(&self) -> Digest {
        self.digests.unit.get_or_init(|| digest_of(&self.unit)).clone()
    }

    /// The digest of its config and its unit.
    pub fn config_digest(&self) -> Digest {
        self.digests.config.get_or_init(|| digest_of(&(&self.config, &self.unit))).clone()
    }

    /// The name of its systemd unit.
    pub fn unit_name(&self) -> String {
        format!("castrum-{}.service", self.name)
    }
}

fn digest_of(data: &impl Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(data).expect("a component is plain data"))
}

/// A content-addressed file: a zstd-compressed tar archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
}

/// A data folder with its owner resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderManifest {
    /// An absolute path.
    pub path: String,
    /// The owning account.
    pub owner: String,
    /// The permission bits.
    pub mode: u32,
}

/// How a component becomes part of the cluster on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MembershipManifest {
    /// Holds when the node is a member; then nothing is called.
    pub member: Assertion,
    /// Called in order until `member` holds.
    pub calls: Vec<Call>,
    /// The node that facts in the calls' bodies are asked of; `None` on the founder.
    pub facts_from: Option<Peer>,
}

/// An HTTP call to a service on the node itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Call {
    /// Where it goes.
    #[serde(flatten)]
    pub target: Target,
    /// The method; `GET` if left out.
    #[serde(default = "get")]
    pub method: String,
    /// The JSON body. Strings in it may name facts as `${fact:NAME}`; they are filled in on the node only.
    #[serde(default)]
    pub body: Option<Value>,
    /// The status codes that count as done; any 2xx if empty.
    #[serde(default)]
    pub accept: BTreeSet<u16>,
}

fn get() -> String {
    "GET".to_owned()
}

/// Where a call or a check goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// A Unix socket to connect to instead of the URL's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// `http://` or `https://`; with `https` the node shows its certificate and trusts the cluster's CA only.
    pub url: String,
}

/// Something that can be asserted about a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Assertion {
    /// An HTTP answer is as expected.
    Http(HttpAssertion),
    /// A TCP connection is accepted at `host:port`.
    Tcp(String),
    /// A command ends with 0 (ok), 1 (warning), 2 (critical); anything else, and no end in time, is unknown.
    Exec(Vec<String>),
}

/// What is expected of an HTTP answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpAssertion {
    /// A Unix socket to connect to instead of the URL's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// What is asked for.
    pub url: String,
    /// The expected status code; any 2xx if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Where in the answer the expected value stands (JSON pointer, RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The expected value at `pointer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
}

/// A value that a node hands to peers of the given roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactManifest {
    /// What is called to read it.
    pub call: Call,
    /// Where in the answer it stands.
    pub pointer: String,
    /// Who may ask.
    pub roles: BTreeSet<Role>,
}

/// A check as a node runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, unique in the component.
    pub name: String,
    /// What holds when it is ok.
    pub description: String,
    /// What is asserted.
    pub assert: Assertion,
    /// Seconds between two runs once it is ok.
    pub every: u32,
    /// Seconds after which a run counts as failed.
    pub timeout: u32,
}

/// A manifest as it travels: its exact bytes and the keyring's signature over them (Ed25519, RFC 8032).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    /// The node, repeated outside so that a relay need not read the inside.
    pub node: NodeName,
    /// The generation, repeated likewise.
    pub generation: u64,
    /// [`Manifest::content`], repeated likewise.
    pub content: Digest,
    /// The manifest as JSON; the signature is over these bytes.
    pub manifest: String,
    /// The signature, in base64.
    pub signature: String,
}
