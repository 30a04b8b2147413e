//! The label on a machine that exists already: the file `/etc/castrum/owner` says whose it is.

use castrum_blueprints::names::{ClusterId, Digest, ResourcePath, Timestamp};
use castrum_provider::{CLUSTER_LABEL, RESOURCE_LABEL};

/// A machine's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) resource: ResourcePath,
    pub(crate) spec: Option<Digest>,
    pub(crate) claimed_at: Timestamp,
}

/// What is said about a machine's ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Label {
    /// Nobody's.
    None,
    /// A cluster's.
    Of(Owner),
    /// There is a label, but not one that can be read.
    Unreadable,
}

impl Label {
    /// Reads the text of the file; an empty text is no label.
    pub(crate) fn parse(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::None;
        }
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
        };
        let owner = || {
            Some(Owner {
                cluster: value(CLUSTER_LABEL)?.parse().ok()?,
                resource: value(RESOURCE_LABEL)?.parse().ok()?,
                spec: value("spec").and_then(|digest| digest.parse().ok()),
                claimed_at: Timestamp(value("claimed-at")?.parse().ok()?),
            })
        };
        owner().map_or(Self::Unreadable, Self::Of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_or_called_unreadable_and_never_guessed() {
        let text =
            "castrum-cluster=0123456789ab\ncastrum-resource=here/machine/masters-1\nspec=x\nclaimed-at=7\n";
        let Label::Of(owner) = Label::parse(text) else { panic!("not read") };
        assert_eq!(owner.resource.to_string(), "here/machine/masters-1");
        assert_eq!((owner.spec, owner.claimed_at), (None, Timestamp(7)));
        assert_eq!(Label::parse("\n"), Label::None);
        for half in ["castrum-cluster=0123456789ab\n", "claimed-at=7\n", "garbage", &text.replace("ab", "zz")]
        {
            assert_eq!(Label::parse(half), Label::Unreadable, "{half}");
        }
    }
}
