//! What happened, line by line for people, and as it stands in the journal for programs.

use castrum_blueprints::event::{Event, What};
use castrum_blueprints::names::{NodeName, Timestamp};
use castrum_blueprints::plan::Progress;
use castrum_blueprints::status::Phase;
use serde_json::Value;

use super::Opts;
use super::names::node_in;
use super::style::{Text, Tone, clean, counted, duration, json_line, paint, utc, wrap};
use super::waits::gathered;

/// Which events are shown; all of them if it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only of this run.
    pub run: Option<String>,
    /// Only what concerns this node.
    pub node: Option<NodeName>,
    /// Only of this kind, as the journal names it: `step-done`.
    pub kind: Option<String>,
}

impl EventFilter {
    /// Whether `event` is to be shown.
    pub fn matches(&self, event: &Event) -> bool {
        self.run.as_ref().is_none_or(|run| *run == event.run)
            && self.kind.as_ref().is_none_or(|kind| *kind == kind_of(&event.what))
            && self.node.as_ref().is_none_or(|node| concerns(&event.what, node.as_str()))
    }
}

fn kind_of(what: &What) -> String {
    let value = serde_json::to_value(what).unwrap_or_default();
    value.get("event").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn concerns(what: &What, node: &str) -> bool {
    match what {
        What::StepStarted { id, .. }
        | What::StepProgress { id, .. }
        | What::StepDone { id, .. }
        | What::StepFailed { id, .. } => node_in(id) == Some(node),
        What::NodeAdmitted { node: of }
        | What::NodeRefused { node: of, .. }
        | What::NodeHeard { node: of }
        | What::ComponentPhase { node: of, .. } => of.as_str() == node,
        What::Waiting { blocked } => {
            blocked.iter().any(|blocked| blocked.node.as_ref().is_some_and(|of| of.as_str() == node))
        }
        What::SetAside { debt } => node_in(&debt.subject) == Some(node),
        What::RunStarted { .. }
        | What::Looked { .. }
        | What::Notice { .. }
        | What::Interrupted
        | What::RunFinished { .. } => false,
    }
}

/// One event as a line, with the time since `started`; `None` if it is nothing for people.
pub fn event_line(event: &Event, started: Timestamp, opts: &Opts) -> Option<String> {
    let (tone, sentence) = sentence(&event.what, event.at)?;
    let elapsed = format!("+{}", duration(event.at.since(started)));
    let line = wrap(&format!("{elapsed:>8}  {sentence}"), opts.width, 12);
    let (time, rest) = line.split_at(line.len().min(8.max(elapsed.len())));
    Some(format!("{}{}", paint(opts.color, Tone::Dim, time), paint(opts.color, tone, rest)))
}

fn sentence(what: &What, at: Timestamp) -> Option<(Tone, String)> {
    let (tone, text) = match what {
        What::StepProgress { .. } => return None,
        What::RunStarted { verb, cluster } => (Tone::Bold, format!("{verb} of cluster {cluster} has begun")),
        What::Looked { resources, heard, blind } => (Tone::Dim, looked(*resources, *heard, *blind)),
        What::StepStarted { id, reason } => (Tone::Dim, format!("> {id}: {reason}")),
        What::StepDone { id, outcome } => (Tone::Plain, format!("done {id}: {outcome}")),
        What::StepFailed { id, message, hint, retry_at } => {
            let hint = hint.as_ref().map_or(String::new(), |hint| format!(" (hint: {hint})"));
            match retry_at {
                Some(retry) => {
                    let again = duration(retry.since(at));
                    (Tone::Warn, format!("tried {id}: {message}; again in {again}{hint}"))
                }
                None => (Tone::Bad, format!("FAILED {id}: {message}{hint}")),
            }
        }
        What::NodeAdmitted { node } => {
            (Tone::Plain, format!("{node} proved its token and has its certificate"))
        }
        What::NodeRefused { node, reason } => (Tone::Bad, format!("REFUSED {node}: {reason}")),
        What::NodeHeard { node } => (Tone::Good, format!("{node} is heard")),
        What::ComponentPhase { node, component, phase, note } => {
            let note = note.as_ref().map_or(String::new(), |note| format!(": {note}"));
            (phase_tone(*phase), format!("{component} on {node} is {phase}{note}"))
        }
        What::Waiting { blocked } => (Tone::Warn, waiting(blocked, at)),
        What::SetAside { debt } => (Tone::Bad, format!("SET ASIDE {}: {}", debt.subject, debt.reason)),
        What::Notice { text } => (Tone::Plain, format!("note: {text}")),
        What::Interrupted => (Tone::Warn, "asked to stop: steps under way are finished".to_owned()),
        What::RunFinished { progress, debt, code } => (Tone::Bold, finished(*progress, debt.len(), *code)),
    };
    Some((tone, clean(&text)))
}

fn looked(resources: usize, heard: usize, blind: usize) -> String {
    let blind = if blind == 0 { String::new() } else { format!(", {blind} could not be looked at") };
    format!("looked: {}, {} heard{blind}", counted(resources, "resource"), counted(heard, "node"))
}

fn phase_tone(phase: Phase) -> Tone {
    match phase {
        Phase::Healthy => Tone::Good,
        Phase::Failing => Tone::Bad,
        _ => Tone::Dim,
    }
}

fn waiting(blocked: &[castrum_blueprints::plan::Blocked], at: Timestamp) -> String {
    let waits = gathered(blocked);
    let Some(longest) = waits.first() else { return "waiting for nothing".to_owned() };
    let rest: usize = waits.iter().skip(1).map(|wait| wait.count).sum();
    let more = if rest > 0 { format!(" (and {rest} more wait)") } else { String::new() };
    format!("waiting: {}{more}", longest.sentence(at))
}

fn finished(progress: Option<Progress>, debt: usize, code: u8) -> String {
    let word = match progress {
        Some(Progress::Converged) => "nothing is left to do".to_owned(),
        Some(Progress::Partial) => format!("{} set aside", counted(debt, "thing")),
        Some(Progress::Pending) => "something is still awaited".to_owned(),
        None => "it was stopped".to_owned(),
    };
    format!("ended with {code}: {word}")
}

/// Events for people. Each run has a heading, and its lines count from its beginning.
pub fn events_text(events: &[Event], filter: &EventFilter, opts: &Opts) -> String {
    let mut text = Text::default();
    let mut starts: std::collections::BTreeMap<&str, Timestamp> = std::collections::BTreeMap::new();
    for event in events {
        starts.entry(&event.run).or_insert(event.at);
    }
    let mut run: Option<&str> = None;
    for event in events.iter().filter(|event| filter.matches(event)) {
        let started = starts.get(event.run.as_str()).copied().unwrap_or(event.at);
        let Some(line) = event_line(event, started, opts) else { continue };
        if run != Some(&event.run) {
            text.heading(opts.color, &format!("Run {} at {}", clean(&event.run), utc(started)));
            run = Some(&event.run);
        }
        text.line(&line);
    }
    text.0
}

/// Events for programs: one JSON document a line, as in the journal.
pub fn events_ndjson(events: &[Event], filter: &EventFilter) -> String {
    events.iter().filter(|event| filter.matches(event)).map(json_line).collect()
}
