//! A time line as text: a letter for what a node was busy with, so that it reads without colour.

use std::collections::BTreeMap;

use castrum_blueprints::names::Timestamp;
use castrum_blueprints::status::Phase;

use super::{Close, Kind, Lane, Span, Timeline};
use crate::view::Opts;
use crate::view::names::{natural, ranges};
use crate::view::style::{Text, Tone, counted, duration, fit, paint, utc, width_of, wrap};

/// How much is shown of each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// One line for each node.
    Nodes,
    /// And one for each of its components.
    Components,
}

/// With more nodes than this, components have no lines of their own.
const DETAILED: usize = 12;
/// With more nodes than this, those of a group share one line.
const SINGLE: usize = 60;

const LEGEND: &str = "m machine made  b boot until heard  = components  | healthy  > not ended";
const PHASES: &str = "f fetching  p preparing  w waiting  s starting  j joining  c checks  x failing";

/// A time line, for people.
pub fn timeline_text(timeline: &Timeline, opts: &Opts) -> String {
    let mut text = Text::default();
    text.line(&headline(timeline, opts));
    let detail = if timeline.nodes().count() > DETAILED { Detail::Nodes } else { Detail::Components };
    text.line("");
    text.0.push_str(&bars(timeline, detail, opts));
    text.line("");
    text.0.push_str(&critical_lines(timeline, opts));
    text.0
}

/// What run it was, how long it took and how it ended.
pub(crate) fn headline(timeline: &Timeline, opts: &Opts) -> String {
    let end = match timeline.code {
        Some(0) => paint(opts.color, Tone::Good, "ended with 0"),
        Some(code) => paint(opts.color, Tone::Bad, &format!("ended with {code}")),
        None => paint(opts.color, Tone::Warn, "has not ended: it was killed, or it still goes on"),
    };
    let (verb, run) = (&timeline.verb, &timeline.run);
    format!("{verb} {run} at {}: {}, {end}", utc(timeline.started), duration(timeline.total()))
}

/// A line with its name, its bar and how long it took.
struct Bar {
    name: String,
    cells: Vec<char>,
    took: String,
    bad: bool,
}

/// The bars of every lane, and what the letters mean.
pub(crate) fn bars(timeline: &Timeline, detail: Detail, opts: &Opts) -> String {
    let room = if opts.width == 0 { 120 } else { opts.width.max(40) };
    let names = if timeline.nodes().count() > SINGLE { 24 } else { 18 }.min(room / 3);
    let scale = Scale { timeline, cells: room.saturating_sub(names + 12).max(10) };
    let mut lines = Vec::new();
    if timeline.nodes().count() > SINGLE {
        lines.extend(groups(timeline).iter().map(|(name, lanes)| scale.group(name, lanes)));
    } else {
        for (_, lane) in timeline.nodes() {
            lines.push(scale.node(lane, lane.is_bad()));
            if detail == Detail::Components {
                lines.extend(
                    lane.components().into_iter().map(|(label, spans)| scale.component(label, &spans)),
                );
            }
        }
    }
    let mut text = Text::default();
    text.line(&scale.axis(names));
    for line in lines {
        let cells: String = line.cells.iter().collect();
        let name = fit(&line.name, names);
        let pad = " ".repeat(names.saturating_sub(width_of(&name)));
        let tone = if line.bad { Tone::Bad } else { Tone::Plain };
        text.line(format!("{name}{pad} {}  {}", paint(opts.color, tone, &cells), line.took).trim_end());
    }
    text.line(&paint(opts.color, Tone::Dim, &wrap(LEGEND, room, 0)));
    if detail == Detail::Components {
        text.line(&paint(opts.color, Tone::Dim, &wrap(PHASES, room, 0)));
    }
    text.0
}

fn groups(timeline: &Timeline) -> BTreeMap<String, Vec<&Lane>> {
    let mut groups: BTreeMap<String, Vec<&Lane>> = BTreeMap::new();
    for (_, lane) in timeline.nodes() {
        groups.entry(natural(&lane.name).0.to_owned()).or_default().push(lane);
    }
    groups
}

struct Scale<'a> {
    timeline: &'a Timeline,
    cells: usize,
}

impl Scale<'_> {
    fn cell(&self, at: Timestamp) -> usize {
        let (elapsed, total) = (at.since(self.timeline.started), self.timeline.total().max(1));
        let cells = self.cells as u64;
        usize::try_from(elapsed.min(total) * cells / total).unwrap_or(self.cells)
    }

    fn paint(&self, cells: &mut [char], (from, to): (Timestamp, Timestamp), letter: char) {
        let (from, to) = (self.cell(from), self.cell(to));
        let first = from.min(self.cells - 1);
        for cell in &mut cells[first..to.clamp(first + 1, self.cells)] {
            *cell = letter;
        }
    }

    fn axis(&self, names: usize) -> String {
        let total = duration(self.timeline.total());
        format!("{} 0{total:>width$}", " ".repeat(names), width = self.cells.saturating_sub(1))
    }

    fn blank(&self) -> Vec<char> {
        vec!['.'; self.cells]
    }

    /// A node's machine, boot, and the time until the last of its components was healthy.
    fn node(&self, lane: &Lane, bad: bool) -> Bar {
        let mut cells = self.blank();
        self.fill(&mut cells, lane);
        let end = lane.spans.iter().map(|span| span.end).max().unwrap_or(self.timeline.started);
        let took = duration(end.since(self.timeline.started));
        Bar { name: lane.name.clone(), cells, took, bad }
    }

    fn fill(&self, cells: &mut [char], lane: &Lane) {
        if let Some((start, end, open)) = lane.extent(Kind::Component) {
            self.paint(cells, (start, end), '=');
            self.paint(cells, (end, end), if open { '>' } else { '|' });
        }
        for (kind, letter) in [(Kind::Boot, 'b'), (Kind::Machine, 'm')] {
            if let Some((start, end, open)) = lane.extent(kind) {
                self.paint(cells, (start, end), letter);
                if open {
                    self.paint(cells, (end, end), '>');
                }
            }
        }
    }

    fn group(&self, name: &str, lanes: &[&Lane]) -> Bar {
        let spans = lanes.iter().flat_map(|lane| lane.spans.iter().cloned()).collect();
        let all = Lane { name: format!("{name} ({})", lanes.len()), spans };
        self.node(&all, lanes.iter().any(|lane| lane.is_bad()))
    }

    /// A component, which may have been changed again after it was healthy.
    fn component(&self, label: &str, spans: &[&Span]) -> Bar {
        let mut cells = self.blank();
        for span in spans {
            let ends = span.phases.iter().skip(1).map(|(_, at)| *at).chain([span.end]);
            for ((phase, from), to) in span.phases.iter().zip(ends) {
                if *phase != Phase::Healthy {
                    self.paint(&mut cells, (*from, to), letter(*phase));
                }
            }
            self.paint(&mut cells, (span.end, span.end), if span.close == Close::Done { '|' } else { '>' });
        }
        let took = spans.iter().map(|span| span.length()).sum();
        let bad = spans.last().is_some_and(|span| span.close == Close::Failed);
        Bar { name: format!("  {label}"), cells, took: duration(took), bad }
    }
}

fn letter(phase: Phase) -> char {
    match phase {
        Phase::Fetching => 'f',
        Phase::Preparing => 'p',
        Phase::Waiting => 'w',
        Phase::Starting => 's',
        Phase::Joining => 'j',
        Phase::Settling => 'c',
        Phase::Healthy => '|',
        Phase::Failing => 'x',
    }
}

/// The chain that decided the end, and what was still open then.
pub(crate) fn critical_lines(timeline: &Timeline, opts: &Opts) -> String {
    let mut text = Text::default();
    if !timeline.critical.is_empty() {
        text.line(&paint(opts.color, Tone::Bold, "What decided the end, in order:"));
    }
    for link in &timeline.critical {
        let (lane, span) = timeline.span(link);
        let place = if lane.name.is_empty() { String::new() } else { format!(" on {}", lane.name) };
        let idle = if link.idle >= 1000 {
            format!(", after {} of waiting", duration(link.idle))
        } else {
            String::new()
        };
        let at = format!("+{}", duration(span.start.since(timeline.started)));
        let row = format!("{at:>9}  {:>7}  {}{place}{idle}", duration(span.length()), span.label);
        text.line(&wrap(&row, opts.width, 20));
    }
    let open: Vec<_> = timeline.nodes().filter(|(_, lane)| lane.is_bad()).collect();
    if !open.is_empty() {
        let names = ranges(open.iter().map(|(_, lane)| lane.name.as_str()), 6);
        let line = format!("{} with something that did not end well: {names}", counted(open.len(), "node"));
        text.line(&paint(opts.color, Tone::Warn, &wrap(&line, opts.width, 2)));
    }
    text.0
}
