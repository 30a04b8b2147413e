//! `provider list` and `provider check`: who can make nodes, and whether they keep to the contract.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::blueprint::ExistingMachine;
use castrum_blueprints::desired::{RELEASE, existing_machines};
use castrum_blueprints::names::{ClusterId, NodeName, ResourceKind, ResourcePath, SiteName};
use castrum_blueprints::resource::Abilities;
use castrum_provider::conformance::{Candidate, Ground, Opened, Outcome, Suite, Verdict};
use castrum_provider::{Clock as _, Deadlines, Executable, Failure, FailureClass, Hello, ProcessProvider};
use castrum_provider_sim::World;
use futures_util::future::join_all;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::args::{Format, Global, ProviderCheck};
use super::context::Context;
use super::fault::{Fault, code};
use super::interrupt::interruptible;
use super::output::{self, note, print, print_json};
use super::places::{self, BUILT_IN, OpenError, Place};
use super::run::ask;
use crate::clock::SystemClock;
use crate::view::provider_view::{Listed, checked_line, listed_json, listed_text, verdict_text};

/// How long one check may take.
const PATIENCE: Duration = Duration::from_mins(30);
/// How long an executable may take to say what it is.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// `castrum provider list`.
pub(super) async fn list(global: &Global) -> Result<u8, Fault> {
    let nobody = ClusterId::from_bytes([0; 6]);
    let site: SiteName = "list".parse().map_err(|error| Fault::of(code::ERROR, &error))?;
    let mut listed = Vec::new();
    for name in BUILT_IN {
        let world = World::new(nobody.clone());
        let abilities = match places::open(name, place((&nobody, &site), &BTreeMap::new(), &world)).await {
            Ok(opened) => Ok(opened.provider.abilities()),
            Err(error) => Err(refused(error)),
        };
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        listed.push(Listed { name: name.to_owned(), path: None, version, abilities });
    }
    let found = Executable::all(&places::folders());
    let named = found.into_values().filter(|found| {
        // A blueprint could not name any other.
        !places::is_built_in(found.name()) && found.name().parse::<SiteName>().is_ok()
    });
    listed.extend(join_all(named.map(|found| introduce(found, &nobody, &site))).await);
    match global.output {
        Format::Table => print(&listed_text(&listed, &output::opts(global, SystemClock.now()))),
        format => print_json(&listed_json(&listed), format),
    }
    Ok(code::DONE)
}

/// What an executable says of itself, for a site that it need not know.
async fn introduce(found: Executable, cluster: &ClusterId, site: &SiteName) -> Listed {
    let (name, path) = (found.name().to_owned(), Some(found.path().to_owned()));
    let deadlines = Deadlines { greeting: INTRODUCTION, ..Deadlines::default() };
    let hello = Hello::new(cluster.clone(), site.clone(), BTreeMap::new());
    let (version, abilities) = match ProcessProvider::start(found, hello, deadlines).await {
        Ok(provider) => {
            let told: (_, Result<Abilities, _>) =
                (Some(provider.version().to_owned()), Ok(castrum_provider::Provider::abilities(&provider)));
            provider.shutdown().await;
            told
        }
        Err(failure) => (None, Err(failure)),
    };
    Listed { name, path, version, abilities }
}

fn place<'a>(
    (cluster, site): (&'a ClusterId, &'a SiteName),
    settings: &'a BTreeMap<String, Value>,
    world: &'a Arc<World>,
) -> Place<'a> {
    Place { cluster, site, settings, machines: BTreeMap::new(), listening: BTreeMap::new(), world }
}

fn refused(error: OpenError) -> Failure {
    match error {
        OpenError::Failed(failure) => failure,
        other => {
            let fault = other.into_fault("");
            let failure = Failure::new(FailureClass::Invalid, fault.lines.join(": "));
            Failure { hint: fault.hints.into_iter().next(), ..failure }
        }
    }
}

/// A provider to be checked: by name, with the settings of a site.
struct Named {
    name: String,
    site: SiteName,
    settings: BTreeMap<String, Value>,
    /// Settings over those, under which the place does not answer.
    unreachable: BTreeMap<String, Value>,
    machines: BTreeMap<ResourcePath, ExistingMachine>,
    /// A world for each cluster, where they are simulated.
    worlds: Mutex<BTreeMap<ClusterId, Arc<World>>>,
}

impl Named {
    fn of(args: &ProviderCheck) -> Result<Self, Fault> {
        let usage = |error: &dyn std::error::Error| Fault::of(code::USAGE, error);
        let unreachable = settings(&args.unreachable)?;
        // A provider's name is a label, as a site's is.
        let _: SiteName = args.name.parse().map_err(|error| usage(&error))?;
        let (site, settings, machines) = if let (Some(file), Some(site)) = (&args.blueprint, &args.site) {
            of_blueprint(file, site, &args.name)?
        } else {
            let site = "check".parse().map_err(|error| usage(&error))?;
            (site, settings(&args.settings)?, BTreeMap::new())
        };
        let name = args.name.clone();
        Ok(Self { name, site, settings, unreachable, machines, worlds: Mutex::default() })
    }

    async fn opened(
        &self,
        cluster: &ClusterId,
        settings: &BTreeMap<String, Value>,
    ) -> Result<Opened, OpenError> {
        let world = {
            let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(worlds.entry(cluster.clone()).or_insert_with(|| World::new(cluster.clone())))
        };
        let place = place((cluster, &self.site), settings, &world);
        places::open(&self.name, Place { machines: self.machines.clone(), ..place }).await
    }

    /// The nodes to check with: those of machines that exist already, or any.
    fn nodes(&self) -> Vec<(NodeName, Option<ExistingMachine>)> {
        if self.machines.is_empty() {
            let names = ["check-1", "check-2"].into_iter().filter_map(|name| name.parse().ok());
            return names.map(|name| (name, None)).collect();
        }
        let named = self.machines.iter().filter_map(|(path, machine)| {
            let node = path.name.parse().ok()?;
            Some((node, Some(machine.clone())))
        });
        named.collect()
    }
}

impl Named {
    fn zones(&self) -> Vec<String> {
        let zones = self.settings.get("zones").and_then(Value::as_array);
        zones.into_iter().flatten().filter_map(|zone| zone.as_str().map(str::to_owned)).collect()
    }

    /// What only the provider tells of the place.
    async fn learn(&self, ground: Ground, opened: &Opened) -> Result<Ground, Fault> {
        let makes_subnets = opened.provider.abilities().kinds.contains(&ResourceKind::Subnet);
        if makes_subnets && ground.zones.is_empty() {
            let text = format!("no zone is known to make subnets of `{}` in", self.name);
            return Err(Fault::new(code::USAGE, text).hint("name one: `--setting 'zones=[\"ZONE\"]'`"));
        }
        let Some(images) = opened.provider.images() else { return Ok(ground) };
        let found = images.find(RELEASE).await;
        Ok(Ground { image: Some(found.map_err(Fault::from)?), ..ground })
    }
}

type OfBlueprint = (SiteName, BTreeMap<String, Value>, BTreeMap<ResourcePath, ExistingMachine>);

fn of_blueprint(file: &std::path::Path, site: &str, provider: &str) -> Result<OfBlueprint, Fault> {
    let context = Context::load(file)?;
    let blueprint = &context.blueprint;
    let Some((name, declared)) = blueprint.sites.iter().find(|(name, _)| name.as_str() == site) else {
        let known: Vec<_> = blueprint.sites.keys().map(SiteName::as_str).collect();
        return Err(Fault::new(code::USAGE, format!("the blueprint declares no site `{site}`"))
            .hint(format!("its sites are {}", known.join(", "))));
    };
    if declared.provider != provider {
        let text = format!("the provider of the site `{site}` is `{}`", declared.provider);
        return Err(Fault::new(code::USAGE, text).hint(format!("check `{}`", declared.provider)));
    }
    Ok((name.clone(), declared.settings.clone(), existing_machines(blueprint, name)))
}

fn settings(given: &[String]) -> Result<BTreeMap<String, Value>, Fault> {
    let mut settings = BTreeMap::new();
    for text in given {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Fault::new(code::USAGE, format!("`{text}` is no setting")).hint("write KEY=VALUE"));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        settings.insert(key.to_owned(), value);
    }
    Ok(settings)
}

#[async_trait]
impl Candidate for Named {
    async fn open(&self, cluster: &ClusterId) -> Result<Opened, Failure> {
        self.opened(cluster, &self.settings).await.map_err(refused)
    }

    async fn open_unreachable(&self, cluster: &ClusterId) -> Option<Result<Opened, Failure>> {
        if self.unreachable.is_empty() {
            return None;
        }
        let mut settings = self.settings.clone();
        settings.extend(self.unreachable.clone());
        Some(self.opened(cluster, &settings).await.map_err(refused))
    }
}

/// `castrum provider check`.
pub(super) async fn check(args: &ProviderCheck, global: &Global) -> Result<u8, Fault> {
    let named = Named::of(args)?;
    let ground = Ground {
        site: named.site.clone(),
        clusters: [cluster_id()?, cluster_id()?],
        nodes: named.nodes(),
        zones: named.zones(),
        image: None,
        patience: PATIENCE,
    };
    // Whether it is there at all comes before any question.
    let opened = named.opened(&ground.clusters[0], &named.settings).await;
    let ground = named.learn(ground, &opened.map_err(|error| error.into_fault(""))?).await?;
    if !args.yes {
        let name = &named.name;
        let question =
            format!("This makes, changes and removes machines with `{name}`. Type its name to go on: ");
        ask(&question, name)?;
    }
    let suite = Suite::new(&named, &ground);
    let table = global.output == Format::Table;
    let opts = output::opts(global, SystemClock.now());
    let mut tell = |outcome: &Outcome| {
        if table {
            print(&checked_line(outcome, &opts));
        }
    };
    let (stop, _listening) =
        interruptible("\nstopping: what was made is removed; Ctrl-C again leaves at once\n");
    let outcomes = tokio::select! {
        outcomes = suite.run(&mut tell) => Some(outcomes),
        () = stop.wait() => None,
    };
    let swept = tokio::select! {
        swept = suite.sweep() => swept,
        () = stop.wait_for_force() => return Ok(code::INTERRUPTED),
    };
    let Some(outcomes) = outcomes else {
        note("\nstopped; what was made is removed again\n");
        return swept.map(|()| code::INTERRUPTED).map_err(left_over);
    };
    if !table {
        let left = swept.as_ref().err();
        let document =
            json!({ "format_version": 1, "provider": named.name, "checks": outcomes, "left_over": left });
        print_json(&document, global.output);
    }
    note(&verdict_text(&named.name, &outcomes));
    swept.map_err(left_over)?;
    let failed = outcomes.iter().any(|outcome| matches!(outcome.verdict, Verdict::Failed(_)));
    Ok(if failed { code::ERROR } else { code::DONE })
}

fn left_over(text: String) -> Fault {
    Fault::new(code::PARTIAL, text).hint("remove it by hand; it carries the label `castrum-cluster`")
}

fn cluster_id() -> Result<ClusterId, Fault> {
    let mut bytes = [0; 6];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| Fault::new(code::ERROR, "there is no chance to draw a cluster's id from"))?;
    Ok(ClusterId::from_bytes(bytes))
}
