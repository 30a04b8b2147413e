//! One simulated site: the provider, and power control of its machines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use castrum_blueprints::names::{NodeName, ResourceKind, ResourcePath, SiteName};
use castrum_blueprints::resource::{ResourceSeen, ResourceSpec};
use castrum_provider::{
    Abilities, Blind, Change, Ensured, Failure, FailureClass, Observation, Power, PowerState, Provider,
    Removed, Wanted, Within, idempotency_key,
};
use serde_json::Value;

use crate::bucket::{Bucket, Lane};
use crate::chance::Dice;
use crate::file::{WorldError, resume};
use crate::node::Node;
use crate::place::Create;
use crate::settings::{Range, Settings, SettingsError};
use crate::state::{Rules, State, What};
use crate::world::World;

/// Why a simulated site cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Its settings are not valid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its world cannot be kept in the file that they name.
    #[error("the simulated world cannot be had")]
    World(#[from] WorldError),
}

/// One simulated site.
#[derive(Debug)]
pub struct Sim {
    world: Arc<World>,
    site: SiteName,
    settings: Arc<Settings>,
    dice: Dice,
}

impl Sim {
    /// The site `site` of a world, as a blueprint's settings describe it.
    pub fn new(
        world: &Arc<World>,
        site: SiteName,
        settings: &BTreeMap<String, Value>,
    ) -> Result<Self, SimError> {
        Self::with(world, site, Settings::read(settings)?)
    }

    /// The same with settings in words of Rust. Settings of a site that exists already take the place of its own.
    pub fn with(world: &Arc<World>, site: SiteName, settings: Settings) -> Result<Self, SimError> {
        if let Some(path) = &settings.state {
            world.keep_in(PathBuf::from(path))?;
        }
        let (dice, settings) = (Dice::new(settings.seed), Arc::new(settings));
        world.look(|state| {
            let bucket = settings.bucket.map(|limit| Bucket::new(limit, state.time));
            let buckets =
                settings.buckets.iter().map(|(lane, limit)| (*lane, Bucket::new(*limit, state.time)));
            let rules = Rules { settings: Arc::clone(&settings), dice, bucket, buckets: buckets.collect() };
            state.sites.insert(site.clone(), rules);
            state.place.add_site(&site);
            resume(state, &site);
        });
        Ok(Self { world: Arc::clone(world), site, settings, dice })
    }

    /// One call: it counts against the limits, takes its time, and may fail before or after its effect.
    async fn call<R>(
        &self,
        (lane, path): (Lane, Option<&ResourcePath>),
        effect: impl FnOnce(&mut State, u64) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let (verb, name) = (lane.verb(), path.map_or("", |path| path.name.as_str()));
        let (nth, taken) = self.world.look(|state| {
            let (nth, now) = (state.call(format!("{}/{verb}/{name}", self.site)), state.time);
            (nth, state.sites.get_mut(&self.site).map_or(Ok(()), |rules| rules.take(lane, now)))
        });
        if let Err(wait) = taken {
            let mut failure = Failure::new(FailureClass::Throttled, "simulated: too many calls");
            failure.retry_after_ms = Some(wait);
            return Err(failure);
        }
        self.refuse(verb, if name.is_empty() { verb } else { name }).await?;
        let faults = &self.settings.faults;
        let trip = self.dice.within(self.settings.latency(lane), (verb, name, nth));
        self.world.clock.pass(trip / 2).await;
        if self.dice.happens(faults.before, ("before", verb, name, nth)) {
            return Err(Failure::new(FailureClass::Transient, "simulated: the place did not take the call"));
        }
        let remembered = path.filter(|_| faults.stale > 0);
        let result = self.world.change(|state| {
            if let Some(path) = remembered {
                state.past.begin(&state.place, path);
            }
            let result = effect(state, trip - trip / 2);
            if let Some(path) = remembered {
                state.past.note(&state.place, path, state.time);
            }
            result
        });
        self.world.clock.pass(trip - trip / 2).await;
        if self.dice.happens(faults.after, ("after", verb, name, nth)) {
            return Err(Failure::new(FailureClass::Transient, "simulated: the answer was lost"));
        }
        result
    }

    /// What stands against every call of one resource.
    async fn refuse(&self, verb: &str, name: &str) -> Result<(), Failure> {
        let faults = &self.settings.faults;
        if faults.hangs.contains(name) {
            std::future::pending::<()>().await;
        }
        let refusals = [
            (&faults.denied, FailureClass::Denied, "not allowed to"),
            (&faults.dead, FailureClass::Transient, "no answer to"),
            (&faults.foreign, FailureClass::NotOurs, "somebody else's, and not ours to"),
        ];
        for (names, class, word) in refusals {
            if names.contains(name) {
                let failure = Failure::new(class, format!("simulated: {word} {verb} `{name}`"));
                return Err(failure.with_hint("take the name out of the site's `faults`"));
            }
        }
        Ok(())
    }

    fn makes(&self, kind: ResourceKind) -> bool {
        match kind {
            ResourceKind::Image => self.settings.image,
            ResourceKind::Network | ResourceKind::Machine => true,
            _ => self.settings.cloud,
        }
    }

    fn blind(&self, reason: &str) -> Blind {
        Blind { site: self.site.clone(), kind: None, reason: reason.to_owned() }
    }

    /// What the place shows in its `nth` look.
    fn look(&self, state: &mut State, nth: u32) -> BTreeMap<ResourcePath, ResourceSeen> {
        let (faults, now) = (&self.settings.faults, state.time);
        let ages = Range::between(0, faults.stale);
        let age = |path: &ResourcePath| match faults.stale {
            0 => 0,
            _ => self.dice.within(ages, ("stale", &path.name, nth)),
        };
        let mut seen = state.past.seen_in((&state.place, &self.site), now, age);
        for path in state.ghosts.iter().filter(|path| path.site == self.site) {
            seen.entry(path.clone()).or_insert_with(|| ghost(path));
        }
        seen
    }

    /// Makes the resource, or makes it as wanted. When it is ready.
    fn make(&self, state: &mut State, wanted: &Wanted, takes: u64) -> Result<Change, Failure> {
        let (path, now) = (&wanted.path, state.time);
        let spec = wanted.spec.digest();
        let needs = needs_of(wanted);
        if let Some(missing) = needs.iter().find(|need| !is_ready(state, need)) {
            let text = format!("simulated: `{missing}`, which it needs, is not there");
            return Err(Failure::new(FailureClass::NotReady, text));
        }
        if let Some(resource) = state.place.find(path) {
            let off = resource.machine.as_ref().is_some_and(|machine| machine.power == PowerState::Off);
            if off {
                set_power(state, path, PowerState::On);
            }
            let changed = state.place.change(path, &spec, &needs) || off;
            return Ok(if changed { Change::Changed } else { Change::Unchanged });
        }
        let full =
            self.settings.machines.is_some_and(|most| state.place.machines_in(&self.site) as u64 >= most);
        if path.kind == ResourceKind::Machine && full {
            return Err(Failure::new(
                FailureClass::Exhausted,
                "simulated: there is no room for more machines",
            ));
        }
        let key = idempotency_key(&state.cluster, path, wanted.generation);
        let create = Create { path, key, spec, needs, ready_at: now.plus(takes), now };
        if state.place.create(create)
            && let ResourceSpec::Machine(machine) = &wanted.spec
        {
            let id = state.place.find(path).map(|resource| resource.id.clone()).unwrap_or_default();
            let boot_data = wanted.boot_data.as_ref().map(castrum_provider::BootData::expose);
            let node = Node::new(path.clone(), machine.role, id, boot_data);
            add_node(state, &machine.node, node, takes);
        }
        Ok(Change::Created)
    }
}

fn needs_of(wanted: &Wanted) -> Vec<ResourcePath> {
    let site = &wanted.path.site;
    let path =
        |(kind, name): (ResourceKind, &str)| ResourcePath { site: site.clone(), kind, name: name.to_owned() };
    wanted.spec.needs().into_iter().map(path).collect()
}

fn is_ready(state: &State, path: &ResourcePath) -> bool {
    state.place.find(path).is_some_and(|resource| resource.ready_at <= state.time)
}

/// What is gone and shown all the same.
fn ghost(path: &ResourcePath) -> ResourceSeen {
    let (note, path) = (Some("it is being removed".to_owned()), path.clone());
    ResourceSeen { id: format!("{}-gone", path.kind), path, spec: None, ready: false, note, machine: None }
}

/// A machine was made: its node boots once it is ready, and hangs when it is meant to.
fn add_node(state: &mut State, name: &NodeName, mut node: Node, takes: u64) {
    let site = node.machine.site.clone();
    // Another life than any machine of that name had before.
    node.run.life = state.place.made;
    let life = node.run.life;
    state.nodes.insert(name.clone(), node);
    let rules = &state.sites[&site];
    if let Some(after) = rules.settings.faults.freezes.get(name) {
        state.agenda.add(state.time.plus(*after), (name, life), What::Hangs);
    }
    state.boot(name, takes);
}

fn set_power(state: &mut State, path: &ResourcePath, wanted: PowerState) {
    let Ok(name) = path.name.parse::<NodeName>() else { return };
    let Some(machine) = state.place.find_mut(path).and_then(|resource| resource.machine.as_mut()) else {
        return;
    };
    let before = std::mem::replace(&mut machine.power, wanted);
    match (before, wanted) {
        (PowerState::On, PowerState::Paused) => state.freeze(&name, |node| node.paused = true),
        (PowerState::Paused, PowerState::On) => state.thaw(&name),
        (_, PowerState::Off) if before != PowerState::Off => state.lose_power(&name),
        (PowerState::Off, PowerState::On) => state.boot(&name, 0),
        _ => {}
    }
}

#[async_trait]
impl Provider for Sim {
    fn abilities(&self) -> Abilities {
        let kinds = ResourceKind::ALL.into_iter().filter(|kind| self.makes(*kind)).collect();
        let stale_ms = self.settings.faults.stale;
        Abilities {
            provider: "sim".to_owned(),
            kinds,
            boot_data: true,
            power: true,
            stale_ms,
            image_names: false,
        }
    }

    async fn observe(&self) -> Observation {
        self.world.awake().await;
        let taken_at = self.world.now();
        let blind =
            |reason: &str| Observation { blind: vec![self.blind(reason)], taken_at, ..Default::default() };
        let look = self.call((Lane::Observe, None), |state, _| {
            let nth = state.call(format!("{}/blind", self.site));
            Ok((self.look(state, nth), nth))
        });
        match look.await {
            Err(failure) => blind(&failure.message),
            Ok((_, nth)) if self.dice.happens(self.settings.faults.blind, ("blind", nth)) => {
                blind("simulated: the place does not answer")
            }
            Ok((seen, _)) => Observation { seen, blind: Vec::new(), taken_at },
        }
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        let kind = wanted.path.kind;
        if !self.makes(kind) {
            let text = format!("this simulated place makes no {kind}");
            return Err(Failure::new(FailureClass::Unsupported, text));
        }
        let lane = match kind {
            ResourceKind::Image => Lane::Image,
            ResourceKind::Machine => Lane::Machine,
            _ => Lane::Network,
        };
        let made = self.call((lane, Some(&wanted.path)), |state, takes| self.make(state, wanted, takes));
        let change = made.await?;
        let ready_at =
            self.world.look(|state| state.place.find(&wanted.path).map(|resource| resource.ready_at));
        self.world.clock.pass(ready_at.unwrap_or_default().since(self.world.now())).await;
        let seen = self.world.look(|state| {
            let now = state.time;
            state.place.find(&wanted.path).map(|resource| resource.seen(&wanted.path, now))
        });
        let gone = || Failure::new(FailureClass::NotReady, "it was removed while it was being made");
        Ok(Ensured { change, seen: seen.ok_or_else(gone)? })
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        self.call((Lane::Remove, Some(path)), |state, _| {
            if self.settings.faults.held.contains(&path.name) {
                return Err(Failure::new(FailureClass::NotReady, "simulated: something still uses it"));
            }
            if path.kind == ResourceKind::Network && state.place.machines_in(&self.site) > 0 {
                return Err(Failure::new(
                    FailureClass::NotReady,
                    "simulated: machines are still in the network",
                ));
            }
            if state.place.is_used(path) {
                return Err(Failure::new(FailureClass::NotReady, "simulated: something still uses it"));
            }
            let there = state.place.remove(path);
            if self.settings.faults.lingers.contains(&path.name) {
                state.ghosts.insert(path.clone());
            }
            if let (ResourceKind::Machine, Ok(name)) = (path.kind, path.name.parse::<NodeName>()) {
                state.lose_machine(&name);
            }
            Ok(if there { Removed::Removed } else { Removed::Absent })
        })
        .await
    }

    fn power(&self) -> Option<&dyn Power> {
        Some(self)
    }

    fn within(&self) -> Option<Within> {
        Some(Within { fleet: self.world.fleet(), clock: self.world.clock() })
    }
}

#[async_trait]
impl Power for Sim {
    async fn state(&self, machine: &ResourcePath) -> Result<PowerState, Failure> {
        self.call((Lane::Power, Some(machine)), |state, _| power_of(state, machine)).await
    }

    async fn set(&self, machine: &ResourcePath, wanted: PowerState) -> Result<(), Failure> {
        self.call((Lane::Power, Some(machine)), |state, _| {
            power_of(state, machine)?;
            set_power(state, machine, wanted);
            Ok(())
        })
        .await
    }

    async fn kill(&self, machine: &ResourcePath) -> Result<(), Failure> {
        self.set(machine, PowerState::Off).await
    }
}

fn power_of(state: &State, path: &ResourcePath) -> Result<PowerState, Failure> {
    let machine = state.place.find(path).and_then(|resource| resource.machine.as_ref());
    let missing = || Failure::new(FailureClass::Invalid, format!("there is no machine `{path}`"));
    machine.map(|machine| machine.power).ok_or_else(missing)
}
