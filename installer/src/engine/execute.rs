//! Carrying out steps. Each becomes a job that ends with its effect, or with a classified failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::desired::{Desired, DesiredNode};
use castrum_blueprints::event::What;
use castrum_blueprints::manifest::{Blob, Peer};
use castrum_blueprints::names::{ComponentName, NodeName, ResourcePath, Role};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Action, EnsureStep, Step};
use castrum_blueprints::resource::ResourceSpec;
use castrum_provider::{
    BootData, Change, Enrollment, Ensured, Failure, FailureClass, Publication, Reach, Removed, ResourceSeen,
    Wanted,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Engine;
use super::pace::{LaneKey, Pace};

/// Steps under way; publications travel together, so a job may end several.
pub(super) type Job<'e> = BoxFuture<'e, Vec<Done>>;

/// A step that ended.
pub(super) struct Done {
    pub(super) step: String,
    pub(super) result: Result<Effect, Failed>,
}

/// A step that failed.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// Whether it took all the time that it may have: it is not tried again in this run.
    pub(super) late: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, late: false }
    }
}

/// What a step did.
pub(super) enum Effect {
    Ensured(Box<ResourceSeen>, Change),
    Removed(ResourcePath, Removed),
    Enrolled(NodeName),
    Readmitted(NodeName),
    Filled(NodeName, Vec<Blob>),
    Founded(ComponentName, NodeName),
    Published(Publication),
}

impl Effect {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Ensured(seen, change) => match seen.machine.as_ref().and_then(|machine| machine.address) {
                Some(address) => format!("{} at {address}", word(*change)),
                None => word(*change).to_owned(),
            },
            Self::Removed(_, Removed::Removed) => "removed".to_owned(),
            Self::Removed(_, Removed::Absent) => "was gone already".to_owned(),
            Self::Enrolled(_) => "the agent runs".to_owned(),
            Self::Readmitted(_) => "it has changed over".to_owned(),
            Self::Filled(_, blobs) => format!("{} bundles are there", blobs.len()),
            Self::Founded(_, node) => format!("pinned to {node}"),
            Self::Published(publication) => format!("{} components", publication.manifest.components.len()),
        }
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Changed => "changed",
        Change::Unchanged => "unchanged",
    }
}

/// What only the project has, and steps need: one-time tokens in boot data, and the lock file.
#[async_trait]
pub trait ProjectPort: Send + Sync {
    /// The boot data of every machine that the steps create, made together.
    async fn tickets(
        &self,
        desired: &Desired,
        observed: &Observed,
        steps: &[Step],
    ) -> Result<Tickets, Failure>;

    /// Pins a component's founder in the lock file; it is safely on disk before this returns.
    async fn pin_founder(&self, component: &ComponentName, node: &NodeName) -> Result<(), Failure>;
}

/// Boot data by node.
pub type Tickets = BTreeMap<NodeName, BootData>;

/// No call takes longer than this; building an image may.
const STEP_DEADLINE: Duration = Duration::from_mins(30);
/// No removal takes longer than this: one that hangs does not keep a destroy from its end.
const REMOVE_DEADLINE: Duration = Duration::from_mins(5);

pub(super) fn jobs<'e>(
    (engine, pace): (&'e Engine, &Arc<Pace>),
    steps: Vec<Step>,
    (desired, observed): (&Desired, &Observed),
    mut tickets: Tickets,
) -> Vec<Job<'e>> {
    let mut jobs: Vec<Job<'e>> = Vec::new();
    let mut publications = Vec::new();
    for Step { id, action, .. } in steps {
        let work = match action {
            Action::Ensure(step) => {
                let node = step.path.name.parse::<NodeName>().ok();
                let boot_data = node.and_then(|node| tickets.remove(&node));
                ensure(engine, Arc::clone(pace), step, boot_data).boxed()
            }
            Action::Remove { path } => remove(engine, Arc::clone(pace), path).boxed(),
            Action::Enroll { node, .. } => {
                within(STEP_DEADLINE, enroll(engine, node, desired, observed)).boxed()
            }
            Action::Readmit { node, .. } => {
                within(STEP_DEADLINE, readmit(engine, node, desired, observed)).boxed()
            }
            Action::Fill { node, blobs } => {
                within(STEP_DEADLINE, fill(engine, id.clone(), node, blobs)).boxed()
            }
            Action::Found { component, node } => {
                within(STEP_DEADLINE, found(engine, component, node)).boxed()
            }
            Action::Publish { manifest, content } => {
                publications.push((id, Publication { manifest, content }));
                continue;
            }
        };
        jobs.push(job(id, work));
    }
    if !publications.is_empty() {
        jobs.push(publish(engine, publications).boxed());
    }
    jobs
}

pub(super) fn removal<'e>(engine: &'e Engine, pace: &Arc<Pace>, step: &Step) -> Job<'e> {
    match &step.action {
        Action::Remove { path } => {
            job(step.id.clone(), remove(engine, Arc::clone(pace), path.clone()).boxed())
        }
        _ => failed(step.id.clone(), Failure::new(FailureClass::Invalid, "a destroy only removes")),
    }
}

pub(super) fn failed(step: String, failure: Failure) -> Job<'static> {
    std::future::ready(vec![Done { step, result: Err(failure.into()) }]).boxed()
}

fn job(step: String, work: BoxFuture<'_, Result<Effect, Failed>>) -> Job<'_> {
    async move { vec![Done { step, result: work.await }] }.boxed()
}

async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failed> {
    let ended = tokio::time::timeout(deadline, work).await;
    ended.map_or_else(|_| Err(late(deadline)), |result| result.map_err(Failed::from))
}

fn late(deadline: Duration) -> Failed {
    let message = format!("no answer within {} seconds", deadline.as_secs());
    Failed { failure: Failure::new(FailureClass::Transient, message), late: true }
}

/// A call to a place, sent as fast as the place takes them; only the call itself counts against its deadline.
async fn call<T, F: Future<Output = Result<T, Failure>>>(
    (engine, pace): (&Engine, Arc<Pace>),
    (lane, deadline): (LaneKey, Duration),
    call: impl Fn() -> F,
) -> Result<T, Failed> {
    let timed = || async { tokio::time::timeout(deadline, call()).await.map_or(Ok(None), |r| r.map(Some)) };
    let answer = pace.send(lane, (&*engine.clock, &engine.cancel), timed).await?;
    answer.ok_or_else(|| late(deadline))
}

async fn ensure(
    engine: &Engine,
    pace: Arc<Pace>,
    step: EnsureStep,
    boot_data: Option<BootData>,
) -> Result<Effect, Failed> {
    let EnsureStep { path, spec, .. } = step;
    let provider = engine.sites.of(&path).ok_or_else(|| no_site(&path))?;
    let lane = (path.site.clone(), Some(path.kind));
    let wanted = Wanted { path, spec, generation: 0, boot_data };
    let ensured = call((engine, pace), (lane, STEP_DEADLINE), || provider.ensure(&wanted)).await;
    let Ensured { change, seen } = ensured?;
    Ok(Effect::Ensured(Box::new(seen), change))
}

async fn remove(engine: &Engine, pace: Arc<Pace>, path: ResourcePath) -> Result<Effect, Failed> {
    let provider = engine.sites.of(&path).ok_or_else(|| no_site(&path))?;
    let lane = (path.site.clone(), None);
    let removed = call((engine, pace), (lane, REMOVE_DEADLINE), || provider.remove(&path)).await?;
    Ok(Effect::Removed(path, removed))
}

fn no_site(path: &ResourcePath) -> Failure {
    let message = format!("`{path}` is in a site that the blueprint does not declare");
    Failure::new(FailureClass::Invalid, message)
}

/// A node and where it is reached, once its machine has an address.
pub(super) fn reach(
    name: &NodeName,
    node: &DesiredNode,
    desired: &Desired,
    observed: &Observed,
) -> Option<Reach> {
    let machine = observed.resources.get(&node.machine)?.machine.as_ref()?;
    let existing = match desired.resources.get(&node.machine) {
        Some(ResourceSpec::Machine(spec)) => spec.existing.clone(),
        _ => None,
    };
    let peer = Peer { name: name.clone(), address: machine.address? };
    let address = machine.public_address.or(machine.address)?;
    Some(Reach { peer, role: node.role, address, existing })
}

fn enrollment(name: &NodeName, desired: &Desired, observed: &Observed) -> Result<Enrollment, Failure> {
    let node = desired.nodes.get(name);
    let Some(reach) = node.and_then(|node| reach(name, node, desired, observed)) else {
        let message = format!("the machine of {name} has no address");
        return Err(Failure::new(FailureClass::NotReady, message));
    };
    let masters = desired.nodes.iter().filter(|(_, node)| node.role == Role::Master);
    let masters = masters.filter_map(|(name, node)| Some(self::reach(name, node, desired, observed)?.peer));
    Ok(Enrollment { reach, masters: masters.collect(), agent: desired.agent.clone() })
}

fn enroll<'e>(
    engine: &'e Engine,
    name: NodeName,
    desired: &Desired,
    observed: &Observed,
) -> BoxFuture<'e, Result<Effect, Failure>> {
    let enrollment = enrollment(&name, desired, observed);
    async move {
        engine.fleet.enroll(&enrollment?).await?;
        Ok(Effect::Enrolled(name))
    }
    .boxed()
}

fn readmit<'e>(
    engine: &'e Engine,
    name: NodeName,
    desired: &Desired,
    observed: &Observed,
) -> BoxFuture<'e, Result<Effect, Failure>> {
    let enrollment = enrollment(&name, desired, observed);
    async move {
        engine.fleet.readmit(&enrollment?).await?;
        Ok(Effect::Readmitted(name))
    }
    .boxed()
}

async fn fill(engine: &Engine, id: String, node: NodeName, blobs: Vec<Blob>) -> Result<Effect, Failure> {
    let total = blobs.iter().map(|blob| blob.size).sum();
    let (sent, told) = (AtomicU64::new(0), AtomicU64::new(0));
    let progress = |bytes: u64| {
        let done = sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // A word every eighth of the way is enough for people and small for the journal.
        if done.saturating_sub(told.load(Ordering::Relaxed)) >= total / 8 {
            told.store(done, Ordering::Relaxed);
            engine.events.say(What::StepProgress { id: id.clone(), done, total });
        }
    };
    engine.fleet.fill(&node, &blobs, &progress).await?;
    Ok(Effect::Filled(node, blobs))
}

async fn found(engine: &Engine, component: ComponentName, node: NodeName) -> Result<Effect, Failure> {
    engine.project.pin_founder(&component, &node).await?;
    Ok(Effect::Founded(component, node))
}

async fn publish(engine: &Engine, steps: Vec<(String, Publication)>) -> Vec<Done> {
    let (ids, publications): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let answer = engine.fleet.publish(&publications).await;
    let ended = ids.into_iter().zip(publications).map(|(step, publication)| {
        let result = match &answer {
            Err(failure) => Err(failure.clone().into()),
            Ok(refused) => match refused.get(&publication.manifest.node) {
                // Somebody else published meanwhile: the next plan is made against what they did.
                Some(reason) => {
                    Err(Failure::new(FailureClass::NotReady, format!("refused: {reason}")).into())
                }
                None => Ok(Effect::Published(publication)),
            },
        };
        Done { step, result }
    });
    ended.collect()
}
