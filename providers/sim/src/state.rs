//! The world's state, and the agenda by which it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castrum_blueprints::manifest::Manifest;
use castrum_blueprints::names::{
    ClusterId, ComponentName, Digest, NodeName, ResourcePath, Role, SiteName, Timestamp,
};
use castrum_blueprints::node::Action;

use crate::audit::{Happened, Happening};
use crate::bucket::{Bucket, Lane};
use crate::chance::Dice;
use crate::clock::EPOCH;
use crate::life::Scene;
use crate::node::{Agent, Node, System};
use crate::past::Past;
use crate::place::Place;
use crate::settings::Settings;

/// Everything there is.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) cluster: ClusterId,
    /// Until when everything has happened.
    pub(crate) time: Timestamp,
    pub(crate) place: Place,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    /// The manifests that the masters hold.
    pub(crate) held: BTreeMap<NodeName, Held>,
    pub(crate) around: Around,
    pub(crate) agenda: Agenda,
    pub(crate) sites: BTreeMap<SiteName, Rules>,
    /// How many installers are there to admit nodes.
    pub(crate) attached: usize,
    /// What happened, if anybody wants to know.
    pub(crate) record: Option<Vec<Happening>>,
    /// How often each call was made, so that a repeated call may fare differently.
    calls: BTreeMap<String, u32>,
    /// How the places looked before, as long as a look may be so old.
    pub(crate) past: Past,
    /// What is shown for ever, though it was removed.
    pub(crate) ghosts: BTreeSet<ResourcePath>,
}

/// The rules of one site.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) settings: Arc<Settings>,
    pub(crate) dice: Dice,
    pub(crate) bucket: Option<Bucket>,
    pub(crate) buckets: BTreeMap<Lane, Bucket>,
}

impl Rules {
    /// Takes a token for a call of `lane`, or says in how many milliseconds there is one.
    pub(crate) fn take(&mut self, lane: Lane, now: Timestamp) -> Result<(), u64> {
        let own = self.buckets.get_mut(&lane);
        own.into_iter().chain(&mut self.bucket).try_for_each(|bucket| bucket.take(now))
    }
}

/// A manifest that the masters hold.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) content: Digest,
    pub(crate) version: u64,
}

/// What nodes see of each other.
#[derive(Debug, Default, Clone)]
pub(crate) struct Around {
    /// The masters whose agents work, with the blobs that each serves.
    pub(crate) masters: BTreeMap<NodeName, BTreeSet<Digest>>,
    /// The nodes that answer for their membership of each component.
    pub(crate) members: BTreeMap<ComponentName, BTreeSet<NodeName>>,
    /// Who founded each membership; more than one is a mistake.
    pub(crate) founders: BTreeMap<ComponentName, Vec<NodeName>>,
    /// The nodes that wait to be admitted.
    pub(crate) waiting: BTreeSet<NodeName>,
    /// The newest version of anything that is told, and whose word has which.
    pub(crate) version: u64,
    pub(crate) words: BTreeMap<u64, NodeName>,
}

impl Around {
    pub(crate) fn serves(&self, digest: &Digest) -> bool {
        self.masters.values().any(|blobs| blobs.contains(digest))
    }

    /// Gives out the next version, at which `node` has something to tell.
    pub(crate) fn tell(&mut self, node: &NodeName, before: u64) -> u64 {
        self.words.remove(&before);
        self.version += 1;
        self.words.insert(self.version, node.clone());
        self.version
    }

    /// Forgets what a node answered for.
    fn forget(&mut self, node: &NodeName) {
        self.masters.remove(node);
        self.members.values_mut().for_each(|members| {
            members.remove(node);
        });
    }
}

/// What happens when.
#[derive(Debug, Default, Clone)]
pub(crate) struct Agenda {
    entries: BTreeMap<(Timestamp, u64), Due>,
    count: u64,
}

#[derive(Debug, Clone)]
struct Due {
    node: NodeName,
    life: u64,
    what: What,
}

/// Something that happens to a node.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Booted,
    Hangs,
    Joins,
    /// It asks the masters for its manifest.
    Pulls,
    /// An action ends, begun for a manifest.
    Ends(Box<Action>, Arc<Manifest>),
    /// The checks of a component give a result, for a process that was started with something.
    Checks(ComponentName, Option<Digest>),
    Decides,
    Says,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Timestamp, (node, life): (&NodeName, u64), what: What) {
        self.count += 1;
        self.entries.insert((at, self.count), Due { node: node.clone(), life, what });
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }
}

impl State {
    pub(crate) fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            time: EPOCH,
            place: Place::default(),
            nodes: BTreeMap::new(),
            held: BTreeMap::new(),
            around: Around::default(),
            agenda: Agenda::default(),
            sites: BTreeMap::new(),
            attached: 0,
            record: None,
            calls: BTreeMap::new(),
            past: Past::default(),
            ghosts: BTreeSet::new(),
        }
    }

    /// Lets everything happen that is due until `now`.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some(entry) = self.agenda.entries.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), due) = entry.remove_entry();
            self.time = self.time.max(at);
            self.happens(due);
        }
        self.time = self.time.max(now);
    }

    fn happens(&mut self, Due { node: name, life, what }: Due) {
        let Some(node) = self.nodes.get_mut(&name) else { return };
        if node.run.life != life {
            return;
        }
        if node.is_frozen() {
            return node.run.deferred.push(what);
        }
        match what {
            What::Booted => self.booted(&name),
            What::Hangs => self.freeze(&name, |node| node.hung = true),
            What::Joins => self.joins(&name),
            What::Pulls => self.pulls(&name),
            other => {
                if let Some(mut scene) = self.scene(&name) {
                    scene.happens(other);
                }
            }
        }
    }

    /// One node with what is around it.
    pub(crate) fn scene(&mut self, name: &NodeName) -> Option<Scene<'_>> {
        let Self { cluster, nodes, around, agenda, sites, record, time, .. } = self;
        let (found, node) = nodes.range_mut(name.clone()..).next()?;
        let rules = sites.get(&node.machine.site).filter(|_| found == name)?;
        let (settings, dice, now) = (&*rules.settings, rules.dice, *time);
        Some(Scene { cluster, name: found, node, around, agenda, settings, dice, record, now })
    }

    /// Makes a node boot, `after` so many milliseconds.
    pub(crate) fn boot(&mut self, name: &NodeName, after: u64) {
        let (now, Some(node)) = (self.time, self.nodes.get_mut(name)) else { return };
        node.system = System::Booting;
        let Some(rules) = self.sites.get(&node.machine.site) else { return };
        if rules.settings.faults.never_boots.contains(name) {
            return;
        }
        let millis = rules.dice.within(rules.settings.latency.boot, ("boot", name, node.run.life));
        self.agenda.add(now.plus(after + millis), (name, node.run.life), What::Booted);
    }

    fn booted(&mut self, name: &NodeName) {
        let (now, Some(node)) = (self.time, self.nodes.get_mut(name)) else { return };
        node.system = System::Up;
        match node.agent {
            Agent::Running => self.agent_runs(name),
            Agent::Absent if node.boot.is_none() => {}
            Agent::Absent | Agent::Joining => {
                node.agent = Agent::Joining;
                let site = &self.sites[&node.machine.site];
                let millis = site.dice.within(site.settings.latency.join, ("join", name, node.run.life));
                self.agenda.add(now.plus(millis), (name, node.run.life), What::Joins);
            }
        }
    }

    /// A node asks to be admitted: there must be a master that serves the agent, and an installer that decides.
    fn joins(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(boot) = node.boot.as_ref().filter(|_| node.agent == Agent::Joining) else { return };
        let reached = boot.masters.iter().any(|peer| self.around.masters.contains_key(&peer.name));
        let served = boot.agent.as_ref().is_none_or(|agent| self.around.serves(agent));
        if self.attached == 0 || !reached || !served {
            self.around.waiting.insert(name.clone());
            return;
        }
        node.facts.pinned.extend(boot.agent.clone());
        self.admit(name);
    }

    /// The node has its certificate, and its agent runs.
    pub(crate) fn admit(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.agent = Agent::Running;
        node.run.admitted = self.around.version + 1;
        self.around.waiting.remove(name);
        self.agent_runs(name);
    }

    /// An agent has begun to work, or goes on with it.
    pub(crate) fn agent_runs(&mut self, name: &NodeName) {
        let (now, Some(node)) = (self.time, self.nodes.get_mut(name)) else { return };
        if !node.is_awake() {
            return;
        }
        node.start_agent(now);
        self.reappears(name);
    }

    /// A node is there again for the others; it pulls its manifest and decides.
    fn reappears(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name).filter(|node| node.is_awake()) else { return };
        for (component, held) in &node.facts.components {
            if held.member {
                self.around.members.entry(component.clone()).or_default().insert(name.clone());
            }
        }
        if node.role == Role::Master {
            self.around.masters.insert(name.clone(), node.facts.blobs.clone());
            self.master_serves();
        }
        if let Some(mut scene) = self.scene(name) {
            scene.speaks();
        }
        self.pulls(name);
        if let Some(mut scene) = self.scene(name) {
            scene.decides();
        }
    }

    /// A master serves something new: those who waited for it try again.
    pub(crate) fn master_serves(&mut self) {
        let now = self.time;
        for name in std::mem::take(&mut self.around.waiting) {
            if let Some(node) = self.nodes.get(&name) {
                self.agenda.add(now, (&name, node.run.life), What::Joins);
            }
        }
        if self.around.masters.len() == 1 {
            for (name, node) in &self.nodes {
                if self.held.get(name).is_some_and(|held| held.manifest.generation > node.generation()) {
                    self.agenda.add(now, (name, node.run.life), What::Pulls);
                }
            }
        }
    }

    /// The node takes the newest manifest that the masters hold for it; it refuses an older one.
    fn pulls(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.is_awake()) else { return };
        if self.around.masters.is_empty() {
            return;
        }
        let Some(held) = self.held.get(name) else { return };
        if held.manifest.generation <= node.generation() {
            return;
        }
        node.manifest = Some(Arc::clone(&held.manifest));
        node.content = Some(held.content.clone());
        node.facts.attempts.clear();
        if let Some(mut scene) = self.scene(name) {
            scene.decides();
        }
    }

    /// The node stops in the middle of what it does.
    pub(crate) fn freeze(&mut self, name: &NodeName, how: impl FnOnce(&mut Node)) {
        let (now, Some(node)) = (self.time, self.nodes.get_mut(name)) else { return };
        if node.is_awake() {
            node.silent_since = now;
        }
        how(node);
        self.around.forget(name);
    }

    /// The node goes on where it stopped.
    pub(crate) fn thaw(&mut self, name: &NodeName) {
        let (now, Some(node)) = (self.time, self.nodes.get_mut(name)) else { return };
        (node.paused, node.hung) = (false, false);
        let (life, deferred) = (node.run.life, std::mem::take(&mut node.run.deferred));
        for what in deferred {
            self.agenda.add(now, (name, life), what);
        }
        self.reappears(name);
    }

    /// The node's power goes.
    pub(crate) fn lose_power(&mut self, name: &NodeName) {
        self.freeze(name, Node::lose_power);
        self.around.waiting.remove(name);
    }

    /// The node's machine is gone, with all on it. With the last master go the manifests.
    pub(crate) fn lose_machine(&mut self, name: &NodeName) {
        self.lose_power(name);
        let Some(node) = self.nodes.remove(name) else { return };
        self.around.words.remove(&node.run.said);
        if node.role == Role::Master && !self.nodes.values().any(|node| node.role == Role::Master) {
            self.held.clear();
        }
    }

    /// How many calls there were of each name, as `site/verb/resource`.
    pub(crate) fn calls(&self) -> &BTreeMap<String, u32> {
        &self.calls
    }

    /// The number of this call among those of its name.
    pub(crate) fn call(&mut self, name: String) -> u32 {
        let count = self.calls.entry(name).or_insert(0);
        *count += 1;
        *count
    }

    pub(crate) fn record(&mut self, node: &NodeName, what: impl FnOnce() -> Happened) {
        if let Some(record) = &mut self.record {
            record.push(Happening { at: self.time, node: node.clone(), what: what() });
        }
    }
}
