//! Why something is not going on: each wait with its gate, what was last seen, when it is looked at next, what would open it.

use castrum_blueprints::names::Timestamp;
use castrum_blueprints::plan::{Blocked, Outlook};
use serde_json::{Value, json};

use super::style::{Text, Tone, age, clean, counted, paint, safe, wrap};
use super::{FORMAT_VERSION, Opts, World};

/// How many are shown to people at once.
const MOST: usize = 20;

/// The waits that `about` is part of, by node, component or subject; all of them if nothing is named.
fn chosen<'a>(world: &World<'a>, about: Option<&str>) -> Vec<(&'a Blocked, Outlook)> {
    let fits = |blocked: &&Blocked| {
        about.is_none_or(|about| {
            let words = |text: &str| {
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == about)
            };
            blocked.subject == about
                || words(&blocked.subject)
                || blocked.node.as_ref().is_some_and(|n| n.as_str() == about)
        })
    };
    let mut waits: Vec<_> = world.plan.blocked.iter().filter(fits).collect();
    waits.sort_by_key(|blocked| (blocked.by_debt, blocked.since, &blocked.subject));
    waits.into_iter().map(|blocked| (blocked, blocked.outlook(world.desired, world.observed))).collect()
}

/// Each wait in full, for people.
pub fn waits_text(world: &World<'_>, (about, blueprint): (Option<&str>, &str), opts: &Opts) -> String {
    let waits = chosen(world, about);
    let mut text = Text::default();
    if waits.is_empty() {
        let of = about.map_or_else(String::new, |about| format!(" of `{}`", clean(about)));
        text.line(&format!("Nothing{of} waits."));
        return text.0;
    }
    text.line(&format!("{} of cluster {}", counted(waits.len(), "wait"), world.desired.name));
    for (blocked, outlook) in waits.iter().take(MOST) {
        one(&mut text, (blocked, outlook), blueprint, opts);
    }
    if waits.len() > MOST {
        let rest = counted(waits.len() - MOST, "more wait");
        text.line(&format!("\nand {rest}; `castrum explain wait NODE` shows those of one node"));
    }
    text.0
}

fn one(text: &mut Text, (blocked, outlook): (&Blocked, &Outlook), blueprint: &str, opts: &Opts) {
    let tone = if blocked.by_debt { Tone::Bad } else { Tone::Warn };
    text.heading(opts.color, &clean(&blocked.subject));
    let mut line = |head: &str, body: &str| {
        text.line(&wrap(&format!("  {head:<11}{body}"), opts.width, 13));
    };
    line("waits for", &paint(opts.color, tone, &clean(&blocked.waits_for)));
    line("since", &ago(outlook.since, opts.now));
    let seen_at = outlook.last_seen_at.map_or_else(String::new, |at| format!(" ({})", ago(at, opts.now)));
    line("last saw", &format!("{}{seen_at}", clean(&blocked.last_seen)));
    line("next check", &next(blocked, outlook, opts.now));
    if let Some(seconds) = outlook.patience_seconds {
        let long = age(Timestamp(1), Timestamp(1 + u64::from(seconds) * 1000)).unwrap_or_default();
        line("set aside", &format!("when a run has waited for {long}"));
    }
    line("unblocks", &clean(&outlook.unblocks));
    if let Some(command) = &outlook.command {
        line("see", &clean(&format!("castrum {command} -f {blueprint}")));
    }
}

fn next(blocked: &Blocked, outlook: &Outlook, now: Timestamp) -> String {
    match outlook.next_check {
        Some(at) => format!("{} at the latest", ahead(at, now)),
        None if blocked.by_debt => "none in this run: it is set aside".to_owned(),
        None => "none is needed: it is told when it happens".to_owned(),
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    age(at, now).map_or_else(|| "not known".to_owned(), |age| format!("{age} ago"))
}

fn ahead(at: Timestamp, now: Timestamp) -> String {
    if at <= now {
        return "now".to_owned();
    }
    age(now, at).map_or_else(|| "now".to_owned(), |age| format!("in {age}"))
}

/// Each wait in full, as data.
pub fn waits_json(world: &World<'_>, about: Option<&str>, now: Timestamp) -> Value {
    let waits: Vec<Value> = chosen(world, about)
        .into_iter()
        .map(|(blocked, outlook)| {
            json!({
                "subject": blocked.subject, "node": blocked.node, "gate": blocked.gate,
                "waits_for": blocked.waits_for, "since": outlook.since,
                "last_seen": blocked.last_seen, "last_seen_at": outlook.last_seen_at,
                "next_check": outlook.next_check, "patience_seconds": outlook.patience_seconds,
                "by_debt": blocked.by_debt,
                "unblocks": outlook.unblocks, "command": outlook.command,
            })
        })
        .collect();
    safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": "waits",
        "cluster": { "id": world.desired.cluster, "name": world.desired.name },
        "now": now,
        "waits": waits,
    }))
}
