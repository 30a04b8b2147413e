//! What Cargo knows of the workspace: the crates of this project, the arrows between them, and what they stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use super::files::root;

/// A dependency of one crate of this project on another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// The room and the crate that knows.
    pub from: (String, String),
    /// The room and the crate that is known.
    pub to: (String, String),
    /// Whether only tests of the first need the second.
    pub tests_only: bool,
}

/// A package with what matters of it here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence expression.
    pub licence: String,
    /// Where it comes from; nowhere if it is of this project.
    pub source: Option<String>,
}

fn metadata(arguments: &[&str]) -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["metadata", "--format-version", "1", "--offline"]).args(arguments);
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo speaks JSON")
}

/// The crates of the project by name, with the room that each is in, and all arrows between them.
pub fn crates() -> (BTreeMap<String, String>, BTreeSet<Arrow>) {
    let told = metadata(&["--no-deps"]);
    let packages = told["packages"].as_array().expect("packages");
    let base = root();
    let room = |package: &Value| {
        let path = package["manifest_path"].as_str().expect("a path");
        let relative = path.strip_prefix(base.to_str().expect("UTF-8")).expect("in the project");
        relative.trim_start_matches('/').split('/').next().expect("a folder").to_owned()
    };
    let rooms: BTreeMap<String, String> =
        packages.iter().map(|package| (text(&package["name"]), room(package))).collect();
    let mut arrows = BTreeSet::new();
    for package in packages {
        let from = text(&package["name"]);
        for known in package["dependencies"].as_array().expect("dependencies") {
            let to = text(&known["name"]);
            if known["path"].is_string() {
                arrows.insert(Arrow {
                    from: (rooms[&from].clone(), from.clone()),
                    to: (rooms[&to].clone(), to),
                    tests_only: known["kind"] == "dev",
                });
            }
        }
    }
    (rooms, arrows)
}

/// Everything that is built for Linux, our own crates with it.
pub fn packages() -> BTreeSet<Package> {
    let told = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let packages = told["packages"].as_array().expect("packages").iter();
    let package = |told: &Value| Package {
        name: text(&told["name"]),
        version: text(&told["version"]),
        licence: told["license"].as_str().unwrap_or_default().to_owned(),
        source: told["source"].as_str().map(str::to_owned),
    };
    packages.map(package).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The arrows that the rooms do not allow.
pub fn forbidden(arrows: &BTreeSet<Arrow>) -> Vec<String> {
    let allowed = |arrow: &&Arrow| {
        let (from, to) = (arrow.from.0.as_str(), arrow.to.0.as_str());
        match (from, to) {
            ("tests", _)
            | ("providers" | "node-agent" | "installer", "blueprints")
            | ("installer", "providers") => true,
            // Providers know the contract and not each other.
            ("providers", "providers") => arrow.to.1 == "castrum-provider",
            // Both ends of the masters' API are held to each other by the installer's tests.
            ("installer", "node-agent") => arrow.tests_only,
            _ => false,
        }
    };
    let wrong = arrows.iter().filter(|arrow| !allowed(arrow));
    wrong.map(|arrow| format!("{} may not know {}", arrow.from.1, arrow.to.1)).collect()
}

/// The crate graph as text: one line a crate, by room.
pub fn picture(rooms: &BTreeMap<String, String>, arrows: &BTreeSet<Arrow>) -> String {
    let order = ["blueprints", "providers", "node-agent", "installer", "tests"];
    let mut drawn = String::new();
    for room in order {
        let _ = writeln!(drawn, "{room}/");
        for (name, _) in rooms.iter().filter(|(_, place)| *place == room) {
            let known = |tests_only: bool| {
                let own =
                    arrows.iter().filter(|arrow| arrow.from.1 == *name && arrow.tests_only == tests_only);
                own.map(|arrow| arrow.to.1.strip_prefix("castrum-").unwrap_or(&arrow.to.1))
                    .collect::<Vec<_>>()
            };
            let mut line = format!("  {name:<24}");
            for (tests_only, word) in [(false, "──▶ "), (true, "┄┄▶ ")] {
                let known = known(tests_only);
                if !known.is_empty() {
                    let _ = write!(line, "{word}{} ", known.join(", "));
                }
            }
            let _ = writeln!(drawn, "{}", line.trim_end());
        }
    }
    drawn
}
