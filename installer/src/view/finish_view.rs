//! The end of a run: how the cluster is, how long it took, what is set aside and what helps, and what to type next.

use castrum_blueprints::event::Event;
use castrum_blueprints::names::{ClusterName, NodeName};
use castrum_blueprints::plan::{Area, Debt, Plan};

use super::facts::{NodeFacts, nodes};
use super::names::node_in;
use super::status_view::{components_table, nodes_table};
use super::style::{Text, Tone, clean, counted, paint, shell_word, wrap};
use super::timeline_view::{Detail, bars, critical_lines, headline, timeline};
use super::waits::{debt_sentence, wait_lines};
use super::{Opts, World};

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// The cluster, as it was last seen.
    pub world: World<'a>,
    /// What happened in the run.
    pub events: &'a [Event],
    /// The path of the blueprint, as the user writes it.
    pub blueprint: &'a str,
    /// The exit code.
    pub code: u8,
}

/// The blueprint that commands take if they are told of none.
const USUAL: &str = "cluster.yaml";
/// How many debts are shown with what helps.
const MOST: usize = 8;

/// The end of an apply, for people.
pub fn finish_text(finish: &Finish<'_>, opts: &Opts) -> String {
    let world = &finish.world;
    let all = nodes(world, opts.now);
    let mut text = Text::default();
    text.heading(opts.color, "Nodes");
    text.0.push_str(&nodes_table(&all, opts));
    text.heading(opts.color, "Components");
    text.0.push_str(&components_table(world, &all, opts));
    if let Some(timeline) = timeline(finish.events, Some(world.stack)) {
        text.heading(opts.color, "Timeline");
        text.line(&headline(&timeline, opts));
        text.0.push_str(&bars(&timeline, Detail::Nodes, opts));
        text.line("");
        text.0.push_str(&critical_lines(&timeline, opts));
    }
    debts(&mut text, &world.plan.debt, Some(finish.blueprint), opts);
    let waiting: Vec<_> = world.plan.blocked.iter().filter(|blocked| !blocked.by_debt).cloned().collect();
    if !waiting.is_empty() {
        text.heading(opts.color, "Still waiting");
        wait_lines(&mut text, &waiting, MOST, opts);
    }
    text.heading(opts.color, "What next");
    let next = next(finish, &all);
    let longest = next.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, purpose) in next {
        text.line(&format!("  {command:<longest$}  {purpose}"));
    }
    verdict(&mut text, world, finish.code, opts);
    text.0
}

fn verdict(text: &mut Text, world: &World<'_>, code: u8, opts: &Opts) {
    let tone = if code == 0 { Tone::Good } else { Tone::Bad };
    let ended =
        format!("Cluster {} ({}): {}.", world.desired.name, world.desired.cluster, exit_meaning(code));
    let ended = if code == 0 { ended } else { format!("{ended} Exit code {code}.") };
    text.line("");
    text.line(&paint(opts.color, tone, &wrap(&ended, opts.width, 2)));
}

fn debts(text: &mut Text, debt: &[Debt], blueprint: Option<&str>, opts: &Opts) {
    if debt.is_empty() {
        return;
    }
    text.heading(opts.color, "Set aside");
    for one in debt.iter().take(MOST) {
        let line = wrap(&format!("  ! {}", debt_sentence(one, opts)), opts.width, 4);
        text.line(&paint(opts.color, Tone::Bad, &line));
        text.line(&wrap(&format!("    hint: {}", hint(one, blueprint)), opts.width, 10));
    }
    if debt.len() > MOST {
        text.line(&format!("  ! and {} more", debt.len() - MOST));
    }
}

/// What helps against a debt.
fn hint(debt: &Debt, blueprint: Option<&str>) -> String {
    let option = blueprint.map_or(String::new(), option);
    let node = node_in(&debt.subject).and_then(|node| node.parse::<NodeName>().ok());
    let Some(node) = node else {
        return match debt.area {
            Area::Infrastructure => {
                "see to what the place says above, then run the same command again".to_owned()
            }
            Area::Safety => {
                "see to it at its place or in the blueprint, then run the same command again".to_owned()
            }
            Area::Boot | Area::Platform => {
                "see to what is said above, then run the same command again".to_owned()
            }
        };
    };
    if blueprint.is_none() {
        return format!("see to what the place says of {node}, then destroy again");
    }
    if debt.reason.contains("is paused") {
        return format!("let the machine of {node} go on, then apply again");
    }
    match debt.area {
        Area::Safety => format!("see to {node} at its place or in the blueprint, then apply again"),
        Area::Infrastructure => format!("see to what the place says of {node}, then apply again"),
        Area::Boot => format!("look at it with `castrum node ssh {node}{option}`; then apply again"),
        Area::Platform => {
            let component =
                debt.subject.split_once(" on ").map(|(component, _)| format!(" {}", clean(component)));
            format!(
                "read `castrum node logs {node}{}{option}`; then apply again",
                component.unwrap_or_default()
            )
        }
    }
}

/// The blueprint as an option, for commands whose own arguments come first.
fn option(blueprint: &str) -> String {
    if blueprint == USUAL { String::new() } else { format!(" -f {}", shell_word(blueprint)) }
}

/// The blueprint as an argument.
fn argument(blueprint: &str) -> String {
    if blueprint == USUAL { String::new() } else { format!(" {}", shell_word(blueprint)) }
}

fn next(finish: &Finish<'_>, all: &[NodeFacts<'_>]) -> Vec<(String, &'static str)> {
    let (argument, option) = (argument(finish.blueprint), option(finish.blueprint));
    let mut next = Vec::new();
    let ill = all.iter().find(|facts| !facts.is_healthy());
    if finish.code != 0 {
        if let Some(facts) = ill {
            next.push((
                format!("castrum status{argument} --node {}", facts.name),
                "every check of a node that is not healthy",
            ));
            next.push((format!("castrum node logs {}{option}", facts.name), "what it says"));
        }
        next.push((format!("castrum apply{argument}"), "go on from here; nothing is made twice"));
    }
    next.push((format!("castrum status{argument}"), "how the cluster is"));
    if finish.code == 0 {
        if let Some(facts) = all.first() {
            next.push((format!("castrum node ssh {}{option}", facts.name), "log in to a node"));
        }
        next.push((format!("castrum get checks{option}"), "every check of every node"));
        next.push((format!("castrum timeline{argument} --svg boot.svg"), "the time line as a picture"));
    }
    next.push((format!("castrum destroy{argument}"), "remove all of it"));
    next
}

/// The end of a destroy, for people.
pub fn destroyed_text(plan: &Plan, cluster: &ClusterName, code: u8, opts: &Opts) -> String {
    let mut text = Text::default();
    debts(&mut text, &plan.debt, None, opts);
    if !plan.blocked.is_empty() {
        text.heading(opts.color, "Not removed yet");
        wait_lines(&mut text, &plan.blocked, MOST, opts);
    }
    if !text.0.is_empty() {
        text.line("");
    }
    let left = plan.steps.len() + plan.debt.len() + plan.blocked.len();
    let (tone, word) = if code == 0 {
        (Tone::Good, format!("Cluster {cluster}: everything of it is removed."))
    } else {
        let left = if left > 0 { format!("; {} left", counted(left, "thing")) } else { String::new() };
        (Tone::Bad, format!("Cluster {cluster}: {}{left}. Exit code {code}.", exit_meaning(code)))
    };
    text.line(&paint(opts.color, tone, &wrap(&word, opts.width, 2)));
    text.0
}

/// What an exit code means. A code's meaning is never reused.
pub fn exit_meaning(code: u8) -> &'static str {
    match code {
        0 => "done, and everything is healthy",
        1 => "something failed",
        2 => "it worked, and there are differences",
        10 => "the blueprint is not valid",
        11 => "a preflight check, a permission or a quota stands against it",
        12 => "somebody else holds the lock",
        13 => "the plan is stale, or the world changed under it",
        20 => "the infrastructure could not be made",
        21 => "machines did not boot or join",
        22 => "the platform did not come up",
        23 => "a health gate did not open",
        24 => "a safety guard refused it",
        30 => "it goes, and something is set aside or unconfirmed",
        40 => "it took too long",
        64 => "the command line is not valid",
        130 => "it was interrupted",
        _ => "an unknown code",
    }
}
