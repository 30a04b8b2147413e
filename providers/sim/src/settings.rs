//! What a blueprint says about a simulated site: seed, latencies, API limits, faults and the pace of components.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use castrum_blueprints::names::{ComponentName, NodeName};
use serde_json::Value;

pub use crate::bucket::{Lane, Limit};
use read::Reader;

mod read;

/// A span of milliseconds that a latency is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The shortest.
    pub low: u64,
    /// The longest.
    pub high: u64,
}

impl Range {
    /// Always the same.
    pub const fn exactly(millis: u64) -> Self {
        Self { low: millis, high: millis }
    }

    /// Between two ends.
    pub const fn between(low: u64, high: u64) -> Self {
        Self { low, high }
    }
}

/// One simulated site, as its settings describe it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// What everything is drawn from.
    pub seed: u64,
    /// Whether the place makes machine images of its own.
    pub image: bool,
    /// Whether it makes subnets, firewalls, addresses and all else that clouds make, and wants them before their users.
    pub cloud: bool,
    /// The file that the world is kept in between processes; `None`: it ends with this one.
    pub state: Option<String>,
    /// How long things take.
    pub latency: Latencies,
    /// How many calls the place takes; `None`: any number.
    pub bucket: Option<Limit>,
    /// How many calls of one lane the place takes beside that; lanes that are not named take any number.
    pub buckets: BTreeMap<Lane, Limit>,
    /// How many machines the place has room for; `None`: any number.
    pub machines: Option<u64>,
    /// What goes wrong.
    pub faults: Faults,
    /// The pace of each component.
    pub components: BTreeMap<ComponentName, Component>,
    /// The pace of all others.
    pub component: Component,
}

/// How long things take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latencies {
    /// Looking at the place.
    pub observe: Range,
    /// Making an image.
    pub image: Range,
    /// Making a network.
    pub network: Range,
    /// Making or changing a machine.
    pub machine: Range,
    /// Removing anything.
    pub remove: Range,
    /// Switching power.
    pub power: Range,
    /// From power on until the machine takes logins and reads its boot data.
    pub boot: Range,
    /// Bringing the agent over SSH.
    pub enroll: Range,
    /// Joining, from boot data.
    pub join: Range,
    /// Filling a depot with one blob.
    pub fill: Range,
    /// Giving manifests to the masters.
    pub publish: Range,
    /// Until a node has a manifest that the masters hold.
    pub deliver: Range,
    /// Until a node's word is heard.
    pub report: Range,
}

/// What goes wrong in the place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// The probability that a call fails before it had its effect.
    pub before: f64,
    /// The probability that the answer of a call is lost after it had its effect.
    pub after: f64,
    /// The probability that a look sees nothing.
    pub blind: f64,
    /// Resources, by name, that the credentials do not allow.
    pub denied: BTreeSet<String>,
    /// How many milliseconds old what a look shows may be; drawn for each resource anew.
    pub stale: u64,
    /// Resources, by name, of which no call is ever answered, nor has an effect; `observe` stands for looks.
    pub hangs: BTreeSet<String>,
    /// Resources, by name, of which every call fails as passing trouble does.
    pub dead: BTreeSet<String>,
    /// Resources, by name, that belong to somebody else.
    pub foreign: BTreeSet<String>,
    /// Resources, by name, that something holds for ever, so that they cannot be removed.
    pub held: BTreeSet<String>,
    /// Resources, by name, that are shown for ever, also when they were removed.
    pub lingers: BTreeSet<String>,
    /// Nodes whose machines never boot.
    pub never_boots: BTreeSet<NodeName>,
    /// Nodes that hang this many milliseconds after their machine was first made; nobody outside can tell.
    pub freezes: BTreeMap<NodeName, u64>,
}

/// The pace of one component, in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Fetching its bundle.
    pub fetch: Range,
    /// Starting its unit.
    pub start: Range,
    /// From its start until its checks are ok.
    pub check: Range,
    /// Becoming a member.
    pub join: Range,
    /// How often its start fails before it works.
    pub failing_starts: u32,
    /// Nodes on which its checks never become ok.
    pub broken_on: BTreeSet<NodeName>,
}

/// What is wrong with a site's settings, every finding at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the settings of the simulated site are not valid:\n{}", findings.join("\n"))]
pub struct SettingsError {
    /// One line each, beginning with the place.
    pub findings: Vec<String>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            observe: Range::between(100, 300),
            image: Range::between(40_000, 80_000),
            network: Range::between(500, 1_500),
            machine: Range::between(2_000, 5_000),
            remove: Range::between(500, 2_000),
            power: Range::between(500, 1_000),
            boot: Range::between(8_000, 15_000),
            enroll: Range::between(1_000, 2_000),
            join: Range::between(500, 1_000),
            fill: Range::between(300, 900),
            publish: Range::between(20, 60),
            deliver: Range::between(5, 30),
            report: Range::between(5, 30),
        }
    }
}

impl Latencies {
    /// Every kind of latency the same.
    pub const fn all(range: Range) -> Self {
        Self {
            observe: range,
            image: range,
            network: range,
            machine: range,
            remove: range,
            power: range,
            boot: range,
            enroll: range,
            join: range,
            fill: range,
            publish: range,
            deliver: range,
            report: range,
        }
    }
}

impl Default for Component {
    fn default() -> Self {
        Self {
            fetch: Range::between(200, 800),
            start: Range::between(300, 1_500),
            check: Range::between(200, 1_000),
            join: Range::between(300, 900),
            failing_starts: 0,
            broken_on: BTreeSet::new(),
        }
    }
}

impl Component {
    /// One that takes no time.
    pub fn instant() -> Self {
        let none = Range::exactly(0);
        Self { fetch: none, start: none, check: none, join: none, ..Self::default() }
    }
}

impl Settings {
    /// Reads a site's settings. What is not known is an error.
    pub fn read(settings: &BTreeMap<String, Value>) -> Result<Self, SettingsError> {
        let findings = RefCell::new(Vec::new());
        let read = read_all(&mut Reader::top(settings, &findings));
        let mut findings = findings.into_inner();
        findings.sort();
        if findings.is_empty() { Ok(read) } else { Err(SettingsError { findings }) }
    }

    /// A site where nothing takes time and nothing fails.
    pub fn instant() -> Self {
        let none = Range::exactly(0);
        Self { latency: Latencies::all(none), component: Component::instant(), ..Self::default() }
    }

    /// How long a call of `lane` takes.
    pub(crate) fn latency(&self, lane: Lane) -> Range {
        match lane {
            Lane::Observe => self.latency.observe,
            Lane::Image => self.latency.image,
            Lane::Network => self.latency.network,
            Lane::Machine => self.latency.machine,
            Lane::Remove => self.latency.remove,
            Lane::Power => self.latency.power,
        }
    }

    /// The pace of a component.
    pub(crate) fn pace(&self, component: &ComponentName) -> &Component {
        self.components.get(component).unwrap_or(&self.component)
    }
}

fn read_all(top: &mut Reader<'_>) -> Settings {
    let known = Settings::default();
    // These are read by whoever resolves the blueprint.
    for key in ["cidr", "zones", "gateways"] {
        let _ = top.take(key);
    }
    let component = top
        .within("component")
        .map_or(known.component, |mut r| read_component(&mut r, &Component::default()));
    let mut components = BTreeMap::new();
    for (name, mut reader) in top.named("components") {
        components.insert(name, read_component(&mut reader, &component));
    }
    let settings = Settings {
        seed: top.whole("seed").unwrap_or(known.seed),
        image: top.flag("image").unwrap_or(known.image),
        cloud: top.flag("cloud").unwrap_or(known.cloud),
        state: top.text("state"),
        latency: read_latency(top),
        bucket: top.within("bucket").and_then(|mut r| read_bucket(&mut r)),
        buckets: top.within("buckets").map_or(known.buckets, |mut r| read_buckets(&mut r)),
        machines: top.whole("machines"),
        faults: top.within("faults").map_or(known.faults, |mut r| read_faults(&mut r)),
        components,
        component,
    };
    top.rest();
    settings
}

fn read_latency(top: &mut Reader<'_>) -> Latencies {
    if let Some(range) = top.range_if_flat("latency") {
        return Latencies::all(range);
    }
    let mut latency = Latencies::default();
    let Some(mut reader) = top.within("latency") else { return latency };
    let kinds: [(&str, &mut Range); 13] = [
        ("observe", &mut latency.observe),
        ("image", &mut latency.image),
        ("network", &mut latency.network),
        ("machine", &mut latency.machine),
        ("remove", &mut latency.remove),
        ("power", &mut latency.power),
        ("boot", &mut latency.boot),
        ("enroll", &mut latency.enroll),
        ("join", &mut latency.join),
        ("fill", &mut latency.fill),
        ("publish", &mut latency.publish),
        ("deliver", &mut latency.deliver),
        ("report", &mut latency.report),
    ];
    for (name, place) in kinds {
        if let Some(range) = reader.range(name) {
            *place = range;
        }
    }
    reader.rest();
    latency
}

fn read_bucket(reader: &mut Reader<'_>) -> Option<Limit> {
    let capacity = reader.whole("capacity").and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let refill = reader.positive("refillPerSecond");
    if capacity.is_none() || refill.is_none() {
        reader.say("`capacity` and `refillPerSecond` are both needed, and larger than 0");
    }
    reader.rest();
    Some(Limit { capacity: capacity?, refill_per_second: refill? })
}

fn read_buckets(reader: &mut Reader<'_>) -> BTreeMap<Lane, Limit> {
    let mut buckets = BTreeMap::new();
    for lane in Lane::ALL {
        let limit = reader.within(lane.as_str()).and_then(|mut limit| read_bucket(&mut limit));
        buckets.extend(limit.map(|limit| (lane, limit)));
    }
    reader.rest();
    buckets
}

fn read_faults(reader: &mut Reader<'_>) -> Faults {
    let freezes = reader.named("freezes");
    let faults = Faults {
        before: reader.probability("before").unwrap_or(0.0),
        after: reader.probability("after").unwrap_or(0.0),
        blind: reader.probability("blind").unwrap_or(0.0),
        denied: reader.list("denied"),
        stale: reader.whole("stale").unwrap_or(0),
        hangs: reader.list("hangs"),
        dead: reader.list("dead"),
        foreign: reader.list("foreign"),
        held: reader.list("held"),
        lingers: reader.list("lingers"),
        never_boots: reader.list("neverBoots"),
        freezes: freezes.into_iter().filter_map(|(node, mut r)| Some((node, r.whole("after")?))).collect(),
    };
    reader.rest();
    faults
}

fn read_component(reader: &mut Reader<'_>, other: &Component) -> Component {
    let failing = reader.whole("failingStarts").and_then(|n| u32::try_from(n).ok());
    let component = Component {
        fetch: reader.range("fetch").unwrap_or(other.fetch),
        start: reader.range("start").unwrap_or(other.start),
        check: reader.range("check").unwrap_or(other.check),
        join: reader.range("join").unwrap_or(other.join),
        failing_starts: failing.unwrap_or(other.failing_starts),
        broken_on: reader.list("brokenOn"),
    };
    reader.rest();
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, SettingsError> {
        Settings::read(&serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn everything_can_be_set() {
        let settings = read(
            r#"{"seed": 7, "image": true, "state": "world.json", "machines": 5, "cidr": "10.9.0.0/16",
                "latency": {"machine": [100, 200], "boot": 50},
                "bucket": {"capacity": 20, "refillPerSecond": 2.5},
                "buckets": {"machine": {"capacity": 5, "refillPerSecond": 2}},
                "faults": {"stale": 60000, "hangs": ["a"], "dead": ["b"], "foreign": ["e"], "held": ["c"], "lingers": ["d"],
                           "before": 0.1, "after": 0.2, "denied": ["agents-9"], "neverBoots": ["agents-1"],
                           "freezes": {"agents-2": {"after": 9000}}},
                "component": {"start": 5},
                "components": {"etcd": {"check": [1, 2], "failingStarts": 2, "brokenOn": ["masters-2"]}}}"#,
        )
        .expect("valid");
        assert_eq!((settings.seed, settings.image, settings.machines), (7, true, Some(5)));
        assert_eq!(settings.latency.machine, Range::between(100, 200));
        assert_eq!(settings.latency.boot, Range::exactly(50));
        assert_eq!(settings.bucket, Some(Limit { capacity: 20, refill_per_second: 2.5 }));
        let machine = Limit { capacity: 5, refill_per_second: 2.0 };
        assert_eq!(settings.buckets, [(Lane::Machine, machine)].into());
        let Faults { stale, hangs, dead, foreign, held, lingers, .. } = &settings.faults;
        assert_eq!((*stale, [hangs, dead, foreign, held, lingers].map(BTreeSet::len)), (60_000, [1; 5]));
        assert_eq!(settings.faults.freezes.values().copied().collect::<Vec<_>>(), [9000]);
        let etcd = settings.pace(&"etcd".parse().expect("a name"));
        assert_eq!(
            (etcd.start, etcd.check, etcd.failing_starts),
            (Range::exactly(5), Range::between(1, 2), 2)
        );
        assert_eq!(read(r#"{"latency": 0}"#).expect("valid").latency, Latencies::all(Range::exactly(0)));
        assert_eq!(read("{}").expect("valid"), Settings::default());
    }

    #[test]
    fn what_is_not_known_is_an_error_that_names_what_is_close() {
        let error = read(r#"{"sead": 1, "latency": {"mashine": 1}, "components": {"etcd": {"starts": 1}}}"#)
            .expect_err("unknown");
        assert_eq!(
            error.findings,
            [
                "settings.components.etcd.starts: there is no such setting; did you mean `start`?",
                "settings.latency.mashine: there is no such setting; did you mean `machine`?",
                "settings.sead: there is no such setting; did you mean `seed`?",
            ]
        );
    }

    #[test]
    fn values_of_another_kind_are_errors() {
        let wrong = r#"{"seed": "x", "latency": {"boot": [5, 1]}, "faults": {"before": 1.5}, "bucket": {"capacity": 0},
                        "components": {"Etcd": {}}}"#;
        let error = read(wrong).expect_err("wrong");
        assert_eq!(error.findings.len(), 5, "{error}");
    }
}
