//! Everything that a run on a simulated world takes, for tests and benches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use castrum::cancel::{Cancel, Canceller};
use castrum::engine::{Engine, EngineError, Outcome, ProjectPort, Sites, Tickets};
use castrum::events::{Events, Listener};
use castrum_blueprints::boot::{BootConfig, UserData, user_data};
use castrum_blueprints::desired::Desired;
use castrum_blueprints::event::{Event, What};
use castrum_blueprints::lock::Lock;
use castrum_blueprints::manifest::Peer;
use castrum_blueprints::names::{ComponentName, Digest, NodeName, Role};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Action, Step};
use castrum_blueprints::trust::JoinToken;
use castrum_provider::{BootData, Failure, Provider};
use castrum_provider_sim::{Settings, Sim, World};

use crate::cluster::{Cluster, site};

/// A world, and the project that outlives every engine.
pub struct Rig {
    /// What is declared.
    pub cluster: Cluster,
    /// The world.
    pub world: Arc<World>,
    /// The lock file.
    pub project: Arc<MemoryProject>,
    /// The place.
    pub sim: Arc<Sim>,
}

/// What a run said.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<Event>>>);

impl Heard {
    /// All of it.
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ids of the steps that were begun, in order.
    pub fn started(&self) -> Vec<String> {
        let started = |event: Event| match event.what {
            What::StepStarted { id, .. } => Some(id),
            _ => None,
        };
        self.all().into_iter().filter_map(started).collect()
    }

    /// How many steps failed.
    pub fn failures(&self) -> usize {
        self.all().iter().filter(|event| matches!(event.what, What::StepFailed { .. })).count()
    }
}

impl Listener for Heard {
    fn hear(&mut self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

impl Rig {
    /// An empty world with one site.
    pub fn new(cluster: Cluster, settings: Settings) -> Self {
        let world = World::new(cluster.lock.cluster.clone());
        Self::on(world, cluster, settings)
    }

    /// The same on a world that there is already; the settings take the place of the site's own.
    pub fn on(world: Arc<World>, cluster: Cluster, settings: Settings) -> Self {
        let settings = Settings { cloud: cluster.is_cloud(), ..settings };
        let sim = Arc::new(Sim::with(&world, site(), settings).expect("a world without a file"));
        let project = Arc::new(MemoryProject::new(cluster.lock.clone()));
        Self { cluster, world, project, sim }
    }

    /// Changes how the place behaves from now on.
    pub fn settle(&mut self, settings: Settings) {
        let settings = Settings { cloud: self.cluster.is_cloud(), ..settings };
        self.sim = Arc::new(Sim::with(&self.world, site(), settings).expect("a world without a file"));
    }

    /// What the blueprint and the lock file say now.
    pub fn desired(&self) -> Desired {
        let mut desired = self.cluster.desired_with(&self.project.lock());
        desired.late = (self.sim.abilities().stale_ms > 0).then(site).into_iter().collect();
        desired
    }

    /// A fresh engine, as a new process has it, with what it says and the way to stop it.
    pub fn engine(&self) -> (Engine, Heard, Canceller) {
        let heard = Heard::default();
        let (engine, canceller) = self.engine_that_tells(vec![Box::new(heard.clone())]);
        (engine, heard, canceller)
    }

    /// The same, telling whoever listens.
    pub fn engine_that_tells(&self, listeners: Vec<Box<dyn Listener>>) -> (Engine, Canceller) {
        let (canceller, cancel) = Cancel::new();
        let clock = self.world.clock();
        let provider: Arc<dyn Provider> = Arc::clone(&self.sim) as Arc<dyn Provider>;
        let engine = Engine {
            sites: Sites(BTreeMap::from([(site(), provider)])),
            fleet: self.world.fleet(),
            events: Events::new("test", Arc::clone(&clock), listeners),
            clock,
            project: Arc::clone(&self.project) as Arc<dyn ProjectPort>,
            cancel,
        };
        (engine, canceller)
    }

    /// One `apply`: a fresh engine that converges.
    pub async fn apply(&self) -> Result<(Outcome, Heard), EngineError> {
        let (engine, heard, _canceller) = self.engine();
        Ok((engine.converge(self.desired()).await?, heard))
    }

    /// One `apply`, and more of them where the place took none of several calls in a row: a run that is blind says so
    /// and ends, and the next one looks again.
    pub async fn apply_until_seen(&self) -> Result<Outcome, EngineError> {
        let mut outcome = self.apply().await?.0;
        for _ in 0..4 {
            if outcome.observed.blind.is_empty() {
                break;
            }
            outcome = self.apply().await?.0;
        }
        Ok(outcome)
    }

    /// One `destroy`.
    pub async fn destroy(&self) -> (Outcome, Heard) {
        let (engine, heard, _canceller) = self.engine();
        (engine.destroy().await, heard)
    }
}

/// A project in memory.
#[derive(Debug)]
pub struct MemoryProject {
    lock: Mutex<Lock>,
}

impl MemoryProject {
    /// A project with this lock file.
    pub fn new(lock: Lock) -> Self {
        Self { lock: Mutex::new(lock) }
    }

    /// The lock file as it is now.
    pub fn lock(&self) -> Lock {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl ProjectPort for MemoryProject {
    async fn tickets(
        &self,
        desired: &Desired,
        observed: &Observed,
        steps: &[Step],
    ) -> Result<Tickets, Failure> {
        let masters: Vec<Peer> = desired
            .nodes
            .iter()
            .filter(|(_, node)| node.role == Role::Master)
            .filter_map(|(name, node)| {
                let machine = observed.resources.get(&node.machine)?.machine.as_ref()?;
                Some(Peer { name: name.clone(), address: machine.address? })
            })
            .collect();
        let creates = steps.iter().filter_map(|step| match &step.action {
            Action::Ensure(ensure) if ensure.create => Some((step.action.node()?, ensure.joins)),
            _ => None,
        });
        Ok(creates.map(|(node, joins)| (node.clone(), ticket(desired, &masters, &node, joins))).collect())
    }

    async fn pin_founder(&self, component: &ComponentName, node: &NodeName) -> Result<(), Failure> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.founders.insert(component.clone(), node.clone());
        Ok(())
    }
}

fn ticket(desired: &Desired, masters: &[Peer], node: &NodeName, joins: bool) -> BootData {
    let boot = joins.then(|| BootConfig {
        format_version: BootConfig::FORMAT,
        cluster: desired.cluster.clone(),
        node: node.clone(),
        role: desired.nodes[node].role,
        incarnation: 1,
        expires: 2_000_000_000,
        masters: masters.to_vec(),
        ca: "the certificate of the cluster".to_owned(),
        verify_key: "the key of manifests".to_owned(),
        agent: Some(desired.agent.digest.clone()),
        api_port: BootConfig::PORT,
        former_cas: Vec::new(),
    });
    let token = Digest::of(node.as_str().as_bytes());
    let token = JoinToken::parse(token.as_str()).expect("a digest is as long as a token");
    let keys = Vec::new();
    BootData::new(user_data(&UserData {
        node,
        authorized_keys: keys,
        token: &token,
        disks: Vec::new(),
        joins: boot.as_ref(),
    }))
}

/// Runs on virtual time. Of that, no run takes more than some hours.
pub fn on_sim(run: impl Future<Output = ()>) {
    let limited = async { tokio::time::timeout(Duration::from_hours(6), run).await };
    castrum_provider_sim::runtime().expect("a runtime").block_on(limited).expect("every run ends");
}
