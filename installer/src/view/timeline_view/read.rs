//! From the events of a run to spans: what began, and when it ended.

use std::collections::BTreeMap;

use castrum_blueprints::event::{Event, What};
use castrum_blueprints::names::Timestamp;
use castrum_blueprints::status::Phase;

use super::{Close, Kind, Lane, Span, Timeline};
use crate::view::names::{natural, node_in};
use crate::view::style::clean;

/// What is open while events are read.
#[derive(Default)]
struct Reader {
    lanes: BTreeMap<String, Vec<Span>>,
    /// Steps that have begun: their lane and place in it.
    steps: BTreeMap<String, (String, usize)>,
    /// Components that are not healthy yet: their place in the lane.
    components: BTreeMap<(String, String), usize>,
    /// When each node's machine was made, or the agent was brought to it: its boot begins then.
    made: BTreeMap<String, Timestamp>,
}

pub(super) fn read(events: &[Event]) -> Option<Timeline> {
    let first = events.first()?;
    let last = events.iter().map(|event| event.at).max().unwrap_or(first.at);
    let mut reader = Reader::default();
    let (mut verb, mut code) = (String::from("run"), None);
    for event in events {
        match &event.what {
            What::RunStarted { verb: of, .. } => verb = clean(of),
            What::RunFinished { code: ended, .. } => code = Some(*ended),
            what => reader.take(what, event.at),
        }
    }
    Some(Timeline {
        run: clean(&first.run),
        verb,
        started: first.at,
        ended: last,
        code,
        lanes: reader.close(last),
        critical: Vec::new(),
    })
}

impl Reader {
    fn take(&mut self, what: &What, at: Timestamp) {
        match what {
            What::StepStarted { id, .. } => self.begin(id, at),
            What::StepDone { id, .. } => self.end(id, at, Close::Done),
            What::StepFailed { id, .. } => self.end(id, at, Close::Failed),
            What::NodeHeard { node } => self.heard(node.as_str(), at),
            What::ComponentPhase { node, component, phase, .. } => {
                self.phase(node.as_str(), component.as_str(), *phase, at);
            }
            _ => {}
        }
    }

    fn push(&mut self, lane: &str, kind: Kind, label: String, (start, end): (Timestamp, Timestamp)) -> usize {
        let spans = self.lanes.entry(lane.to_owned()).or_default();
        let phases = Vec::new();
        spans.push(Span { kind, label, start, end, close: Close::Open, phases });
        spans.len() - 1
    }

    fn begin(&mut self, id: &str, at: Timestamp) {
        let lane = node_in(id).map(clean).unwrap_or_default();
        let machine = id.starts_with("ensure ") && !lane.is_empty();
        let (kind, label) = if machine {
            (Kind::Machine, "machine".to_owned())
        } else if lane.is_empty() {
            (Kind::Step, clean(id))
        } else {
            (
                Kind::Step,
                clean(id)
                    .replace(&format!(" {lane}"), " ")
                    .replace(" @", " generation ")
                    .trim_end()
                    .to_owned(),
            )
        };
        let place = self.push(&lane, kind, label, (at, at));
        self.steps.insert(id.to_owned(), (lane, place));
    }

    fn end(&mut self, id: &str, at: Timestamp, close: Close) {
        let Some((lane, place)) = self.steps.remove(id) else { return };
        let Some(span) = self.lanes.get_mut(&lane).and_then(|spans| spans.get_mut(place)) else { return };
        (span.end, span.close) = (at, close);
        let begun = matches!(close, Close::Done) && (span.kind == Kind::Machine || id.starts_with("enroll "));
        if begun && !lane.is_empty() {
            // Where the machine was made in this run, it boots from then on; else from when the agent was brought.
            self.made.entry(lane).or_insert(at);
        }
    }

    fn heard(&mut self, node: &str, at: Timestamp) {
        let Some(made) = self.made.remove(node) else { return };
        let place = self.push(node, Kind::Boot, "boot".to_owned(), (made, at));
        if let Some(span) = self.lanes.get_mut(node).and_then(|spans| spans.get_mut(place)) {
            span.close = Close::Done;
        }
    }

    fn phase(&mut self, node: &str, component: &str, phase: Phase, at: Timestamp) {
        let key = (node.to_owned(), component.to_owned());
        let known = self.components.get(&key).copied();
        // What is healthy when it is first heard took no time in this run.
        if known.is_none() && phase == Phase::Healthy {
            return;
        }
        let place = known.unwrap_or_else(|| self.push(node, Kind::Component, component.to_owned(), (at, at)));
        let Some(span) = self.lanes.get_mut(node).and_then(|spans| spans.get_mut(place)) else { return };
        span.phases.push((phase, at));
        span.end = at;
        if phase == Phase::Healthy {
            span.close = Close::Done;
            self.components.remove(&key);
        } else {
            self.components.insert(key, place);
        }
    }

    /// What is still open ends with the run.
    fn close(mut self, last: Timestamp) -> Vec<Lane> {
        for (node, made) in std::mem::take(&mut self.made) {
            let spans = self.lanes.get(&node);
            if !spans.is_some_and(|spans| spans.iter().any(|span| span.kind == Kind::Component)) {
                self.push(&node, Kind::Boot, "boot".to_owned(), (made, last));
            }
        }
        let mut lanes: Vec<Lane> = self.lanes.into_iter().map(|(name, spans)| Lane { name, spans }).collect();
        for span in lanes.iter_mut().flat_map(|lane| &mut lane.spans) {
            if span.close == Close::Open {
                span.end = last;
                let failing = span.phases.last().is_some_and(|(phase, _)| *phase == Phase::Failing);
                span.close = if failing { Close::Failed } else { Close::Open };
            }
        }
        let mut begun: BTreeMap<String, Timestamp> = BTreeMap::new();
        for lane in &lanes {
            let first = lane.spans.iter().map(|span| span.start).min().unwrap_or(last);
            let group = begun.entry(natural(&lane.name).0.to_owned()).or_insert(first);
            *group = (*group).min(first);
        }
        // The cluster's own lane first, then groups as they begin.
        lanes.sort_by(|a, b| {
            let key = |lane: &Lane| (!lane.name.is_empty(), begun.get(natural(&lane.name).0).copied());
            (key(a), natural(&a.name)).cmp(&(key(b), natural(&b.name)))
        });
        for lane in &mut lanes {
            lane.spans.sort_by_key(|span| (span.start, span.kind, span.end));
        }
        lanes
    }
}
