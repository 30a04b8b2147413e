//! Machines that are in the account, with nodes that are simulated: moto's instances do not boot.
//!
//! ```text
//!   engine ──▶ Twin ──▶ castrum-provider-aws ──▶ the peer     everything that is made
//!                └────▶ a simulated world                     a node for each machine that is there, and none without
//! ```
//!
//! Nothing is made in the simulated world but nodes, and a node lives as long as its instance: another instance under the
//! same name is another node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use castrum_blueprints::names::{ResourceKind, ResourcePath};
use castrum_provider::{
    Abilities, Attachments, Ensured, Failure, Images, Observation, Power, PowerState, ProcessProvider,
    Provider, Removed, ResourceSeen, ResourceSpec, Wanted,
};
use castrum_provider_sim::{Settings, Sim, World};

use crate::cluster::site;

/// A site whose machines are real to its place and whose nodes are simulated.
pub struct Twin {
    cloud: Arc<ProcessProvider>,
    world: Arc<World>,
    sim: Sim,
    /// What each machine was asked for with, also when no answer came.
    wanted: Mutex<BTreeMap<ResourcePath, Wanted>>,
    /// The instance that each simulated node stands for.
    paired: Mutex<BTreeMap<ResourcePath, String>>,
}

/// What each machine was asked for with, and the instance that its node stands for.
pub type Pairs = (BTreeMap<ResourcePath, Wanted>, BTreeMap<ResourcePath, String>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Twin {
    /// Nodes in `world` for the machines that `cloud` makes.
    pub fn new(cloud: Arc<ProcessProvider>, world: &Arc<World>) -> Self {
        let sim = Sim::with(world, site(), Settings::instant()).expect("a world without a file");
        let world = Arc::clone(world);
        Self { cloud, world, sim, wanted: Mutex::default(), paired: Mutex::default() }
    }

    /// The same for another process of the provider: the nodes are the same.
    #[must_use]
    pub fn with(&self, cloud: Arc<ProcessProvider>) -> Self {
        Self::of(cloud, &self.world, self.pairs())
    }

    /// The twin of a place of which this is known.
    pub fn of(cloud: Arc<ProcessProvider>, world: &Arc<World>, (wanted, paired): Pairs) -> Self {
        let (wanted, paired) = (Mutex::new(wanted), Mutex::new(paired));
        Self { wanted, paired, ..Self::new(cloud, world) }
    }

    /// What is known of machines now.
    pub fn pairs(&self) -> Pairs {
        (lock(&self.wanted).clone(), lock(&self.paired).clone())
    }

    /// Lets the node of a machine be what the machine is.
    async fn pair(&self, seen: &mut ResourceSeen) {
        let before = lock(&self.paired).get(&seen.path).cloned();
        if before.as_ref() != Some(&seen.id) {
            self.part(&seen.path).await;
            let wanted = lock(&self.wanted).get(&seen.path).cloned();
            let Some(wanted) = wanted.map(alone) else { return };
            self.sim.ensure(&wanted).await.expect("a simulated place takes every machine");
            lock(&self.paired).insert(seen.path.clone(), seen.id.clone());
        }
        let node = self.sim.observe().await.seen.remove(&seen.path).and_then(|seen| seen.machine);
        if let (Some(machine), Some(node)) = (&mut seen.machine, node) {
            // The engine goes by the clock of the simulated world.
            machine.created_at = node.created_at;
            let power = self.sim.power().expect("it has power control");
            if machine.power == PowerState::Off && node.power != PowerState::Off {
                power.set(&seen.path, PowerState::Off).await.expect("it is there");
            }
            if machine.power == PowerState::On && node.power == PowerState::Off {
                power.set(&seen.path, PowerState::On).await.expect("it is there");
            }
        }
    }

    /// The machine is gone, and its node with it.
    async fn part(&self, path: &ResourcePath) {
        lock(&self.paired).remove(path);
        self.sim.remove(path).await.expect("a simulated place lets go");
    }
}

/// What a simulated node is made from: what its machine stands on is in the account.
fn alone(mut wanted: Wanted) -> Wanted {
    if let ResourceSpec::Machine(spec) = &mut wanted.spec {
        spec.attached = Attachments::default();
    }
    wanted
}

#[async_trait]
impl Provider for Twin {
    fn abilities(&self) -> Abilities {
        self.cloud.abilities()
    }

    async fn observe(&self) -> Observation {
        let taken_at = self.world.now();
        let mut look = self.cloud.observe().await;
        look.taken_at = taken_at;
        for seen in look.seen.values_mut().filter(|seen| seen.path.kind == ResourceKind::Machine) {
            self.pair(seen).await;
        }
        let paired: Vec<ResourcePath> = lock(&self.paired).keys().cloned().collect();
        if look.blind.is_empty() {
            for path in paired.iter().filter(|path| !look.seen.contains_key(path)) {
                self.part(path).await;
            }
        }
        look
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        if wanted.path.kind != ResourceKind::Machine {
            return self.cloud.ensure(wanted).await;
        }
        if wanted.boot_data.is_some() || !lock(&self.wanted).contains_key(&wanted.path) {
            lock(&self.wanted).insert(wanted.path.clone(), wanted.clone());
        }
        let mut ensured = self.cloud.ensure(wanted).await?;
        self.pair(&mut ensured.seen).await;
        Ok(ensured)
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        let removed = self.cloud.remove(path).await?;
        if path.kind == ResourceKind::Machine {
            self.part(path).await;
        }
        Ok(removed)
    }

    fn power(&self) -> Option<&dyn Power> {
        self.cloud.power()
    }

    fn images(&self) -> Option<&dyn Images> {
        self.cloud.images()
    }

    async fn preflight(&self) -> Vec<Failure> {
        self.cloud.preflight().await
    }
}
