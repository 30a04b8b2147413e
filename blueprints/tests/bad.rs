//! Blueprints that are wrong, and what is said about each: the words that users read are held still by snapshots.

#![expect(clippy::disallowed_methods, reason = "a test reads its cases from files")]

use std::fs;
use std::path::{Path, PathBuf};

use castrum_blueprints::check::check;
use castrum_blueprints::document::{Findings, read};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let entries = fs::read_dir(folder).expect("the folder of cases");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    cases
}

fn findings(case: &Path) -> Findings {
    let name = case.file_name().and_then(|name| name.to_str()).expect("a name");
    let bytes = fs::read(case).expect("a case");
    check(&read(name, &bytes)).expect_err("a bad blueprint")
}

#[test]
fn every_bad_blueprint_is_refused_with_all_its_findings() {
    let cases = cases();
    assert!(cases.len() >= 20, "the cases are there");
    for case in cases {
        let name = case.file_stem().and_then(|name| name.to_str()).expect("a name");
        let findings = findings(&case);
        insta::assert_snapshot!(name, format!("{}\n{}\n", findings.render(), findings));
    }
}

#[test]
fn programs_get_the_same_findings() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad/quorum.yaml");
    insta::assert_json_snapshot!("quorum-json", findings(&case).to_json());
}

#[test]
fn every_place_is_inside_its_line() {
    for case in cases() {
        for finding in findings(&case).list {
            let line = finding.source.chars().count();
            assert!(finding.caret + finding.width <= line.max(finding.caret) + 1, "{finding:?}");
            assert!(finding.line >= 1 && finding.column >= 1, "{finding:?}");
        }
    }
}
