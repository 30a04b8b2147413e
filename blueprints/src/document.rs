//! A blueprint as its author wrote it: bytes become a tree that knows its places, and everything that is wrong with the
//! text, the types and the keys is found at once.
//!
//! Read in this order: [`tree`] (YAML to nodes), [`fields`] (the one table of what there is), [`walk`] (the tree held
//! against the table), [`written`] (the tree as types). What needs several values to judge is in
//! [`check`](crate::check). The [`schema`], [`explain`] and [`fmt`] follow the same table.

pub mod explain;
mod fields;
mod finding;
pub mod fmt;
pub(crate) mod path;
mod scalar;
pub mod schema;
mod shape;
mod source;
mod suggest;
mod tree;
mod walk;
mod words;
pub(crate) mod written;

use serde_json::Value;

pub use fields::API_VERSION;
pub use finding::{Code, Finding, Findings, Severity};
pub(crate) use finding::{Found, Remark};
pub(crate) use suggest::did_you_mean;

use path::{Step, is_unshowable, show};
use shape::Shape;
use source::Source;
pub(crate) use source::Span;
use tree::Node;
use written::Written;

/// How many bytes a blueprint may have; a reader need not read further than one byte beyond it.
pub const BYTES_LIMIT: usize = 1024 * 1024;

/// A blueprint as written, with everything that its text alone says about it.
#[derive(Debug, Clone)]
pub struct Document {
    source: Source,
    root: Option<Node>,
    written: Written,
    found: Found,
    /// Whether the tree holds all that the text does.
    intact: bool,
}

/// What a later stage found wrong with a value, such as a setting that its stack does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The keys that lead to the value; where they end early in the document, the closest place is shown.
    pub keys: Vec<String>,
    /// Its kind.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Reads the blueprint that the file named `file` holds. It never fails: what is wrong is among the findings of
/// [`check`](crate::check::check).
pub fn read(file: &str, bytes: &[u8]) -> Document {
    let mut found = Found::default();
    let source = readable(file, bytes, &mut found);
    let root = source.as_ref().and_then(|source| tree::build(source, &mut found));
    let source = source.unwrap_or_else(|| Source::new(file, ""));
    let intact = root.is_some() && found.is_empty();
    if let Some(root) = &root {
        walk::walk(&source, root, &Shape::Record(&fields::BLUEPRINT), &mut found);
    }
    let written = written::read(root.as_ref());
    Document { source, root, written, found, intact }
}

impl Document {
    /// The file's name.
    pub fn file(&self) -> &str {
        &self.source.file
    }

    /// What the text alone gave away, checks between values aside.
    pub fn findings(&self) -> Findings {
        self.found.clone().into_findings(&self.source.file)
    }

    /// Whether the text is YAML at all.
    pub fn is_yaml(&self) -> bool {
        self.root.is_some()
    }

    /// The document as plain data; `None` if it is not YAML, or uses what blueprints do without.
    pub fn data(&self) -> Option<Value> {
        self.root.as_ref().and_then(written::value)
    }

    /// The document's findings, and what a later stage found wrong with its values.
    pub fn findings_with(&self, problems: &[Problem]) -> Findings {
        let mut found = self.found.clone();
        for problem in problems {
            let steps: Vec<Step<'_>> = problem.keys.iter().map(|key| Step::Key(key)).collect();
            found.add(&self.source, || {
                let remark = Remark::error(problem.code, self.value_at(&steps), &*problem.message);
                remark.about(show(&steps)).maybe_hint(problem.hint.clone())
            });
        }
        found.into_findings(&self.source.file)
    }

    pub(crate) fn written(&self) -> &Written {
        &self.written
    }

    pub(crate) fn found(&self) -> Found {
        self.found.clone()
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Where the value at `steps` is, or the closest place around it.
    pub(crate) fn value_at(&self, steps: &[Step<'_>]) -> Span {
        self.locate(steps).1
    }

    /// Where the key of the value at `steps` is, or the closest place around it.
    pub(crate) fn key_at(&self, steps: &[Step<'_>]) -> Span {
        self.locate(steps).0
    }

    fn locate(&self, steps: &[Step<'_>]) -> (Span, Span) {
        let Some(mut node) = self.root.as_ref() else { return <(Span, Span)>::default() };
        let mut at = (node.span, node.span);
        for step in steps {
            let next = match step {
                Step::Key(key) => node.entry(key).map(|entry| (&entry.value, Some(entry.key_span))),
                Step::Item(item) => node.items().get(*item).map(|node| (node, None)),
            };
            let Some((value, key)) = next else { return at };
            let value_at = walk::place(value, key);
            at = (key.unwrap_or(value_at), value_at);
            node = value;
        }
        at
    }
}

/// The text of `bytes`, if it is text of a size that is worth reading.
fn readable(file: &str, bytes: &[u8], found: &mut Found) -> Option<Source> {
    if bytes.len() > BYTES_LIMIT {
        let message = format!("a blueprint has at most {} KiB; this file has more", BYTES_LIMIT / 1024);
        found.add(&Source::new(file, ""), || Remark::error(Code::TooLarge, Span::at(0), message));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let source = Source::new(file, valid);
            let message = format!("this is not UTF-8: the byte 0x{byte:02x} begins no character");
            let remark = Remark::error(Code::BadText, Span::at(source.text.len()), message);
            found.add(&source, || remark.hint("save the file as UTF-8"));
            return None;
        }
    };
    let source = Source::new(file, text);
    let refused = |c: char| is_unshowable(c) && !matches!(c, '\n' | '\r' | '\t');
    if let Some((at, c)) = source.text.char_indices().find(|(_, c)| refused(*c)) {
        let message =
            format!("the invisible character U+{:04X} does not belong into a blueprint", u32::from(c));
        let remark = Remark::error(Code::BadText, Span { start: at, end: at + c.len_utf8() }, message);
        found.add(&source, || remark.hint("remove it, or write it as an escape in double quotes"));
        return None;
    }
    Some(source)
}

#[cfg(test)]
mod tests;
