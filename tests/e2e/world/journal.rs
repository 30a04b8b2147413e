//! The journal as a test reads it: while a run goes on, and afterwards.

use std::path::Path;

use castrum_blueprints::event::{Event, What};

/// Events of all runs, in order.
#[derive(Debug)]
pub struct Journal(pub Vec<Event>);

impl Journal {
    pub(super) fn read(dir: &Path) -> Self {
        let (events, _) =
            castrum::project::read_journal(&dir.join(".castrum/journal.jsonl")).expect("a journal");
        Self(events)
    }

    /// The events of the last run.
    pub fn last_run(&self) -> &[Event] {
        let run = self.0.last().map(|event| event.run.clone());
        let first = self.0.iter().position(|event| Some(&event.run) == run.as_ref()).unwrap_or(0);
        &self.0[first..]
    }

    /// The steps that the last run began.
    pub fn last_steps(&self) -> Vec<String> {
        let steps = self.last_run().iter().filter_map(|event| match &event.what {
            What::StepStarted { id, .. } => Some(id.clone()),
            _ => None,
        });
        steps.collect()
    }

    /// The last events as lines.
    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<_> =
            self.0.iter().map(|event| serde_json::to_string(event).unwrap_or_default()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Whether an event is of this kind, as the journal writes it.
pub fn is(event: &Event, kind: &str) -> bool {
    serde_json::to_value(&event.what).is_ok_and(|value| value["event"] == kind)
}

/// Whether an event is of this kind and of the step whose id begins like this.
pub fn of_step(event: &Event, kind: &str, step: &str) -> bool {
    let of = match &event.what {
        What::StepStarted { id, .. } | What::StepDone { id, .. } | What::StepFailed { id, .. } => {
            id.starts_with(step)
        }
        _ => false,
    };
    of && is(event, kind)
}

/// Whether an event is of this kind and of this node.
pub fn of_node(event: &Event, kind: &str, name: &str) -> bool {
    let of = match &event.what {
        What::NodeAdmitted { node } | What::NodeRefused { node, .. } | What::NodeHeard { node } => {
            node.as_str() == name
        }
        _ => false,
    };
    of && is(event, kind)
}

/// Whether an event tells that a component of a node is in this phase.
pub fn of_component(event: &Event, of: &str, is_in: &str) -> bool {
    match &event.what {
        What::ComponentPhase { component, phase, .. } => component.as_str() == of && phase.as_str() == is_in,
        _ => false,
    }
}
