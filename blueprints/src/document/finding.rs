//! What is wrong with a blueprint, said with its place: all of it at once, for people and for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::source::{Source, Span};

/// Findings beyond this many are only counted: nobody reads them, and a hostile file could make millions.
const SHOWN: usize = 100;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The blueprint cannot be used.
    Error,
    /// The blueprint can be used, and its author should know something.
    Warning,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The kinds of findings, for programs that sort them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// More text, data or depth than a blueprint may have.
    TooLarge,
    /// Bytes that are not UTF-8, or characters that do not belong into a text file.
    BadText,
    /// Not YAML.
    YamlSyntax,
    /// YAML that blueprints do without: anchors, aliases, merge keys, tags, several documents.
    YamlFeature,
    /// The same key twice in one map.
    DuplicateKey,
    /// A key that means nothing where it is.
    UnknownKey,
    /// A key that must be there and is not.
    MissingKey,
    /// A list where a number is wanted, and so on.
    WrongType,
    /// A value of the right type that cannot be meant.
    BadValue,
    /// A name that breaks the rule for names.
    BadName,
    /// A name of something that is not declared.
    UnknownReference,
    /// The same thing declared twice.
    DuplicateValue,
    /// Two values that contradict each other.
    Conflict,
    /// A word that belongs to Castrum or to the system.
    Reserved,
    /// A number of masters that cannot hold a quorum.
    Quorum,
    /// A cluster that runs, but not well.
    Advice,
    /// A layout that `fmt` leaves alone.
    Layout,
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind.
    pub code: Code,
    /// The path of the value, as in `groups.masters.count`; empty: the file as a whole.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The line itself, or what is around the place in a long line.
    pub source: String,
    /// How many characters of `source` are before the place.
    pub caret: usize,
    /// How many characters of `source` the place covers.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Everything that was found in one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The file's name.
    pub file: String,
    /// The findings, in the order of the file.
    pub list: Vec<Finding>,
    /// How many more there are.
    pub left_out: usize,
}

impl Findings {
    /// How many findings have this severity, without those that were left out.
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether the blueprint cannot be used.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The findings for people: place, message, line, caret and hint of each.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for finding in &self.list {
            finding.render_to(&mut out, &self.file);
        }
        if self.left_out > 0 {
            let _ = writeln!(out, "... and {} more findings", self.left_out);
        }
        out
    }

    /// The findings for programs.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "format_version": 1,
            "file": self.file,
            "valid": !self.has_errors(),
            "findings": self.list,
            "left_out": self.left_out,
        })
    }

    /// How many of what, in a few words.
    pub fn summary(&self) -> String {
        let several = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        match (errors, warnings) {
            (0, 0) => "nothing found".to_owned(),
            (_, 0) => several(errors, "error"),
            (0, _) => several(warnings, "warning"),
            _ => format!("{}, {}", several(errors, "error"), several(warnings, "warning")),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a valid blueprint: {}", self.file, self.summary())
    }
}

impl std::error::Error for Findings {}

impl Finding {
    fn render_to(&self, out: &mut String, file: &str) {
        let (line, column, severity) = (self.line, self.column, self.severity.as_str());
        let _ = writeln!(out, "{file}:{line}:{column}: {severity}: {}", self.message);
        if !self.source.is_empty() {
            let margin = line.to_string().len().max(4);
            let _ = writeln!(out, "{line:>margin$} | {}", self.source);
            let _ = writeln!(out, "{:>margin$} | {}{}", "", " ".repeat(self.caret), "^".repeat(self.width));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "     hint: {hint}");
        }
    }
}

/// A finding whose place is still a stretch of the text.
pub(crate) struct Remark {
    pub(crate) severity: Severity,
    pub(crate) code: Code,
    pub(crate) path: String,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Remark {
    /// An error without a hint.
    pub(crate) fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        let (path, hint) = (String::new(), None);
        Self { severity: Severity::Error, code, path, span, message: message.into(), hint }
    }

    /// The same, about the value at `path`.
    pub(crate) fn about(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// The same, with a way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, if there is a way out.
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// Findings while they are being gathered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    list: Vec<Finding>,
    left_out: usize,
}

impl Found {
    /// Adds a finding; it is only made if it will be shown.
    pub(crate) fn add(&mut self, source: &Source, remark: impl FnOnce() -> Remark) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        let Remark { severity, code, path, span, message, hint } = remark();
        let shown = source.excerpt(span);
        self.list.push(Finding {
            severity,
            code,
            path,
            line: shown.line,
            column: shown.column,
            source: shown.text,
            caret: shown.caret,
            width: shown.width,
            message,
            hint,
        });
    }

    /// Whether further findings would only be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= SHOWN
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Everything gathered, in the order of the file.
    pub(crate) fn into_findings(mut self, file: &str) -> Findings {
        self.list.sort_by_key(|finding| (finding.line, finding.column, finding.severity));
        Findings { file: file.to_owned(), list: self.list, left_out: self.left_out }
    }
}
