//! What can be found in a document: command lines, tables, paths and tests that are named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The top of what documents name by path.
const ROOMS: [&str; 5] = ["blueprints/", "providers/", "node-agent/", "installer/", "tests/"];
const ROOT_FILES: [&str; 9] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "clippy.toml",
    "deny.toml",
    "packages.txt",
];

/// The folder of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in a folder of the project")
        .to_owned()
}

/// The lines of fenced blocks that call `castrum`, without what a shell or a reader adds.
pub fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).map(|line| line.trim_start_matches("$ "));
    let bare = |line: &str| line.split([';', '|', '>', '#']).next().unwrap_or_default().trim().to_owned();
    lines.filter(|line| line.starts_with("castrum ")).map(bare).collect()
}

/// The words of a command line; single and double quotes hold words together.
pub fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (' ', None) => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The rows of a table, without head and rule.
pub fn rows(section: &str) -> Vec<&str> {
    let lines: Vec<&str> = section.lines().filter(|line| line.starts_with('|')).collect();
    let rule = |line: &str| line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
    let body = lines
        .iter()
        .enumerate()
        .filter(|(at, line)| !rule(line) && !lines.get(at + 1).is_some_and(|next| rule(next)));
    body.map(|(_, line)| *line).collect()
}

/// The numbers that rows of a table begin with.
pub fn table_numbers(section: &str) -> BTreeSet<u16> {
    rows(section)
        .iter()
        .filter_map(|row| row.trim_start_matches('|').split('|').next()?.trim().parse().ok())
        .collect()
}

/// What stands between single backticks outside of fenced blocks.
pub fn backticked(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2))
}

/// Whether a word names a file or folder of the project.
pub fn is_path(word: &str) -> bool {
    let plain = !word.contains([' ', '*', '<', '{', '$']);
    plain && (ROOMS.iter().any(|room| word.starts_with(room)) || ROOT_FILES.contains(&word))
}

/// The targets of links inside the project.
pub fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inside = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    inside.map(|target| target.split('#').next().unwrap_or(target).to_owned()).collect()
}

/// Tests that are named as `path/to/file.rs::test`.
pub fn named_tests(text: &str) -> Vec<(String, String)> {
    let named = backticked(text).filter_map(|word| word.split_once(".rs::"));
    named.map(|(file, test)| (format!("{file}.rs"), test.to_owned())).collect()
}

/// The tests of a file: functions with a test's attribute, and those in a table of a binary with its own `main`.
pub fn tests_in(text: &str) -> BTreeSet<String> {
    let (mut found, mut next) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            next = true;
        } else if next && let Some(name) = line.split("fn ").nth(1).and_then(|rest| rest.split('(').next()) {
            found.insert(name.to_owned());
            next = false;
        } else if let Some((name, function)) =
            line.strip_prefix("(\"").and_then(|rest| rest.split_once("\", "))
            && function.trim_end_matches([')', ',']) == name
        {
            found.insert(name.to_owned());
        }
    }
    found
}

/// The words that are there more than once.
pub fn doubled(words: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    words.iter().filter(|word| !seen.insert((*word).clone())).cloned().collect()
}
