//! What a field of a blueprint is for, said on the command line.

use std::fmt::Write as _;

use serde::Serialize;

use super::fields::BLUEPRINT;
use super::path::quote;
use super::shape::{Field, Need, Record, Shape};
use super::suggest::{belongs_elsewhere, did_you_mean};

/// A field, explained; or the whole blueprint, if the path is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The field's path, as in `groups.NAME.count`.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// Whether it must be there.
    pub required: bool,
    /// Its value if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What is the case if it is left out and has no default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// What it means.
    pub about: String,
    /// How it can look.
    pub example: String,
    /// The values that are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// The fields in it, from the top down.
    pub fields: Vec<Inner>,
}

/// A field inside the one that is explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inner {
    /// Its path from the field that is explained, as in `size.cpus`.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// Whether it must be there.
    pub required: bool,
    /// What it means.
    pub about: String,
}

/// A path that leads to no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a blueprint has no field {}", quote(path))]
pub struct UnknownField {
    /// The path that was asked for.
    pub path: String,
    /// Which one may be meant.
    pub hint: String,
}

/// Explains the field at `path`; names and list indexes may be written, written as `NAME` or `[]`, or left out.
pub fn explain(path: &str) -> Result<Explanation, UnknownField> {
    let mut at = Position { path: String::new(), field: None, record: Some(&BLUEPRINT), in_map: false };
    let steps = path.split('.').map(|step| step.split('[').next().unwrap_or(""));
    let mut steps = steps.filter(|step| !step.is_empty()).peekable();
    while let Some(step) = steps.next() {
        let is_last = steps.peek().is_none();
        at = at.step(step, is_last).map_err(|hint| UnknownField { path: path.to_owned(), hint })?;
    }
    Ok(at.explain())
}

/// How far a path has led.
struct Position {
    path: String,
    field: Option<&'static Field>,
    record: Option<&'static Record>,
    /// Whether the next step may be a name.
    in_map: bool,
}

impl Position {
    fn step(self, step: &str, is_last: bool) -> Result<Self, String> {
        let Some(record) = self.record else { return self.beyond(step) };
        if let Some(field) = record.field(step) {
            let (inner, record) = field.shape.inner();
            let between = self.field.map_or(String::new(), |field| format!("{}.", field.shape.inner().0));
            let path = format!("{}{between}{}", self.path, field.key);
            return Ok(Self { path, field: Some(field), record, in_map: inner.starts_with('.') });
        }
        let near = did_you_mean(step, record.fields.iter().map(|field| field.key));
        // What could be a name is taken for one, unless it is the last word and all but that of a field.
        if self.in_map && !(is_last && near.is_some()) {
            return Ok(Self { in_map: false, ..self });
        }
        Err(near.or_else(|| belongs_elsewhere(step)).unwrap_or_else(|| {
            let keys: Vec<&str> = record.fields.iter().map(|field| field.key).collect();
            format!("{} has {}", record.title, super::shape::listed(&keys))
        }))
    }

    /// Below a field without known keys there are only values that are somebody else's.
    fn beyond(self, step: &str) -> Result<Self, String> {
        let free = |shape: Option<Shape>| matches!(shape, Some(Shape::Map(_)));
        if free(self.field.map(|field| field.shape)) {
            return Ok(self);
        }
        Err(format!("`{}` is a single value: there is no {} in it", self.path, quote(step)))
    }

    fn explain(self) -> Explanation {
        let mut fields = Vec::new();
        if let Some(record) = self.record {
            let prefix = self.field.map_or(String::new(), |field| field.shape.inner().0);
            let prefix =
                if prefix.is_empty() { prefix } else { format!("{}.", prefix.trim_start_matches('.')) };
            inner_fields(&prefix, record, &mut fields);
        }
        let Some(field) = self.field else {
            return Explanation {
                path: String::new(),
                kind: "map".to_owned(),
                required: true,
                default: None,
                left_out: None,
                about: "A blueprint: one YAML file declares one cluster.".to_owned(),
                example: "castrum init".to_owned(),
                allowed: None,
                fields,
            };
        };
        Explanation {
            path: self.path,
            kind: field.shape.kind(),
            required: field.need == Need::Required,
            default: if let Need::Default(value) = field.need { Some(value.to_owned()) } else { None },
            left_out: if let Need::Optional(case) = field.need { Some(case.to_owned()) } else { None },
            about: field.about.to_owned(),
            example: format!("{}: {}", field.key, field.example),
            allowed: field.shape.allowed(),
            fields,
        }
    }
}

fn inner_fields(prefix: &str, record: &'static Record, out: &mut Vec<Inner>) {
    for field in record.fields {
        let path = format!("{prefix}{}", field.key);
        let (between, inner) = field.shape.inner();
        out.push(Inner {
            path: path.clone(),
            kind: field.shape.kind(),
            required: field.need == Need::Required,
            about: field.about.to_owned(),
        });
        if let Some(inner) = inner {
            inner_fields(&format!("{path}{between}."), inner, out);
        }
    }
}

impl Explanation {
    /// The explanation for people.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if !self.path.is_empty() {
            let _ = writeln!(
                out,
                "{}: {}{}\n",
                self.path,
                self.kind,
                if self.required { ", required" } else { "" }
            );
        }
        let _ = writeln!(out, "{}\n", wrapped(&self.about, 0));
        let lines = [("default", &self.default), ("if left out", &self.left_out), ("allowed", &self.allowed)];
        for (word, text) in lines {
            if let (Some(text), false) = (text, self.path.is_empty()) {
                let _ = writeln!(out, "  {:13}{}", format!("{word}:"), wrapped(text, 15));
            }
        }
        if !self.path.is_empty() {
            let _ = writeln!(out, "  example:     {}", self.example);
        }
        if !self.fields.is_empty() {
            self.render_fields(&mut out);
        }
        out
    }

    fn render_fields(&self, out: &mut String) {
        let path_width = self.fields.iter().map(|field| field.path.len()).max().unwrap_or(0);
        let _ = writeln!(out, "{}fields (* must be there):", if self.path.is_empty() { "" } else { "\n" });
        for Inner { path, kind, required, .. } in &self.fields {
            let _ = writeln!(out, "{} {path:path_width$}  {kind}", if *required { "*" } else { " " });
        }
    }
}

/// `text` in lines of at most 96 columns, all but the first indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > indent && column + 1 + width > 96 {
            let _ = write!(out, "\n{}", " ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}
