//! What waits for what, said once for all that wait alike.

use std::collections::BTreeMap;

use castrum_blueprints::names::{NodeName, Timestamp};
use castrum_blueprints::plan::{Blocked, Debt};

use super::Opts;
use super::names::ranges;
use super::style::{Text, Tone, age, clean, paint, wrap};

/// Waits that are alike but for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) subject: String,
    pub(crate) waits_for: String,
    /// The longest of them.
    pub(crate) since: Timestamp,
    /// What was last seen by the one that waits longest.
    pub(crate) last_seen: String,
    pub(crate) count: usize,
    pub(crate) by_debt: bool,
}

/// Stands for the node in what is compared.
const NODE: &str = "\u{1}";

/// The waits, those alike taken together, the longest first.
pub(crate) fn gathered(blocked: &[Blocked]) -> Vec<Wait> {
    let mut alike: BTreeMap<(bool, String, String), Vec<&Blocked>> = BTreeMap::new();
    for one in blocked {
        let general = |text: &str| match &one.node {
            Some(node) => replace_word(text, node.as_str(), NODE),
            None => text.to_owned(),
        };
        alike.entry((one.by_debt, general(&one.subject), general(&one.waits_for))).or_default().push(one);
    }
    let mut waits: Vec<Wait> = alike
        .into_iter()
        .map(|((by_debt, subject, waits_for), all)| gather(&subject, &waits_for, &all, by_debt))
        .collect();
    waits.sort_by(|a, b| (a.by_debt, a.since, &a.subject).cmp(&(b.by_debt, b.since, &b.subject)));
    waits
}

fn gather(subject: &str, waits_for: &str, all: &[&Blocked], by_debt: bool) -> Wait {
    let longest = all.iter().min_by_key(|one| one.since).expect("a group has a member");
    let names = ranges(all.iter().filter_map(|one| one.node.as_ref()).map(NodeName::as_str), 4);
    let many = all.len() > 1;
    let last_seen = match &longest.node {
        Some(node) if many && !longest.last_seen.contains(node.as_str()) => {
            format!("{} ({node})", clean(&longest.last_seen))
        }
        _ => clean(&longest.last_seen),
    };
    let here = if many { "the same node" } else { names.as_str() };
    let waits_for = match waits_for.strip_prefix("its ") {
        Some(rest) if many => format!("their {rest}"),
        _ => waits_for.to_owned(),
    };
    Wait {
        subject: clean(&subject.replace(NODE, &names)),
        waits_for: clean(&waits_for.replace(NODE, here)),
        since: longest.since,
        last_seen,
        count: all.len(),
        by_debt,
    }
}

/// Replaces `word` where it stands by itself: `agents-1` is not a part of `agents-10`.
fn replace_word(text: &str, word: &str, with: &str) -> String {
    let part = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric() || char == '-');
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        out.push_str(before);
        let inside = part(before.chars().next_back()) || part(after.chars().next());
        out.push_str(if inside { word } else { with });
        rest = after;
    }
    out.push_str(rest);
    out
}

impl Wait {
    /// `X waits for Y since T, last saw Z`.
    pub(crate) fn sentence(&self, now: Timestamp) -> String {
        let long = now.since(self.since) >= 1000;
        let since =
            age(self.since, now).filter(|_| long).map_or(String::new(), |age| format!(" since {age}"));
        let seen =
            if self.last_seen.is_empty() { String::new() } else { format!(", last saw: {}", self.last_seen) };
        let verb = if self.count > 1 { "wait" } else { "waits" };
        format!("{} {verb} for {}{since}{seen}", self.subject, self.waits_for)
    }
}

/// Lines of the first `most` waits; the others are counted.
pub(crate) fn wait_lines(text: &mut Text, blocked: &[Blocked], most: usize, opts: &Opts) {
    let waits = gathered(blocked);
    for wait in waits.iter().take(most) {
        let tone = if wait.by_debt { Tone::Dim } else { Tone::Warn };
        let line = wrap(&format!("  . {}", wait.sentence(opts.now)), opts.width, 4);
        text.line(&paint(opts.color, tone, &line));
    }
    let rest: usize = waits.iter().skip(most).map(|wait| wait.count).sum();
    if rest > 0 {
        text.line(&format!("  . and {rest} more"));
    }
}

/// Lines of the first `most` debts; the others are counted.
pub(crate) fn debt_lines(text: &mut Text, debt: &[Debt], most: usize, opts: &Opts) {
    for one in debt.iter().take(most) {
        text.line(&paint(
            opts.color,
            Tone::Bad,
            &wrap(&format!("  ! {}", debt_sentence(one, opts)), opts.width, 4),
        ));
    }
    if debt.len() > most {
        text.line(&format!("  ! and {} more", debt.len() - most));
    }
}

/// `X is set aside since T: why`.
pub(crate) fn debt_sentence(debt: &Debt, opts: &Opts) -> String {
    let since = age(debt.since, opts.now).map_or(String::new(), |age| format!(" since {age}"));
    format!("{} is set aside{since}: {}", clean(&debt.subject), clean(&debt.reason))
}
