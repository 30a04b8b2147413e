//! A blueprint as a tree of nodes that know their place, built from the events of the YAML parser.
//!
//! Reading by serde would stop at the first wrong value; from a tree everything can be found at once. What blueprints
//! do without (anchors, aliases, merge keys, tags, directives, several documents) is refused here, and so is everything
//! that exists to exhaust a reader. The builder keeps its own stack, so depth costs no stack of ours.

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, Span as Range, StructureStyle, options,
};

use super::finding::{Code, Found, Remark};
use super::path::{Step, quote, show};
use super::scalar::Meaning;
use super::source::{Source, Span};

/// How deeply lists and maps may be nested.
const DEPTH: usize = 32;
/// How many values there may be; the parser takes about half a microsecond for each.
const NODES: usize = 60_000;
/// How long one value may be, in bytes.
const SCALAR_BYTES: usize = 64 * 1024;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where it is; of a block list or map only the beginning is known.
    pub(crate) span: Span,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A single value: its text after unquoting, and how it was written.
    Scalar(Box<str>, ScalarStyle),
    /// A list; `true`: written in brackets.
    List(Vec<Node>, bool),
    /// A map; `true`: written in braces.
    Map(Vec<Entry>, bool),
    /// Something that was refused and reported already.
    Refused,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key's text after unquoting.
    pub(crate) key: Box<str>,
    /// Where the key is.
    pub(crate) key_span: Span,
    /// The value.
    pub(crate) value: Node,
}

impl Node {
    /// What a scalar means; `None` for lists and maps.
    pub(crate) fn meaning(&self) -> Option<Meaning> {
        match &self.kind {
            Kind::Scalar(text, ScalarStyle::Plain) => Some(Meaning::of_plain(text)),
            Kind::Scalar(..) => Some(Meaning::Text),
            _ => None,
        }
    }

    /// The text of a scalar that means text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text, _) if self.meaning() == Some(Meaning::Text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list; none if it is not one.
    pub(crate) fn items(&self) -> &[Self] {
        if let Kind::List(items, _) = &self.kind { items } else { &[] }
    }

    /// The entries of a map; none if it is not one.
    pub(crate) fn entries(&self) -> &[Entry] {
        if let Kind::Map(entries, _) = &self.kind { entries } else { &[] }
    }

    /// The entry of `key`.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }
}

/// Reads the tree of `source`; `None` if it is not YAML or holds nothing. What is wrong is added to `found`.
pub(crate) fn build(source: &Source, found: &mut Found) -> Option<Node> {
    let mut options = options! {
        disallow_directives: true,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH + 2,
        block_nesting_limit: DEPTH + 2,
    };
    options.set_emit_comments(false);
    let mut builder = Builder { source, found, stack: Vec::new(), root: None, nodes: 0, documents: 0 };
    for event in Parser::new_from_str_with_options(&source.text, options) {
        let (event, range) = match event {
            Ok(event) => event,
            Err(error) => return builder.not_yaml(&error),
        };
        if !builder.take(event, &range) {
            return None;
        }
    }
    let root = builder.root.take();
    if root.is_none() {
        let remark = || Remark::error(Code::MissingKey, Span::at(0), "there is nothing in this file");
        found.add(source, || remark().hint("`castrum init` writes a blueprint to begin with"));
    }
    root
}

struct Builder<'a> {
    source: &'a Source,
    found: &'a mut Found,
    stack: Vec<Frame>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

/// A list or map that has not ended yet.
struct Frame {
    span: Span,
    flow: bool,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<Key>),
}

/// A key whose value has not been read yet; `None`: it was refused, and its value is dropped.
struct Key(Option<(Box<str>, Span)>);

impl Builder<'_> {
    /// Takes the next event; `false`: there is no use in reading on.
    fn take(&mut self, event: Event<'_>, range: &Range) -> bool {
        if self.found.is_full() {
            return false;
        }
        let span = span_of(range);
        if let Some(tag) = range.tag_span() {
            self.refuse(span_of(&tag), "tags of YAML", "remove the tag: the type follows from the field");
        }
        match event {
            Event::DocumentStart(..) => return self.begin_document(span),
            Event::Anchor(..) => {
                self.refuse(span, "anchors of YAML", "write the value out wherever it is needed");
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(span, "aliases of YAML", "write the value out wherever it is needed");
                self.place(Node { span, kind: Kind::Refused });
            }
            Event::Scalar(text, style, ..) => return self.scalar(&text, style, span),
            Event::SequenceStart(style, ..) => return self.open(span, style, Content::List(Vec::new())),
            Event::MappingStart(style, ..) => return self.open(span, style, Content::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            _ => {}
        }
        true
    }

    fn begin_document(&mut self, span: Span) -> bool {
        self.documents += 1;
        if self.documents > 1 {
            self.refuse(
                span,
                "several YAML documents in one file",
                "one file declares one cluster: split it at `---`",
            );
        }
        self.documents == 1
    }

    fn refuse(&mut self, span: Span, what: &str, hint: &str) {
        let path = self.path();
        self.found.add(self.source, || {
            let message = format!("{what} are not allowed in blueprints");
            Remark::error(Code::YamlFeature, span, message).about(path).hint(hint)
        });
    }

    fn too_large(&mut self, span: Span, message: String) -> bool {
        let path = self.path();
        self.found.add(self.source, || Remark::error(Code::TooLarge, span, message).about(path));
        false
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) -> bool {
        if text.len() > SCALAR_BYTES {
            let size = text.len() / 1024;
            self.too_large(
                span,
                format!("a single value of {size} KiB is more than the {} allowed", SCALAR_BYTES / 1024),
            );
            self.place(Node { span, kind: Kind::Refused });
            return true;
        }
        // The parser calls a value that is not there `~`.
        let text = if span.start == span.end && style == ScalarStyle::Plain { "" } else { text };
        self.place(Node { span, kind: Kind::Scalar(text.into(), style) });
        self.nodes += 1;
        self.nodes <= NODES || self.too_large(span, format!("there are more than {NODES} values"))
    }

    fn open(&mut self, span: Span, style: StructureStyle, content: Content) -> bool {
        self.nodes += 1;
        if self.nodes > NODES {
            return self.too_large(span, format!("there are more than {NODES} values"));
        }
        if self.stack.len() >= DEPTH {
            return self.too_large(span, format!("lists and maps are nested more than {DEPTH} deep"));
        }
        self.stack.push(Frame { span, flow: style == StructureStyle::Flow, content });
        true
    }

    fn close(&mut self, end: Span) {
        let Some(Frame { span, flow, content }) = self.stack.pop() else { return };
        let kind = match content {
            Content::List(items) => Kind::List(items, flow),
            Content::Map(mut entries, _) => {
                self.refuse_duplicates(&mut entries);
                Kind::Map(entries, flow)
            }
        };
        let end = if flow { end.end } else { span.start };
        self.place(Node { span: Span { start: span.start, end }, kind });
    }

    /// Puts a whole node where it belongs: into the open list, or as the open map's next key or value.
    fn place(&mut self, node: Node) {
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(entries, key)) => match key.take() {
                Some(Key(Some((key, key_span)))) => entries.push(Entry { key, key_span, value: node }),
                Some(Key(None)) => {}
                None => {
                    let usable = self.usable_key(node);
                    if let Some(Frame { content: Content::Map(_, key), .. }) = self.stack.last_mut() {
                        *key = Some(Key(usable));
                    }
                }
            },
        }
    }

    fn usable_key(&mut self, node: Node) -> Option<(Box<str>, Span)> {
        let meaning = node.meaning();
        match node.kind {
            Kind::Scalar(text, ScalarStyle::Plain) if &*text == "<<" => {
                self.refuse(node.span, "merge keys of YAML", "write the values out wherever they are needed");
                None
            }
            Kind::Scalar(text, _) if meaning != Some(Meaning::Null) => Some((text, node.span)),
            Kind::Refused => None,
            _ => {
                let path = self.path();
                self.found.add(self.source, || {
                    let remark = Remark::error(Code::WrongType, node.span, "a key must be text").about(path);
                    remark.hint("write `key: value`; a `{{ ... }}` template must be quoted")
                });
                None
            }
        }
    }

    fn refuse_duplicates(&mut self, entries: &mut Vec<Entry>) {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|a, b| (&entries[*a].key, a).cmp(&(&entries[*b].key, b)));
        let repeats = |pair: &&[usize]| entries[pair[0]].key == entries[pair[1]].key;
        let mut again: Vec<usize> = order.windows(2).filter(repeats).map(|pair| pair[1]).collect();
        if again.is_empty() {
            return;
        }
        again.sort_unstable();
        let path = self.path();
        for at in &again {
            let Entry { key, key_span, .. } = &entries[*at];
            let first = order[order.partition_point(|other| entries[*other].key < *key)];
            let line = self.source.line(entries[first].key_span.start);
            self.found.add(self.source, || {
                let message = format!("{} is there twice: first in line {line}", quote(key));
                Remark::error(Code::DuplicateKey, *key_span, message).about(below(&path, key))
            });
        }
        let mut at = 0;
        entries.retain(|_| {
            at += 1;
            again.binary_search(&(at - 1)).is_err()
        });
    }

    /// The path of the value that is being read.
    fn path(&self) -> String {
        let step = |frame: &'_ Frame| match &frame.content {
            Content::List(items) => Some((None, items.len())),
            Content::Map(_, Some(Key(Some((key, _))))) => Some((Some(key.clone()), 0)),
            Content::Map(..) => None,
        };
        let steps: Vec<(Option<Box<str>>, usize)> = self.stack.iter().filter_map(step).collect();
        let borrowed = |(key, item): &'_ (Option<Box<str>>, usize)| -> String {
            key.as_deref().map_or_else(|| show(&[Step::Item(*item)]), |key| show(&[Step::Key(key)]))
        };
        steps.iter().map(borrowed).reduce(|path, step| join(&path, &step)).unwrap_or_default()
    }

    fn not_yaml(&mut self, error: &ScanError) -> Option<Node> {
        let marker = error.marker();
        let offset = marker.byte_offset().unwrap_or(0).min(self.source.text.len());
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            self.too_large(Span::at(offset), format!("lists and maps are nested more than {DEPTH} deep"));
            return None;
        }
        if *error.kind() == ErrorKind::DirectiveDisallowed {
            self.refuse(Span::at(offset), "directives of YAML", "remove this line");
            return None;
        }
        let path = self.path();
        self.found.add(self.source, || {
            let message = format!("this is not YAML: {}", error.info());
            let remark = Remark::error(Code::YamlSyntax, Span::at(offset), message).about(path);
            remark.maybe_hint(syntax_hint(error.kind()).map(str::to_owned))
        });
        None
    }
}

fn below(path: &str, key: &str) -> String {
    join(path, &show(&[Step::Key(key)]))
}

fn join(path: &str, step: &str) -> String {
    if path.is_empty() || step.starts_with('[') { format!("{path}{step}") } else { format!("{path}.{step}") }
}

fn span_of(range: &Range) -> Span {
    range.byte_range().map_or_else(Span::default, |bytes| Span { start: bytes.start, end: bytes.end })
}

fn syntax_hint(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "indent with spaces; `castrum fmt` uses two a level",
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::InvalidIndentation
        | ErrorKind::SimpleKeyExpected
        | ErrorKind::InvalidSimpleKey
        | ErrorKind::MappingValueNotAllowed
        | ErrorKind::MappingKeyNotAllowed => {
            "look at the indentation and the `: ` of this line and of the one before; quote text that holds `: `"
        }
        ErrorKind::UnclosedQuotedScalar => "close the quote",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator => "close the bracket, or put a comma between the entries",
        ErrorKind::UnexpectedCharacter { .. } => "quote text that begins with a special character",
        _ => return None,
    })
}
