//! How long everything took in one run, and which chain of things decided when it ended.
//!
//! A run that was killed has no end: what was under way then is shown as open up to the last thing that was heard.

mod critical;
mod read;
mod svg;
mod text;

use castrum_blueprints::event::Event;
use castrum_blueprints::names::Timestamp;
use castrum_blueprints::stack::Stack;
use castrum_blueprints::status::Phase;
use serde_json::{Value, json};

use super::FORMAT_VERSION;
use super::style::safe;

pub use svg::timeline_svg;
pub use text::timeline_text;
pub(super) use text::{Detail, bars, critical_lines, headline};

/// One run, as time goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    pub(super) run: String,
    pub(super) verb: String,
    pub(super) started: Timestamp,
    /// The end of the run, or the last that was heard of one that was killed.
    pub(super) ended: Timestamp,
    /// The exit code; `None` if the run was killed or still goes on.
    pub(super) code: Option<u8>,
    /// What belongs to no node first, then every node.
    pub(super) lanes: Vec<Lane>,
    /// The chain that decided the end, in order.
    pub(super) critical: Vec<Link>,
}

/// What happened to one node, or to the cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    /// The node; empty for the cluster.
    pub(super) name: String,
    pub(super) spans: Vec<Span>,
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) kind: Kind,
    pub(super) label: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) close: Close,
    /// The phases of a component, each with its beginning.
    pub(super) phases: Vec<(Phase, Timestamp)>,
}

/// What kind of thing took time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The machine was made.
    Machine,
    /// The machine came up, until its agent was heard.
    Boot,
    /// Another step.
    Step,
    /// A component, until it was healthy.
    Component,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Boot => "boot",
            Self::Step => "step",
            Self::Component => "component",
        }
    }
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    Done,
    Failed,
    /// It had not ended when the run did.
    Open,
}

impl Close {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Open => "open",
        }
    }
}

/// One thing of the chain that decided the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) lane: usize,
    pub(super) span: usize,
    /// How long nothing of the chain was under way before it, in milliseconds.
    pub(super) idle: u64,
}

impl Timeline {
    pub(super) fn total(&self) -> u64 {
        self.ended.since(self.started)
    }

    pub(super) fn span(&self, link: &Link) -> (&Lane, &Span) {
        let lane = &self.lanes[link.lane];
        (lane, &lane.spans[link.span])
    }

    /// The lanes of nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &Lane)> {
        self.lanes.iter().enumerate().filter(|(_, lane)| !lane.name.is_empty())
    }
}

impl Lane {
    /// The components, in the order in which they began, each with all its spans.
    pub(super) fn components(&self) -> Vec<(&str, Vec<&Span>)> {
        let mut all: Vec<(&str, Vec<&Span>)> = Vec::new();
        for span in self.spans.iter().filter(|span| span.kind == Kind::Component) {
            match all.iter_mut().find(|(label, _)| *label == span.label) {
                Some((_, spans)) => spans.push(span),
                None => all.push((&span.label, vec![span])),
            }
        }
        all
    }

    /// From the first to the last of the spans of a kind, if there are any; the end is open if one of them is.
    pub(super) fn extent(&self, kind: Kind) -> Option<(Timestamp, Timestamp, bool)> {
        let spans = || self.spans.iter().filter(|span| span.kind == kind);
        let start = spans().map(|span| span.start).min()?;
        let end = spans().map(|span| span.end).max()?;
        Some((start, end, spans().any(|span| span.close == Close::Open || self.failed(span))))
    }

    /// Whether a span failed, and what it was for did not succeed after that either.
    pub(super) fn failed(&self, span: &Span) -> bool {
        let purpose = |span: &Span| span.label.split(" generation ").next().map(str::to_owned);
        let overcome = |later: &Span| {
            later.close == Close::Done && later.start >= span.end && purpose(later) == purpose(span)
        };
        span.close == Close::Failed && !self.spans.iter().any(overcome)
    }

    /// Whether something did not end well.
    pub(super) fn is_bad(&self) -> bool {
        self.spans.iter().any(|span| span.close == Close::Open || self.failed(span))
    }
}

impl Span {
    pub(super) fn length(&self) -> u64 {
        self.end.since(self.start)
    }
}

/// The time line of the events of one run; `None` if there are none. The stack tells what a component waited for.
pub fn timeline(events: &[Event], stack: Option<&Stack>) -> Option<Timeline> {
    let mut timeline = read::read(events)?;
    timeline.critical = critical::chain(&timeline, stack);
    Some(timeline)
}

/// A time line, as data. Times are milliseconds from the beginning of the run.
pub fn timeline_json(timeline: &Timeline) -> Value {
    let span = |span: &Span| {
        let phases = span
            .phases
            .iter()
            .map(|(phase, at)| json!({ "phase": phase, "at_ms": at.since(timeline.started) }));
        json!({
            "kind": span.kind.as_str(),
            "label": span.label,
            "start_ms": span.start.since(timeline.started),
            "end_ms": span.end.since(timeline.started),
            "state": span.close.as_str(),
            "phases": phases.collect::<Vec<_>>(),
        })
    };
    let lane = |lane: &Lane| {
        let name = if lane.name.is_empty() { None } else { Some(&lane.name) };
        json!({ "node": name, "spans": lane.spans.iter().map(span).collect::<Vec<_>>() })
    };
    let link = |link: &Link| {
        let (lane, span) = timeline.span(link);
        let node = if lane.name.is_empty() { None } else { Some(&lane.name) };
        json!({ "node": node, "kind": span.kind.as_str(), "label": span.label, "idle_ms": link.idle, "took_ms": span.length() })
    };
    safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": "timeline",
        "run": timeline.run,
        "verb": timeline.verb,
        "started": timeline.started,
        "total_ms": timeline.total(),
        "finished": timeline.code.is_some(),
        "code": timeline.code,
        "lanes": timeline.lanes.iter().map(lane).collect::<Vec<_>>(),
        "critical": timeline.critical.iter().map(link).collect::<Vec<_>>(),
    }))
}
