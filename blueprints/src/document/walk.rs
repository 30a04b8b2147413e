//! Holds a tree against the table of fields and reports everything that does not fit: unknown and missing keys, wrong
//! types, values of a wrong form. What needs two values to judge is judged by [`check`](crate::check).

use super::finding::{Code, Found, Remark};
use super::path::{Step, quote, show};
use super::scalar::Meaning;
use super::shape::{Map, Need, Record, Shape, listed};
use super::source::{Source, Span};
use super::suggest::{belongs_elsewhere, did_you_mean};
use super::tree::{Kind, Node};
use super::words::Word;

/// Reports what in `node` does not fit `shape`.
pub(crate) fn walk(source: &Source, node: &Node, shape: &Shape, found: &mut Found) {
    let at = place(node, None);
    Walker { source, found, path: Vec::new() }.value(node, shape, at);
}

/// Where to point for `node`: at a single value itself, else at the key that it belongs to.
pub(crate) fn place(node: &Node, key: Option<Span>) -> Span {
    match (&node.kind, key) {
        (Kind::List(..) | Kind::Map(..), Some(key)) => key,
        (Kind::Scalar(..), Some(key)) if node.span.start == node.span.end => key,
        _ => node.span,
    }
}

struct Walker<'a> {
    source: &'a Source,
    found: &'a mut Found,
    path: Vec<Step<'a>>,
}

impl<'a> Walker<'a> {
    fn report(&mut self, remark: impl FnOnce(&str) -> Remark) {
        let path = &self.path;
        self.found.add(self.source, || {
            let path = show(path);
            let said = if path.is_empty() { "a blueprint".to_owned() } else { format!("`{path}`") };
            remark(&said).about(path)
        });
    }

    fn inside(&mut self, step: impl Into<Step<'a>>, then: impl FnOnce(&mut Self)) {
        self.path.push(step.into());
        then(self);
        self.path.pop();
    }

    fn value(&mut self, node: &'a Node, shape: &Shape, at: Span) {
        match (shape, &node.kind) {
            (_, Kind::Refused) => {}
            (Shape::Free, _) => self.free(node, at),
            (Shape::Record(record), Kind::Map(..)) => self.record(node, record, at),
            (Shape::Map(map), Kind::Map(..)) => self.map(node, map, at),
            (Shape::List(item), Kind::List(items, _)) => {
                for (index, node) in items.iter().enumerate() {
                    self.inside(index, |walker| walker.value(node, item, node.span));
                }
            }
            (Shape::Text(word), Kind::Scalar(text, _)) => self.text(node, *word, text, at),
            (Shape::Integer(least, most), Kind::Scalar(text, _)) => {
                self.integer(node, (*least, *most), text, at);
            }
            (Shape::Choice(words), Kind::Scalar(text, _)) => self.choice(node, words, text, at),
            _ => self.wrong_type(node, shape, at),
        }
    }

    fn wrong_type(&mut self, node: &Node, shape: &Shape, at: Span) {
        let given = match &node.kind {
            Kind::List(..) => "a list",
            Kind::Map(..) => "a map",
            _ => node.meaning().map_or("", Meaning::describe),
        };
        if node.meaning() == Some(Meaning::Null) {
            let hint = "give it a value, or remove the key";
            return self.report(|path| {
                Remark::error(Code::WrongType, at, format!("{path} has no value")).hint(hint)
            });
        }
        let wanted = shape.title();
        self.report(|path| {
            let hint = match (shape, &node.kind) {
                (Shape::List(_), Kind::Scalar(text, _)) => {
                    format!("a list of one is written `[{}]`", quote(text).trim_matches('`'))
                }
                _ => format!("see `castrum explain {}`", path.trim_matches('`')),
            };
            let message = format!("{path} must be {wanted}; this is {given}");
            Remark::error(Code::WrongType, at, message).maybe_hint(path.starts_with('`').then_some(hint))
        });
    }

    fn text(&mut self, node: &Node, word: Word, text: &str, at: Span) {
        let meaning = node.meaning();
        if meaning == Some(Meaning::Null) {
            return self.wrong_type(node, &Shape::Text(word), at);
        }
        let is_text = meaning == Some(Meaning::Text);
        if is_text && word.accepts(text) {
            return;
        }
        let code = match word {
            _ if !is_text => Code::WrongType,
            Word::Name => Code::BadName,
            _ => Code::BadValue,
        };
        self.report(|path| {
            let given = if is_text { "not" } else { meaning.map_or("", Meaning::describe) };
            let message = format!("{path} must be {}; {} is {given}", word.title(), quote(text));
            let hint =
                if word.accepts(text) { format!("quote it: \"{text}\"") } else { word.rule().to_owned() };
            Remark::error(code, at, message).hint(hint)
        });
    }

    fn integer(&mut self, node: &Node, (least, most): (u32, u32), text: &str, at: Span) {
        match node.meaning() {
            Some(Meaning::Integer(value)) if (i64::from(least)..=i64::from(most)).contains(&value) => {}
            Some(Meaning::Integer(_) | Meaning::Unsigned(_)) => self.report(|path| {
                let message =
                    format!("{path} must be a whole number from {least} to {most}; {} is not", quote(text));
                Remark::error(Code::BadValue, at, message)
            }),
            Some(Meaning::Text) if text.parse::<u32>().is_ok() => self.report(|path| {
                let message = format!("{path} must be a whole number; this is text");
                Remark::error(Code::WrongType, at, message).hint(format!("remove the quotes: {text}"))
            }),
            _ => self.wrong_type(node, &Shape::Integer(least, most), at),
        }
    }

    fn choice(&mut self, node: &Node, words: &'static [&'static str], text: &str, at: Span) {
        match node.meaning() {
            Some(Meaning::Text) if words.contains(&text) => {}
            Some(Meaning::Text) => self.report(|path| {
                let message =
                    format!("{path} must be {}; {} is not", Shape::Choice(words).title(), quote(text));
                Remark::error(Code::BadValue, at, message)
                    .maybe_hint(did_you_mean(text, words.iter().copied()))
            }),
            _ => self.wrong_type(node, &Shape::Choice(words), at),
        }
    }

    fn record(&mut self, node: &'a Node, record: &'static Record, at: Span) {
        for entry in node.entries() {
            let Some(field) = record.field(&entry.key) else {
                self.inside(&*entry.key, |walker| walker.unknown(&entry.key, entry.key_span, record));
                continue;
            };
            let at = place(&entry.value, Some(entry.key_span));
            self.inside(field.key, |walker| walker.value(&entry.value, &field.shape, at));
        }
        let missing = |key: &str| node.entry(key).is_none();
        for field in record.fields.iter().filter(|field| field.need == Need::Required && missing(field.key)) {
            self.report(|path| {
                let message = format!("{path} has no `{}`", field.key);
                Remark::error(Code::MissingKey, at, message)
                    .hint(format!("add `{}: {}`", field.key, field.example))
            });
        }
    }

    fn unknown(&mut self, key: &str, at: Span, record: &'static Record) {
        let title = record.title;
        self.report(|_| {
            let hint = did_you_mean(key, record.fields.iter().map(|field| field.key))
                .or_else(|| belongs_elsewhere(key))
                .unwrap_or_else(|| {
                    let keys: Vec<&str> = record.fields.iter().map(|field| field.key).collect();
                    format!("{title} has {}", listed(&keys))
                });
            Remark::error(Code::UnknownKey, at, format!("{} is not a key of {title}", quote(key))).hint(hint)
        });
    }

    fn map(&mut self, node: &'a Node, map: &Map, at: Span) {
        for entry in node.entries() {
            let value_at = place(&entry.value, Some(entry.key_span));
            self.inside(&*entry.key, |walker| {
                if !map.form.accepts(&entry.key) {
                    let message = format!("{} is not {}", quote(&entry.key), map.form.title());
                    let remark = |_: &str| Remark::error(Code::BadName, entry.key_span, message);
                    walker.report(|path| remark(path).hint(map.form.rule()));
                }
                walker.value(&entry.value, map.value, value_at);
            });
        }
        if node.entries().len() < map.least {
            self.report(|path| {
                let message = format!("{path} must have at least {} entry", map.least);
                Remark::error(Code::MissingKey, at, message)
            });
        }
    }

    /// Data whose meaning somebody else knows must at least be data that JSON can hold.
    fn free(&mut self, node: &'a Node, at: Span) {
        match &node.kind {
            Kind::List(items, _) => {
                for (index, item) in items.iter().enumerate() {
                    self.inside(index, |walker| walker.free(item, item.span));
                }
            }
            Kind::Map(entries, _) => {
                for entry in entries {
                    let at = place(&entry.value, Some(entry.key_span));
                    self.inside(&*entry.key, |walker| walker.free(&entry.value, at));
                }
            }
            _ if matches!(node.meaning(), Some(Meaning::Float(value)) if !value.is_finite()) => {
                let hint = "quote it if text is meant";
                self.report(|path| {
                    Remark::error(Code::BadValue, at, format!("{path} must be a finite number")).hint(hint)
                });
            }
            _ => {}
        }
    }
}
