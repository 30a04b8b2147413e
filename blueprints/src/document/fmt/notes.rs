//! Which entry each comment and each blank line belongs to.
//!
//! A comment behind something belongs to what it is behind. A comment on a line of its own belongs to the entry that
//! follows, unless its indentation says that it closes the entry before.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, options};

use crate::document::source::{Source, Span};
use crate::document::tree::{Kind, Node};

/// How many comments are kept in order; no author writes as many.
pub(super) const COMMENTS: usize = 20_000;

/// A comment as written.
#[derive(Debug, Clone)]
pub(super) struct Comment {
    /// Where its `#` is.
    pub(super) start: usize,
    /// Its text from the `#` on.
    pub(super) text: String,
}

/// A comment on a line of its own; `gap`: behind a blank line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) gap: bool,
    pub(super) text: String,
}

/// An entry of a map or list with what belongs to it.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Where its key is, if it has one.
    pub(super) key: Option<Span>,
    pub(super) node: &'a Node,
    /// The entries inside it, by their place in the outline.
    pub(super) children: Vec<usize>,
    pub(super) above: Vec<Line>,
    /// Whether there is a blank line before the entry itself.
    pub(super) gap: bool,
    pub(super) beside: Option<String>,
    pub(super) below: Vec<Line>,
    parent: usize,
    start: usize,
    column: usize,
    /// The innermost brackets around it.
    brackets: Option<Span>,
}

/// A document taken apart. The first item is the document itself.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    pub(super) items: Vec<Item<'a>>,
    /// What stands at the top, whatever comes first below it.
    pub(super) header: Vec<Line>,
    /// Whether a blank line follows the header.
    pub(super) header_gap: bool,
}

/// Every comment of `source`, or a few more than can be kept in order.
pub(super) fn comments(source: &Source) -> Vec<Comment> {
    let options = options! { emit_comments: true, max_buffered_comment_events: COMMENTS + 2 };
    let events = Parser::new_from_str_with_options(&source.text, options).map_while(Result::ok);
    let comment = |(event, range): (Event<'_>, serde_saphyr::granit_parser::Span)| match event {
        Event::Comment(text, _) => {
            let text = format!("#{}", text.trim_end());
            Some(Comment { start: range.byte_range()?.start, text })
        }
        _ => None,
    };
    let mut comments: Vec<Comment> = events.filter_map(comment).take(COMMENTS + 1).collect();
    comments.sort_by_key(|comment| comment.start);
    comments
}

/// Takes the document apart.
pub(super) fn outline<'a>(source: &Source, root: &'a Node, comments: &[Comment]) -> Outline<'a> {
    let whole = Item {
        key: None,
        node: root,
        children: Vec::new(),
        above: Vec::new(),
        gap: false,
        beside: None,
        below: Vec::new(),
        parent: 0,
        start: 0,
        column: 0,
        brackets: brackets(root),
    };
    let mut outline = Outline { items: vec![whole], header: Vec::new(), header_gap: false };
    outline.add_children(source, comments, 0);
    let first = outline.items.get(1).map_or(source.text.len(), |item| item.start);
    let own_line = |comment: &&Comment| is_own_line(source, comment.start);
    let leading: Vec<&Comment> = comments.iter().filter(|c| c.start < first).filter(own_line).collect();
    let rest = outline.take_header(source, &leading, first);
    for comment in comments.iter().filter(|comment| comment.start >= rest) {
        outline.attach(source, comment);
    }
    outline
}

fn brackets(node: &Node) -> Option<Span> {
    matches!(node.kind, Kind::List(_, true) | Kind::Map(_, true)).then_some(node.span)
}

fn is_own_line(source: &Source, start: usize) -> bool {
    let line = source.line_text(source.line(start));
    line.trim_start().starts_with('#')
}

fn gap_before(source: &Source, start: usize) -> bool {
    let line = source.line(start);
    line > 1 && source.line_text(line - 1).trim().is_empty()
}

impl<'a> Outline<'a> {
    fn add_children(&mut self, source: &Source, comments: &[Comment], parent: usize) {
        let node = self.items[parent].node;
        let around = brackets(node).or(if parent == 0 { None } else { self.items[parent].brackets });
        let inner: Vec<(Option<Span>, &'a Node, usize)> = match &node.kind {
            Kind::Map(entries, _) => entries
                .iter()
                .map(|entry| (Some(entry.key_span), &entry.value, entry.key_span.start))
                .collect(),
            Kind::List(items, flow) => {
                let start = |item: &Node| item_start(source, comments, item, *flow);
                items.iter().map(|item| (None, item, start(item))).collect()
            }
            _ => Vec::new(),
        };
        for (key, node, start) in inner {
            let id = self.items.len();
            self.items.push(Item {
                key,
                node,
                children: Vec::new(),
                above: Vec::new(),
                gap: gap_before(source, start),
                beside: None,
                below: Vec::new(),
                parent,
                start,
                // No comment is ever inside an entry in brackets that have ended.
                column: if around.is_some() { usize::MAX } else { source.indent(start) },
                brackets: around,
            });
            self.items[parent].children.push(id);
            self.add_children(source, comments, id);
        }
    }

    /// Takes the comments that stay at the top of the file; from the returned place on, comments belong to entries.
    fn take_header(&mut self, source: &Source, leading: &[&Comment], first: usize) -> usize {
        let follows = |at: usize| leading.get(at).map_or(first, |comment| comment.start);
        let mut kept = (1..=leading.len()).rev().find(|at| gap_before(source, follows(*at))).unwrap_or(0);
        if kept == 0
            && leading.first().is_some_and(|comment| comment.text.starts_with("# yaml-language-server"))
        {
            kept = 1;
        }
        let line =
            |comment: &&Comment| Line { gap: gap_before(source, comment.start), text: comment.text.clone() };
        self.header = leading[..kept].iter().map(line).collect();
        self.header_gap = kept > 0 && gap_before(source, follows(kept));
        if kept == 0 { 0 } else { leading[kept - 1].start + 1 }
    }

    fn attach(&mut self, source: &Source, comment: &Comment) {
        let line = Line { gap: gap_before(source, comment.start), text: comment.text.clone() };
        // Items are in the order of the text, so all that begin before the comment come first.
        let next = self.items[1..].partition_point(|item| item.start < comment.start) + 1;
        if is_own_line(source, comment.start) {
            return self.attach_own_line(line, comment.start, source.indent(comment.start), next);
        }
        let mut behind = next - 1;
        while behind != 0 && self.items[behind].brackets.is_some_and(|around| around.end <= comment.start) {
            behind = self.items[behind].parent;
        }
        match &mut self.items[behind] {
            item if behind == 0 || item.beside.is_some() => item.above.push(line),
            item => item.beside = Some(line.text),
        }
    }

    fn attach_own_line(&mut self, line: Line, start: usize, column: usize, next: usize) {
        let in_brackets =
            |span: Option<Span>| span.is_some_and(|span| span.start < start && start < span.end);
        let mut before = next - 1;
        let own_brackets = |item: &Item<'_>| in_brackets(brackets(item.node));
        if self.items.get(next).is_some_and(|item| in_brackets(item.brackets)) {
            return self.items[next].above.push(line);
        }
        if own_brackets(&self.items[before]) || in_brackets(self.items[before].brackets) {
            while before != 0 && !own_brackets(&self.items[before]) {
                before = self.items[before].parent;
            }
            return self.items[before].below.push(line);
        }
        while before != 0 && self.items[before].column >= column {
            before = self.items[before].parent;
        }
        if next < self.items.len() && self.is_inside(next, before) {
            self.items[next].above.push(line);
        } else {
            self.items[before].below.push(line);
        }
    }

    fn is_inside(&self, mut item: usize, outer: usize) -> bool {
        while item != outer && item != 0 {
            item = self.items[item].parent;
        }
        item == outer
    }
}

/// Where an item of a list begins: at its dash, if it has one. There may be comments between the two.
fn item_start(source: &Source, comments: &[Comment], item: &Node, flow: bool) -> usize {
    let start = match &item.kind {
        // The parser places such a list at what follows its first dash.
        Kind::List(items, false) if !items.is_empty() => item_start(source, comments, &items[0], false),
        _ => item.span.start,
    };
    if flow {
        return start;
    }
    let before = source.text.get(..start).unwrap_or("");
    let mut before = without_comments(before, comments);
    if let Kind::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded) = item.kind {
        // The parser places such a text at its first line, behind the `|` or `>` and a comment there.
        before = without_comments(before.trim_end_matches(|c: char| !c.is_whitespace()), comments);
    }
    before.strip_suffix('-').map_or(start, str::len)
}

/// `text`, the beginning of a document, without the blanks and comments at its end.
fn without_comments<'a>(text: &'a str, comments: &[Comment]) -> &'a str {
    let mut text = text.trim_end();
    loop {
        let last = comments[..comments.partition_point(|comment| comment.start < text.len())].last();
        match last.filter(|comment| comment.start + comment.text.len() == text.len()) {
            Some(comment) => text = text[..comment.start].trim_end(),
            None => return text,
        }
    }
}
