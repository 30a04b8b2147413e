//! Writes a document anew from its outline.

use std::fmt::Write as _;

use super::notes::{Item, Line, Outline};
use crate::document::fields::BLUEPRINT;
use crate::document::path::is_unshowable;
use crate::document::shape::Shape;
use crate::document::source::{Source, Span};
use crate::document::tree::{Kind, Node};
use serde_saphyr::granit_parser::ScalarStyle;

/// How long a line with brackets may become before they are opened up.
const WIDTH: usize = 100;

/// The text of the document that `outline` was made of.
pub(super) fn emit(source: &Source, outline: &Outline<'_>) -> String {
    let mut emitter = Emitter { source, outline, out: String::new() };
    for (at, line) in outline.header.iter().enumerate() {
        emitter.comment(line, 0, at == 0);
    }
    if outline.header_gap {
        emitter.out.push('\n');
    }
    let whole = &outline.items[0];
    for line in &whole.above {
        emitter.comment(line, 0, true);
    }
    match &whole.node.kind {
        Kind::Map(entries, _) if !entries.is_empty() => {
            emitter.entries(0, Some(&Shape::Record(&BLUEPRINT)), 0, false);
        }
        Kind::List(items, _) if !items.is_empty() => emitter.list(0, None, 0, false),
        _ => {
            emitter.value(0, None, 0);
        }
    }
    for line in &whole.below {
        emitter.comment(line, 0, emitter.out.is_empty());
    }
    emitter.out
}

struct Emitter<'a> {
    source: &'a Source,
    outline: &'a Outline<'a>,
    out: String,
}

impl<'a> Emitter<'a> {
    fn item(&self, id: usize) -> &'a Item<'a> {
        &self.outline.items[id]
    }

    fn indent(&mut self, by: usize) {
        self.out.extend(std::iter::repeat_n(' ', by));
    }

    fn comment(&mut self, line: &Line, indent: usize, first: bool) {
        if line.gap && !first {
            self.out.push('\n');
        }
        self.indent(indent);
        self.out.push_str(&line.text);
        self.out.push('\n');
    }

    /// What stands above an entry; `first`: nothing precedes it in its map or list.
    fn above(&mut self, lines: &[&Line], gap: bool, indent: usize, first: bool) {
        for (at, line) in lines.iter().enumerate() {
            self.comment(line, indent, first && at == 0);
        }
        if gap && !(first && lines.is_empty()) {
            self.out.push('\n');
        }
    }

    fn entries(&mut self, parent: usize, shape: Option<&Shape>, indent: usize, inline: bool) {
        for (at, id) in self.in_order(parent, shape).into_iter().enumerate() {
            let item = self.item(id);
            if !(inline && at == 0) {
                let lines: Vec<&Line> = item.above.iter().collect();
                self.above(&lines, item.gap, indent, at == 0);
                self.indent(indent);
            }
            let key = self.key(item.key);
            self.out.push_str(&key);
            self.out.push(':');
            let inner = inner_shape(shape, &key);
            self.value(id, inner, indent);
        }
    }

    /// The entries of a map in the table's order; keys that it does not know stay behind those that it knows.
    fn in_order(&self, parent: usize, shape: Option<&Shape>) -> Vec<usize> {
        let mut ids = self.item(parent).children.clone();
        if let Some(Shape::Record(record)) = shape {
            ids.sort_by_key(|id| {
                let key = self.key(self.item(*id).key);
                record.fields.iter().position(|field| field.key == key).unwrap_or(usize::MAX)
            });
        }
        ids
    }

    fn list(&mut self, parent: usize, shape: Option<&Shape>, indent: usize, inline: bool) {
        for (at, id) in self.item(parent).children.clone().into_iter().enumerate() {
            let item = self.item(id);
            if !(inline && at == 0) {
                let first = at == 0;
                let hoisted = self.hoisted(id, shape, indent + 2);
                let beside = self.hoisted_beside(id, indent + 2);
                let lines: Vec<&Line> =
                    item.above.iter().chain(hoisted.iter().copied()).chain(&beside).collect();
                self.above(&lines, item.gap, indent, first);
                self.indent(indent);
            }
            self.out.push('-');
            self.value(id, shape, indent);
        }
    }

    /// Comments above the first entry inside an item: behind the dash there is no room for them.
    fn hoisted(&self, id: usize, shape: Option<&Shape>, column: usize) -> Vec<&'a Line> {
        if !self.opens(id, column) {
            return Vec::new();
        }
        let first = match self.item(id).node.kind {
            Kind::List(..) => self.item(id).children.first().copied(),
            _ => self.in_order(id, shape).first().copied(),
        };
        let Some(first) = first else { return Vec::new() };
        let inner =
            if self.item(first).key.is_none() { self.hoisted(first, None, column + 2) } else { Vec::new() };
        self.item(first).above.iter().chain(inner).collect()
    }

    /// The comment behind the dash of an item that goes on with a map or list.
    fn hoisted_beside(&self, id: usize, column: usize) -> Vec<Line> {
        if !self.opens(id, column) {
            return Vec::new();
        }
        let item = self.item(id);
        let own = item.beside.iter().map(|text| Line { gap: false, text: text.clone() });
        let inner = match (&item.node.kind, item.children.first()) {
            (Kind::List(..), Some(first)) => self.hoisted_beside(*first, column + 2),
            _ => Vec::new(),
        };
        own.chain(inner).collect()
    }

    /// The value of an entry whose key or dash has been written, and what follows it, up to the end of its last line.
    fn value(&mut self, id: usize, shape: Option<&Shape>, indent: usize) {
        let item = self.item(id);
        let mut below = indent + 2;
        let column = self.out.len() - self.out.rfind('\n').map_or(0, |at| at + 1);
        if self.opens(id, column + 1) {
            self.open(id, shape, indent);
        } else {
            let text = match &item.node.kind {
                Kind::Scalar(text, style) => self.scalar(item, text, *style, indent),
                _ => self.inline(id, shape),
            };
            let (head, body) =
                text.split_once('\n').map_or((text.as_str(), None), |(head, body)| (head, Some(body)));
            if !head.is_empty() {
                self.out.push_str(if self.out.is_empty() || self.out.ends_with('\n') { "" } else { " " });
                self.out.push_str(head);
            }
            self.beside(item);
            if let Some(body) = body {
                self.out.push_str(body);
                self.out.push('\n');
                below = indent;
            }
        }
        if id != 0 {
            for line in &item.below {
                self.comment(line, below, false);
            }
        }
    }

    fn beside(&mut self, item: &Item<'_>) {
        if let Some(comment) = &item.beside {
            self.out.push_str("  ");
            self.out.push_str(comment);
        }
        self.out.push('\n');
    }

    /// Writes a list or map over several lines.
    fn open(&mut self, id: usize, shape: Option<&Shape>, indent: usize) {
        let item = self.item(id);
        let in_item = item.key.is_none();
        if in_item {
            self.out.push(' ');
        } else {
            self.beside(item);
        }
        match (&item.node.kind, shape) {
            (Kind::List(..), Some(Shape::List(inner))) => self.list(id, Some(inner), indent + 2, in_item),
            (Kind::List(..), _) => self.list(id, None, indent + 2, in_item),
            _ => self.entries(id, shape, indent + 2, in_item),
        }
    }

    /// Whether a list or map goes over several lines; `column`: where it would begin.
    fn opens(&self, id: usize, column: usize) -> bool {
        let node = self.item(id).node;
        match &node.kind {
            Kind::List(items, _) if items.is_empty() => false,
            Kind::Map(entries, _) if entries.is_empty() => false,
            Kind::List(_, false) | Kind::Map(_, false) => true,
            Kind::List(_, true) | Kind::Map(_, true) => {
                self.has_comments_inside(id) || column + self.inline(id, None).chars().count() > WIDTH
            }
            _ => false,
        }
    }

    fn has_comments_inside(&self, id: usize) -> bool {
        let item = self.item(id);
        let noted = |id: &usize| {
            let child = self.item(*id);
            !child.above.is_empty() || child.beside.is_some() || self.has_comments_inside(*id)
        };
        !item.below.is_empty() || item.children.iter().any(noted)
    }

    /// A value on one line, in brackets if it is a list or map.
    fn inline(&self, id: usize, shape: Option<&Shape>) -> String {
        let item = self.item(id);
        match &item.node.kind {
            Kind::List(..) => {
                let inner = if let Some(Shape::List(inner)) = shape { Some(*inner) } else { None };
                let items: Vec<String> = item.children.iter().map(|id| self.inline(*id, inner)).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Map(entries, _) if entries.is_empty() => "{}".to_owned(),
            Kind::Map(..) => {
                let entry = |id: usize| {
                    let key = self.key(self.item(id).key);
                    let value = self.inline(id, inner_shape(shape, &key));
                    format!("{key}: {value}")
                };
                let entries: Vec<String> = self.in_order(id, shape).into_iter().map(entry).collect();
                format!("{{ {} }}", entries.join(", "))
            }
            Kind::Scalar(text, style) => self.one_line(item.node, text, *style),
            Kind::Refused => String::new(),
        }
    }

    fn key(&self, span: Option<Span>) -> String {
        let text = span.map_or("", |span| self.source.slice(span));
        if text.contains(['\n', '\r']) {
            quoted(&text.split_whitespace().collect::<Vec<_>>().join(" "))
        } else {
            text.to_owned()
        }
    }

    fn scalar(&self, item: &Item<'_>, text: &str, style: ScalarStyle, indent: usize) -> String {
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
            && let Some(block) = block_scalar(text, indent + 2)
        {
            return block;
        }
        if item.key.is_some() && text.is_empty() && style == ScalarStyle::Plain {
            return String::new();
        }
        self.one_line(item.node, text, style)
    }

    /// A scalar as it was written, if that is one line; quoted otherwise.
    fn one_line(&self, node: &Node, text: &str, style: ScalarStyle) -> String {
        let written = self.source.slice(node.span);
        let in_place = !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        match (in_place, written) {
            (true, "") => "null".to_owned(),
            (true, written) if !written.contains(['\n', '\r']) => written.to_owned(),
            _ => quoted(text),
        }
    }
}

/// The shape of the value of `key`.
fn inner_shape(shape: Option<&Shape>, key: &str) -> Option<&'static Shape> {
    match shape? {
        Shape::Record(record) => record.field(key).map(|field| &field.shape),
        Shape::Map(map) => Some(map.value),
        _ => None,
    }
}

/// A text of several lines as a literal block; `None` if its blanks would not survive.
fn block_scalar(text: &str, indent: usize) -> Option<String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let safe = |c: char| c == '\n' || c == '\t' || !is_unshowable(c);
    if body.is_empty() || body.ends_with('\n') || !body.chars().all(safe) {
        return None;
    }
    let mut out = String::from("|");
    if body.starts_with([' ', '\t', '\n']) {
        out.push('2');
    }
    if body.len() == text.len() {
        out.push('-');
    }
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
    }
    Some(out)
}

/// A text in double quotes, on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_unshowable(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
