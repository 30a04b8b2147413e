//! One node in full: its machine, its agent, and every check of every component.

use castrum_blueprints::names::{ComponentName, NodeName, Timestamp};
use castrum_blueprints::plan::{Blocked, Debt};
use castrum_blueprints::stack::UNIT_CHECK;
use castrum_blueprints::status::{CheckResult, Phase, Verdict};
use serde_json::{Value, json};

use super::{generation, node_fields};
use crate::view::facts::{NodeFacts, node};
use crate::view::names::node_in;
use crate::view::style::{Text, Tone, age, clean, counted, paint, safe, wrap};
use crate::view::table::{Table, cell, toned};
use crate::view::waits::{debt_lines, wait_lines};
use crate::view::{FORMAT_VERSION, Opts, World};

/// Everything about one node, for people; `None` if it is not declared.
pub fn node_text(world: &World<'_>, name: &NodeName, opts: &Opts) -> Option<String> {
    let facts = node(world, name, opts.now)?;
    let mut text = Text::default();
    let (tone, health) =
        if facts.is_healthy() { (Tone::Good, "healthy") } else { (Tone::Bad, "not healthy") };
    text.line(&format!(
        "Node {name}: {}, {} of {} components healthy",
        paint(opts.color, tone, health),
        facts.healthy,
        facts.carried.len()
    ));
    for (key, value) in head(&facts, opts) {
        if !value.is_empty() {
            text.line(&wrap(&format!("  {key:<12} {}", clean(&value)), opts.width, 15));
        }
    }
    text.heading(opts.color, "Components");
    text.0.push_str(&components(&facts, opts));
    text.heading(opts.color, "Checks");
    text.0.push_str(&checks(world, &facts, opts));
    let (debt, waits) = concerning(world, name);
    if !debt.is_empty() {
        text.heading(opts.color, "Set aside");
        debt_lines(&mut text, &debt, 20, opts);
    }
    if !waits.is_empty() {
        text.heading(opts.color, "Waiting");
        wait_lines(&mut text, &waits, 20, opts);
    }
    Some(text.0)
}

fn concerning(world: &World<'_>, name: &NodeName) -> (Vec<Debt>, Vec<Blocked>) {
    let debt = world.plan.debt.iter().filter(|debt| node_in(&debt.subject) == Some(name.as_str()));
    let waits = world.plan.blocked.iter().filter(|blocked| blocked.node.as_ref() == Some(name));
    (debt.cloned().collect(), waits.cloned().collect())
}

fn head(facts: &NodeFacts<'_>, opts: &Opts) -> Vec<(&'static str, String)> {
    let when = |at| age(at, opts.now).map_or(String::new(), |age| format!(", {age} ago"));
    let machine = match facts.machine {
        Some(machine) => {
            format!(
                "{} ({}), made{}",
                facts.power,
                facts.node.machine,
                when(machine.created_at).trim_start_matches(',')
            )
        }
        None => format!("{} ({})", facts.power, facts.node.machine),
    };
    let agent = format!("{}{}", facts.agent.word(), facts.agent.at().map_or(String::new(), when));
    let version = facts.status.map_or(String::new(), |status| format!(", version {}", status.agent_version));
    let labels = facts.node.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let blobs = facts.status.map_or(String::new(), |status| counted(status.blobs.len(), "blob"));
    vec![
        ("role", format!("{} of group {}", facts.node.role, facts.node.group)),
        ("address", facts.address_text()),
        ("machine", machine),
        ("agent", agent + &version),
        ("generation", generation(facts)),
        ("depot", blobs),
        ("labels", labels.collect::<Vec<_>>().join(", ")),
        ("problem", facts.problem.as_ref().map_or(String::new(), |problem| problem.text.clone())),
    ]
}

fn components(facts: &NodeFacts<'_>, opts: &Opts) -> String {
    let mut table = Table::new(&["COMPONENT", "PHASE", "SINCE", "RESTARTS", "NOTE"]);
    for name in all_components(facts) {
        let Some(status) = facts.component(name) else {
            table.row([cell(name.as_str()), toned(Tone::Dim, "not there yet"), cell(""), cell(""), cell("")]);
            continue;
        };
        let tone = match status.phase {
            Phase::Healthy => Tone::Good,
            Phase::Failing => Tone::Bad,
            _ => Tone::Warn,
        };
        table.row([
            cell(name.as_str()),
            toned(tone, status.phase.as_str()),
            cell(since(status.since, facts, opts)),
            cell(status.restarts.to_string()),
            cell(status.note.as_deref().unwrap_or_default()),
        ]);
    }
    if table.is_empty() { "  it carries none\n".to_owned() } else { table.render(opts) }
}

/// Those that it shall carry, in boot order, and those that it holds beside.
fn all_components<'a>(facts: &'a NodeFacts<'_>) -> Vec<&'a ComponentName> {
    let held = facts.status.into_iter().flat_map(|status| status.components.keys());
    facts.carried.iter().chain(held.filter(|name| !facts.carried.contains(name))).collect()
}

/// Nodes tell time by their own clocks: ages are counted to the moment of the node's last word, and on from there.
fn since(at: Timestamp, facts: &NodeFacts<'_>, opts: &Opts) -> String {
    let (Some(status), Some(heard)) = (facts.status, facts.agent.at()) else { return String::new() };
    let ms = status.at.since(at) + opts.now.since(heard);
    age(opts.now, opts.now.plus(ms)).unwrap_or_default()
}

fn checks(world: &World<'_>, facts: &NodeFacts<'_>, opts: &Opts) -> String {
    let mut table = Table::new(&["CHECK", "VERDICT", "SINCE", "RUN", "SEEN", "WHAT HOLDS"]);
    for (component, check, result) in all_checks(facts) {
        let tone = match result.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warning => Tone::Warn,
            Verdict::Critical | Verdict::Unknown => Tone::Bad,
        };
        table.row([
            cell(format!("{component}/{check}")),
            toned(tone, result.verdict.as_str()),
            cell(since(result.since, facts, opts)),
            cell(since(result.at, facts, opts)),
            cell(&result.seen),
            cell(description(world, component, check)),
        ]);
    }
    if table.is_empty() { "  none was reported\n".to_owned() } else { table.render(opts) }
}

pub(crate) fn all_checks<'a>(
    facts: &'a NodeFacts<'_>,
) -> impl Iterator<Item = (&'a ComponentName, &'a String, &'a CheckResult)> {
    let components = facts.status.into_iter().flat_map(|status| &status.components);
    components.flat_map(|(name, component)| {
        component.checks.iter().map(move |(check, result)| (name, check, result))
    })
}

/// What holds when a check is ok, in the stack's words.
pub(crate) fn description<'a>(world: &World<'a>, component: &ComponentName, check: &str) -> &'a str {
    if check == UNIT_CHECK {
        return "Its unit is active.";
    }
    let checks = world.stack.components.get(component).map(|component| &component.checks);
    let found = checks.and_then(|checks| checks.iter().find(|template| template.name == check));
    found.map_or("", |template| template.description.as_str())
}

/// Everything about one node, as data; `None` if it is not declared.
pub fn node_json(world: &World<'_>, name: &NodeName, now: Timestamp) -> Option<Value> {
    let facts = node(world, name, now)?;
    let (debt, waits) = concerning(world, name);
    let mut value = node_fields(&facts, now);
    let fields = value.as_object_mut()?;
    fields.insert("format_version".to_owned(), json!(FORMAT_VERSION));
    fields.insert("kind".to_owned(), json!("node"));
    fields.insert("labels".to_owned(), json!(facts.node.labels));
    fields.insert("resource".to_owned(), json!(world.observed.resources.get(&facts.node.machine)));
    fields.insert("status".to_owned(), json!(facts.status));
    fields.insert("debt".to_owned(), json!(debt));
    fields.insert("waits".to_owned(), json!(waits));
    Some(safe(value))
}
