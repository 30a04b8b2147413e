//! A time line as a picture that stands alone: no scripts, its own colours for light and dark, words for everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use castrum_blueprints::names::Timestamp;
use castrum_blueprints::status::Phase;

use super::{Close, Kind, Lane, Span, Timeline};
use crate::view::graph_view::xml;
use crate::view::names::natural;
use crate::view::style::{duration, fit, utc};

/// With more nodes than this, components share their node's row.
const DETAILED: usize = 20;
/// With more nodes than this, those of a group share one row.
const SINGLE: usize = 60;

const LEFT: u64 = 190;
const CHART: u64 = 900;
const TOP: u64 = 84;
const ROW: u64 = 18;

const STYLE: &str = "\
.bg{fill:#fff}text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}.dim{fill:#656d76}.h{font-size:15px;font-weight:600}\
.grid{stroke:#d0d7de;stroke-width:1}.machine{fill:#8250df}.boot{fill:#0969da}.step{fill:#8c959f}.fetch{fill:#54aeff}\
.prep{fill:#80ccff}.start{fill:#bf8700}.check{fill:#2da44e}.all{fill:#2da44e}.fail{fill:#cf222e}.open{fill-opacity:.45}\
.crit{stroke:#cf222e;stroke-width:2;fill:none}\
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}text{fill:#e6edf3}.dim{fill:#8b949e}.grid{stroke:#30363d}\
.machine{fill:#a371f7}.boot{fill:#388bfd}.step{fill:#6e7681}.start{fill:#d29922}.check,.all{fill:#3fb950}.fail,.crit{stroke:#f85149}}";

/// A row of the picture.
struct Row {
    label: String,
    indent: bool,
    bars: Vec<Drawn>,
}

/// A bar of a row.
struct Drawn {
    class: &'static str,
    open: bool,
    from: Timestamp,
    to: Timestamp,
    title: String,
    critical: bool,
}

/// A time line, as a picture.
pub fn timeline_svg(timeline: &Timeline) -> String {
    let rows = rows(timeline);
    let chain = chain_lines(timeline);
    let bottom = TOP + ROW * rows.len() as u64;
    let height = bottom + 70 + 16 * chain.len() as u64;
    let width = LEFT + CHART + 90;
    let title = format!("{} {}: {}", timeline.verb, timeline.run, duration(timeline.total()));
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-labelledby=\"title desc\">\n<title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"bg\" width=\"100%\" height=\"100%\"/>",
        xml(&title),
        xml(&description(timeline)),
    );
    let _ = writeln!(out, "<text class=\"h\" x=\"12\" y=\"24\">{}</text>", xml(&title));
    let _ = writeln!(out, "<text class=\"dim\" x=\"12\" y=\"42\">{}</text>", xml(&description(timeline)));
    legend(&mut out);
    grid(&mut out, timeline, bottom);
    for (at, row) in rows.iter().enumerate() {
        draw(&mut out, timeline, row, TOP + ROW * at as u64);
    }
    for (at, line) in chain.iter().enumerate() {
        let class = if at == 0 { "" } else { " class=\"dim\"" };
        let _ = writeln!(
            out,
            "<text{class} x=\"12\" y=\"{}\">{}</text>",
            bottom + 46 + 16 * at as u64,
            xml(line)
        );
    }
    out.push_str("</svg>\n");
    out
}

fn description(timeline: &Timeline) -> String {
    let end = match timeline.code {
        Some(code) => format!("ended with {code}"),
        None => "has not ended: it was killed, or it still goes on".to_owned(),
    };
    format!("{} nodes, began at {}, {end}", timeline.nodes().count(), utc(timeline.started))
}

fn chain_lines(timeline: &Timeline) -> Vec<String> {
    let line = |link| {
        let (lane, span): (&Lane, &Span) = timeline.span(link);
        let place = if lane.name.is_empty() { String::new() } else { format!(" on {}", lane.name) };
        format!(
            "+{}  {}{place}, {}",
            duration(span.start.since(timeline.started)),
            span.label,
            duration(span.length())
        )
    };
    let lines = timeline.critical.iter().map(line);
    let head = (!timeline.critical.is_empty()).then(|| "What decided the end, in order:".to_owned());
    head.into_iter().chain(lines).collect()
}

fn rows(timeline: &Timeline) -> Vec<Row> {
    let count = timeline.nodes().count();
    if count > SINGLE {
        let mut groups: BTreeMap<&str, Vec<&Lane>> = BTreeMap::new();
        for (_, lane) in timeline.nodes() {
            groups.entry(natural(&lane.name).0).or_default().push(lane);
        }
        return groups.into_iter().map(|(name, lanes)| group_row(name, &lanes)).collect();
    }
    let mut rows = Vec::new();
    for (at, lane) in timeline.lanes.iter().enumerate() {
        let critical =
            |place: usize| timeline.critical.iter().any(|link| (link.lane, link.span) == (at, place));
        rows.extend(lane_rows(lane, count <= DETAILED, &critical));
    }
    rows
}

fn group_row(name: &str, lanes: &[&Lane]) -> Row {
    let spans = lanes.iter().flat_map(|lane| lane.spans.iter().cloned()).collect();
    let all = Lane { name: name.to_owned(), spans };
    Row { label: format!("{name} ({})", lanes.len()), indent: false, bars: summary(&all) }
}

/// A lane's machine, boot and components, each from the first to the last.
fn summary(lane: &Lane) -> Vec<Drawn> {
    let kinds = [(Kind::Component, "all"), (Kind::Boot, "boot"), (Kind::Machine, "machine")];
    let bars = kinds.into_iter().filter_map(|(kind, class)| {
        let (from, to, open) = lane.extent(kind)?;
        let title = format!("{}: {} {}", lane.name, kind.as_str(), duration(to.since(from)));
        Some(Drawn { class, open, from, to, title, critical: false })
    });
    bars.collect()
}

fn lane_rows(lane: &Lane, detailed: bool, critical: &dyn Fn(usize) -> bool) -> Vec<Row> {
    let label = if lane.name.is_empty() { "cluster".to_owned() } else { lane.name.clone() };
    if !detailed {
        return vec![Row { label, indent: false, bars: summary(lane) }];
    }
    let (mut first, mut rows) = (Row { label, indent: false, bars: Vec::new() }, Vec::new());
    for (place, span) in lane.spans.iter().enumerate() {
        let bars = bars(lane, span, critical(place));
        if span.kind != Kind::Component {
            first.bars.extend(bars);
        } else if let Some(row) = rows.iter_mut().find(|row: &&mut Row| row.label == span.label) {
            row.bars.extend(bars);
        } else {
            rows.push(Row { label: span.label.clone(), indent: true, bars });
        }
    }
    rows.insert(0, first);
    rows
}

fn bars(lane: &Lane, span: &Span, critical: bool) -> Vec<Drawn> {
    let open = span.close == Close::Open;
    let name = if lane.name.is_empty() { String::new() } else { format!(" on {}", lane.name) };
    if span.kind != Kind::Component {
        let class = match (span.close, span.kind) {
            (Close::Failed, _) if lane.failed(span) => "fail",
            (_, Kind::Machine) => "machine",
            (_, Kind::Boot) => "boot",
            _ => "step",
        };
        let title = format!("{}{name}: {}", span.label, duration(span.length()));
        return vec![Drawn { class, open, from: span.start, to: span.end, title, critical }];
    }
    let ends = span.phases.iter().skip(1).map(|(_, at)| *at).chain([span.end]);
    let parts = span.phases.iter().zip(ends).filter(|((phase, _), _)| *phase != Phase::Healthy);
    parts
        .map(|((phase, from), to)| Drawn {
            class: class(*phase),
            open,
            from: *from,
            to,
            title: format!("{}{name}: {phase} for {}", span.label, duration(to.since(*from))),
            critical,
        })
        .collect()
}

fn class(phase: Phase) -> &'static str {
    match phase {
        Phase::Fetching => "fetch",
        Phase::Preparing | Phase::Waiting => "prep",
        Phase::Starting | Phase::Joining => "start",
        Phase::Settling | Phase::Healthy => "check",
        Phase::Failing => "fail",
    }
}

fn x(timeline: &Timeline, at: Timestamp) -> u64 {
    let total = timeline.total().max(1);
    LEFT + at.since(timeline.started).min(total) * CHART / total
}

fn draw(out: &mut String, timeline: &Timeline, row: &Row, y: u64) {
    let (at, class) = if row.indent { (28, " class=\"dim\"") } else { (12, "") };
    let _ = writeln!(out, "<text{class} x=\"{at}\" y=\"{}\">{}</text>", y + 12, xml(&fit(&row.label, 26)));
    for bar in &row.bars {
        let (from, to) = (x(timeline, bar.from), x(timeline, bar.to));
        let open = if bar.open { " open" } else { "" };
        // Steps lie within what they are for: they are drawn as a thin line at its foot.
        let (top, height) = if bar.class == "step" { (ROW - 6, 4) } else { (3, ROW - 6) };
        let (top, width) = (y + top, (to - from).max(2));
        let place = format!("x=\"{from}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"");
        let _ = writeln!(
            out,
            "<rect class=\"{}{open}\" {place}><title>{}</title></rect>",
            bar.class,
            xml(&bar.title)
        );
        if bar.critical {
            let _ = writeln!(out, "<rect class=\"crit\" {place}/>");
        }
    }
}

fn grid(out: &mut String, timeline: &Timeline, bottom: u64) {
    let total = timeline.total().max(1);
    for tenth in 0..=5 {
        let at = Timestamp(timeline.started.0 + total * tenth / 5);
        let x = x(timeline, at);
        let _ =
            writeln!(out, "<line class=\"grid\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"/>", TOP - 4);
        let _ = writeln!(
            out,
            "<text class=\"dim\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 16,
            duration(at.since(timeline.started))
        );
    }
}

fn legend(out: &mut String) {
    let entries = [
        ("machine", "machine made"),
        ("boot", "boot until heard"),
        ("step", "step"),
        ("fetch", "fetching"),
        ("prep", "preparing"),
        ("start", "starting, joining"),
        ("check", "checks until healthy"),
        ("fail", "failing"),
        ("crit", "decided the end"),
    ];
    let mut x = 12;
    for (class, words) in entries {
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"54\" width=\"12\" height=\"12\"/><text class=\"dim\" x=\"{}\" y=\"64\">{words}</text>",
            x + 17
        );
        x += 30 + 7 * words.len();
    }
}
