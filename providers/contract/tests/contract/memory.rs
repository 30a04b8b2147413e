//! A provider in memory that can be given flaws, and ways to serve it to the adapter as if it were a process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::names::{ClusterId, NodeName, ResourceKind, ResourcePath, SiteName, Timestamp};
use castrum_provider::conformance::{Candidate, Ground, Opened};
use castrum_provider::{
    Abilities, About, Blind, Change, Deadlines, Ensured, Failure, FailureClass, Hello, Launch, Line,
    MachineSeen, Observation, Peer, Power, PowerState, ProcessProvider, Provider, Removed, ResourceSeen,
    Told, Wanted, serve,
};
use tokio::task::AbortHandle;

/// One way of not keeping to the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It says nothing wrong.
    None,
    /// Preflight names no remedy.
    NoRemedy,
    /// Power is among the abilities and is refused.
    PowerRefused,
    /// What is not among the abilities is made.
    MakesAnything,
    /// Everything is changed, always.
    AlwaysChanged,
    /// Two that ask at a time get two.
    Twins,
    /// What was begun is never completed.
    LeavesHalf,
    /// What is removed in part is never removed in whole.
    SticksHalf,
    /// A change makes another machine.
    Replaces,
    /// Boot data is read again and again.
    RereadsBootData,
    /// Removing what does not exist fails.
    RemoveFails,
    /// Removing one machine removes all.
    RemovesAll,
    /// It sees and touches what is of every cluster.
    Thief,
    /// It lists only what it made itself.
    PrivateList,
    /// A place that does not answer is an empty one.
    NeverBlind,
    /// Removing succeeds while the place does not answer.
    AbsentWhenDark,
    /// All failures are the same.
    AllTransient,
    /// A network goes while machines are in it.
    PullsTheRug,
    /// What is off stays off.
    StaysOff,
    /// Power is told and not set.
    Limp,
    /// It repeats boot data.
    Chatty,
}

type Key = (ClusterId, ResourcePath);

/// What exists, for all who look.
#[derive(Default)]
pub struct Things {
    resources: BTreeMap<Key, Thing>,
    made: u64,
}

#[derive(Clone)]
struct Thing {
    seen: ResourceSeen,
    boot_data: Option<String>,
}

pub type Place = Arc<Mutex<Things>>;

/// One site of one cluster.
pub struct Memory {
    pub place: Place,
    pub cluster: ClusterId,
    pub site: SiteName,
    pub flaw: Flaw,
    pub dark: bool,
    pub slow: Duration,
    pub own: Mutex<Vec<ResourcePath>>,
}

impl Memory {
    pub fn new(place: &Place, hello: &Hello) -> Self {
        Self {
            place: Arc::clone(place),
            cluster: hello.cluster.clone(),
            site: hello.site.clone(),
            flaw: Flaw::None,
            dark: false,
            slow: Duration::ZERO,
            own: Mutex::default(),
        }
    }

    fn key(&self, path: &ResourcePath) -> Key {
        match self.flaw {
            // Whose it is does not matter to a thief.
            Flaw::Thief => (ClusterId::from_bytes([0; 6]), path.clone()),
            _ => (self.cluster.clone(), path.clone()),
        }
    }

    fn fail(&self, class: FailureClass, text: &str) -> Failure {
        let class = if self.flaw == Flaw::AllTransient { FailureClass::Transient } else { class };
        Failure::new(class, text)
    }

    fn reach(&self) -> Result<(), Failure> {
        if self.dark { Err(self.fail(FailureClass::Transient, "the place does not answer")) } else { Ok(()) }
    }

    fn begin(&self, wanted: &Wanted) -> Result<Change, Failure> {
        let kinds = self.abilities().kinds;
        if !kinds.contains(&wanted.path.kind) && self.flaw != Flaw::MakesAnything {
            return Err(self.fail(FailureClass::Unsupported, "this place makes no such thing"));
        }
        let mut things = self.place.lock().expect("a lock");
        let boot_data = wanted.boot_data.as_ref().map(|text| text.expose().to_owned());
        let key = self.key(&wanted.path);
        let number = things.made + 1;
        let known = things.resources.get(&key).filter(|thing| {
            let differs = thing.seen.spec != Some(wanted.spec.digest());
            !(differs && self.flaw == Flaw::Replaces)
        });
        let Some(mut thing) = known.cloned() else {
            things.made = number;
            let thing = Thing { seen: self.seen(wanted, number), boot_data };
            let replaced = things.resources.insert(key, thing).is_some();
            return Ok(if replaced { Change::Changed } else { Change::Created });
        };
        let mut change = if thing.seen.ready { Change::Unchanged } else { Change::Created };
        if self.flaw == Flaw::AlwaysChanged || thing.seen.spec != Some(wanted.spec.digest()) {
            change = Change::Changed;
        }
        if self.flaw == Flaw::RereadsBootData && thing.boot_data != boot_data {
            (change, thing.boot_data) = (Change::Changed, boot_data);
        }
        thing.seen.spec = Some(wanted.spec.digest());
        if let Some(machine) = &mut thing.seen.machine
            && machine.power == PowerState::Off
            && self.flaw != Flaw::StaysOff
        {
            (change, machine.power) = (Change::Changed, PowerState::On);
        }
        things.resources.insert(key, thing);
        Ok(change)
    }

    fn seen(&self, wanted: &Wanted, number: u64) -> ResourceSeen {
        let machine = (wanted.path.kind == ResourceKind::Machine).then(|| MachineSeen {
            address: Some([192, 0, 2, 1].into()),
            public_address: None,
            power: PowerState::On,
            created_at: Timestamp(1_000),
            incarnation: format!("life-{number}"),
        });
        let spec = Some(wanted.spec.digest());
        let id = format!("thing-{number}");
        self.own.lock().expect("a lock").push(wanted.path.clone());
        ResourceSeen { path: wanted.path.clone(), id, spec, ready: false, note: None, machine }
    }

    fn finish(&self, wanted: &Wanted) -> Result<ResourceSeen, Failure> {
        let mut things = self.place.lock().expect("a lock");
        let number = things.made + 1;
        let gone = || self.fail(FailureClass::NotReady, "it was removed while it was being made");
        let thing = things.resources.get_mut(&self.key(&wanted.path)).ok_or_else(gone)?;
        thing.seen.ready = true;
        if self.flaw == Flaw::Chatty {
            thing.seen.note = wanted.boot_data.as_ref().map(|text| text.expose().to_owned());
        }
        let mut seen = thing.seen.clone();
        if self.flaw == Flaw::Twins && number.is_multiple_of(2) {
            seen.id = format!("twin-{number}-{}", self.own.lock().expect("a lock").len());
        }
        Ok(seen)
    }

    fn half(&self, path: &ResourcePath) -> bool {
        let things = self.place.lock().expect("a lock");
        things.resources.get(&self.key(path)).is_some_and(|thing| !thing.seen.ready)
    }

    fn machine<T>(&self, path: &ResourcePath, of: impl FnOnce(&mut MachineSeen) -> T) -> Result<T, Failure> {
        if self.flaw == Flaw::PowerRefused {
            return Err(Failure::new(FailureClass::Unsupported, "no power"));
        }
        self.reach()?;
        let mut things = self.place.lock().expect("a lock");
        let none = || self.fail(FailureClass::Invalid, "there is no such machine");
        let thing = things.resources.get_mut(&self.key(path)).ok_or_else(none)?;
        thing.seen.machine.as_mut().map(of).ok_or_else(none)
    }
}

#[async_trait]
impl Provider for Memory {
    fn abilities(&self) -> Abilities {
        let kinds = vec![ResourceKind::Network, ResourceKind::Machine];
        Abilities {
            provider: "memory".to_owned(),
            kinds,
            boot_data: true,
            power: true,
            ..Abilities::default()
        }
    }

    async fn observe(&self) -> Observation {
        let taken_at = Timestamp(0);
        if let (Err(failure), false) = (self.reach(), self.flaw == Flaw::NeverBlind) {
            let blind = Blind { site: self.site.clone(), kind: None, reason: failure.message };
            return Observation { blind: vec![blind], taken_at, ..Observation::default() };
        }
        let things = self.place.lock().expect("a lock");
        let own = self.own.lock().expect("a lock").clone();
        let cluster = self.key(&"here/machine/x".parse().expect("a path")).0;
        let ours = things.resources.iter().filter(|((owner, path), _)| {
            *owner == cluster && !self.dark && (self.flaw != Flaw::PrivateList || own.contains(path))
        });
        let seen = ours.map(|((_, path), thing)| (path.clone(), thing.seen.clone())).collect();
        Observation { seen, blind: Vec::new(), taken_at }
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        self.reach()?;
        if self.flaw == Flaw::LeavesHalf && self.half(&wanted.path) {
            return Err(self.fail(FailureClass::Invalid, "something is in the way"));
        }
        let change = self.begin(wanted)?;
        tokio::time::sleep(self.slow).await;
        Ok(Ensured { change, seen: self.finish(wanted)? })
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        if self.dark && self.flaw == Flaw::AbsentWhenDark {
            return Ok(Removed::Absent);
        }
        self.reach()?;
        let key = self.key(path);
        let known = {
            let mut things = self.place.lock().expect("a lock");
            let machines = things
                .resources
                .keys()
                .any(|(owner, other)| *owner == key.0 && other.kind == ResourceKind::Machine);
            if path.kind == ResourceKind::Network && machines && self.flaw != Flaw::PullsTheRug {
                return Err(self.fail(FailureClass::NotReady, "machines are still in it"));
            }
            let known = things.resources.get_mut(&key);
            if known.as_ref().is_some_and(|thing| !thing.seen.ready) && self.flaw == Flaw::SticksHalf {
                return Err(self.fail(FailureClass::Invalid, "something of it sticks"));
            }
            known.map(|thing| thing.seen.ready = false).is_some()
        };
        if !known {
            return match self.flaw {
                Flaw::RemoveFails => Err(self.fail(FailureClass::Invalid, "there is no such thing")),
                _ => Ok(Removed::Absent),
            };
        }
        tokio::time::sleep(self.slow).await;
        let mut things = self.place.lock().expect("a lock");
        things.resources.remove(&key);
        if self.flaw == Flaw::RemovesAll {
            things.resources.retain(|(_, other), _| other.kind != ResourceKind::Machine);
        }
        Ok(Removed::Removed)
    }

    fn power(&self) -> Option<&dyn Power> {
        Some(self)
    }

    async fn preflight(&self) -> Vec<Failure> {
        match self.flaw {
            Flaw::NoRemedy => vec![self.fail(FailureClass::Denied, "not allowed")],
            _ => Vec::new(),
        }
    }
}

#[async_trait]
impl Power for Memory {
    async fn state(&self, machine: &ResourcePath) -> Result<PowerState, Failure> {
        self.machine(machine, |machine| machine.power)
    }

    async fn set(&self, machine: &ResourcePath, wanted: PowerState) -> Result<(), Failure> {
        let limp = self.flaw == Flaw::Limp;
        self.machine(machine, |machine| {
            if !limp {
                machine.power = wanted;
            }
        })
    }

    async fn kill(&self, machine: &ResourcePath) -> Result<(), Failure> {
        self.set(machine, PowerState::Off).await
    }
}

pub const ABOUT: About = About { name: "memory", version: "7" };

/// Serves a place of memory on a pipe of memory, each time as a new life.
pub struct Served {
    pub place: Place,
    pub flaw: Flaw,
    pub dark: bool,
    pub slow: Duration,
}

struct Serving(AbortHandle);

#[async_trait]
impl Peer for Serving {
    fn kill(&mut self) {
        self.0.abort();
    }

    async fn ended(&mut self) -> String {
        "ended".to_owned()
    }
}

#[async_trait]
impl Launch for Served {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn launch(&self, _: &Told) -> Result<Line, Failure> {
        let (place, flaw, dark, slow) = (Arc::clone(&self.place), self.flaw, self.dark, self.slow);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(theirs);
        let make = async move |hello: Hello| Ok(Memory { flaw, dark, slow, ..Memory::new(&place, &hello) });
        let serving = tokio::spawn(async move { drop(serve(ABOUT, make, reader, writer).await) });
        let (reader, writer) = tokio::io::split(ours);
        let peer = Box::new(Serving(serving.abort_handle()));
        Ok(Line { reader: Box::new(reader), writer: Box::new(writer), peer })
    }
}

/// A place of memory as a candidate: through the trait, or through the protocol.
pub struct MemoryCandidate {
    pub place: Place,
    pub flaw: Flaw,
    pub served: bool,
}

impl MemoryCandidate {
    pub fn new(flaw: Flaw, served: bool) -> Self {
        Self { place: Place::default(), flaw, served }
    }

    async fn opened(&self, cluster: &ClusterId, dark: bool) -> Result<Opened, Failure> {
        let hello = hello(cluster.clone());
        let (place, flaw, slow) = (Arc::clone(&self.place), self.flaw, Duration::from_millis(20));
        if self.served {
            let served = Served { place, flaw, dark, slow };
            let provider = ProcessProvider::start(served, hello, Deadlines::default()).await?;
            return Ok(Opened::process(provider));
        }
        Ok(Opened::here(Memory { flaw, dark, slow, ..Memory::new(&place, &hello) }))
    }
}

#[async_trait]
impl Candidate for MemoryCandidate {
    async fn open(&self, cluster: &ClusterId) -> Result<Opened, Failure> {
        self.opened(cluster, false).await
    }

    async fn open_unreachable(&self, cluster: &ClusterId) -> Option<Result<Opened, Failure>> {
        Some(self.opened(cluster, true).await)
    }
}

pub fn hello(cluster: ClusterId) -> Hello {
    Hello::new(cluster, "here".parse().expect("a name"), BTreeMap::new())
}

pub fn ground() -> Ground {
    let node = |name: &str| -> (NodeName, _) { (name.parse().expect("a name"), None) };
    Ground {
        site: "here".parse().expect("a name"),
        clusters: [ClusterId::from_bytes([7; 6]), ClusterId::from_bytes([8; 6])],
        nodes: vec![node("check-1"), node("check-2")],
        zones: vec!["a".to_owned()],
        image: None,
        patience: Duration::from_secs(20),
    }
}
