//! The committed schema is the one that the table of fields makes, and the examples name it and fit it.

#![expect(clippy::disallowed_methods, reason = "a test reads and, when asked to, writes committed files")]

use std::path::{Path, PathBuf};
use std::{env, fs};

use castrum_blueprints::document::{read, schema};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// With `UPDATE_SCHEMA=1` the committed schema is written anew.
#[test]
fn the_committed_schema_is_fresh() {
    let path = folder("schema/blueprint.schema.json");
    if env::var_os("UPDATE_SCHEMA").is_some_and(|value| value == "1") {
        fs::write(&path, schema::text()).expect("writing the schema");
    }
    let committed = fs::read_to_string(&path).expect("the committed schema");
    assert!(
        committed == schema::text(),
        "the schema is stale: run this test with UPDATE_SCHEMA=1 and commit it"
    );
}

#[test]
fn the_examples_name_the_schema_and_fit_it() {
    let validator = jsonschema::validator_for(&schema::schema()).expect("a schema");
    let mut seen = 0;
    for entry in fs::read_dir(folder("examples")).expect("the examples") {
        let path = entry.expect("an example").path();
        // A cluster that was made from an example has its lock and working folder beside it.
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("an example");
        let first = text.lines().next().unwrap_or_default();
        let named = first.strip_prefix("# yaml-language-server: $schema=").expect("the schema's name");
        assert!(folder("examples").join(named).is_file(), "{named}");
        let data = read("example.yaml", text.as_bytes()).data().expect("YAML");
        let errors: Vec<String> = validator.iter_errors(&data).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "the examples are there");
}
