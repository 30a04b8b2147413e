//! A world: everything that exists in all simulated sites of one cluster, for as long as the process or its file lives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use castrum_blueprints::names::{ClusterId, ComponentName, NodeName, ResourcePath, Timestamp};
use castrum_blueprints::node::UnitState;
use castrum_provider::{Clock, Fleet};
use tokio::sync::Notify;

use crate::audit::{Audit, Happening};
use crate::clock::SimClock;
use crate::file::{Keeper, WorldError};
use crate::fleet::SimFleet;
use crate::state::State;

/// Everything that exists in the simulated sites of one cluster. All of them, and all installers, share one.
#[derive(Debug)]
pub struct World {
    state: Mutex<State>,
    keeper: Mutex<Option<Keeper>>,
    pub(crate) clock: SimClock,
    /// Somebody changed something.
    pub(crate) changed: Notify,
    /// Whether it was read from a file, and nobody has waited yet for its agents to be back.
    wakes: AtomicBool,
}

/// How long the agents of a world that is read from its file go on before anybody asks them: time for every check.
const WAKING_MS: u64 = 60_000;

impl World {
    /// A world in which nothing exists yet.
    pub fn new(cluster: ClusterId) -> Arc<Self> {
        let state = Mutex::new(State::new(cluster));
        let (clock, changed) = (SimClock::default(), Notify::new());
        Arc::new(Self { state, keeper: Mutex::new(None), clock, changed, wakes: AtomicBool::new(false) })
    }

    /// Another world that is as this one is now, down to what is under way; no installer is there yet, and no file.
    pub fn copy(&self) -> Arc<Self> {
        let mut state = self.look(|state| state.clone());
        state.attached = 0;
        let clock = SimClock::default();
        clock.go_on_from(state.time);
        let (keeper, wakes) = (Mutex::new(None), AtomicBool::new(false));
        Arc::new(Self { state: Mutex::new(state), keeper, clock, changed: Notify::new(), wakes })
    }

    /// Keeps the world in a file, from which it goes on if it is there.
    pub(crate) fn keep_in(&self, path: PathBuf) -> Result<(), WorldError> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = &*keeper {
            return keeper.is_of(&path);
        }
        let mut state = self.lock();
        let (kept, at) = Keeper::open(path, &mut state)?;
        if let Some(at) = at {
            self.clock.go_on_from(at);
            self.wakes.store(true, Ordering::Relaxed);
        }
        *keeper = Some(kept);
        Ok(())
    }

    /// Lets a world that was read from its file come to itself: nodes do not stand still between two commands.
    pub(crate) async fn awake(&self) {
        if self.wakes.swap(false, Ordering::Relaxed) {
            self.clock.pass(WAKING_MS).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the world as it is now.
    pub(crate) fn look<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let now = self.clock.time();
        let mut state = self.lock();
        state.advance(now);
        work(&mut state)
    }

    /// Changes the world, and lets everybody know.
    pub(crate) fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let result = self.look(|state| {
            let result = work(state);
            state.advance(state.time);
            if let Some(keeper) = &mut *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) {
                keeper.save(state, false);
            }
            result
        });
        self.changed.notify_waiters();
        result
    }

    /// The nodes, as one installer talks to them. While it exists, nodes that ask to join are admitted.
    pub fn fleet(self: &Arc<Self>) -> Arc<dyn Fleet> {
        Arc::new(SimFleet::attach(Arc::clone(self)))
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    /// Counts what must never be, and what there is.
    pub fn audit(&self) -> Audit {
        self.look(|state| {
            let many = state.place.resources.iter().filter(|(_, all)| all.len() > 1);
            let twice = state.around.founders.iter().filter(|(_, founders)| founders.len() > 1);
            Audit {
                duplicates: many.map(|(path, all)| (path.clone(), all.len())).collect(),
                founded_twice: twice.map(|(name, founders)| (name.clone(), founders.clone())).collect(),
                resources: state.place.resources.values().map(Vec::len).sum(),
                made: state.place.made,
                agents: state.nodes.values().filter(|node| node.is_awake()).count(),
            }
        })
    }

    /// How many calls each verb has had: `observe`, `ensure`, `remove`, `power`; those that were refused count as well.
    pub fn calls(&self) -> BTreeMap<String, u32> {
        self.look(|state| {
            let mut verbs = BTreeMap::new();
            for (name, count) in state.calls() {
                if let [_, verb, _] = name.split('/').collect::<Vec<_>>().as_slice() {
                    *verbs.entry((*verb).to_owned()).or_insert(0) += count;
                }
            }
            verbs
        })
    }

    /// The labels of everything that exists.
    pub fn resources(&self) -> BTreeSet<ResourcePath> {
        self.look(|state| state.place.resources.keys().cloned().collect())
    }

    /// What every node runs, in words that do not depend on when or in which order it came about.
    pub fn portrait(&self) -> BTreeMap<NodeName, Vec<String>> {
        self.look(|state| {
            let lines = |node: &crate::node::Node| {
                let status = node.run.status.as_ref();
                let components = status.into_iter().flat_map(|status| &status.components);
                let line =
                    |(name, component): (&ComponentName, &castrum_blueprints::status::ComponentStatus)| {
                        let member = node.facts.components.get(name).is_some_and(|held| held.member);
                        format!("{name} {}{}", component.phase, if member { ", member" } else { "" })
                    };
                components.map(line).collect()
            };
            state.nodes.iter().map(|(name, node)| (name.clone(), lines(node))).collect()
        })
    }

    /// Writes down from now on what happens, for [`Self::happenings`].
    pub fn record(&self) {
        self.look(|state| state.record = Some(Vec::new()));
    }

    /// What happened since [`Self::record`] was called.
    pub fn happenings(&self) -> Vec<Happening> {
        self.look(|state| state.record.clone().unwrap_or_default())
    }

    /// Hangs a node: it stops, and nobody outside can tell why it is silent.
    pub fn hang(&self, node: &NodeName) {
        self.change(|state| state.freeze(node, |node| node.hung = true));
    }

    /// Lets a hung or paused node go on.
    pub fn thaw(&self, node: &NodeName) {
        self.change(|state| {
            state.thaw(node);
            let path = state.nodes.get(node).map(|node| node.machine.clone());
            let machine = path.and_then(|path| state.place.find_mut(&path)?.machine.as_mut());
            if let Some(machine) = machine {
                machine.power = castrum_provider::PowerState::On;
            }
        });
    }

    /// Ends a node's agent as `kill -9` does; the service manager starts another.
    pub fn kill_agent(&self, node: &NodeName) {
        self.change(|state| {
            if let Some(node) = state.nodes.get_mut(node).filter(|node| node.is_awake()) {
                node.lose_memory();
            }
            state.agent_runs(node);
        });
    }

    /// Ends a component's process on a node; its unit has failed then.
    pub fn crash(&self, node: &NodeName, component: &ComponentName) {
        self.change(|state| {
            if let Some(held) =
                state.nodes.get_mut(node).and_then(|node| node.facts.components.get_mut(component))
            {
                held.unit.state = UnitState::Failed;
                held.checks.clear();
            }
            if let Some(mut scene) = state.scene(node) {
                scene.decides();
            }
        });
    }

    /// When a node's word was last new: once all is well, when it became so.
    pub fn last_change(&self) -> Timestamp {
        self.look(|state| {
            let words = state.nodes.values().filter_map(|node| node.run.status.as_ref());
            words.map(|status| status.at).max().unwrap_or_default()
        })
    }

    /// The time in the world.
    pub fn now(&self) -> Timestamp {
        self.clock.time()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper {
            keeper.save(state, true);
        }
    }
}
