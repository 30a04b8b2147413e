//! Where results go: data to standard output, everything else to standard error.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use castrum_blueprints::desired::Desired;
use castrum_blueprints::event::{Event, What};
use castrum_blueprints::lock::Lock;
use castrum_blueprints::names::ClusterName;
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::Forecast;
use serde_json::Value;

use super::args::{Format, Global};
use crate::engine::Outcome;
use crate::events::Listener;

/// Writes data.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever reads us may stop reading; that is no failure of ours.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes data as JSON or YAML.
pub(super) fn print_json(value: &Value, format: Format) {
    match format {
        Format::Yaml => print(&serde_saphyr::to_string(value).unwrap_or_default()),
        Format::Table | Format::Json => print(&format!("{value:#}\n")),
    }
}

/// Writes something for people.
pub(super) fn note(text: &str) {
    if !text.is_empty() {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

/// Leaves at once.
pub(super) fn leave(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

struct Lines;
impl Listener for Lines {
    fn hear(&mut self, event: &Event) {
        note(&format!(
            "{} {}\n",
            event.at.0 % 1_000_000,
            serde_json::to_string(&event.what).unwrap_or_default().chars().take(300).collect::<String>()
        ));
        if let What::RunFinished { .. } = event.what {}
    }
}
pub(super) fn screen(_: &Global) -> Box<dyn Listener> {
    Box::new(Lines)
}
pub(super) fn plan(f: &Forecast, _: &Observed, _: &Global) -> String {
    let mut t = String::new();
    for (i, r) in f.rounds.iter().enumerate() {
        t.push_str(&format!("round {i}\n"));
        for s in &r.steps {
            t.push_str(&format!("  {} ({})\n", s.id, s.reason));
        }
        for b in &r.blocked {
            t.push_str(&format!("    {} waits for {} (last {})\n", b.subject, b.waits_for, b.last_seen));
        }
    }
    t.push_str(&format!("progress {:?}\n", f.progress));
    t
}
pub(super) fn plan_json(f: &Forecast, _: &Observed) -> &'static Value {
    Box::leak(Box::new(serde_json::to_value(f).unwrap_or_default()))
}
pub(super) fn finish(_: &Desired, (o, c): (&Outcome, u8), _: &Lock, _: (&Path, &Global)) -> String {
    let _ = std::io::stderr().is_terminal();
    format!("ended {c} {:?}\n{:#?}\n", o.progress, o.plan)
}
pub(super) fn destroyed(o: &Outcome, _: &ClusterName, c: u8) -> String {
    format!("ended {c} {:?}\n{:#?}\n", o.progress, o.plan)
}
