//! `status`, `get`, `explain wait`, `wait-for`, `graph`: commands that look and change nothing.

use castrum_blueprints::lock::Lock;
use castrum_blueprints::names::{NodeName, Role};
use castrum_blueprints::plan::{Plan, Waiting, plan};

use super::args::{Explain, Format, Get, Global, Graph, GraphFormat, Status, WaitFor};
use super::context::{Context, assumed_lock};
use super::fault::{Fault, code};
use super::output::{note, opts, print, print_json};
use super::run::{Preview, preview, warn_without_keyring};
use crate::view::World;
use crate::view::get_view::{Filter, Subject, get_json, get_text};
use crate::view::graph_view::{self, graph_text};
use crate::view::status_view::{node_json, node_text, status_json, status_text};
use crate::view::wait_gate::{Gate, GateError};
use crate::view::wait_view::{waits_json, waits_text};

/// A cluster that was looked at once.
struct Looked {
    context: Context,
    preview: Preview,
    plan: Plan,
    lock: Lock,
}

impl Looked {
    async fn at(context: Context, lock: Option<Lock>) -> Result<Self, Fault> {
        let preview = preview(&context, lock.clone()).await?;
        let lock = assumed_lock(&context, lock);
        let plan = plan(&preview.desired, &preview.observed, preview.clock.now());
        let mut plan = plan.map_err(|error| Fault::of(code::BLUEPRINT, &error))?;
        told_waits(&context).note(&mut plan);
        Ok(Self { context, preview, plan, lock })
    }

    fn world(&self) -> World<'_> {
        World {
            desired: &self.preview.desired,
            observed: &self.preview.observed,
            plan: &self.plan,
            lock: &self.lock,
            stack: &self.context.stack,
        }
    }
}

/// What the journal tells of waits; one that cannot be read says nothing.
fn told_waits(context: &Context) -> Waiting {
    let (events, _) = context.project.events().unwrap_or_default();
    Waiting::told(&events)
}

fn can_wait(world: &World<'_>, about: &str) -> bool {
    world.desired.nodes.keys().any(|node| node.as_str() == about)
        || world.desired.renderer.names().any(|name| name.as_str() == about)
        || world.plan.blocked.iter().any(|blocked| blocked.subject == about)
}

/// `castrum explain wait`.
pub(super) async fn explain_waits(args: &Explain, global: &Global) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    let lock = context.existing_lock()?;
    let looked = Looked::at(context, Some(lock)).await?;
    warn_without_keyring(&looked.context, &looked.preview.observed)?;
    let (world, now, about) = (looked.world(), looked.preview.clock.now(), args.about.as_deref());
    if let Some(about) = about.filter(|about| !can_wait(&world, about)) {
        let fault =
            Fault::new(code::USAGE, format!("`{about}` is no node, no component and nothing that waits"));
        return Err(fault.hint("the blueprint is named with `-f`"));
    }
    match global.output {
        Format::Table => {
            let blueprint = args.blueprint.file.display().to_string();
            print(&waits_text(&world, (about, &blueprint), &opts(global, now)));
        }
        format => print_json(&waits_json(&world, about, now), format),
    }
    Ok(code::DONE)
}

/// `castrum status`.
pub(super) async fn status(args: &Status, global: &Global) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    let lock = context.existing_lock()?;
    let looked = Looked::at(context, Some(lock)).await?;
    warn_without_keyring(&looked.context, &looked.preview.observed)?;
    let (world, now) = (looked.world(), looked.preview.clock.now());
    match (&args.node, global.output) {
        (None, Format::Table) => print(&status_text(&world, &opts(global, now))),
        (None, format) => print_json(&status_json(&world, now), format),
        (Some(name), format) => {
            let node: NodeName = name.parse().map_err(|error| Fault::of(code::USAGE, &error))?;
            let unknown = || Fault::new(code::USAGE, format!("the blueprint declares no node `{node}`"));
            match format {
                Format::Table => print(&node_text(&world, &node, &opts(global, now)).ok_or_else(unknown)?),
                format => print_json(&node_json(&world, &node, now).ok_or_else(unknown)?, format),
            }
        }
    }
    Ok(code::DONE)
}

/// `castrum get`.
pub(super) async fn get(args: &Get, global: &Global) -> Result<u8, Fault> {
    let usage = |error: &dyn std::error::Error| Fault::of(code::USAGE, error);
    let subject: Subject = args.what.parse().map_err(|error| usage(&error))?;
    let role = args.role.as_deref().map(str::parse::<Role>).transpose().map_err(|error| usage(&error))?;
    let group = args.group.as_deref().map(str::parse).transpose().map_err(|error| usage(&error))?;
    let site = args.site.as_deref().map(str::parse).transpose().map_err(|error| usage(&error))?;
    let filter = Filter { role, group, site };
    let context = Context::load(&args.blueprint.file)?;
    let lock = context.lock()?;
    let looked = Looked::at(context, lock).await?;
    let (world, now) = (looked.world(), looked.preview.clock.now());
    match global.output {
        Format::Table => print(&get_text(subject, &world, &filter, &opts(global, now))),
        format => print_json(&get_json(subject, &world, &filter, now), format),
    }
    Ok(code::DONE)
}

/// `castrum wait-for`.
pub(super) async fn wait_for(args: &WaitFor, global: &Global) -> Result<u8, Fault> {
    let usage = |error: GateError| Fault::of(code::USAGE, &error);
    let gate: Gate = args.gate.parse().map_err(usage)?;
    let context = Context::load(&args.blueprint.file)?;
    let lock = context.existing_lock()?;
    let watched = super::run::watch(&context, &lock).await?;
    gate.check(&watched.desired).map_err(usage)?;
    let deadline = watched.engine.clock.now().plus(args.timeout.saturating_mul(1000));
    let mut told = String::new();
    let mut observed = watched.engine.observe(&watched.desired).await;
    loop {
        let now = watched.engine.clock.now();
        let awaited = gate.evaluate(&watched.desired, &observed, now);
        if awaited.open {
            if global.output != Format::Table {
                print_json(
                    &serde_json::json!({ "format_version": 1, "gate": args.gate, "open": true }),
                    global.output,
                );
            }
            return Ok(code::DONE);
        }
        let text = format!("{gate} waits for {}, last saw {}\n", awaited.awaited, awaited.last_seen);
        if text != told {
            note(&text);
            told = text;
        }
        if now >= deadline {
            return Err(Fault::new(
                code::TIMED_OUT,
                format!("`{gate}` is not open after {} s", args.timeout),
            )
            .hint(format!("it waits for {}", awaited.awaited)));
        }
        watched.engine.hear(&mut observed, deadline.min(now.plus(REFRESH_MS))).await;
    }
}

/// Silence is noticed at the latest after this.
const REFRESH_MS: u64 = 5_000;

/// `castrum graph`.
pub(super) async fn graph(args: &Graph, global: &Global) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    let lock = assumed_lock(&context, context.lock()?);
    let sites = context.sites(&lock.cluster).await?;
    let desired = context.desired(&lock, &sites)?;
    let as_data = (global.output != Format::Table).then_some(GraphFormat::Json);
    let format = match args.format.or(as_data).unwrap_or(GraphFormat::Dot) {
        GraphFormat::Dot => graph_view::GraphFormat::Dot,
        GraphFormat::Mermaid => graph_view::GraphFormat::Mermaid,
        GraphFormat::Svg => graph_view::GraphFormat::Svg,
        GraphFormat::Json => graph_view::GraphFormat::Json,
    };
    print(&graph_text(&desired, &context.stack, format));
    Ok(code::DONE)
}
