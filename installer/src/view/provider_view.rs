//! Providers as they are listed, and what came of holding one to the contract.

use std::fmt::Write as _;
use std::path::PathBuf;

use castrum_blueprints::resource::Abilities;
use castrum_provider::Failure;
use castrum_provider::conformance::{Outcome, Verdict};
use serde_json::{Value, json};

use super::style::{Tone, clean, counted, paint};
use super::table::{Table, cell, toned};
use super::{FORMAT_VERSION, Opts};

/// A provider that can be named in a blueprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its executable; `None`: it is built in.
    pub path: Option<PathBuf>,
    /// Its version, if it tells.
    pub version: Option<String>,
    /// What it can do, or why it does not say so without a site.
    pub abilities: Result<Abilities, Failure>,
}

impl Listed {
    fn place(&self) -> String {
        self.path.as_ref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string())
    }
}

/// The providers for people.
pub fn listed_text(listed: &[Listed], opts: &Opts) -> String {
    let mut table = Table::new(&["PROVIDER", "WHERE", "VERSION", "ABILITIES"]);
    for provider in listed {
        let abilities = match &provider.abilities {
            Ok(abilities) => cell(in_words(abilities)),
            Err(failure) => toned(Tone::Warn, failure.to_string()),
        };
        let version = provider.version.as_deref().unwrap_or_default();
        table.row([cell(&provider.name), cell(provider.place()), cell(version), abilities]);
    }
    table.render(opts)
}

fn in_words(abilities: &Abilities) -> String {
    let kinds = abilities.kinds.iter().map(|kind| kind.as_str());
    let more = [("boot data", abilities.boot_data), ("power", abilities.power)];
    kinds.chain(more.into_iter().filter_map(|(word, has)| has.then_some(word))).collect::<Vec<_>>().join(", ")
}

/// The providers for programs.
pub fn listed_json(listed: &[Listed]) -> Value {
    let providers: Vec<Value> = listed
        .iter()
        .map(|provider| {
            json!({
                "name": provider.name,
                "path": provider.path,
                "version": provider.version,
                "abilities": provider.abilities.as_ref().ok(),
                "failure": provider.abilities.as_ref().err(),
            })
        })
        .collect();
    json!({ "format_version": FORMAT_VERSION, "providers": providers })
}

/// The line of one check, with the reason below it where it is not ok.
pub fn checked_line(outcome: &Outcome, opts: &Opts) -> String {
    let (word, tone, reason) = match &outcome.verdict {
        Verdict::Ok => ("ok", Tone::Good, None),
        Verdict::Failed(reason) => ("failed", Tone::Bad, Some(reason)),
        Verdict::Skipped(reason) => ("skipped", Tone::Dim, Some(reason)),
    };
    let word = paint(opts.color, tone, &format!("{word:<8}"));
    let mut line = format!("{word} {:<18} {}\n", outcome.check.name(), outcome.check.must());
    if let Some(reason) = reason {
        let _ = writeln!(line, "{:28}{}", "", clean(reason));
    }
    line
}

/// What came of all checks.
pub fn verdict_text(name: &str, outcomes: &[Outcome]) -> String {
    let count = |of: fn(&Verdict) -> bool| outcomes.iter().filter(|outcome| of(&outcome.verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let ok = count(|verdict| *verdict == Verdict::Ok);
    let judged = if failed > 0 { "does not keep to the contract" } else { "keeps to the contract" };
    format!("`{name}` {judged}: {} ok, {failed} failed, {skipped} skipped\n", counted(ok, "check"))
}

#[cfg(test)]
mod tests {
    use castrum_blueprints::names::{ResourceKind, Timestamp};
    use castrum_provider::FailureClass;
    use castrum_provider::conformance::Check;

    use super::*;

    const OPTS: Opts = Opts { width: 100, color: false, now: Timestamp(0) };

    #[test]
    fn a_provider_that_does_not_say_what_it_can_do_is_listed_with_the_reason() {
        let kinds = vec![ResourceKind::Network, ResourceKind::Machine];
        let abilities = Abilities {
            provider: "sim".to_owned(),
            kinds,
            boot_data: true,
            power: false,
            ..Abilities::default()
        };
        let failure = Failure::new(FailureClass::Invalid, "no \u{1b}[31mregion");
        let listed = [
            Listed {
                name: "sim".to_owned(),
                path: None,
                version: Some("1.2.3".to_owned()),
                abilities: Ok(abilities),
            },
            Listed {
                name: "far".to_owned(),
                path: Some("/usr/bin/castrum-provider-far".into()),
                version: None,
                abilities: Err(failure),
            },
        ];
        let text = listed_text(&listed, &OPTS);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split("  ").collect()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(text.contains("built in") && text.contains("network, machine, boot data"), "{text}");
        assert!(text.contains("/usr/bin/castrum-provider-far") && !text.contains('\u{1b}'), "{text}");
        let json = listed_json(&listed);
        assert_eq!(json["providers"][0]["abilities"]["power"], false);
        assert_eq!(json["providers"][1]["failure"]["class"], "invalid");
    }

    #[test]
    fn a_check_says_what_must_be_and_why_it_is_not() {
        let outcome = |verdict| Outcome { check: Check::MakeAtOnce, verdict, took_ms: 3 };
        let outcomes = [
            outcome(Verdict::Ok),
            outcome(Verdict::Failed("two\nthings".to_owned())),
            outcome(Verdict::Skipped("no machines".to_owned())),
        ];
        let text: String = outcomes.iter().map(|outcome| checked_line(outcome, &OPTS)).collect();
        let wanted = "\
ok       make-at-once       make it once when two ask at a time
failed   make-at-once       make it once when two ask at a time
                            two things
skipped  make-at-once       make it once when two ask at a time
                            no machines
";
        assert_eq!(text, wanted);
        let all = "`x` does not keep to the contract: 1 check ok, 1 failed, 1 skipped\n";
        assert_eq!(verdict_text("x", &outcomes), all);
        assert!(verdict_text("x", &outcomes[..1]).starts_with("`x` keeps to the contract"));
    }
}
