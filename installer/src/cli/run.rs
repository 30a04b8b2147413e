//! `plan`, `apply`, `destroy`: the commands that go through the loop.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use castrum_blueprints::desired::Desired;
use castrum_blueprints::event::What;
use castrum_blueprints::lock::Lock;
use castrum_blueprints::names::{Digest, NodeName, Role};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Area, Forecast, Progress, forecast, masters_to_pin};
use castrum_blueprints::status::Phase;
use castrum_provider::{Clock, Fleet};
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

use super::args::{Apply, Destroy, Format, Global, Plan as PlanArgs};
use super::context::{Context, assumed_lock, cache, clock, fleet, real_fleet};
use super::fault::{Fault, code};
use super::hold::{guard, still_held, tenure};
use super::interrupt::{STOPPING, interruptible};
use super::nobody::Nobody;
use super::output::{self, print, print_json};
use crate::cancel::Cancel;
use crate::engine::{Engine, Outcome, ProjectPort, Sites};
use crate::events::{Events, Listener};
use crate::pin::{PinError, pin, pin_images};
use crate::project::{Journal, Project, read_journal, runs, write_whole};
use crate::trust::{TrustedProject, unix_seconds};
use crate::view::World;
use crate::view::finish_view::{Finish, destroyed_text, finish_text};
use crate::view::plan_view::{plan_json, plan_text};
use crate::view::screen::HumanScreen;

/// What a plan looks at: the cluster as it is, as far as it can be seen without changing anything.
pub(super) struct Preview {
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    pub(super) sites: Sites,
    pub(super) clock: Arc<dyn Clock>,
}

/// Looks at the cluster of `context`; nothing is written.
pub(super) async fn preview(context: &Context, lock: Option<Lock>) -> Result<Preview, Fault> {
    let exists = lock.is_some();
    let lock = assumed_lock(context, lock);
    let sites = context.sites(&lock.cluster).await?;
    let desired = context.desired(&lock, &sites)?;
    let clock = clock(&sites);
    let trust = (exists && has_keyring(context)?).then(|| context.trust(&lock.cluster)).transpose()?;
    let own = sites.0.values().find_map(|provider| provider.within());
    let fleet: Arc<dyn Fleet> = match (own, &trust) {
        (Some(own), _) => own.fleet,
        (None, Some(trust)) => Arc::new(real_fleet(&lock.cluster, trust)?),
        (None, None) => Arc::new(Nobody),
    };
    let observed = if exists {
        let events = Events::new("look", Arc::clone(&clock), Vec::new());
        let (_, cancel) = Cancel::new();
        let engine = Engine {
            sites: sites.clone(),
            fleet,
            clock: Arc::clone(&clock),
            project: Arc::new(Nobody),
            events,
            cancel,
        };
        engine.observe(&desired).await
    } else {
        // Nothing was ever made: there is no label to look for.
        Observed { taken_at: clock.now(), ..Observed::default() }
    };
    Ok(Preview { desired, observed, sites, clock })
}

/// A cluster that is listened to.
pub(super) struct Watched {
    pub(super) engine: Engine,
    pub(super) desired: Desired,
}

/// Gets ready to listen to the cluster of `context`; nothing is written.
pub(super) async fn watch(context: &Context, lock: &Lock) -> Result<Watched, Fault> {
    let sites = context.sites(&lock.cluster).await?;
    let desired = context.desired(&assumed_lock(context, Some(lock.clone())), &sites)?;
    let trust = context.trust(&lock.cluster)?;
    let (fleet, clock) = (fleet(&lock.cluster, &sites, &trust)?, clock(&sites));
    let events = Events::new("look", Arc::clone(&clock), Vec::new());
    let (_, cancel) = Cancel::new();
    let engine = Engine { sites, fleet, clock, project: Arc::new(Nobody), events, cancel };
    Ok(Watched { engine, desired })
}

impl Preview {
    /// The masters to pin in the lock file; refused where the cluster was made with others.
    fn masters(&self, lock: Option<&Lock>) -> Result<BTreeSet<NodeName>, Fault> {
        let pinned = lock.map(|lock| lock.masters.clone()).unwrap_or_default();
        masters_to_pin(&pinned, &self.desired, &self.observed).map_err(|error| {
            Fault::of(code::REFUSED, &error).hint(
                "masters cannot be added, removed, renamed or replaced yet: declare those that there are",
            )
        })
    }

    pub(super) fn forecast(&self) -> Result<Forecast, Fault> {
        let forecast = forecast(&self.desired, &self.observed, self.clock.now());
        forecast.map_err(|error| Fault::of(code::BLUEPRINT, &error))
    }
}

/// A plan kept in a file.
#[derive(Serialize, Deserialize)]
struct SavedPlan {
    format_version: u32,
    kind: String,
    blueprint: PathBuf,
    /// The digest of blueprint, lock file and steps: what the apply must find again.
    digest: Digest,
}

const SAVED_PLAN: &str = "castrum-plan";

fn plan_digest(project: &Project, forecast: &Forecast) -> Result<Digest, Fault> {
    let blueprint = project.read_blueprint().map_err(|error| Fault::of(code::BLUEPRINT, &error))?;
    let lock = project.read_lock()?;
    let steps: Vec<_> = forecast.rounds.iter().map(|round| &round.steps).collect();
    let all =
        serde_json::to_vec(&(blueprint, lock, steps)).map_err(|error| Fault::of(code::ERROR, &error))?;
    Ok(Digest::of(&all))
}

/// `castrum plan`.
pub(super) async fn plan(args: &PlanArgs, global: &Global) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    output::note(&context.warnings);
    let lock = context.lock()?;
    let preview = preview(&context, lock.clone()).await?;
    preview.masters(lock.as_ref())?;
    warn_without_keyring(&context, &preview.observed)?;
    let forecast = preview.forecast()?;
    match global.output {
        Format::Table => {
            print(&plan_text(&forecast, &preview.observed, &output::opts(global, preview.clock.now())));
        }
        format => print_json(&plan_json(&forecast, &preview.observed), format),
    }
    if let Some(path) = &args.out {
        let saved = SavedPlan {
            format_version: 1,
            kind: SAVED_PLAN.to_owned(),
            blueprint: std::path::absolute(&args.blueprint.file)
                .unwrap_or_else(|_| args.blueprint.file.clone()),
            digest: plan_digest(&context.project, &forecast)?,
        };
        let text = serde_json::to_vec_pretty(&saved).map_err(|error| Fault::of(code::ERROR, &error))?;
        write_whole(path, &text, 0o600).map_err(|error| {
            Fault::new(code::ERROR, format!("cannot write `{}`: {error}", path.display()))
        })?;
        output::note(&format!("kept in `{0}`; carry it out with `castrum apply {0}`\n", path.display()));
    }
    let differs = forecast.rounds.iter().any(|round| !round.steps.is_empty() || !round.debt.is_empty());
    Ok(if args.detailed_exitcode && differs { code::DIFFERENCES } else { code::DONE })
}

/// The blueprint that `file` is, or that the plan kept in `file` was made from.
pub(super) fn saved_plan(file: &Path) -> Result<(PathBuf, Option<Digest>), Fault> {
    let is_json = std::fs::File::open(file).is_ok_and(|mut open| {
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut open, &mut first).is_ok() && first == *b"{"
    });
    if !is_json {
        return Ok((file.to_owned(), None));
    }
    let text = std::fs::read(file).map_err(|error| Fault::of(code::ERROR, &error))?;
    match serde_json::from_slice::<SavedPlan>(&text) {
        Ok(saved) if saved.kind == SAVED_PLAN && saved.format_version == 1 => {
            Ok((saved.blueprint, Some(saved.digest)))
        }
        _ => Ok((file.to_owned(), None)),
    }
}

/// `castrum apply`, of a blueprint or of what a plan of it was kept as.
pub(super) async fn apply(
    args: &Apply,
    (blueprint, digest): (&Path, Option<Digest>),
    global: &Global,
) -> Result<u8, Fault> {
    let context = Context::load(blueprint)?;
    output::note(&context.warnings);
    let run = run_id();
    let _guard = guard(&context.project, &run, "apply")?;
    let lock = context.lock()?;
    let preview = preview(&context, lock.clone()).await?;
    preview.masters(lock.as_ref())?;
    let forecast = preview.forecast()?;
    if digest.is_some_and(|digest| plan_digest(&context.project, &forecast).ok() != Some(digest)) {
        let text = "the plan is stale: blueprint, lock file or world have changed since";
        return Err(Fault::new(code::STALE, text)
            .hint(format!("make it anew with `castrum plan {} --out ...`", blueprint.display())));
    }
    preflight(&preview.sites).await?;
    refuse_without_keyring(&context, &preview.observed)?;
    let differs = forecast.rounds.iter().any(|round| !round.steps.is_empty());
    if differs && global.output == Format::Table {
        let opts = output::note_opts(global, preview.clock.now());
        output::note(&plan_text(&forecast, &preview.observed, &opts));
    }
    if differs && !args.yes {
        ask("Carry this out? Only `yes` is taken for a yes: ", "yes")?;
    }
    let started = Started::begin(&context, preview, &run, ("apply", global)).await?;
    let forced = started.engine.cancel.clone();
    let outcome = tokio::select! {
        outcome = started.engine.converge(started.desired.clone()) => outcome,
        () = forced.wait_for_force() => return Ok(code::INTERRUPTED),
    };
    let outcome = outcome.map_err(|error| Fault::of(code::ERROR, &error))?;
    still_held(&context.project)?;
    let ended = exit_code(&outcome, &started.desired);
    started.finish(&context, &outcome, ended, global);
    Ok(ended)
}

/// A run that has begun: pinned, with keyring and fleet.
struct Started {
    engine: Engine,
    desired: Desired,
    lock: Lock,
    _interrupts: tokio::task::JoinHandle<()>,
}

impl Started {
    async fn begin(
        context: &Context,
        preview: Preview,
        run: &str,
        (verb, global): (&str, &Global),
    ) -> Result<Self, Fault> {
        let project = &context.project;
        let mut lock = project.lock_or_new(&context.blueprint.name)?;
        lock.masters = preview.masters(Some(&lock))?;
        project.write_lock(&lock)?;
        let keyring = context.keyring(&lock.cluster)?;
        let fault = |error: &dyn std::error::Error| Fault::of(code::ERROR, error);
        keyring
            .open_or_create(unix_seconds(), &SystemRandom::new())
            .map_err(|error| fault(&error).hint(error.remedy()))?;
        let trust = context.trust(&lock.cluster)?;
        let events = events(context, &preview.clock, run, global)?;
        events.say(What::RunStarted { verb: verb.to_owned(), cluster: lock.cluster.clone() });
        if context.is_simulated() {
            // Nothing is shipped to nodes that are not there.
            lock = assumed_lock(context, Some(lock));
        } else {
            let pinned = pin((&context.stack, &context.files), &mut lock, &cache()?, &events).await;
            pinned.map_err(|error| pin_fault(&error))?;
        }
        pin_images(&preview.sites, &mut lock).await.map_err(|error| pin_fault(&error))?;
        project.write_lock(&lock)?;
        let sites = context.sites(&lock.cluster).await?;
        let desired = context.desired(&lock, &sites)?;
        let (fleet, clock) = (fleet(&lock.cluster, &sites, &trust)?, clock(&sites));
        let (cancel, interrupts) = interruptible(STOPPING);
        let cancel = cancel.bound_to(tenure(project));
        let project: Arc<dyn ProjectPort> = Arc::new(TrustedProject { trust, project: Arc::clone(project) });
        let engine = Engine { sites, fleet, clock, project, events, cancel };
        Ok(Self { engine, desired, lock, _interrupts: interrupts })
    }

    fn finish(&self, context: &Context, outcome: &Outcome, ended: u8, global: &Global) {
        let debt = outcome.plan.debt.clone();
        self.engine.events.say(What::RunFinished { progress: outcome.progress, debt, code: ended });
        if global.output != Format::Table {
            return;
        }
        let (events, _) = read_journal(&context.project.journal_path()).unwrap_or_default();
        let run = runs(events).pop().unwrap_or_default();
        // The lock file as it is now: the run may have pinned founders.
        let lock = context.lock().ok().flatten().unwrap_or_else(|| self.lock.clone());
        let world = World {
            desired: &self.desired,
            observed: &outcome.observed,
            plan: &outcome.plan,
            lock: &lock,
            stack: &context.stack,
        };
        let blueprint = context.project.blueprint_path().display().to_string();
        let finish = Finish { world, events: &run, blueprint: &blueprint, code: ended };
        let opts = output::note_opts(global, self.engine.clock.now());
        output::note(&finish_text(&finish, &opts));
    }
}

/// `castrum destroy`.
pub(super) async fn destroy(args: &Destroy, global: &Global) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    let run = run_id();
    let _guard = guard(&context.project, &run, "destroy")?;
    let Some(lock) = context.lock()? else {
        output::note("there is nothing to destroy: no cluster was ever made from this blueprint\n");
        return Ok(code::DONE);
    };
    let sites = context.sites(&lock.cluster).await?;
    if !args.yes {
        let name = &context.blueprint.name;
        let question =
            format!("This removes the cluster `{name}` with all its data. Type its name to go on: ");
        ask(&question, name.as_str())?;
    }
    let clock = clock(&sites);
    let events = events(&context, &clock, &run, global)?;
    events.say(What::RunStarted { verb: "destroy".to_owned(), cluster: lock.cluster.clone() });
    let (cancel, _interrupts) = interruptible(STOPPING);
    let cancel = cancel.bound_to(tenure(&context.project));
    let engine = Engine { sites, fleet: Arc::new(Nobody), clock, project: Arc::new(Nobody), events, cancel };
    let forced = engine.cancel.clone();
    let outcome = tokio::select! {
        outcome = engine.destroy() => outcome,
        () = forced.wait_for_force() => return Ok(code::INTERRUPTED),
    };
    still_held(&context.project)?;
    let ended = match outcome.progress {
        None => code::INTERRUPTED,
        Some(Progress::Converged) => code::DONE,
        Some(_) => code::PARTIAL,
    };
    if ended == code::DONE {
        forget(&context, lock)?;
    }
    let debt = outcome.plan.debt.clone();
    engine.events.say(What::RunFinished { progress: outcome.progress, debt, code: ended });
    if global.output == Format::Table {
        let opts = output::note_opts(global, engine.clock.now());
        output::note(&destroyed_text(&outcome.plan, &context.blueprint.name, ended, &opts));
    }
    Ok(ended)
}

/// The nodes are gone: their tokens, keys and founders mean nothing any more. The pins stay.
fn forget(context: &Context, mut lock: Lock) -> Result<(), Fault> {
    lock.founders.clear();
    lock.masters.clear();
    context.project.write_lock(&lock)?;
    if has_keyring(context)? {
        let file = context.keyring(&lock.cluster)?;
        let all = |keyring: &mut crate::keyring::Keyring| {
            let nodes: Vec<_> = keyring.enrolments().map(|(node, _)| node.clone()).collect();
            for node in nodes {
                keyring.forget(&node);
            }
            Ok::<(), crate::keyring::KeyringError>(())
        };
        file.update(&SystemRandom::new(), all)
            .map_err(|error| Fault::of(code::ERROR, &error).hint(error.remedy()))?;
    }
    Ok(())
}

fn exit_code(outcome: &Outcome, desired: &Desired) -> u8 {
    match outcome.progress {
        None => code::INTERRUPTED,
        Some(Progress::Converged) => code::DONE,
        Some(_) if usable(outcome, desired) => code::PARTIAL,
        Some(_) => match outcome.plan.debt.iter().map(|debt| debt.area).min() {
            Some(Area::Safety) => code::REFUSED,
            Some(Area::Infrastructure) => code::INFRASTRUCTURE,
            Some(Area::Boot) => code::BOOT,
            Some(Area::Platform) | None => code::PLATFORM,
        },
    }
}

/// Whether the platform can be used all the same: a majority of masters is healthy in every component.
fn usable(outcome: &Outcome, desired: &Desired) -> bool {
    let masters = || desired.nodes.iter().filter(|(_, node)| node.role == Role::Master);
    let carried = &desired.carried[&Role::Master];
    let healthy = |name| {
        let heard = outcome.observed.nodes.get(name).and_then(|seen| seen.heard.as_ref());
        heard.is_some_and(|heard| {
            let phase = |component| heard.status.components.get(component).map(|status| status.phase);
            carried.iter().all(|component| phase(component) == Some(Phase::Healthy))
        })
    };
    masters().filter(|(name, _)| healthy(*name)).count() > masters().count() / 2
}

pub(super) fn pin_fault(error: &PinError) -> Fault {
    let fault = Fault::of(code::PREFLIGHT, error);
    let remedy = match error {
        PinError::Artifact(artifact) => artifact.remedy(),
        PinError::Image { source, .. } => source.hint.clone(),
        PinError::NoAgent => {
            Some("build it with `make build`, or set `CASTRUM_AGENT` to its path".to_owned())
        }
        PinError::OtherBundle { component, .. } => Some(format!(
            "it was made by another version of Castrum; to make it anew, remove `{component}` from the lock file"
        )),
    };
    match remedy {
        Some(remedy) => fault.hint(remedy),
        None => fault,
    }
}

/// A new keyring would open none of the machines that are there already.
fn refuse_without_keyring(context: &Context, observed: &Observed) -> Result<(), Fault> {
    match without_keyring(context, observed)? {
        Some((text, hint)) => Err(Fault::new(code::REFUSED, text).hint(hint)),
        None => Ok(()),
    }
}

/// The same for commands that only look.
pub(super) fn warn_without_keyring(context: &Context, observed: &Observed) -> Result<(), Fault> {
    if let Some((text, hint)) = without_keyring(context, observed)? {
        output::note(&format!("warning: {text}\nhint: {hint}\n"));
    }
    Ok(())
}

fn without_keyring(context: &Context, observed: &Observed) -> Result<Option<(String, String)>, Fault> {
    if has_keyring(context)? || !observed.resources.values().any(|seen| seen.machine.is_some()) {
        return Ok(None);
    }
    let keyring = context.project.keyring()?;
    let path = keyring.path();
    let text = format!("the cluster has machines, and its keyring `{}` is not there", path.display());
    let blueprint = context.project.blueprint_path().display();
    Ok(Some((text, format!("put the keyring back, or make a new one with `castrum recover {blueprint}`"))))
}

pub(super) async fn preflight(sites: &Sites) -> Result<(), Fault> {
    let mut fault: Option<Fault> = None;
    for (site, provider) in &sites.0 {
        for failure in provider.preflight().await {
            let fault = fault.get_or_insert_with(|| Fault {
                code: code::PREFLIGHT,
                lines: Vec::new(),
                hints: Vec::new(),
                findings: None,
            });
            fault.lines.push(format!("site `{site}`: {}", failure.message));
            fault.hints.extend(failure.hint);
        }
    }
    fault.map_or(Ok(()), Err)
}

pub(super) fn has_keyring(context: &Context) -> Result<bool, Fault> {
    let exists = context.project.keyring()?.exists();
    exists.map_err(|error| Fault::of(code::ERROR, &error).hint(error.remedy()))
}

pub(super) fn events(
    context: &Context,
    clock: &Arc<dyn Clock>,
    run: &str,
    global: &Global,
) -> Result<Events, Fault> {
    let project = &context.project;
    let nodes = context.blueprint.groups.values().map(|group| group.count as usize).sum();
    let path = project.journal_path();
    let journal = Journal::open(&path)
        .map_err(|error| Fault::new(code::ERROR, format!("cannot write `{}`: {error}", path.display())))?;
    let (screen, live) = output::screen(global, nodes);
    if let Some(live) = live {
        tokio::spawn(tick(live, Arc::clone(clock)));
    }
    let mut listeners: Vec<Box<dyn Listener>> = vec![Box::new(journal), screen];
    if let Some(chronicle) = project.shared().and_then(|shared| shared.chronicle()) {
        listeners.push(Box::new(chronicle));
    }
    Ok(Events::new(run, Arc::clone(clock), listeners))
}

/// Lets the ages on a live screen grow.
async fn tick(screen: HumanScreen, clock: Arc<dyn Clock>) {
    loop {
        let next = clock.now().plus(1000);
        clock.sleep_until(next).await;
        screen.tick(next);
    }
}

pub(super) fn run_id() -> String {
    format!("{:x}-{:x}", unix_seconds(), std::process::id())
}

/// Asks a person. Without one it refuses at once: nothing waits for an answer that cannot come.
pub(super) fn ask(question: &str, wanted: &str) -> Result<(), Fault> {
    if !std::io::stdin().is_terminal() {
        return Err(Fault::new(code::USAGE, "there is no terminal to ask on")
            .hint("give `--yes` to go on without asking"));
    }
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == wanted {
        Ok(())
    } else {
        Err(Fault::new(code::ERROR, "nothing was changed"))
    }
}
