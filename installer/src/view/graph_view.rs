//! What depends on what: resources, the machines and nodes of each group, and components wave by wave.

mod svg;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::str::FromStr;

use castrum_blueprints::desired::Desired;
use castrum_blueprints::names::{GroupName, NodeName, ResourceKind, Role, SiteName};
use castrum_blueprints::stack::Stack;
use serde_json::json;

use super::FORMAT_VERSION;
use super::names::ranges;
use super::style::{clean, counted, json_text, safe};

/// The language of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// A picture that stands alone.
    Svg,
    /// Data.
    Json,
}

/// It is not known how to draw that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no format of a drawing; there are: dot, mermaid, svg, json")]
pub struct UnknownFormat(String);

impl FromStr for GraphFormat {
    type Err = UnknownFormat;
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "dot" => Ok(Self::Dot),
            "mermaid" => Ok(Self::Mermaid),
            "svg" => Ok(Self::Svg),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(clean(text))),
        }
    }
}

/// Something that others depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vertex {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) label: String,
    pub(super) detail: String,
    /// Everything that it depends on has a smaller one.
    pub(super) layer: u32,
}

/// What depends on what.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) vertices: Vec<Vertex>,
    /// From what depends to what it depends on, as places in `vertices`.
    pub(super) edges: BTreeSet<(usize, usize)>,
    places: BTreeMap<String, usize>,
}

/// The layer of machines; those of other nodes come after those of masters, whose addresses they are told.
const MACHINES: u32 = 1;
const NODES: u32 = 3;

/// A drawing of what depends on what.
pub fn graph_text(desired: &Desired, stack: &Stack, format: GraphFormat) -> String {
    let graph = Graph::of(desired, stack);
    match format {
        GraphFormat::Dot => dot(&graph, desired),
        GraphFormat::Mermaid => mermaid(&graph),
        GraphFormat::Svg => svg::draw(&graph, desired.name.as_str()),
        GraphFormat::Json => data(&graph),
    }
}

/// The nodes of one group in one site.
struct Members<'a> {
    role: Role,
    site: &'a SiteName,
    boot_data: bool,
    names: Vec<&'a NodeName>,
}

impl Graph {
    fn of(desired: &Desired, stack: &Stack) -> Self {
        let mut graph = Self::default();
        for path in desired.resources.keys().filter(|path| path.kind != ResourceKind::Machine) {
            let detail = format!("{} in {}", path.kind, path.site);
            graph.vertex(&path.to_string(), "resource", (clean(&path.name), detail), 0);
        }
        let mut groups: BTreeMap<&GroupName, Members<'_>> = BTreeMap::new();
        for (name, node) in desired.nodes.iter() {
            let (role, site, boot_data) = (node.role, &node.machine.site, node.boot_data);
            let members = groups.entry(&node.group);
            members.or_insert_with(|| Members { role, site, boot_data, names: Vec::new() }).names.push(name);
        }
        for (group, members) in &groups {
            graph.group(group, members, desired);
        }
        for (group, members) in &groups {
            graph.boot_data(group, members, &groups);
        }
        graph.components(stack, &groups);
        graph
    }

    fn vertex(&mut self, id: &str, kind: &'static str, (label, detail): (String, String), layer: u32) {
        self.places.insert(id.to_owned(), self.vertices.len());
        self.vertices.push(Vertex { id: id.to_owned(), kind, label, detail, layer });
    }

    fn edge(&mut self, from: &str, to: &str) {
        if let (Some(from), Some(to)) = (self.places.get(from), self.places.get(to)) {
            self.edges.insert((*from, *to));
        }
    }

    fn group(&mut self, group: &GroupName, members: &Members<'_>, desired: &Desired) {
        let names = ranges(members.names.iter().map(|name| name.as_str()), 3);
        let (machines, nodes) = (format!("machines/{group}"), format!("nodes/{group}"));
        let layer = MACHINES + u32::from(members.role != Role::Master);
        let detail = format!("{} in {}", counted(members.names.len(), "machine"), members.site);
        self.vertex(&machines, "machines", (names, detail), layer);
        let detail = format!("{}, {}", counted(members.names.len(), "node"), members.role);
        self.vertex(&nodes, "nodes", (group.to_string(), detail), NODES);
        self.edge(&nodes, &machines);
        let foundations = [ResourceKind::Image, ResourceKind::Network];
        for path in desired.resources.keys() {
            if path.site == *members.site && foundations.contains(&path.kind) {
                self.edge(&machines, &path.to_string());
            }
        }
    }

    /// Boot data names the addresses of all masters.
    fn boot_data(
        &mut self,
        group: &GroupName,
        members: &Members<'_>,
        groups: &BTreeMap<&GroupName, Members<'_>>,
    ) {
        if members.role == Role::Master || !members.boot_data {
            return;
        }
        for (masters, _) in groups.iter().filter(|(_, members)| members.role == Role::Master) {
            self.edge(&format!("machines/{group}"), &format!("machines/{masters}"));
        }
    }

    fn components(&mut self, stack: &Stack, groups: &BTreeMap<&GroupName, Members<'_>>) {
        for (name, component) in &stack.components {
            let wave = stack.waves.get(name).copied().unwrap_or(1);
            let roles: Vec<_> = component.roles.iter().map(|role| role.as_str()).collect();
            let quorum = if component.quorum { ", quorum" } else { "" };
            let detail = format!("wave {wave}{quorum}: {}", roles.join(", "));
            self.vertex(&format!("component/{name}"), "component", (name.to_string(), detail), NODES + wave);
        }
        for (name, component) in &stack.components {
            let id = format!("component/{name}");
            for required in &component.requires {
                self.edge(&id, &format!("component/{required}"));
            }
            // A node that carries what is required too is implied by it.
            let implied = |role: &Role| {
                component
                    .requires
                    .iter()
                    .any(|r| stack.components.get(r).is_some_and(|r| r.roles.contains(role)))
            };
            for (group, members) in groups {
                if component.roles.contains(&members.role) && !implied(&members.role) {
                    self.edge(&id, &format!("nodes/{group}"));
                }
            }
        }
    }

    /// The layers that there are, each with its vertices.
    pub(super) fn layers(&self) -> BTreeMap<u32, Vec<usize>> {
        let mut layers: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, vertex) in self.vertices.iter().enumerate() {
            layers.entry(vertex.layer).or_default().push(at);
        }
        layers
    }
}

/// Text inside XML.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in clean(text).chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(char),
        }
    }
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", clean(text).replace('\\', "\\\\").replace('"', "\\\""))
}

fn dot(graph: &Graph, desired: &Desired) -> String {
    let mut out = format!(
        "digraph {} {{\n  rankdir=BT;\n  node [shape=box, fontname=\"sans-serif\"];\n",
        quoted(desired.name.as_str())
    );
    for (layer, places) in graph.layers() {
        let _ = writeln!(out, "  subgraph layer_{layer} {{\n    rank=same;");
        for vertex in places.into_iter().map(|at| &graph.vertices[at]) {
            let shape = match vertex.kind {
                "component" => "box, style=rounded",
                "nodes" => "box3d",
                _ => "box",
            };
            let label = quoted(&format!("{}\u{1f}{}", vertex.label, vertex.detail).replace('\u{1f}', "  "))
                .replace("  ", "\\n");
            let _ = writeln!(out, "    {} [label={label}, shape={shape}];", quoted(&vertex.id));
        }
        out.push_str("  }\n");
    }
    for (from, to) in &graph.edges {
        let (from, to) = (&graph.vertices[*from].id, &graph.vertices[*to].id);
        let _ = writeln!(out, "  {} -> {};", quoted(from), quoted(to));
    }
    out.push_str("}\n");
    out
}

fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart BT\n");
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let label = format!("{}<br/>{}", xml(&vertex.label), xml(&vertex.detail)).replace("&#39;", "#39;");
        let (open, close) = if vertex.kind == "component" { ("(", ")") } else { ("[", "]") };
        let _ = writeln!(out, "  v{at}{open}\"{label}\"{close}");
    }
    for (from, to) in &graph.edges {
        let _ = writeln!(out, "  v{from} --> v{to}");
    }
    out
}

fn data(graph: &Graph) -> String {
    let vertex = |vertex: &Vertex| json!({ "id": vertex.id, "kind": vertex.kind, "label": vertex.label, "detail": vertex.detail, "layer": vertex.layer });
    let edge = |(from, to): &(usize, usize)| json!({ "from": graph.vertices[*from].id, "needs": graph.vertices[*to].id });
    json_text(&safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": "graph",
        "vertices": graph.vertices.iter().map(vertex).collect::<Vec<_>>(),
        "edges": graph.edges.iter().map(edge).collect::<Vec<_>>(),
    })))
}
