//! The names of the checks, each with the MUST that it holds.

use serde::{Serialize, Serializer};

macro_rules! checks {
    ($($variant:ident, $name:literal, $must:literal;)*) => {
        /// One check of the suite.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check {
            $(#[doc = $must] $variant,)*
        }

        impl Check {
            /// All checks, in the order in which they are made.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The check's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What a provider must do: the first field of the contract's row.
            pub fn must(self) -> &'static str {
                match self { $(Self::$variant => $must),* }
            }
        }
    };
}

checks! {
    Preflight, "preflight",
        "name in `preflight` what the host or account lacks, with the remedy";
    PowerTold, "power-told",
        "say by `abilities` what it says by `power`: both or neither";
    Unsupported, "unsupported",
        "refuse with `Unsupported` what is not among its abilities";
    MakeOnce, "make-once",
        "make a resource once, however often it is asked: the second `ensure` answers `Unchanged`";
    MakeAtOnce, "make-at-once",
        "make it once when two ask at a time";
    InterruptedMake, "interrupted-make",
        "find what an interrupted call left, and complete it";
    InterruptedRemove, "interrupted-remove",
        "find what an interrupted call left, and complete it";
    ChangeKeeps, "change-keeps",
        "answer `Changed` and keep the machine when only its spec differs";
    BootDataOnce, "boot-data-once",
        "read boot data when a machine is created, and never again";
    RemoveAbsent, "remove-absent",
        "succeed in removing what does not exist: `Absent`";
    RemoveWhole, "remove-whole",
        "leave nothing of a removed resource behind, and all else alone";
    NotOurs, "not-ours",
        "prove ownership before it touches anything; what is another's, or cannot be told, is `NotOurs`";
    Labels, "labels",
        "go by labels, not by names, order or a private list alone";
    Blind, "blind",
        "tell unseen from absent: what cannot be looked at is `Blind`, or there and not ready";
    NotAbsent, "not-absent",
        "not answer `Absent` for what it could not look at";
    Classes, "classes",
        "classify each failure by what it means to the caller";
    NotReady, "not-ready",
        "refuse with `NotReady` what must wait for something else";
    PowerAgain, "power-again",
        "switch a machine on again that is off, when it is ensured";
    PowerSet, "power-set",
        "be where it was put when power is set, and call being there already a success";
    Discreet, "discreet",
        "keep boot data out of its answers, its failures and its log";
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
