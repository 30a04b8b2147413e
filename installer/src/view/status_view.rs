//! How the cluster is: its nodes, its components, what is set aside and what waits; and one node in full.

mod node;

use std::fmt::Write as _;

use castrum_blueprints::names::{ComponentName, Timestamp};
use castrum_blueprints::plan::Progress;
use serde_json::{Value, json};

use super::facts::{Agent, NodeFacts, Tally, nodes, tallies, version};
use super::names::ranges;
use super::style::{Text, Tone, age, counted, paint, safe};
use super::table::{Cell, Table, cell, toned};
use super::waits::{debt_lines, gathered, wait_lines};
use super::{FORMAT_VERSION, Opts, World};

pub(super) use node::{all_checks, description};
pub use node::{node_json, node_text};

/// Up to so many nodes each have a line; of more, healthy ones share one, and so many others are shown.
const LINES: usize = 40;
/// How many kinds of waits and debts are shown.
const MOST: usize = 12;

/// How the cluster is, for people.
pub fn status_text(world: &World<'_>, opts: &Opts) -> String {
    let all = nodes(world, opts.now);
    let mut text = Text::default();
    text.line(&headline(world, &all, opts));
    text.heading(opts.color, "Nodes");
    text.0.push_str(&nodes_table(&all, opts));
    text.heading(opts.color, "Components");
    text.0.push_str(&components_table(world, &all, opts));
    trouble(&mut text, world, opts);
    text.0
}

/// What is set aside, not seen, and awaited.
pub(super) fn trouble(text: &mut Text, world: &World<'_>, opts: &Opts) {
    if !world.observed.blind.is_empty() {
        text.heading(opts.color, "Not seen");
        for blind in world.observed.blind.iter().take(MOST) {
            let what = blind.kind.map_or_else(String::new, |kind| format!(", every {kind}"));
            let reason = super::style::clean(&blind.reason);
            text.line(&super::style::wrap(
                &format!("  ? site {}{what}: {reason}", blind.site),
                opts.width,
                4,
            ));
        }
    }
    if !world.plan.debt.is_empty() {
        text.heading(opts.color, "Set aside");
        debt_lines(text, &world.plan.debt, MOST, opts);
    }
    if !world.plan.blocked.is_empty() {
        text.heading(opts.color, "Waiting");
        wait_lines(text, &world.plan.blocked, MOST, opts);
    }
}

fn headline(world: &World<'_>, all: &[NodeFacts<'_>], opts: &Opts) -> String {
    let healthy = all.iter().filter(|facts| facts.is_healthy()).count();
    let (tone, progress) = match world.plan.progress() {
        Progress::Converged => (Tone::Good, "as declared"),
        Progress::Partial => (Tone::Bad, "partly there: something is set aside"),
        Progress::Pending => (Tone::Warn, "not there yet"),
    };
    let nodes = format!("{healthy} of {} healthy", counted(all.len(), "node"));
    let seen =
        age(world.observed.taken_at, opts.now).map_or(String::new(), |age| format!("; seen {age} ago"));
    let steps = match world.plan.steps.len() {
        0 => String::new(),
        count => format!("; {} to take", counted(count, "step")),
    };
    let progress = paint(opts.color, tone, progress);
    format!("Cluster {} ({}): {progress}; {nodes}{steps}{seen}", world.desired.name, world.desired.cluster)
}

/// The table of nodes.
pub(super) fn nodes_table(all: &[NodeFacts<'_>], opts: &Opts) -> String {
    let heads = ["NODE", "ROLE", "SITE/ADDRESS", "MACHINE", "AGENT", "GEN", "HEALTHY", "PROBLEM"];
    let mut table = Table::new(&heads).spare(&["SITE/ADDRESS", "ROLE", "GEN", "MACHINE", "AGENT"]);
    if all.is_empty() {
        return "  none is declared\n".to_owned();
    }
    if all.len() <= LINES {
        for facts in all {
            table.row(row(facts, opts));
        }
        return table.render(opts);
    }
    let (well, ill): (Vec<_>, Vec<_>) = all.iter().partition(|facts| facts.is_healthy());
    for alike in well.chunk_by(|a, b| a.node.group == b.node.group) {
        table.row(alike_row(alike));
    }
    for facts in ill.iter().take(LINES) {
        table.row(row(facts, opts));
    }
    let mut text = table.render(opts);
    if ill.len() > LINES {
        let _ = writeln!(
            text,
            "and {} more that are not healthy; `castrum get nodes` lists all",
            ill.len() - LINES
        );
    }
    text
}

fn row(facts: &NodeFacts<'_>, opts: &Opts) -> Vec<Cell> {
    let site = &facts.node.machine.site;
    let place = match facts.address() {
        Some(address) => format!("{site}/{address}"),
        None => site.to_string(),
    };
    let power = if matches!(facts.power, "on") { Tone::Plain } else { Tone::Warn };
    let tone = if facts.is_healthy() { Tone::Good } else { Tone::Warn };
    let problem = match &facts.problem {
        None => cell("-"),
        Some(problem) => toned(if problem.wrong { Tone::Bad } else { Tone::Warn }, &problem.text),
    };
    vec![
        cell(facts.name.as_str()),
        cell(facts.node.role.as_str()),
        cell(place),
        toned(power, facts.power),
        agent_cell(facts.agent, opts),
        cell(generation(facts)),
        toned(tone, format!("{}/{}", facts.healthy, facts.carried.len())),
        problem,
    ]
}

/// The generation that the node holds, and the one it shall come to if that is another.
pub(super) fn generation(facts: &NodeFacts<'_>) -> String {
    let held = facts.status.map(|status| status.generation);
    match (held, facts.published) {
        (Some(held), Some(published)) if published > held => format!("{held}>{published}"),
        (Some(held), _) => held.to_string(),
        (None, Some(published)) => format!("->{published}"),
        (None, None) => String::new(),
    }
}

fn agent_cell(agent: Agent, opts: &Opts) -> Cell {
    let tone = if matches!(agent, Agent::Heard(_)) { Tone::Plain } else { Tone::Warn };
    match agent.at().and_then(|at| age(at, opts.now)) {
        Some(age) => toned(tone, format!("{} {age}", agent.word())),
        None => toned(tone, agent.word()),
    }
}

fn alike_row(alike: &[&NodeFacts<'_>]) -> Vec<Cell> {
    let first = alike[0];
    vec![
        cell(ranges(alike.iter().map(|facts| facts.name.as_str()), 2)),
        cell(first.node.role.as_str()),
        cell(first.node.machine.site.as_str()),
        cell("on"),
        cell("heard"),
        cell(""),
        toned(Tone::Good, format!("{0}/{0} each", first.carried.len())),
        cell(format!("{} healthy", counted(alike.len(), "node"))),
    ]
}

/// The table of components.
pub(super) fn components_table(world: &World<'_>, all: &[NodeFacts<'_>], opts: &Opts) -> String {
    let tallies = tallies(all);
    let heads = ["COMPONENT", "CATEGORY", "WAVE", "HEALTHY", "VERSION", "ELSEWHERE"];
    let mut table = Table::new(&heads).spare(&["CATEGORY", "VERSION", "WAVE"]);
    for name in in_order(world) {
        let none = Tally::default();
        let tally = tallies.get(name).unwrap_or(&none);
        let tone = if tally.healthy == tally.carriers { Tone::Good } else { Tone::Warn };
        table.row([
            cell(name.as_str()),
            cell(category(world, name)),
            cell(wave(world, name).to_string()),
            toned(tone, format!("{}/{}", tally.healthy, tally.carriers)),
            cell(version(name, world.stack, world.lock).unwrap_or_default()),
            cell(tally.rest()),
        ]);
    }
    if table.is_empty() { "  the stack has none\n".to_owned() } else { table.render(opts) }
}

/// The components in boot order.
pub(super) fn in_order<'a>(world: &World<'a>) -> Vec<&'a ComponentName> {
    let mut names: Vec<_> = world.stack.components.keys().collect();
    names.sort_by_key(|name| (wave(world, name), *name));
    names
}

pub(super) fn wave(world: &World<'_>, name: &ComponentName) -> u32 {
    world.stack.waves.get(name).copied().unwrap_or(0)
}

/// The word for a component's category.
pub(super) fn category(world: &World<'_>, name: &ComponentName) -> String {
    let category = world.stack.components.get(name).map(|component| component.category);
    let written = category.and_then(|category| serde_json::to_value(category).ok());
    written.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// How the cluster is, as data.
pub fn status_json(world: &World<'_>, now: Timestamp) -> Value {
    let all = nodes(world, now);
    let waits: Vec<Value> = gathered(&world.plan.blocked)
        .into_iter()
        .map(|wait| {
            json!({
                "subject": wait.subject, "waits_for": wait.waits_for, "since": wait.since,
                "last_seen": wait.last_seen, "count": wait.count, "by_debt": wait.by_debt,
            })
        })
        .collect();
    safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": "status",
        "cluster": { "id": world.desired.cluster, "name": world.desired.name },
        "progress": world.plan.progress(),
        "now": now,
        "taken_at": world.observed.taken_at,
        "nodes": all.iter().map(|facts| node_fields(facts, now)).collect::<Vec<_>>(),
        "components": components_json(world, &all),
        "steps": world.plan.steps.len(),
        "debt": world.plan.debt,
        "waits": waits,
        "blind": world.observed.blind,
    }))
}

/// One node's line, as data.
pub(super) fn node_fields(facts: &NodeFacts<'_>, now: Timestamp) -> Value {
    let at = facts.agent.at();
    json!({
        "name": facts.name,
        "role": facts.node.role,
        "group": facts.node.group,
        "site": facts.node.machine.site,
        "address": facts.address(),
        "machine": facts.power,
        "agent": { "state": facts.agent.word(), "heard_at": at, "age_ms": at.map(|at| now.since(at)) },
        "generation": facts.status.map(|status| status.generation),
        "published": facts.published,
        "components": { "healthy": facts.healthy, "total": facts.carried.len() },
        "healthy": facts.is_healthy(),
        "problem": facts.problem.as_ref().map(|problem| &problem.text),
    })
}

/// The components, as data.
pub(super) fn components_json(world: &World<'_>, all: &[NodeFacts<'_>]) -> Vec<Value> {
    let tallies = tallies(all);
    let fields = |name: &&ComponentName| {
        let none = Tally::default();
        let tally = tallies.get(name).unwrap_or(&none);
        let phases: serde_json::Map<String, Value> =
            tally.others.iter().map(|(phase, count)| (phase.as_str().to_owned(), json!(count))).collect();
        json!({
            "name": name,
            "category": category(world, name),
            "wave": wave(world, name),
            "version": version(name, world.stack, world.lock),
            "nodes": { "total": tally.carriers, "healthy": tally.healthy, "missing": tally.missing, "others": phases },
        })
    };
    in_order(world).iter().map(fields).collect()
}
