//! What a blueprint says about a site of Amazon EC2, read and checked before anybody is asked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use castrum_blueprints::names::Role;
use castrum_provider::{Failure, FailureClass};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The settings that exist, each with what it is for.
const KNOWN: [(&str, &str); 11] = [
    ("admin", "the ranges of those who run the cluster, as in [203.0.113.0/24]"),
    ("cidr", "the range of the network"),
    ("endpoint", "another address of the service"),
    ("gateways", "whether agents go out through gateways"),
    ("image", "the owner and the name of the machine image"),
    ("instanceProfile", "the name of an existing instance profile for the machines"),
    ("instanceType", "the type of the machines, or one for each role"),
    ("region", "the region, as in eu-central-1"),
    ("spot", "whether agents are spot instances"),
    ("stale", "for how many milliseconds a look may miss what was made"),
    ("zones", "the zones of the region to use"),
];
/// EC2 is eventually consistent: what was made may be missing from a listing for some seconds.
const STALE_MS: u64 = 10_000;
/// The account that publishes the images of Debian.
const DEBIAN: &str = "136693071363";

/// A site's settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) admin: Vec<Range>,
    pub(crate) endpoint: Option<String>,
    pub(crate) image: Option<ImageName>,
    pub(crate) instance_profile: Option<String>,
    pub(crate) instance_type: InstanceTypes,
    pub(crate) region: Option<String>,
    pub(crate) spot: bool,
    pub(crate) stale_ms: u64,
    pub(crate) zones: Vec<String>,
}

/// Where machine images come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageName {
    /// The account that owns it.
    pub(crate) owner: String,
    /// Its name; `*` stands for any text.
    pub(crate) name: String,
}

impl ImageName {
    /// The official image of a release, as in `debian-12`.
    pub(crate) fn of_release(release: &str) -> Self {
        Self { owner: DEBIAN.to_owned(), name: format!("{release}-amd64-*") }
    }
}

/// Types that are named instead of chosen by size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum InstanceTypes {
    #[default]
    Chosen,
    All(String),
    ByRole(BTreeMap<Role, String>),
}

impl InstanceTypes {
    /// The type that is named for a role.
    pub(crate) fn of(&self, role: Role) -> Option<&str> {
        match self {
            Self::Chosen => None,
            Self::All(name) => Some(name),
            Self::ByRole(names) => names.get(&role).map(String::as_str),
        }
    }
}

/// A range of addresses, in its shortest spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    /// Whether the addresses have 128 bits.
    pub(crate) v6: bool,
    /// The range, as in `203.0.113.0/24`.
    pub(crate) text: String,
}

impl Range {
    /// Reads `ADDRESS/BITS`; bits of the address beyond the range are cleared, as the place does it.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        let first = match address {
            IpAddr::V4(address) if bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                IpAddr::from((address.to_bits() & mask).to_be_bytes())
            }
            IpAddr::V6(address) if bits <= 128 => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                IpAddr::from((address.to_bits() & mask).to_be_bytes())
            }
            _ => return None,
        };
        Some(Self { v6: first.is_ipv6(), text: format!("{first}/{bits}") })
    }
}

impl Settings {
    /// Reads the settings of a site.
    pub(crate) fn read(settings: &BTreeMap<String, Value>) -> Result<Self, Failure> {
        if let Some(unknown) = settings.keys().find(|name| KNOWN.iter().all(|(known, _)| known != name)) {
            return Err(unknown_setting(unknown));
        }
        let admin: Vec<String> = value(settings, "admin")?.unwrap_or_default();
        Ok(Self {
            admin: ranges(&admin)?,
            endpoint: value(settings, "endpoint")?,
            image: value(settings, "image")?,
            instance_profile: value(settings, "instanceProfile")?,
            instance_type: value(settings, "instanceType")?.unwrap_or_default(),
            region: value(settings, "region")?,
            spot: value(settings, "spot")?.unwrap_or_default(),
            stale_ms: value(settings, "stale")?.unwrap_or(STALE_MS),
            zones: value(settings, "zones")?.unwrap_or_default(),
        })
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureClass::Invalid, message)
}

fn unknown_setting(name: &str) -> Failure {
    let near = KNOWN
        .iter()
        .map(|(known, _)| *known)
        .max_by(|one, other| strsim::jaro_winkler(name, one).total_cmp(&strsim::jaro_winkler(name, other)));
    let all: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
    let hint = format!("did you mean `{}`? There are {}", near.unwrap_or_default(), all.join(", "));
    invalid(format!("provider `aws` has no setting `{name}`")).with_hint(hint)
}

fn value<T: DeserializeOwned>(settings: &BTreeMap<String, Value>, name: &str) -> Result<Option<T>, Failure> {
    let Some(value) = settings.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let read = serde_json::from_value(value.clone());
    read.map(Some).map_err(|error| {
        let about = KNOWN.iter().find(|(known, _)| *known == name).map_or("", |(_, about)| about);
        invalid(format!("setting `{name}` of provider `aws` cannot be read: {error}"))
            .with_hint(format!("`{name}` is {about}"))
    })
}

fn ranges(texts: &[String]) -> Result<Vec<Range>, Failure> {
    const HINT: &str =
        "name the ranges that you and the installer come from, as in `admin: [203.0.113.7/32]`";
    if texts.is_empty() {
        let text = "setting `admin` of provider `aws` is missing: nobody could reach the machines";
        return Err(invalid(text.to_owned()).with_hint(HINT));
    }
    let read = |text: &String| {
        Range::read(text).ok_or_else(|| {
            invalid(format!("`{text}` in setting `admin` of provider `aws` is no range of addresses"))
                .with_hint(HINT)
        })
    };
    let mut ranges = texts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    ranges.sort();
    ranges.dedup();
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Settings, Failure> {
        Settings::read(&serde_json::from_value(value.clone()).expect("an object"))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let settings = read(&json!({ "admin": ["203.0.113.9/24", "203.0.113.0/24", "2001:db8::1/64"] }));
        let settings = settings.expect("settings");
        let admin: Vec<_> = settings.admin.iter().map(|range| range.text.as_str()).collect();
        assert_eq!(admin, ["203.0.113.0/24", "2001:db8::/64"], "each range once, without the bits beyond it");
        assert_eq!((settings.stale_ms, settings.spot), (STALE_MS, false));
        assert_eq!(settings.instance_type.of(Role::Master), None);
    }

    #[test]
    fn types_are_named_for_all_or_by_role() {
        let admin = json!(["0.0.0.0/0"]);
        let all = read(&json!({ "admin": admin, "instanceType": "m7i.large" })).expect("settings");
        assert_eq!(all.instance_type.of(Role::Agent), Some("m7i.large"));
        let roles = json!({ "master": "c7i.xlarge", "public-agent": "t3.small" });
        let roles = read(&json!({ "admin": admin, "instanceType": roles })).expect("settings").instance_type;
        assert_eq!(roles.of(Role::Master), Some("c7i.xlarge"));
        assert_eq!((roles.of(Role::Agent), roles.of(Role::PublicAgent)), (None, Some("t3.small")));
    }

    #[test]
    fn what_is_wrong_is_refused_with_a_hint() {
        for (wrong, says, hint) in [
            (json!({}), "`admin`", "admin: [203.0.113.7/32]"),
            (json!({ "admin": [] }), "`admin`", "admin: [203.0.113.7/32]"),
            (json!({ "admin": ["203.0.113.7"] }), "`203.0.113.7`", "admin: [203.0.113.7/32]"),
            (json!({ "admin": ["203.0.113.7/33"] }), "`203.0.113.7/33`", "admin: ["),
            (json!({ "admin": ["0.0.0.0/0"], "regoin": "x" }), "`regoin`", "did you mean `region`?"),
            (json!({ "admin": ["0.0.0.0/0"], "spot": "yes" }), "`spot`", "spot instances"),
            (json!({ "admin": ["0.0.0.0/0"], "image": { "owner": "x" } }), "`image`", "the owner"),
        ] {
            let failure = read(&wrong).expect_err("it is wrong");
            assert_eq!(failure.class, FailureClass::Invalid);
            assert!(failure.message.contains(says), "{failure}");
            assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{:?}", failure.hint);
        }
    }
}
