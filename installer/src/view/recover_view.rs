//! A cluster that was found again: each resource with how sure that is, and what to do about what is not.

use castrum_blueprints::plan::Plan;
use castrum_blueprints::recover::{Confidence, Finding};
use serde_json::{Value, json};

use super::style::{Text, Tone, clean, counted, paint, safe, wrap};
use super::table::{Table, cell, toned};
use super::waits::debt_lines;
use super::{FORMAT_VERSION, Opts};

/// How many debts are shown.
const MOST: usize = 8;

/// The findings, for people.
pub fn findings_text(findings: &[Finding], opts: &Opts) -> String {
    let mut table = Table::new(&["RESOURCE", "FOUND", "BY"]);
    for finding in findings {
        let confidence = toned(tone(finding.confidence), finding.confidence.as_str());
        table.row([cell(finding.resource.to_string()), confidence, cell(&finding.found)]);
    }
    let mut text = Text(table.render(opts));
    let ambiguous = |finding: &&Finding| finding.confidence == Confidence::Ambiguous;
    if findings.iter().any(|finding| ambiguous(&finding)) {
        text.heading(opts.color, "Ambiguous");
    }
    for finding in findings.iter().filter(ambiguous) {
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        let line = format!("  ? {}: {}; {}", finding.resource, clean(&finding.found), clean(remedy));
        text.line(&paint(opts.color, Tone::Bad, &wrap(&line, opts.width, 4)));
    }
    text.line("");
    text.line(&wrap(&summary(findings), opts.width, 0));
    text.0
}

fn tone(confidence: Confidence) -> Tone {
    match confidence {
        Confidence::Certain => Tone::Good,
        Confidence::Likely | Confidence::Missing | Confidence::Surplus => Tone::Warn,
        Confidence::Ambiguous | Confidence::Unseen => Tone::Bad,
    }
}

fn summary(findings: &[Finding]) -> String {
    let mut parts = Vec::new();
    for confidence in [
        Confidence::Certain,
        Confidence::Likely,
        Confidence::Ambiguous,
        Confidence::Missing,
        Confidence::Unseen,
        Confidence::Surplus,
    ] {
        let count = findings.iter().filter(|finding| finding.confidence == confidence).count();
        if count > 0 {
            parts.push(format!("{count} {}", confidence.as_str()));
        }
    }
    format!("{}: {}.", counted(findings.len(), "resource"), parts.join(", "))
}

/// The findings, as data.
pub fn findings_json(findings: &[Finding], keyring: bool) -> Value {
    safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": "recover",
        "keyring": if keyring { "present" } else { "missing" },
        "findings": findings,
    }))
}

/// How bringing the new keyring to the nodes ended, for people.
pub fn recovered_text(plan: &Plan, blueprint: &str, done: bool, opts: &Opts) -> String {
    let mut text = Text::default();
    if !plan.debt.is_empty() {
        text.heading(opts.color, "Set aside");
        debt_lines(&mut text, &plan.debt, MOST, opts);
    }
    let end = if done {
        format!(
            "Every node holds to the new keyring. Keep a copy of it. `castrum apply {blueprint}` goes on as before."
        )
    } else {
        format!(
            "Some nodes still hold to the keyring that was lost; run `castrum recover {blueprint}` again for them."
        )
    };
    text.line(&wrap(&end, opts.width, 0));
    text.0
}
