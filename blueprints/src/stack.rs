//! A stack as data: the components that make the platform, read from `stack.yaml` and the templates beside it.
//!
//! From this one description are computed the boot waves, firewall rules, port preflight, checks and documentation. A
//! [`StackFiles`] is the text of the folder; [`Stack::read`] checks all of it and returns every finding at once.

mod own;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::blueprint::{Port, Protocol};
use crate::manifest::{Assertion, Call};
use crate::names::{ComponentName, Digest, Role};
pub use own::{own_check_file, own_check_name};

/// The files of a stack's folder: relative path to text. `stack.yaml` is one of them.
pub type StackFiles = BTreeMap<String, String>;

/// A versioned set of components that makes the platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// The stack's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is, in a sentence.
    pub description: String,
    /// Packages that every node's operating system provides and that are never shipped.
    pub provided: BTreeSet<String>,
    /// The components.
    pub components: BTreeMap<ComponentName, Component>,
    /// The place of each component in the boot order, from 1: one more than the highest of what it requires.
    pub waves: BTreeMap<ComponentName, u32>,
    /// The templates that components name, by path.
    pub templates: BTreeMap<String, String>,
    /// The digest of all the files.
    pub digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StackDocument {
    api_version: String,
    name: String,
    version: String,
    description: String,
    #[serde(default)]
    provided: BTreeSet<String>,
    components: BTreeMap<ComponentName, Component>,
}

/// One service of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Component {
    /// Which part of the platform layer it belongs to.
    pub category: Category,
    /// What it is, in a sentence.
    pub description: String,
    /// The roles whose nodes carry it.
    pub roles: BTreeSet<Role>,
    /// The components whose checks must be ok before it is started, on every node that carries them.
    #[serde(default)]
    pub requires: BTreeSet<ComponentName>,
    /// Whether a majority of its nodes is enough for what requires it (a quorum store), or all of them are needed.
    #[serde(default)]
    pub quorum: bool,
    /// Where its files come from; without one it has none of its own.
    #[serde(default)]
    pub source: Option<Source>,
    /// The system account that it runs as; root without one.
    #[serde(default)]
    pub account: Option<String>,
    /// Data folders that are made before it starts and never removed by an upgrade.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// The ports that it listens on.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    /// What a blueprint may set, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    /// Config files: the path in the component's config tree to the path of its template.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// The path of the template of its systemd unit; without one it has no process of its own.
    #[serde(default)]
    pub unit: Option<String>,
    /// How it becomes part of the cluster, where that takes more than starting it.
    #[serde(default)]
    pub membership: Option<Membership>,
    /// Cluster-internal values that nodes with the component hand to peers of the given roles.
    #[serde(default)]
    pub facts: BTreeMap<String, FactSource>,
    /// What must hold for it to count as healthy, beside its unit being active.
    #[serde(default)]
    pub checks: Vec<CheckTemplate>,
}

/// The eight categories of the platform layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Who is in the cluster, and its shared state.
    ClusterManagement,
    /// What runs where.
    ContainerOrchestration,
    /// What runs it.
    ContainerRuntimes,
    /// What is recorded about it.
    LoggingAndMetrics,
    /// How it is reached.
    Networking,
    /// Where software comes from.
    PackageManagement,
    /// Who may do what.
    IamAndSecurity,
    /// Where data stays.
    Storage,
}

/// Where a component's files come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Source {
    /// Debian packages with their library closure, resolved through the machine's own apt configuration.
    Deb(DebSource),
    /// An archive by address, pinned by its digest.
    Tarball(TarballSource),
    /// A file of the stack's own folder.
    File(FileSource),
}

/// Debian packages, extracted side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DebSource {
    /// The packages asked for; what they depend on comes along, but for what the stack lists as provided.
    pub packages: BTreeSet<String>,
    /// Further packages that are not to come along.
    #[serde(default)]
    pub without: BTreeSet<String>,
    /// Links to make in the bundle, path to target (package scripts, which would make them, are not run).
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Only paths under these prefixes are kept; empty: all.
    #[serde(default)]
    pub keep: BTreeSet<String>,
    /// Paths under these prefixes are dropped.
    #[serde(default)]
    pub drop: BTreeSet<String>,
}

/// An archive by address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TarballSource {
    /// Where it is: `https://`, `http://` or `file://`. Its content is trusted by the digest, not by the address.
    pub url: String,
    /// The digest of the archive as it is served.
    pub sha256: Digest,
    /// How many leading path parts are dropped.
    #[serde(default)]
    pub strip: u32,
}

/// A file of the stack's own folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileSource {
    /// Its path in the stack's folder.
    pub path: String,
    /// Where it lands in the component's store folder.
    pub target: String,
    /// Whether it is a program.
    #[serde(default)]
    pub executable: bool,
}

/// A data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Folder {
    /// An absolute path.
    pub path: String,
    /// The owner; the component's account if left out, else root.
    #[serde(default)]
    pub owner: Option<String>,
    /// The mode in octal, as in `0750`.
    #[serde(default = "default_mode")]
    pub mode: String,
}

fn default_mode() -> String {
    "0755".to_owned()
}

/// A port that a component listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePort {
    /// The number.
    pub number: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Who may reach it.
    pub from: Reach,
    /// What it is for, in a few words.
    pub purpose: String,
}

/// Who may reach a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The node itself only.
    Node,
    /// Masters.
    Masters,
    /// Every node of the cluster.
    Cluster,
    /// People and programs outside the cluster: the admin zone on masters, everybody on public agents.
    Outside,
}

/// Something a blueprint may set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Setting {
    /// What it does, in a sentence.
    pub description: String,
    /// The value if a blueprint says nothing; it also fixes the type.
    pub default: Value,
}

/// How a component becomes part of the cluster: founded once on one node, joined by all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Membership {
    /// Holds when this node is a member already; then nothing is called.
    pub member: Assertion,
    /// Called on the one node that founds the cluster.
    pub found: Vec<Call>,
    /// Called on every other node. Bodies may name facts of the founder as `${fact:NAME}`.
    pub join: Vec<Call>,
}

/// A value that a node reads from its component and hands to peers over mutual TLS. It never leaves the nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FactSource {
    /// What is called to read it.
    pub call: Call,
    /// Where in the answer it stands (JSON pointer, RFC 6901).
    pub pointer: String,
    /// The roles whose nodes may ask for it.
    pub roles: BTreeSet<Role>,
}

/// A check of a component; strings in its assertion are templates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CheckTemplate {
    /// Its name, unique in the component.
    pub name: String,
    /// What holds when it is ok, in a sentence.
    pub description: String,
    /// What is asserted.
    pub assert: Assertion,
    /// Seconds between two runs once it is ok.
    #[serde(default = "default_every")]
    pub every: u32,
    /// Seconds after which a run counts as failed.
    #[serde(default = "default_timeout")]
    pub timeout: u32,
}

fn default_every() -> u32 {
    10
}

fn default_timeout() -> u32 {
    5
}

/// What is wrong with a stack, every finding at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stack is not valid:\n{}", findings.join("\n"))]
pub struct StackError {
    /// One line each, beginning with the place.
    pub findings: Vec<String>,
}

impl ServicePort {
    /// The port itself.
    pub fn port(&self) -> Port {
        Port { number: self.number, protocol: self.protocol }
    }
}

impl Stack {
    /// The ports of all components that nodes of this role carry.
    pub fn ports(&self, role: Role) -> impl Iterator<Item = &ServicePort> {
        let carried = self.components.values().filter(move |component| component.roles.contains(&role));
        carried.flat_map(|component| &component.ports)
    }

    /// Reads and checks the files of a stack's folder.
    pub fn read(files: &StackFiles) -> Result<Self, StackError> {
        let fail = |finding: String| StackError { findings: vec![finding] };
        let text = files.get("stack.yaml").ok_or_else(|| fail("stack.yaml: the file is missing".into()))?;
        let document: StackDocument =
            serde_saphyr::from_str(text).map_err(|error| fail(format!("stack.yaml: {error}")))?;
        let mut findings = Vec::new();
        if document.api_version != "castrum.stack/v1" {
            findings
                .push(format!("stack.yaml: apiVersion `{}` is not `castrum.stack/v1`", document.api_version));
        }
        let templates = collect_templates(&document.components, files, &mut findings);
        for (name, component) in &document.components {
            check_component(name, component, &document.components, &mut findings);
        }
        let waves = waves(&document.components, &mut findings);
        if !findings.is_empty() {
            return Err(StackError { findings });
        }
        Ok(Self {
            name: document.name,
            version: document.version,
            description: document.description,
            provided: document.provided,
            components: document.components,
            waves,
            templates,
            digest: Digest::of(&serde_json::to_vec(files).expect("a map of strings is JSON")),
        })
    }

    /// The components that nodes of `role` carry, in boot order.
    pub fn components_of(&self, role: Role) -> Vec<&ComponentName> {
        let mut names: Vec<_> =
            self.components.iter().filter(|(_, c)| c.roles.contains(&role)).map(|(name, _)| name).collect();
        names.sort_by_key(|name| (self.waves[*name], *name));
        names
    }
}

fn collect_templates(
    components: &BTreeMap<ComponentName, Component>,
    files: &StackFiles,
    findings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut templates = BTreeMap::new();
    for (name, component) in components {
        for path in component.config.values().chain(&component.unit) {
            match files.get(path) {
                Some(text) => {
                    templates.insert(path.clone(), text.clone());
                }
                None => {
                    findings.push(format!("components.{name}: the template `{path}` is not in the folder"));
                }
            }
        }
    }
    templates
}

fn check_component(
    name: &ComponentName,
    component: &Component,
    all: &BTreeMap<ComponentName, Component>,
    findings: &mut Vec<String>,
) {
    let mut say = |text: String| findings.push(format!("components.{name}: {text}"));
    if component.roles.is_empty() {
        say("`roles` is empty, so no node would carry it".into());
    }
    for required in &component.requires {
        if !all.contains_key(required) {
            say(format!("requires `{required}`, which is not a component of this stack"));
        }
    }
    if component.unit.is_none() && component.checks.is_empty() {
        say("has neither a unit nor a check, so nothing could tell whether it is healthy".into());
    }
    let mut seen = BTreeSet::new();
    for check in &component.checks {
        if !seen.insert(&check.name) || check.name == UNIT_CHECK {
            say(format!("two checks are named `{}`", check.name));
        }
        if check.every == 0 || check.timeout == 0 {
            say(format!("check `{}`: `every` and `timeout` must be at least 1 second", check.name));
        }
    }
    for folder in &component.folders {
        if !folder.path.starts_with('/') || folder.path.contains("..") {
            say(format!("folder `{}` is not an absolute path", folder.path));
        }
        if u32::from_str_radix(&folder.mode, 8).is_err() {
            say(format!("folder `{}`: mode `{}` is not octal", folder.path, folder.mode));
        }
    }
}

/// The name of the check that every component with a unit has: the unit is active.
pub const UNIT_CHECK: &str = "unit";

/// Longest paths through `requires`; a cycle is a finding that names its members.
fn waves(
    components: &BTreeMap<ComponentName, Component>,
    findings: &mut Vec<String>,
) -> BTreeMap<ComponentName, u32> {
    let mut waves: BTreeMap<ComponentName, u32> = BTreeMap::new();
    loop {
        let ready: Vec<_> = components
            .iter()
            .filter(|(name, _)| !waves.contains_key(*name))
            .filter_map(|(name, component)| {
                let known = component.requires.iter().filter(|r| components.contains_key(*r));
                let wave =
                    known.map(|r| waves.get(r).copied()).try_fold(0, |high, w| w.map(|w| high.max(w)))?;
                Some((name.clone(), wave + 1))
            })
            .collect();
        if ready.is_empty() {
            break;
        }
        waves.extend(ready);
    }
    let stuck: Vec<_> =
        components.keys().filter(|name| !waves.contains_key(*name)).map(ComponentName::as_str).collect();
    if !stuck.is_empty() {
        findings.push(format!("components: `requires` goes in a circle through {}", stuck.join(", ")));
    }
    waves
}
