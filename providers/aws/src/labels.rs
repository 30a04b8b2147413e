//! What everything that is made carries, and by which it is found again: the labels of the contract, as tags.

use std::collections::BTreeMap;

use castrum_blueprints::names::{ClusterId, Digest, ResourcePath};
use castrum_provider::{CLUSTER_LABEL, RESOURCE_LABEL};

/// The digest of the spec that a resource was made from.
const SPEC: &str = "castrum-spec";
/// Which part of a resource it is, where one consists of several.
const PART: &str = "castrum-part";
/// What the resource was put to, to tell later whether somebody else changed it.
const STATE: &str = "castrum-state";
/// What the console of the service shows.
const NAME: &str = "Name";

/// The tags of one thing.
pub(crate) type Tags = BTreeMap<&'static str, String>;

/// What the tags of a thing say, where they say that it is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// The resource that it is, or is a part of.
    pub(crate) path: ResourcePath,
    /// The digest of the spec.
    pub(crate) spec: Option<Digest>,
    /// What it was put to.
    pub(crate) state: Option<String>,
    part: Option<String>,
    name: Option<String>,
}

/// The name that people see.
fn name(cluster: &ClusterId, path: &ResourcePath) -> String {
    format!("{cluster}-{}-{}", path.kind, path.name)
}

/// The tags of the `part` of a resource.
pub(crate) fn tags(cluster: &ClusterId, path: &ResourcePath, spec: &Digest, part: &str) -> Tags {
    BTreeMap::from([
        (CLUSTER_LABEL, cluster.to_string()),
        (RESOURCE_LABEL, path.to_string()),
        (SPEC, spec.to_string()),
        (PART, part.to_owned()),
        (NAME, name(cluster, path)),
    ])
}

/// The same with what it was put to.
pub(crate) fn with_state(mut tags: Tags, state: &str) -> Tags {
    tags.insert(STATE, state.to_owned());
    tags
}

impl Label {
    /// What the tags say, if they say that the thing belongs to the cluster.
    pub(crate) fn read<'a>(
        cluster: &ClusterId,
        tags: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<Self> {
        let tags: BTreeMap<&str, &str> = tags.collect();
        let owned = |key: &str| tags.get(key).map(|text| (*text).to_owned());
        if tags.get(CLUSTER_LABEL) != Some(&cluster.as_str()) {
            return None;
        }
        Some(Self {
            path: tags.get(RESOURCE_LABEL)?.parse().ok()?,
            spec: tags.get(SPEC).and_then(|text| text.parse().ok()),
            state: owned(STATE),
            part: owned(PART),
            name: owned(NAME),
        })
    }

    /// Whether the thing carries these tags.
    pub(crate) fn carries(&self, tags: &Tags) -> bool {
        let said = [
            (SPEC, self.spec.as_ref().map(ToString::to_string)),
            (STATE, self.state.clone()),
            (PART, self.part.clone()),
            (NAME, self.name.clone()),
        ];
        said.iter().all(|(key, value)| tags.get(key).is_none_or(|wanted| Some(wanted) == value.as_ref()))
    }

    /// What somebody changed about the tags, as far as they tell it themselves.
    pub(crate) fn drift(&self, cluster: &ClusterId) -> Option<&'static str> {
        match (&self.name, &self.spec) {
            (Some(found), Some(_)) if *found == name(cluster, &self.path) => None,
            (_, None) => Some("its tag `castrum-spec` is gone"),
            _ => Some("its tag `Name` is another one than it was made with"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterId {
        ClusterId::from_bytes([7; 6])
    }

    fn label(tags: &Tags) -> Option<Label> {
        Label::read(&cluster(), tags.iter().map(|(key, value)| (*key, value.as_str())))
    }

    fn some() -> Tags {
        let path = "here/network/nodes".parse().expect("a path");
        tags(&cluster(), &path, &Digest::of(b"spec"), "vpc")
    }

    #[test]
    fn what_was_labelled_is_read_again() {
        let label = label(&some()).expect("ours");
        assert_eq!(
            (label.path.to_string().as_str(), label.spec.clone()),
            ("here/network/nodes", Some(Digest::of(b"spec")))
        );
        assert!(label.carries(&some()));
        assert_eq!(label.drift(&cluster()), None);
        assert!(!label.carries(&with_state(some(), "x")));
    }

    #[test]
    fn what_is_anothers_or_no_path_is_not_ours() {
        for (key, value) in [(CLUSTER_LABEL, "080808080808"), (RESOURCE_LABEL, "nodes")] {
            let mut tags = some();
            tags.insert(key, value.to_owned());
            assert_eq!(label(&tags), None, "{key}={value}");
            tags.remove(key);
            assert_eq!(label(&tags), None, "without {key}");
        }
    }

    #[test]
    fn a_tag_that_was_changed_shows() {
        let mut changed = some();
        changed.insert(NAME, "mine".to_owned());
        let read = label(&changed).expect("ours");
        assert!(read.drift(&cluster()).is_some_and(|text| text.contains("`Name`")));
        assert!(!read.carries(&some()));
        changed.remove(SPEC);
        assert!(
            label(&changed)
                .expect("ours")
                .drift(&cluster())
                .is_some_and(|text| text.contains("castrum-spec"))
        );
    }
}
