//! The drawing as a picture: one row for each layer, first things on top; each box under what it depends on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Graph, Vertex, xml};
use crate::view::style::{fit, width_of};

const BOX_HEIGHT: u64 = 40;
const ROW: u64 = 92;
const GAP: u64 = 24;
const MARGIN: u64 = 24;
const TOP: u64 = 56;

const STYLE: &str = "\
.bg{fill:#fff}text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}.dim{fill:#656d76;font-size:10.5px}.h{font-size:15px;font-weight:600}\
.edge{stroke:#8c959f;stroke-width:1.2;fill:none}.tip{fill:#8c959f}rect.box{stroke-width:1.2}\
.resource{fill:#ddf4ff;stroke:#0969da}.machines{fill:#fbefff;stroke:#8250df}.nodes{fill:#fff8c5;stroke:#bf8700}.component{fill:#dafbe1;stroke:#2da44e}\
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}text{fill:#e6edf3}.dim{fill:#8b949e}.edge{stroke:#6e7681}.tip{fill:#6e7681}\
.resource{fill:#0c2d6b}.machines{fill:#3c1e70}.nodes{fill:#4b2900}.component{fill:#033a16}}";

/// Where a box stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    x: u64,
    y: u64,
    width: u64,
}

pub(super) fn draw(graph: &Graph, name: &str) -> String {
    let (places, width, height) = layout(graph);
    let title = format!("{name}: what depends on what");
    let desc = format!(
        "{} things in {} layers; an arrow points to what is needed first",
        places.len(),
        graph.layers().len()
    );
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-labelledby=\"title desc\">\n<title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path class=\"tip\" d=\"M0 0L8 4L0 8z\"/></marker></defs>\n<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"h\" x=\"{MARGIN}\" y=\"28\">{}</text>",
        xml(&title),
        xml(&desc),
        xml(&title),
    );
    for (from, to) in &graph.edges {
        edge(&mut out, places[*from], places[*to]);
    }
    for (vertex, place) in graph.vertices.iter().zip(&places) {
        boxed(&mut out, vertex, *place);
    }
    out.push_str("</svg>\n");
    out
}

fn edge(out: &mut String, from: Place, to: Place) {
    let (x1, y1) = (from.x + from.width / 2, from.y);
    let (x2, y2) = (to.x + to.width / 2, to.y + BOX_HEIGHT);
    let bend = y1.saturating_sub(y2) / 2;
    let (a, b) = (y1 - bend, y2 + bend);
    let _ = writeln!(
        out,
        "<path class=\"edge\" marker-end=\"url(#tip)\" d=\"M{x1} {y1}C{x1} {a} {x2} {b} {x2} {y2}\"/>"
    );
}

fn boxed(out: &mut String, vertex: &Vertex, place: Place) {
    let Place { x, y, width } = place;
    let radius = if vertex.kind == "component" { 10 } else { 2 };
    let middle = x + width / 2;
    let (label, detail) = (xml(&fit(&vertex.label, 48)), xml(&fit(&vertex.detail, 52)));
    let _ = writeln!(
        out,
        "<g><title>{}: {}, {}</title><rect class=\"box {}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"{radius}\"/>\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\
         <text class=\"dim\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{detail}</text></g>",
        xml(vertex.kind),
        xml(&vertex.label),
        xml(&vertex.detail),
        vertex.kind,
        y + 17,
        y + 32,
    );
}

fn box_width(vertex: &Vertex) -> u64 {
    let letters = width_of(&fit(&vertex.label, 48)).max(width_of(&fit(&vertex.detail, 52)));
    (letters as u64 * 7 + 18).max(70)
}

/// Rows from the first layer down; in a row, boxes stand in the order of the middle of what they depend on.
fn layout(graph: &Graph) -> (Vec<Place>, u64, u64) {
    let layers = graph.layers();
    let row_width = |row: &[usize]| {
        let boxes: u64 = row.iter().map(|at| box_width(&graph.vertices[*at])).sum();
        boxes + GAP * (row.len() as u64).saturating_sub(1)
    };
    let title = 12 * MARGIN;
    let width = layers.values().map(|row| row_width(row)).max().unwrap_or(0).max(title) + 2 * MARGIN;
    let mut places = vec![Place::default(); graph.vertices.len()];
    let mut needs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (from, to) in &graph.edges {
        needs.entry(*from).or_default().push(*to);
    }
    for (at, row) in layers.values().enumerate() {
        let mut row = row.clone();
        row.sort_by_key(|at| {
            let under = needs.get(at).map_or(&[][..], Vec::as_slice);
            let sum: u64 = under.iter().map(|to| places[*to].x + places[*to].width / 2).sum();
            (sum / (under.len() as u64).max(1), *at)
        });
        let mut x = (width - row_width(&row)) / 2;
        for vertex in row {
            let width = box_width(&graph.vertices[vertex]);
            places[vertex] = Place { x, y: TOP + ROW * at as u64, width };
            x += width + GAP;
        }
    }
    (places, width, TOP + ROW * layers.len() as u64)
}
