//! Identifiers are types: a node's name cannot be passed where a component's is meant.
//!
//! All names follow the DNS label rule (RFC 1123, section 2.1), so that they can be used as host names, unit names and
//! labels of every cloud without another spelling.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {rule}")]
pub struct NameError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

pub(crate) const LABEL_RULE: &str =
    "use 1 to 40 of a-z, 0-9 and `-`, beginning with a letter and not ending with `-`";

pub(crate) const LABEL_PATTERN: &str = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$";

pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=40).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": LABEL_PATTERN })
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_label(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what, text: text.chars().take(80).collect(), rule: LABEL_RULE })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($type), self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name of a cluster, as its blueprint gives it.
    ClusterName, "cluster name"
);
name!(
    /// The name of a site: a place that nodes are made in.
    SiteName, "site name"
);
name!(
    /// The name of a group of nodes declared together.
    GroupName, "group name"
);
name!(
    /// The name of one node: its group and its number, as in `masters-1`.
    NodeName, "node name"
);
name!(
    /// The name of one component of a stack.
    ComponentName, "component name"
);

impl NodeName {
    /// The `ordinal`-th node (from 1) of `group`.
    pub fn of(group: &GroupName, ordinal: u32) -> Self {
        Self(format!("{group}-{ordinal}"))
    }
}

/// The identity of a cluster: 12 hexadecimal digits, drawn once and pinned in `castrum.lock`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(String);

impl ClusterId {
    /// The id that six random bytes make.
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(hex(&bytes))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() == 12 && is_hex(text) {
            Ok(Self(text.to_owned()))
        } else {
            let rule = "12 hexadecimal digits in lower case";
            Err(NameError { what: "cluster id", text: text.chars().take(80).collect(), rule })
        }
    }
}

/// A sha256 digest, written as 64 hexadecimal digits (FIPS 180-4). Its clones share the digits: there are very many.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(Arc<[u8; 64]>);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(bytes).into())
    }

    /// The digest whose 32 raw bytes are given.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&hex_pair(byte));
        }
        Self(Arc::new(digits))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&*self.0).expect("hexadecimal digits are ASCII")
    }

    /// The first 12 digits: enough for people and for folder names that also carry a component's name.
    pub fn short(&self) -> &str {
        &self.as_str()[..12]
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for Digest {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match <[u8; 64]>::try_from(text.as_bytes()) {
            Ok(digits) if is_hex(text) => Ok(Self(Arc::new(digits))),
            _ => {
                let rule = "64 hexadecimal digits in lower case";
                Err(NameError { what: "sha256 digest", text: text.chars().take(80).collect(), rule })
            }
        }
    }
}

macro_rules! text_type {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.as_str().to_owned()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($type), self.as_str())
            }
        }
    };
}

text_type!(ClusterId);
text_type!(Digest);

/// The place of a resource in its cluster: site, kind and name, as in `here/machine/masters-1`.
///
/// It is the value of the `castrum-resource` label, and what names and idempotency keys are derived from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourcePath {
    /// The site that the resource is in.
    pub site: SiteName,
    /// What it is.
    pub kind: ResourceKind,
    /// Its name, unique among its kind in the site.
    pub name: String,
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.site, self.kind, self.name)
    }
}

impl fmt::Debug for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourcePath({self})")
    }
}

impl TryFrom<String> for ResourcePath {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ResourcePath> for String {
    fn from(path: ResourcePath) -> String {
        path.to_string()
    }
}

impl FromStr for ResourcePath {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError {
            what: "resource path",
            text: text.chars().take(120).collect(),
            rule: "write SITE/KIND/NAME",
        };
        let mut parts = text.splitn(3, '/');
        let (site, kind, name) = (parts.next(), parts.next(), parts.next());
        let (Some(site), Some(kind), Some(name)) = (site, kind, name) else { return Err(bad()) };
        let kind = ResourceKind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(bad)?;
        if name.is_empty() {
            return Err(bad());
        }
        Ok(Self { site: site.parse().map_err(|_| bad())?, kind, name: name.to_owned() })
    }
}

/// The closed list of things that a provider can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// A machine image.
    Image,
    /// A private network.
    Network,
    /// A public address.
    Address,
    /// A subnet of a network.
    Subnet,
    /// A set of packet filter rules.
    Firewall,
    /// An SSH public key known to the place.
    Key,
    /// A placement group.
    Placement,
    /// A block volume.
    Volume,
    /// A load balancer.
    LoadBalancer,
    /// A machine.
    Machine,
}

impl ResourceKind {
    /// Every kind, in the order in which they are made; removal goes the other way.
    pub const ALL: [Self; 10] = [
        Self::Image,
        Self::Network,
        Self::Address,
        Self::Subnet,
        Self::Firewall,
        Self::Key,
        Self::Placement,
        Self::Volume,
        Self::LoadBalancer,
        Self::Machine,
    ];

    /// The word for this kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::Firewall => "firewall",
            Self::Address => "address",
            Self::Key => "key",
            Self::Placement => "placement",
            Self::Volume => "volume",
            Self::LoadBalancer => "load-balancer",
            Self::Machine => "machine",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Carries the quorum store and the control plane.
    Master,
    /// A private agent: runs workloads, reached only from inside.
    Agent,
    /// A public agent: runs the edge, reached from outside.
    PublicAgent,
}

impl Role {
    /// Every role, masters first.
    pub const ALL: [Self; 3] = [Self::Master, Self::Agent, Self::PublicAgent];

    /// The word for this role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Agent => "agent",
            Self::PublicAgent => "public-agent",
        }
    }
}

impl FromStr for Role {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let rule = "use `master`, `agent` or `public-agent`";
        let bad = || NameError { what: "role", text: text.chars().take(80).collect(), rule };
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(bad)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A point in time: milliseconds since 1970-01-01 UTC. Always an argument, never read from a clock here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `millis` milliseconds later.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().copied().flat_map(hex_pair).map(char::from).collect()
}

fn hex_pair(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_dns_label_rule() {
        for good in ["a", "masters-1", "x9", &"a".repeat(40)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "a-", "-a", "a_b", "a.b", "ä", &"a".repeat(41)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resource_path_reads_back() {
        let path: ResourcePath = "here/load-balancer/edge".parse().expect("a path");
        assert_eq!(path.to_string(), "here/load-balancer/edge");
        assert!("here/thing/x".parse::<ResourcePath>().is_err());
        assert!("here/machine/".parse::<ResourcePath>().is_err());
    }

    #[test]
    fn a_digest_is_that_of_fips_180() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
    }
}
