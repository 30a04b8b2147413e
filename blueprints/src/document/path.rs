//! Where in a blueprint something is, by the keys that lead to it: `groups.masters.count`.
//!
//! Steps borrow from the document, because most paths are walked and never shown.

use std::fmt::Write as _;

/// One step from a value to a value inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// To the value of this key.
    Key(&'a str),
    /// To this item of a list, from 0.
    Item(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

/// The path of these steps, as people write it.
pub(crate) fn show(steps: &[Step<'_>]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Item(item) => {
                let _ = write!(out, "[{item}]");
            }
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(&show_key(key));
            }
        }
    }
    out
}

fn show_key(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.len() <= 60 && key.chars().all(plain) {
        return key.to_owned();
    }
    format!("\"{}\"", clip(key))
}

/// User text for a message: in backticks, short, and without characters that a terminal would act on.
pub(crate) fn quote(text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return "a private key".to_owned();
    }
    if names_a_user(text) {
        return "an address with a user in it".to_owned();
    }
    format!("`{}`", clip(text))
}

/// Whether a text holds an address with a user in it, and so maybe a password.
pub(crate) fn names_a_user(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let host = text[at + 3..].split(['/', ' ', '"', '\'', '?', '#', '\n']).next().unwrap_or_default();
        host.contains('@')
    })
}

fn clip(text: &str) -> String {
    let mut out: String = text.chars().take(60).map(shown).collect();
    if text.chars().nth(60).is_some() {
        out.push('…');
    }
    out
}

/// `c`, or a mark in place of what must not reach a terminal.
pub(crate) fn shown(c: char) -> char {
    match c {
        '\t' => ' ',
        c if is_unshowable(c) => '\u{fffd}',
        c => c,
    }
}

/// Whether `c` would move the cursor, hide text or turn its direction, and so has no place in a blueprint.
pub(crate) fn is_unshowable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A path, written as its steps.
macro_rules! steps {
    ($($step:expr),* $(,)?) => {
        &[$($crate::document::path::Step::from($step)),*]
    };
}
pub(crate) use steps;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_people_write_it() {
        assert_eq!(
            show(steps!["groups", "rack", "machines", 2, "address"]),
            "groups.rack.machines[2].address"
        );
        assert_eq!(show(steps!["labels", "a.b"]), "labels.\"a.b\"");
        assert_eq!(show(&[]), "");
    }

    #[test]
    fn quoted_text_cannot_steer_a_terminal() {
        assert_eq!(quote("a\u{1b}[2Jb"), "`a\u{fffd}[2Jb`");
        assert_eq!(quote(&"x".repeat(80)).chars().count(), 63);
    }
}
