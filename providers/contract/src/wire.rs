//! The messages of the protocol that `providers/PROTOCOL.md` describes, as they stand on the line.
//!
//! Boot data is written out here, and only here, on its way to the process that makes the machine. That is why the types
//! that carry it have no `Debug`.

use std::collections::BTreeMap;

use castrum_blueprints::names::{ClusterId, Digest, ResourceKind, ResourcePath, SiteName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Abilities, Blind, BootData, CLUSTER_LABEL, Failure, Observation, PowerState, RESOURCE_LABEL,
    ResourceSeen, ResourceSpec, Wanted, idempotency_key,
};

/// The version of the contract that is spoken here.
pub const CONTRACT_VERSION: u32 = 1;

/// The first message: for which site of which cluster a provider is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the contract that the installer speaks.
    pub contract: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The site.
    pub site: SiteName,
    /// What the blueprint says about the site.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
}

impl Hello {
    /// A greeting in the version of this crate.
    pub fn new(cluster: ClusterId, site: SiteName, settings: BTreeMap<String, Value>) -> Self {
        Self { contract: CONTRACT_VERSION, cluster, site, settings }
    }
}

/// A provider's answer to the greeting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) contract: u32,
    pub(crate) provider: String,
    pub(crate) version: String,
    pub(crate) abilities: WireAbilities,
}

/// A provider that does not take the greeting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
}

/// Abilities without the provider's name, which stands beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WireAbilities {
    kinds: Vec<String>,
    boot_data: bool,
    power: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    stale_ms: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    image_names: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(millis: &u64) -> bool {
    *millis == 0
}

impl WireAbilities {
    pub(crate) fn of(abilities: &Abilities) -> Self {
        let kinds = abilities.kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
        let Abilities { boot_data, power, stale_ms, image_names, .. } = *abilities;
        Self { kinds, boot_data, power, stale_ms, image_names }
    }

    /// Kinds that are not known here are left out: nothing here could ask for them.
    pub(crate) fn read(&self, provider: &str) -> Abilities {
        let known = |kind: &ResourceKind| self.kinds.iter().any(|name| name == kind.as_str());
        Abilities {
            provider: provider.to_owned(),
            kinds: ResourceKind::ALL.into_iter().filter(known).collect(),
            boot_data: self.boot_data,
            power: self.power,
            stale_ms: self.stale_ms,
            image_names: self.image_names,
        }
    }
}

/// What is asked for.
#[derive(Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub(crate) enum Verb {
    Observe,
    Ensure {
        wanted: Box<WireWanted>,
    },
    Remove {
        path: ResourcePath,
    },
    PowerState {
        machine: ResourcePath,
    },
    PowerSet {
        machine: ResourcePath,
        power: PowerState,
    },
    PowerKill {
        machine: ResourcePath,
    },
    Preflight,
    FindImage {
        release: String,
    },
    #[serde(other)]
    Unknown,
}

/// One resource as it shall be, with all that a provider in another language would have to compute.
#[derive(Serialize, Deserialize)]
pub(crate) struct WireWanted {
    path: ResourcePath,
    spec: ResourceSpec,
    /// The digest of the spec.
    digest: Digest,
    generation: u32,
    /// The idempotency key of its creation.
    key: String,
    /// What it has to carry.
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_data: Option<String>,
}

impl WireWanted {
    pub(crate) fn of(wanted: &Wanted, cluster: &ClusterId) -> Self {
        let labels =
            [(CLUSTER_LABEL, cluster.to_string()), (RESOURCE_LABEL, wanted.path.to_string())].into_iter();
        Self {
            path: wanted.path.clone(),
            spec: wanted.spec.clone(),
            digest: wanted.spec.digest(),
            generation: wanted.generation,
            key: idempotency_key(cluster, &wanted.path, wanted.generation),
            labels: labels.map(|(name, value)| (name.to_owned(), value)).collect(),
            boot_data: wanted.boot_data.as_ref().map(|boot_data| boot_data.expose().to_owned()),
        }
    }

    /// `None`: the spec says something that is not known here, and would be left out silently.
    pub(crate) fn read(self) -> Option<Wanted> {
        let same = self.spec.digest() == self.digest;
        same.then(|| Wanted {
            path: self.path,
            spec: self.spec,
            generation: self.generation,
            boot_data: self.boot_data.map(BootData::new),
        })
    }
}

/// What was seen in one look. The time is the asker's.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct WireObservation {
    pub(crate) seen: BTreeMap<ResourcePath, ResourceSeen>,
    #[serde(default)]
    pub(crate) blind: Vec<Blind>,
}

impl From<Observation> for WireObservation {
    fn from(whole: Observation) -> Self {
        Self { seen: whole.seen, blind: whole.blind }
    }
}

/// A message with its kind, as one line.
fn line(say: &str, body: impl Serialize) -> String {
    // Everything here is plain data, whose keys are texts.
    let mut body = serde_json::to_value(body).unwrap_or_default();
    body["say"] = say.into();
    format!("{body}\n")
}

pub(crate) fn hello(hello: &Hello) -> String {
    line("hello", hello)
}

pub(crate) fn welcome(welcome: &Welcome) -> String {
    line("hello", welcome)
}

pub(crate) fn refuse(failure: &Failure) -> String {
    line("refuse", json!({ "failure": failure }))
}

pub(crate) fn call(id: u64, deadline_ms: u64, verb: &Verb) -> String {
    let mut body = serde_json::to_value(verb).unwrap_or_default();
    body["id"] = id.into();
    body["deadline_ms"] = deadline_ms.into();
    line("call", body)
}

pub(crate) fn cancel(id: u64) -> String {
    line("cancel", json!({ "id": id }))
}

pub(crate) fn shutdown() -> String {
    line("shutdown", json!({}))
}

pub(crate) fn answer(id: u64, result: &Result<Value, Failure>) -> String {
    match result {
        Ok(result) => line("answer", json!({ "id": id, "result": result })),
        Err(failure) => line("failure", json!({ "id": id, "failure": failure })),
    }
}

/// What is wrong with a text that should be JSON, without a word of it.
pub(crate) fn place_of(error: &serde_json::Error) -> String {
    format!("{:?} error in column {}", error.classify(), error.column())
}
