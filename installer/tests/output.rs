//! What programs read: whole or not at all, with the reason.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SMALL: &str = "\
apiVersion: castrum/v1
name: small
sites: { here: { provider: sim } }
groups:
  masters: { role: master, count: 1 }
stack: { name: swarm }
";

fn castrum(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castrum"));
    command.args(words).current_dir(folder).env_clear().env("HOME", folder).stdin(Stdio::null());
    command
}

fn folder(blueprint: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("cluster.yaml"), blueprint).expect("written");
    folder
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn data_that_cannot_be_written_is_a_failure() {
    let folder = folder(SMALL);
    for words in [&["completion", "bash"][..], &["get", "nodes"], &["plan", "-o", "json"], &["graph"]] {
        let full = File::options().write(true).open("/dev/full").expect("a full disk");
        let output = castrum(folder.path(), words).stdout(full).output().expect("castrum runs");
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", said(&output));
        assert!(said(&output).contains("cannot write the result: "), "{words:?}: {}", said(&output));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = folder(SMALL);
    for words in [&["completion", "zsh"][..], &["get", "nodes"], &["graph"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = castrum(folder.path(), words).stdout(writer).output().expect("castrum runs");
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn every_drawing_has_its_data() {
    let folder = folder(SMALL);
    let draw = |words: &[&str]| castrum(folder.path(), words).output().expect("castrum runs").stdout;
    let data: serde_json::Value = serde_json::from_slice(&draw(&["graph", "-o", "json"])).expect("JSON");
    assert!(data["format_version"].is_u64() && data["vertices"].is_array(), "{data:#}");
    assert!(draw(&["graph"]).starts_with(b"digraph"));
    assert!(draw(&["graph", "--format", "dot", "-o", "json"]).starts_with(b"digraph"));
}

#[test]
fn programs_get_the_findings_of_a_blueprint_as_data_from_every_command() {
    let folder = folder("apiVersion: castrum/v1\nname: [a]\nsites: 3\n");
    for words in [&["plan", "-o", "json"][..], &["apply", "--yes", "-o", "json"], &["graph", "-o", "json"]] {
        let output = castrum(folder.path(), words).output().expect("castrum runs");
        assert_eq!(output.status.code(), Some(10), "{words:?}");
        let text = said(&output);
        let last: serde_json::Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["findings"].as_array().expect("a list").len(), 3, "{words:?}: {last:#}");
        assert!(!text.contains("error: cluster.yaml"), "one `error:` a finding\n{text}");
    }
}

#[test]
fn whoever_has_spoilt_the_lock_file_or_the_journal_is_told_so() {
    let folder = folder(SMALL);
    std::fs::write(folder.path().join("castrum.lock"), "<<<<<<< HEAD\n").expect("written");
    for words in [&["status"][..], &["apply", "--yes"], &["destroy", "--yes"]] {
        let output = castrum(folder.path(), words).output().expect("castrum runs");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(said(&output).contains("hint: take it back from version control"), "{}", said(&output));
    }
    std::fs::create_dir_all(folder.path().join(".castrum")).expect("a folder");
    std::fs::write(folder.path().join(".castrum/journal.jsonl"), "rubbish\n").expect("written");
    let output = castrum(folder.path(), &["events"]).output().expect("castrum runs");
    assert!(said(&output).contains("1 line of the journal cannot be read"), "{}", said(&output));
    assert!(!said(&output).contains("there is no journal"), "{}", said(&output));
}

#[test]
fn what_a_blueprint_or_a_command_names_and_is_not_there_is_shown() {
    for stack in ["nosuch", "./nosuch"] {
        let folder = folder(&SMALL.replace("swarm", stack));
        let output = castrum(folder.path(), &["plan"]).output().expect("castrum runs");
        assert_eq!(output.status.code(), Some(10));
        let place = "cluster.yaml:6:16: error: ";
        assert!(said(&output).starts_with(place), "{}", said(&output));
    }
    let folder = folder(SMALL);
    let output =
        castrum(folder.path(), &["node", "logs", "masters-1", "nosuch"]).output().expect("castrum runs");
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("the stack has no component `nosuch`"), "{}", said(&output));
}
