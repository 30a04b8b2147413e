//! What is written about the project is true: commands parse, exit codes are the constants, files and tests exist.

mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use written::{
    backticked, commands, doubled, is_path, named_tests, root, rows, shell_words, table_numbers, tests_in,
};

const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "providers/CONTRACT.md", "providers/PROTOCOL.md"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents() -> Vec<(&'static str, String)> {
    DOCUMENTS.map(|path| (path, read(path))).into()
}

/// Whether clap understands the line.
fn parses(line: &str) -> bool {
    castrum::cli::command().try_get_matches_from(shell_words(line)).is_ok()
}

#[test]
fn every_command_line_parses() {
    let lines: Vec<String> = documents().iter().flat_map(|(_, text)| commands(text)).collect();
    assert!(lines.len() > 10, "{lines:?}");
    let wrong: Vec<_> = lines.iter().filter(|line| !parses(line)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!parses("castrum conjure") && !parses("castrum plan --sideways"));
}

#[test]
fn every_command_is_in_the_readme() {
    let readme = read("README.md");
    let command = castrum::cli::command();
    let mut missing = Vec::new();
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_name();
        if !readme.contains(&format!("castrum {name}")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn exit_codes_are_the_constants() {
    let source = read("installer/src/cli/fault.rs");
    let constant = |line: &str| line.split_once(": u8 = ")?.1.trim_end_matches(';').parse().ok();
    let constants: BTreeSet<u16> = source.lines().filter_map(constant).collect();
    let readme = read("README.md");
    let table =
        readme.split("## Exit codes").nth(1).expect("the section").split("\n## ").next().unwrap_or_default();
    assert_eq!(table_numbers(table), constants);
    assert_eq!(table_numbers("| code | x |\n|---|---|\n| 7 | y |\n"), BTreeSet::from([7]));
}

#[test]
fn every_path_that_is_named_exists() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let folder = root().join(document).parent().expect("a folder").to_owned();
        for link in written::links(&text) {
            if !folder.join(&link).exists() {
                missing.push(format!("{document}: ({link})"));
            }
        }
        for path in backticked(&text).filter(|word| is_path(word)) {
            let file = path.split("::").next().unwrap_or(path);
            if !root().join(file).exists() {
                missing.push(format!("{document}: `{path}`"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(is_path("blueprints/src/nothing.rs") && is_path("Makefile") && !is_path(".castrum/keyring"));
    assert_eq!(written::links("[a](b/c.md#d) [e](https://x)"), ["b/c.md"]);
}

#[test]
fn every_test_that_is_named_exists() {
    let (mut missing, mut known) = (Vec::new(), BTreeMap::new());
    for (document, text) in documents() {
        for (file, test) in named_tests(&text) {
            let there = known.entry(file.clone()).or_insert_with(|| {
                fs::read_to_string(root().join(&file)).map(|text| tests_in(&text)).unwrap_or_default()
            });
            if !there.contains(&test) {
                missing.push(format!("{document}: {file}::{test}"));
            }
        }
    }
    assert!(known.len() > 10, "{known:?}");
    assert!(missing.is_empty(), "{missing:#?}");
    let source = "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test(start_paused = true)]\nasync fn c() {}\n    (\"d\", d),\nfn d() {}\n";
    assert_eq!(tests_in(source), ["a", "c", "d"].map(str::to_owned).into());
}

/// A claim without a test is a wish.
#[test]
fn every_invariant_and_every_must_names_its_test() {
    for (document, heading) in
        [("ARCHITECTURE.md", "## Invariants"), ("providers/CONTRACT.md", "## The MUSTs")]
    {
        let text = read(document);
        let section =
            text.split(heading).nth(1).expect("the section").split("\n## ").next().unwrap_or_default();
        let rows = rows(section);
        assert!(rows.len() > 8, "{document}: {} rows", rows.len());
        let without: Vec<_> = rows.iter().filter(|row| named_tests(row).is_empty()).collect();
        assert!(without.is_empty(), "{document}: {without:#?}");
    }
    assert!(named_tests("| a | `tests/tests/docs.rs` |").is_empty());
}

#[test]
fn the_glossary_has_one_entry_for_each_word() {
    let text = read("ARCHITECTURE.md");
    let section =
        text.split("## Words").nth(1).expect("the section").split("\n## ").next().unwrap_or_default();
    let entries = rows(section);
    assert!(entries.len() > 10, "{entries:?}");
    let words: Vec<String> = entries
        .iter()
        .flat_map(|row| row.trim_matches('|').split('|').next().unwrap_or_default().split(','))
        .map(|word| word.trim().to_owned())
        .collect();
    assert_eq!(doubled(&words), Vec::<String>::new());
    assert_eq!(doubled(&["a".into(), "b".into(), "a".into()]), ["a"]);
}
