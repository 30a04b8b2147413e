//! The chain that decided when the run ended: from its last span back, each time to what it was waiting for.
//!
//! Events do not say why something began when it did. What a span can have waited for is known by its kind, though,
//! and it began right after the last of those ended.

use std::collections::{BTreeMap, BTreeSet};

use castrum_blueprints::names::Timestamp;
use castrum_blueprints::stack::Stack;

use super::{Close, Kind, Lane, Link, Span, Timeline};

/// Clocks of listeners and of steps that end together may differ by this.
const SLACK_MS: u64 = 60;
/// No chain of a real run is longer.
const LONGEST: usize = 200;

type Place = (usize, usize);

/// All spans, by when they ended: what a span waited for is the last that ended before it began.
struct Ended<'a> {
    timeline: &'a Timeline,
    stack: Option<&'a Stack>,
    by_end: BTreeMap<Timestamp, Vec<Place>>,
}

pub(super) fn chain(timeline: &Timeline, stack: Option<&Stack>) -> Vec<Link> {
    let mut ended = Ended { timeline, stack, by_end: BTreeMap::new() };
    for (at, lane) in timeline.lanes.iter().enumerate() {
        for (place, span) in lane.spans.iter().enumerate().filter(|(_, span)| span.close == Close::Done) {
            ended.by_end.entry(span.end).or_default().push((at, place));
        }
    }
    let mut places: Vec<Place> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = ended.last();
    while let Some(place) = next {
        if !seen.insert(place) || places.len() >= LONGEST {
            break;
        }
        places.push(place);
        next = ended.before(place);
    }
    places.reverse();
    links(timeline, &places)
}

fn links(timeline: &Timeline, places: &[Place]) -> Vec<Link> {
    let mut reached = timeline.started;
    let link = |&(lane, span): &Place| {
        let of = &timeline.lanes[lane].spans[span];
        let idle = of.start.since(reached);
        reached = reached.max(of.end);
        Link { lane, span, idle }
    };
    places.iter().map(link).collect()
}

impl Ended<'_> {
    fn at(&self, (lane, span): Place) -> (&Lane, &Span) {
        (&self.timeline.lanes[lane], &self.timeline.lanes[lane].spans[span])
    }

    /// What ended last. Components and boots come before steps that end with them.
    fn last(&self) -> Option<Place> {
        let (_, places) = self.by_end.iter().next_back()?;
        places.iter().copied().max_by_key(|place| self.at(*place).1.kind)
    }

    /// What a span waited for: the last thing to end of those that it can have waited for.
    fn before(&self, place: Place) -> Option<Place> {
        let (lane, span) = self.at(place);
        let until = Timestamp(span.start.0.saturating_add(SLACK_MS));
        for (_, places) in self.by_end.range(..=until).rev() {
            let fits = |other: &&Place| {
                let (of, candidate) = self.at(**other);
                **other != place
                    && candidate.start < span.start.max(Timestamp(1))
                    && self.waits(lane, span, of, candidate)
            };
            let best = places.iter().filter(fits).max_by_key(|other| {
                let (of, candidate) = self.at(**other);
                (of.name == lane.name, candidate.length())
            });
            if let Some(found) = best {
                return Some(*found);
            }
        }
        None
    }

    /// Whether `span` can have waited for `other`.
    fn waits(&self, lane: &Lane, span: &Span, of: &Lane, other: &Span) -> bool {
        let same = lane.name == of.name;
        match span.kind {
            // Foundations, and masters' machines whose addresses boot data names.
            Kind::Machine => matches!(other.kind, Kind::Machine) || of.name.is_empty(),
            Kind::Boot => same && other.kind != Kind::Component,
            Kind::Step if span.label == "enroll" => {
                same && other.kind != Kind::Component || of.name.is_empty()
            }
            Kind::Step if lane.name.is_empty() && span.label.starts_with("ensure") => of.name.is_empty(),
            Kind::Step => true,
            // A component comes with a manifest, and the manifest with what opened it.
            Kind::Component if same => match other.kind {
                Kind::Component => self.requires(&span.label, &other.label),
                _ => true,
            },
            Kind::Component => {
                let joins = span.label == other.label && self.has_membership(&span.label);
                other.kind == Kind::Component && (joins || self.requires(&span.label, &other.label))
            }
        }
    }

    /// What is founded on one node is joined by the others after that.
    fn has_membership(&self, name: &str) -> bool {
        let component = self.stack.and_then(|stack| stack.components.get(name));
        component.is_some_and(|component| component.membership.is_some())
    }

    fn requires(&self, name: &str, other: &str) -> bool {
        let component = self.stack.and_then(|stack| stack.components.get(name));
        component.is_none_or(|component| component.requires.contains(other))
    }
}
