//! The text that a blueprint was read from, and what people see of it around a finding.

use super::path::{names_a_user, shown};

/// How much of a long line is shown.
const EXCERPT_CHARS: usize = 110;

/// A stretch of the text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    /// Where it begins.
    pub(crate) start: usize,
    /// Where it has ended.
    pub(crate) end: usize,
}

impl Span {
    /// The empty stretch at `offset`.
    pub(crate) fn at(offset: usize) -> Self {
        Self { start: offset, end: offset }
    }
}

/// A file's name and text, with the beginnings of its lines.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name under which findings speak of it.
    pub(crate) file: String,
    /// The text, without a byte order mark.
    pub(crate) text: String,
    lines: Vec<usize>,
}

/// What is shown of the text around a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The column in characters, from 1.
    pub(crate) column: usize,
    /// The line itself; of a long line, what is around the place.
    pub(crate) text: String,
    /// How many characters of `text` are before the place.
    pub(crate) caret: usize,
    /// How many characters of `text` the place covers; at least 1.
    pub(crate) width: usize,
}

impl Source {
    /// The text of `file`.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let bytes = text.as_bytes();
        let ends_line =
            |at: usize| bytes[at] == b'\n' || (bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
        let after_breaks = (0..bytes.len()).filter(|at| ends_line(*at)).map(|at| at + 1);
        let lines = std::iter::once(0).chain(after_breaks).collect();
        Self { file: file.to_owned(), text, lines }
    }

    /// The line that `offset` is on, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The column of `offset` in characters, from 0.
    pub(crate) fn indent(&self, offset: usize) -> usize {
        let start = self.lines[self.line(offset) - 1];
        self.text.get(start..offset).map_or(0, |before| before.chars().count())
    }

    /// The text of a line (from 1), without its break.
    pub(crate) fn line_text(&self, line: usize) -> &str {
        let start = self.lines.get(line - 1).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or("").trim_end_matches(['\n', '\r'])
    }

    /// The text of `span`.
    pub(crate) fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// What to show for `span`.
    pub(crate) fn excerpt(&self, span: Span) -> Excerpt {
        let line = self.line(span.start);
        let whole = self.line_text(line);
        let before = self.indent(span.start);
        let covered = self.slice(span).split(['\n', '\r']).next().unwrap_or("").trim_end().chars().count();
        // Private keys and passwords are never repeated, wherever somebody pasted one.
        if whole.contains("PRIVATE KEY") || names_a_user(whole) {
            let text = "(this line is not shown)".to_owned();
            return Excerpt { line, column: before + 1, text, caret: 0, width: 1 };
        }
        let fits = whole.chars().nth(EXCERPT_CHARS).is_none() || before <= EXCERPT_CHARS * 2 / 3;
        let skipped = if fits { 0 } else { before - EXCERPT_CHARS / 3 };
        let text: String = whole.chars().skip(skipped).take(EXCERPT_CHARS).map(shown).collect();
        let caret = before - skipped;
        let room = text.chars().count().saturating_sub(caret);
        Excerpt { line, column: before + 1, text, caret, width: covered.min(room).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters() {
        let source = Source::new("f", "a: ä\r\nbb: x\rc: y\n");
        let at = |what: &str| source.text.find(what).expect("in the text");
        assert_eq!((source.line(at("x")), source.indent(at("x"))), (2, 4));
        assert_eq!((source.line(at("y")), source.indent(at("y"))), (3, 3));
        assert_eq!(source.line_text(1), "a: ä");
        assert_eq!(source.line_text(4), "");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let source = Source::new("f", &format!("{}HERE{}", "x".repeat(500_000), "y".repeat(500_000)));
        let excerpt = source.excerpt(Span { start: 500_000, end: 500_004 });
        assert_eq!(excerpt.column, 500_001);
        assert!(excerpt.text.chars().count() <= EXCERPT_CHARS);
        assert!(excerpt.text[excerpt.caret..].starts_with("HERE"));
    }

    #[test]
    fn a_private_key_is_not_repeated() {
        let source = Source::new("f", "key: -----BEGIN OPENSSH PRIVATE KEY-----\n");
        assert!(!source.excerpt(Span { start: 5, end: 20 }).text.contains("BEGIN"));
    }
}
