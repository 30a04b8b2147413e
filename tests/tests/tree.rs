//! The tree keeps to the rules of the house, and every rule is able to refuse.

mod house;

use std::collections::BTreeSet;
use std::path::Path;

use house::cargo::{Arrow, Package, crates, forbidden, packages, picture};
use house::deny::{self, Deny};
use house::files::{root, texts};
use house::rules;

type Rule = fn(&str, &str) -> Vec<String>;

/// The sections of a manifest through which a crate takes over the workspace's lints.
const LINTS: &str = "[lints]\nworkspace = true\n";

fn rust() -> Vec<(String, String)> {
    let is_rust = |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "rs");
    texts().into_iter().filter(|(path, _)| is_rust(path)).collect()
}

fn all_keep(files: &[(String, String)], rule: Rule) {
    assert!(files.len() > 10, "the tree was not found");
    let found: Vec<String> = files.iter().flat_map(|(path, text)| rule(path, text)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn refuses(rule: Rule, good: &str, bad: &str) {
    assert_eq!(rule("a.rs", good), Vec::<String>::new());
    assert_eq!(rule("a.rs", bad).len(), 1, "{:?} of {bad}", rule("a.rs", bad));
}

fn repeated(line: &str, times: usize) -> String {
    line.repeat(times)
}

#[test]
fn every_module_says_why_it_exists() {
    all_keep(&rust(), rules::module_docs);
    refuses(rules::module_docs, "//! Because.\n", "// Because.\n");
    refuses(rules::module_docs, "//! Because.\n", "//!\nfn a() {}\n");
}

#[test]
fn files_are_short() {
    all_keep(&rust(), rules::file_length);
    refuses(rules::file_length, &repeated("x\n", rules::FILE_LINES), &repeated("x\n", rules::FILE_LINES + 1));
    assert!(rules::LONG_FILES.iter().all(|(path, _)| root().join(path).exists()));
}

#[test]
fn functions_are_short() {
    all_keep(&rust(), rules::function_length);
    let function = |lines| format!("fn a() {{\n{}}}\n", repeated("    f(\"}\");\n", lines));
    refuses(rules::function_length, &function(rules::FUNCTION_LINES), &function(rules::FUNCTION_LINES + 1));
}

#[test]
fn traits_are_narrow() {
    all_keep(&rust(), rules::trait_width);
    let wide =
        |methods| format!("pub trait A: B {{\n{}}}\n", repeated("    fn m(&self) { fn n() {} }\n", methods));
    refuses(rules::trait_width, &wide(rules::TRAIT_METHODS), &wide(rules::TRAIT_METHODS + 1));
}

#[test]
fn nothing_is_allowed_or_left_for_later() {
    all_keep(&rust(), rules::finished);
    let good = "#[expect(x, reason = \"so\")] fn a() {} // todo!() #[allow(x)]\n";
    for bad in [
        "#[allow(x)] fn a() {}",
        "#![allow(x)]",
        "#[cfg_attr(test, allow(x))] fn a() {}",
        "#[expect(x)] fn a() {}",
        "fn a() { todo!() }",
        "fn a() { unimplemented!() }",
        "fn a() { dbg!(1); }",
        "fn a() { if cfg!(test) {} }",
    ] {
        refuses(rules::finished, good, bad);
    }
}

#[test]
fn no_file_names_a_mirror_a_machine_or_unfinished_work() {
    all_keep(&texts(), rules::words);
    let mark = ["FIX", "ME"].concat();
    let mirror = ["https://deb.", "debian", ".org/x"].concat();
    for bad in [format!("// {mark}: later"), format!("source = {mirror}"), ["/ro", "ot/.cargo/x"].concat()] {
        refuses(rules::words, "https://mirror.invalid /var/lib/castrum", &bad);
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let (rooms, _) = crates();
    let manifests: Vec<_> = texts().into_iter().filter(|(path, _)| path.ends_with("/Cargo.toml")).collect();
    assert_eq!(manifests.len(), rooms.len());
    let without: Vec<_> =
        manifests.iter().filter(|(_, text)| !takes_lints(text)).map(|(path, _)| path).collect();
    assert!(without.is_empty(), "{without:?}");
    assert!(takes_lints("[package]\n\n[lints]\nworkspace = true\n"));
    assert!(!takes_lints("[package]\n\n[lints.rust]\nunsafe_code = \"allow\"\n"));
}

fn takes_lints(manifest: &str) -> bool {
    manifest.contains(LINTS)
}

/// The golden picture is the one that ARCHITECTURE.md shows.
#[test]
fn the_crate_graph_is_the_one_that_is_drawn() {
    let (rooms, arrows) = crates();
    let drawn = picture(&rooms, &arrows);
    let shown = texts().into_iter().find(|(path, _)| path == "ARCHITECTURE.md").expect("ARCHITECTURE.md").1;
    assert!(shown.contains(&drawn), "ARCHITECTURE.md does not show this crate graph:\n{drawn}");
    assert!(!shown.contains(&drawn.replace("──▶ blueprints", "──▶ nothing")));
}

#[test]
fn arrows_between_rooms_point_one_way() {
    let (_, arrows) = crates();
    assert!(arrows.len() > 10, "{arrows:?}");
    assert_eq!(forbidden(&arrows), Vec::<String>::new());
    let arrow = |from: (&str, &str), to: (&str, &str), tests_only| Arrow {
        from: (from.0.to_owned(), from.1.to_owned()),
        to: (to.0.to_owned(), to.1.to_owned()),
        tests_only,
    };
    let (agent, installer) = (("node-agent", "castrum-agent"), ("installer", "castrum"));
    let (local, ssh) = (("providers", "castrum-provider-local"), ("providers", "castrum-provider-ssh"));
    let blueprints = ("blueprints", "castrum-blueprints");
    for wrong in [
        arrow(blueprints, agent, false),
        arrow(blueprints, local, true),
        arrow(agent, installer, false),
        arrow(agent, local, false),
        arrow(local, ssh, false),
        arrow(local, agent, false),
        arrow(installer, agent, false),
        arrow(installer, ("tests", "castrum-tests"), true),
    ] {
        assert_eq!(forbidden(&BTreeSet::from([wrong.clone()])).len(), 1, "{wrong:?}");
    }
}

fn deny() -> Deny {
    deny::read(&std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml"))
}

fn package(name: &str, version: &str, licence: &str) -> Package {
    let source = Some("registry+elsewhere".to_owned());
    Package { name: name.to_owned(), version: version.to_owned(), licence: licence.to_owned(), source }
}

#[test]
fn dependencies_keep_to_deny_toml() {
    let (deny, packages) = (deny(), packages());
    assert!(packages.len() > 100 && !deny.licences.is_empty() && !deny.registries.is_empty());
    assert_eq!(deny::licences(&deny, &packages), Vec::<String>::new());
    assert_eq!(deny::duplicates(&deny, &packages), Vec::<String>::new());
    assert_eq!(deny::sources(&deny, &packages), Vec::<String>::new());
    assert_eq!(deny.without_reason, Vec::<String>::new());
}

#[test]
fn dependencies_that_do_not_keep_to_it_are_refused() {
    let text = "[licenses]\nallow = [\n    \"MIT\", # x\n    \"ISC\",\n]\nexceptions = [\n    # It is data.\n    \
                { crate = \"d\", allow = [\"Unicode-3.0\"] },\n    { crate = \"e\", allow = [\"Zlib\"] },\n]\n\
                [bans]\nskip = [\n    { crate = \"a@1\", reason = \"r\" },\n    { crate = \"b@9\" },\n]\n\
                [sources]\nallow-registry = [\"here\"]\n";
    let deny = deny::read(text);
    assert_eq!(deny.without_reason, ["e", "b@9"]);
    let packages: BTreeSet<Package> = [
        package("a", "1", "MIT"),
        package("a", "2", "MIT/GPL-3.0"),
        package("a", "3", "MIT AND ISC"),
        package("b", "1", "MIT AND GPL-3.0"),
        package("c", "1", ""),
        package("d", "1", "(MIT OR GPL-3.0) AND Unicode-3.0"),
        package("f", "1", "MIT WITH something"),
    ]
    .into();
    let refused = deny::licences(&deny, &packages);
    let names: Vec<_> = refused.iter().filter_map(|line| line.split([' ', ':']).next()).collect();
    assert_eq!(names, ["b", "c", "f", "e"], "{refused:?}");
    assert_eq!(deny::duplicates(&deny, &packages), ["a: 2 versions", "b@9: is not there any more"]);
    assert_eq!(deny::sources(&deny, &packages).len(), packages.len());
}
