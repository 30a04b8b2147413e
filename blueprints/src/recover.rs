//! Finding a cluster again: what the places show by label, what each machine says of itself, and how sure that makes us.
//!
//! ```text
//! label ─┐                      certain: both say the same
//!        ├──▶ judge ──▶ Finding  likely: the label alone          missing: declared, and not there
//! word ──┘                      ambiguous: they contradict        surplus: there, and not declared
//! ```
//!
//! What one machine says of the cluster's keys is believed only if most machines say it: a single one that was broken
//! into does not choose whom all others trust.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::names::{ClusterId, ComponentName, Digest, NodeName, ResourceKind, ResourcePath};
use crate::observed::Observed;
use crate::resource::{PowerState, ResourceSeen};

/// How sure it is that a resource is what its label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Its label and its agent say the same.
    Certain,
    /// Its label says so, and there is nobody to ask, or nobody answers.
    Likely,
    /// Something contradicts its label.
    Ambiguous,
    /// It is declared, and was not found.
    Missing,
    /// It is declared, and its place could not be looked at.
    Unseen,
    /// It was found, and is not declared.
    Surplus,
}

impl Confidence {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Ambiguous => "ambiguous",
            Self::Missing => "missing",
            Self::Unseen => "unseen",
            Self::Surplus => "surplus",
        }
    }
}

/// What is known of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which.
    pub resource: ResourcePath,
    /// How sure it is.
    pub confidence: Confidence,
    /// By what it was found, or what contradicts.
    pub found: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The cluster that it was told to be in.
    pub cluster: ClusterId,
    /// The node that it was told to be.
    pub node: NodeName,
    /// The generation that its agent holds.
    pub generation: u64,
    /// The fingerprint of the CA that its agent trusts, where it has one.
    pub authority: Option<Digest>,
    /// The fingerprints of the CAs before that.
    pub former: BTreeSet<Digest>,
    /// The components that were not healthy when it was asked.
    pub unwell: BTreeSet<ComponentName>,
}

/// What came of asking a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It told.
    Said(Word),
    /// There is no agent on it, or one that was told nothing yet.
    NoAgent,
    /// It shows another host key than the one on record.
    OtherHostKey(String),
    /// Nothing vouches for its host key, which has this fingerprint.
    UnknownHostKey(String),
    /// It did not answer, or did not let us in.
    Silent(String),
}

/// What came of asking all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The answers, by machine. One that is off was not asked.
    pub answers: BTreeMap<ResourcePath, Answer>,
    /// The fingerprint of the CA in our keyring, if there is one.
    pub authority: Option<Digest>,
}

/// The nodes that a new keyring has to be brought to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strangers {
    /// Those that can be admitted anew, with the components that were not healthy on them before.
    pub known: BTreeMap<NodeName, BTreeSet<ComponentName>>,
    /// Those that could not be asked, and why.
    pub unread: BTreeMap<NodeName, String>,
}

impl Asked {
    /// The word of a machine.
    pub fn word(&self, machine: &ResourcePath) -> Option<&Word> {
        match self.answers.get(machine)? {
            Answer::Said(word) => Some(word),
            _ => None,
        }
    }

    /// The CAs that most of the machines that told know of; our own is one of them.
    pub fn agreed(&self, cluster: &ClusterId) -> BTreeSet<Digest> {
        let words = || {
            self.answers.values().filter_map(|answer| match answer {
                Answer::Said(word) if word.cluster == *cluster => Some(word),
                _ => None,
            })
        };
        let mut counts: BTreeMap<&Digest, usize> = BTreeMap::new();
        for word in words() {
            for known in word.former.iter().chain(&word.authority).collect::<BTreeSet<_>>() {
                *counts.entry(known).or_default() += 1;
            }
        }
        let most = words().count() / 2 + 1;
        let agreed = counts.into_iter().filter(|(_, count)| *count >= most).map(|(known, _)| known.clone());
        agreed.chain(self.authority.clone()).collect()
    }
}

/// Judges everything that is declared or was found.
pub fn judge(desired: &Desired, observed: &Observed, asked: &Asked) -> Vec<Finding> {
    let agreed = asked.agreed(&desired.cluster);
    let paths: BTreeSet<&ResourcePath> = desired.resources.keys().chain(observed.resources.keys()).collect();
    let one =
        |path: &&ResourcePath| match (observed.resources.get(*path), desired.resources.contains_key(*path)) {
            (Some(seen), true) => found(desired, seen, asked, &agreed),
            (Some(seen), false) => surplus(seen),
            (None, _) => absent(observed, path),
        };
    paths.iter().map(one).collect()
}

/// Whether something that is declared contradicts itself: then nothing is changed.
pub fn is_refused(desired: &Desired, findings: &[Finding]) -> bool {
    let declared = |finding: &&Finding| desired.resources.contains_key(&finding.resource);
    findings.iter().filter(declared).any(|finding| finding.confidence == Confidence::Ambiguous)
}

/// The nodes whose agents hold to a keyring that is not ours.
pub fn strangers(desired: &Desired, observed: &Observed, asked: &Asked) -> Strangers {
    let mut strangers = Strangers::default();
    for (name, node) in desired.nodes.iter() {
        let Some(seen) = observed.resources.get(&node.machine) else { continue };
        match asked.answers.get(&node.machine) {
            Some(Answer::Said(word)) if word.authority.is_some() && word.authority != asked.authority => {
                strangers.known.insert(name.clone(), word.unwell.clone());
            }
            Some(Answer::Said(_) | Answer::NoAgent) => {}
            Some(Answer::Silent(reason)) => {
                strangers.unread.insert(name.clone(), reason.clone());
            }
            Some(Answer::OtherHostKey(found) | Answer::UnknownHostKey(found)) => {
                strangers.unread.insert(name.clone(), format!("its host key {found} was not accepted"));
            }
            None => {
                strangers.unread.insert(name.clone(), power(seen));
            }
        }
    }
    strangers
}

fn found(desired: &Desired, seen: &ResourceSeen, asked: &Asked, agreed: &BTreeSet<Digest>) -> Finding {
    let path = &seen.path;
    if let (true, Some(note)) = (seen.ready, &seen.note) {
        let remedy = "remove the label from the one that it is not, or remove that one";
        return ambiguous(path, format!("its label is there twice: {note}"), remedy);
    }
    if path.kind != ResourceKind::Machine {
        return likely(path, "its label; there is nobody to ask".to_owned(), None);
    }
    match asked.answers.get(path) {
        Some(Answer::Said(word)) => told(desired, path, word, agreed),
        Some(Answer::NoAgent) => likely(path, "its label; there is no agent on it yet".to_owned(), None),
        Some(Answer::OtherHostKey(why)) => {
            let remedy =
                "if it was reinstalled, remove its line from `known_hosts`; else somebody may be in between";
            ambiguous(path, why.clone(), remedy)
        }
        Some(Answer::UnknownHostKey(key)) => {
            let remedy = "compare the fingerprint with the machine's own, and give `--accept-host-keys`";
            likely(path, format!("its label; its host key {key} is not known"), Some(remedy))
        }
        Some(Answer::Silent(reason)) => likely(path, format!("its label; {reason}"), None),
        None => likely(path, format!("its label; {}", power(seen)), None),
    }
}

fn told(desired: &Desired, path: &ResourcePath, word: &Word, agreed: &BTreeSet<Digest>) -> Finding {
    let remedy = "look at `/var/lib/castrum/boot.json` there; one of the two belongs to another machine";
    if word.cluster != desired.cluster {
        let what = format!("it is labelled as ours, and its agent is in cluster {}", word.cluster);
        return ambiguous(path, what, remedy);
    }
    if word.node.as_str() != path.name {
        return ambiguous(path, format!("its label says {}, and its agent {}", path.name, word.node), remedy);
    }
    if let Some(authority) = word.authority.as_ref().filter(|authority| !agreed.contains(authority)) {
        let what = format!("its agent trusts the CA {}, and most others do not know it", authority.short());
        return ambiguous(path, what, "compare `/var/lib/castrum/boot.json` with that of other nodes");
    }
    let found = format!("its label and its agent, at generation {}", word.generation);
    Finding { resource: path.clone(), confidence: Confidence::Certain, found, remedy: None }
}

fn power(seen: &ResourceSeen) -> String {
    let state = seen.machine.as_ref().map(|machine| machine.power);
    match state {
        Some(PowerState::Off) => "its machine is off".to_owned(),
        Some(PowerState::Paused) => "its machine is paused".to_owned(),
        _ => seen.note.clone().unwrap_or_else(|| "it could not be asked".to_owned()),
    }
}

fn surplus(seen: &ResourceSeen) -> Finding {
    let (resource, confidence) = (seen.path.clone(), Confidence::Surplus);
    let remedy = Some("`castrum apply` removes what is not declared".to_owned());
    Finding { resource, confidence, found: "its label; the blueprint does not declare it".to_owned(), remedy }
}

fn absent(observed: &Observed, path: &ResourcePath) -> Finding {
    let hides = |kind: Option<ResourceKind>| kind.is_none_or(|kind| kind == path.kind);
    let blind = observed.blind.iter().find(|blind| blind.site == path.site && hides(blind.kind));
    let (confidence, found, remedy) = if let Some(blind) = blind {
        (Confidence::Unseen, blind.reason.clone(), None)
    } else {
        let remedy = "`castrum apply` makes what is declared and not there";
        (Confidence::Missing, "nothing carries its label".to_owned(), Some(remedy.to_owned()))
    };
    Finding { resource: path.clone(), confidence, found, remedy }
}

fn likely(path: &ResourcePath, found: String, remedy: Option<&str>) -> Finding {
    let (resource, confidence) = (path.clone(), Confidence::Likely);
    Finding { resource, confidence, found, remedy: remedy.map(str::to_owned) }
}

fn ambiguous(path: &ResourcePath, found: String, remedy: &str) -> Finding {
    let (resource, confidence) = (path.clone(), Confidence::Ambiguous);
    Finding { resource, confidence, found, remedy: Some(remedy.to_owned()) }
}
