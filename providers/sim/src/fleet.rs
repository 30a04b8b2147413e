//! The nodes as one installer talks to them: through masters, as on real places.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{NodeName, Role, Timestamp};
use castrum_blueprints::wire::Published;
use castrum_provider::{Enrollment, Failure, FailureClass, Fleet, News, Publication, Reach};

use crate::audit::Happened;
use crate::node::{Agent, System};
use crate::settings::Range;
use crate::state::{Held, State, What};
use crate::world::World;

/// One installer's contact to the nodes.
pub(crate) struct SimFleet {
    world: Arc<World>,
    /// What this installer was told already.
    cursor: Mutex<Cursor>,
    calls: AtomicU64,
}

#[derive(Debug, Default)]
struct Cursor {
    version: u64,
    beat: Option<Timestamp>,
}

/// A login is tried so often,
const LOGIN_TRIES: u32 = 200;
/// with so many milliseconds between two tries.
const LOGIN_PAUSE_MS: u64 = 100;
/// Masters tell that a node is alive at least this often.
const BEAT_MS: u64 = 5_000;

impl SimFleet {
    pub(crate) fn attach(world: Arc<World>) -> Self {
        world.change(|state| {
            state.attached += 1;
            state.master_serves();
        });
        Self { world, cursor: Mutex::default(), calls: AtomicU64::new(0) }
    }

    /// Takes the time that a call takes at a node's site.
    async fn trip(&self, node: &NodeName, of: impl Fn(&crate::settings::Latencies) -> Range) {
        let nth = self.calls.fetch_add(1, Ordering::Relaxed);
        let millis = self.world.look(|state| {
            let site = state.nodes.get(node).and_then(|node| state.sites.get(&node.machine.site));
            site.or(state.sites.values().next())
                .map_or(0, |rules| rules.dice.within(of(&rules.settings.latency), ("call", node, nth)))
        });
        self.world.clock.pass(millis).await;
    }

    /// Waits for a machine that boots, as a login is tried again and again.
    async fn until_up(&self, name: &NodeName) {
        for _ in 0..LOGIN_TRIES {
            let boots =
                |state: &mut State| state.nodes.get(name).is_some_and(|n| n.system == System::Booting);
            if !self.world.look(boots) {
                return;
            }
            self.world.clock.pass(LOGIN_PAUSE_MS).await;
        }
    }

    /// What is new since the cursor; else when there may be something.
    fn collect(&self) -> Result<Vec<News>, Timestamp> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        self.world.look(|state| {
            let mut news = Vec::new();
            if !state.around.masters.is_empty() {
                let beat = *cursor.beat.get_or_insert(state.time);
                if state.time.since(beat) >= BEAT_MS {
                    cursor.beat = Some(state.time);
                    news.extend(
                        state.nodes.values().filter(|n| n.is_awake()).filter_map(|n| n.word(state.time)),
                    );
                }
                tell(state, cursor.version, &mut news);
                cursor.version = state.around.version;
            }
            if !news.is_empty() {
                return Ok(news);
            }
            let beat = cursor.beat.unwrap_or(state.time).plus(BEAT_MS).max(state.time.plus(1));
            Err(state.agenda.next().map_or(beat, |next| next.min(beat)))
        })
    }
}

fn tell(state: &State, after: u64, news: &mut Vec<News>) {
    for name in state.around.words.range(after + 1..).map(|(_, name)| name) {
        let node = state.nodes.get(name);
        if let Some(node) = node {
            if node.run.admitted > after {
                news.push(News::Admitted(name.clone()));
            }
            if node.run.said > after {
                news.extend(node.word(state.time));
            }
        }
        if let Some(held) = state.held.get(name).filter(|held| held.version > after) {
            let published = Published { generation: held.manifest.generation, content: held.content.clone() };
            news.push(News::Published(name.clone(), published));
        }
    }
}

impl crate::node::Node {
    /// Its last word, with its age.
    fn word(&self, now: Timestamp) -> Option<News> {
        let status = self.run.status.as_ref().filter(|_| self.run.said > 0)?;
        let age = if self.is_awake() { 0 } else { now.since(self.silent_since) };
        Some(News::Status(Box::new((**status).clone()), age))
    }
}

impl Drop for SimFleet {
    fn drop(&mut self) {
        self.world.look(|state| state.attached -= 1);
    }
}

#[async_trait]
impl Fleet for SimFleet {
    fn reach(&self, _: Vec<Reach>) {}

    async fn first_contact(&self) {
        let master = self.world.look(|state| {
            let mut masters = state.nodes.iter().filter(|(_, node)| node.role == Role::Master);
            masters.next().map(|(name, _)| name.clone())
        });
        if let Some(master) = master {
            self.trip(&master, |latency| latency.publish).await;
        }
    }

    async fn enroll(&self, enrollment: &Enrollment) -> Result<(), Failure> {
        let name = &enrollment.reach.peer.name;
        self.until_up(name).await;
        self.trip(name, |latency| latency.enroll).await;
        self.world.change(|state| {
            let unreached = |why: &str| {
                Err(Failure::new(FailureClass::NotReady, format!("cannot log in to {name}: {why}")))
            };
            let Some(node) = state.nodes.get_mut(name) else { return unreached("there is no such machine") };
            if node.system != System::Up || node.is_frozen() {
                return unreached("nobody answers");
            }
            if node.agent != Agent::Running {
                node.facts.pinned.insert(enrollment.agent.digest.clone());
                state.admit(name);
            }
            Ok(())
        })
    }

    async fn fill(
        &self,
        node: &NodeName,
        blobs: &[Blob],
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Failure> {
        for blob in blobs {
            self.trip(node, |latency| latency.fill).await;
            self.world.change(|state| fill(state, node, blob))?;
            sent(blob.size);
        }
        Ok(())
    }

    async fn publish(&self, manifests: &[Publication]) -> Result<BTreeMap<NodeName, String>, Failure> {
        let Some(first) = manifests.first() else { return Ok(BTreeMap::new()) };
        self.trip(&first.manifest.node, |latency| latency.publish).await;
        self.world.change(|state| {
            if state.around.masters.is_empty() {
                return Err(Failure::new(FailureClass::Transient, "no master answers"));
            }
            Ok(manifests.iter().filter_map(|publication| take(state, publication).err()).collect())
        })
    }

    async fn news(&self) -> Vec<News> {
        loop {
            let mut changed = std::pin::pin!(self.world.changed.notified());
            changed.as_mut().enable();
            let next = match self.collect() {
                Ok(news) => return news,
                Err(next) => next,
            };
            let millis = next.since(self.world.now());
            tokio::select! {
                biased;
                () = changed => {}
                () = self.world.clock.pass(millis) => {}
            }
        }
    }
}

fn fill(state: &mut State, name: &NodeName, blob: &Blob) -> Result<(), Failure> {
    let Some(node) = state.nodes.get_mut(name).filter(|node| node.is_awake()) else {
        return Err(Failure::new(FailureClass::Transient, format!("{name} does not answer")));
    };
    if node.facts.blobs.insert(blob.digest.clone()) {
        let blobs = node.facts.blobs.clone();
        state.around.masters.insert(name.clone(), blobs);
        state.master_serves();
        if let Some(mut scene) = state.scene(name) {
            scene.speaks();
        }
        if let Some(mut scene) = state.scene(name) {
            scene.decides();
        }
    }
    Ok(())
}

/// The masters take a manifest, unless they hold a newer one, or another of the same generation.
fn take(state: &mut State, publication: &Publication) -> Result<(), (NodeName, String)> {
    let Publication { manifest, content } = publication;
    let name = &manifest.node;
    let refuse = |text: String| Err((name.clone(), text));
    let mut before = 0;
    if let Some(held) = state.held.get(name) {
        let generation = held.manifest.generation;
        if generation > manifest.generation {
            return refuse(format!("generation {generation} is held, and {} is older", manifest.generation));
        }
        if generation == manifest.generation {
            return if held.content == *content {
                Ok(())
            } else {
                refuse(format!("generation {generation} is held with other content"))
            };
        }
        before = held.version;
    }
    let version = state.around.tell(name, before);
    let held = Held { manifest: manifest.clone(), content: content.clone(), version };
    state.held.insert(name.clone(), held);
    state.record(name, || {
        Happened::Published(manifest.generation, manifest.components.iter().map(|c| c.name.clone()).collect())
    });
    let Some(node) = state.nodes.get(name) else { return Ok(()) };
    let Some(rules) = state.sites.get(&node.machine.site) else { return Ok(()) };
    let millis = rules.dice.within(rules.settings.latency.deliver, ("deliver", name, manifest.generation));
    state.agenda.add(state.time.plus(millis), (name, node.run.life), What::Pulls);
    Ok(())
}
