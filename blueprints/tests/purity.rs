//! Purity is a dependency list: what is not on it cannot do I/O, read a clock or draw chance on our behalf.

use std::collections::BTreeSet;

const CARGO: &str = include_str!("../Cargo.toml");
const CLIPPY: &str = include_str!("../clippy.toml");
const ROOT_CLIPPY: &str = include_str!("../../clippy.toml");

/// Each of these computes and does nothing else.
const ALLOWED: [&str; 10] = [
    "handlebars",
    "hmac",
    "schemars",
    "serde",
    "serde-saphyr",
    "serde_json",
    "sha2",
    "strsim",
    "thiserror",
    "zeroize",
];

#[test]
fn the_dependencies_are_those_that_only_compute() {
    let sections: Vec<&str> = CARGO.lines().filter(|line| line.starts_with('[')).collect();
    let allowed = ["[package]", "[lints]", "[dependencies]", "[dev-dependencies]"];
    assert!(sections.iter().all(|section| allowed.contains(section)), "{sections:?}");
    let section =
        CARGO.split("[dependencies]").nth(1).expect("dependencies").split("\n[").next().expect("a section");
    let names = section.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: BTreeSet<&str> =
        names.map(|line| line.split(['.', ' ', '=']).next().unwrap_or(line)).collect();
    assert_eq!(names, ALLOWED.into_iter().collect());
}

#[test]
fn the_lints_hold_the_crate_to_it() {
    for banned in ["std::fs::read", "std::env::var", "std::time::SystemTime::now", "std::process::Command"] {
        assert!(CLIPPY.contains(banned), "{banned}");
    }
}

/// A crate's own `clippy.toml` replaces that of the root.
#[test]
fn the_limits_of_the_house_are_repeated() {
    for line in ROOT_CLIPPY.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(CLIPPY.lines().any(|ours| ours == line), "{line}");
    }
}
