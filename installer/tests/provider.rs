//! Providers as executables of their own, from the command line: listed, held to the contract, and used by a blueprint.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A blueprint whose site is another's executable.
const ELSEWHERE: &str = "\
apiVersion: castrum/v1
name: small
sites:
  here:
    provider: example
    settings: { state: state.json }
groups:
  masters: { role: master, count: 1 }
  agents: { role: agent, count: 1 }
";

/// A folder with a blueprint, and with the example as an executable in `bin`.
fn folder(blueprint: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("cluster.yaml"), blueprint).expect("written");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers/examples/provider.py");
    symlink(example, bin.join("castrum-provider-example")).expect("a link");
    folder
}

fn program(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join("bin").join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("executable");
}

fn castrum(folder: &TempDir, words: &[&str]) -> Output {
    let path = format!("bin:{}:/usr/local/bin:/usr/bin:/bin", folder.path().join("bin").display());
    Command::new(env!("CARGO_BIN_EXE_castrum"))
        .args(words)
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .expect("castrum runs")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", err(output)))
}

#[test]
fn the_list_has_what_is_built_in_and_what_is_found_with_what_each_can_do() {
    let folder = folder(ELSEWHERE);
    program(&folder, "castrum-provider-broken", "#!/bin/sh\necho no library >&2\nexit 1\n");
    program(&folder, "castrum-provider-Loud!", "#!/bin/sh\nexit 1\n");
    std::fs::write(folder.path().join("bin/castrum-provider-notes"), "no program").expect("written");
    let listed = castrum(&folder, &["provider", "list", "-o", "json"]);
    assert_eq!(code(&listed), Some(0), "{}", err(&listed));
    let listed = json(&listed);
    let provider = |name: &str| {
        let all = listed["providers"].as_array().expect("a list");
        all.iter().find(|provider| provider["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(provider("sim")["path"], Value::Null);
    assert_eq!(provider("example")["version"], "1");
    assert_eq!(provider("example")["abilities"]["kinds"], serde_json::json!(["network", "machine"]));
    let path = folder.path().join("bin/castrum-provider-example");
    assert_eq!(provider("example")["path"], path.display().to_string());
    let broken = provider("broken")["failure"]["message"].to_string();
    assert!(broken.contains("no library"), "{broken}");
    assert_eq!((provider("notes"), provider("Loud!")), (Value::Null, Value::Null));
    let table = out(&castrum(&folder, &["provider", "list"]));
    assert!(table.contains("built in") && table.contains("castrum-provider-"), "{table}");
}

#[test]
fn a_provider_is_held_to_the_contract_check_by_check() {
    let folder = folder(ELSEWHERE);
    let words = ["provider", "check", "sim", "--yes", "--unreachable", "faults={\"before\":1}"];
    let sim = castrum(&folder, &words);
    assert_eq!(code(&sim), Some(0), "{}", out(&sim));
    assert!(out(&sim).lines().count() >= 20 && !out(&sim).contains("skipped"), "{}", out(&sim));
    assert!(err(&sim).contains("`sim` keeps to the contract"), "{}", err(&sim));
    let words = ["provider", "check", "example", "--blueprint", "cluster.yaml", "--site", "here", "-y"];
    let example = castrum(&folder, &[&words[..], &["-o", "json"]].concat());
    assert_eq!(code(&example), Some(0), "{}", err(&example));
    let example = json(&example);
    let verdict = |name: &str| {
        let checks = example["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["check"] == name).expect("the check");
        (check["verdict"].clone(), check["reason"].clone())
    };
    assert_eq!(verdict("interrupted-make"), ("ok".into(), Value::Null));
    assert_eq!(verdict("blind").0, "skipped", "nothing was said that makes the place unreachable");
    assert_eq!(example["left_over"], Value::Null);
    let state = std::fs::read_to_string(folder.path().join("state.json")).expect("the place");
    assert!(!state.contains("machine"), "everything is removed: {state}");
}

#[test]
fn a_provider_that_does_not_keep_to_the_contract_fails() {
    let folder = folder(ELSEWHERE);
    let good = std::fs::read_to_string(folder.path().join("bin/castrum-provider-example")).expect("a text");
    let forgetful = good.replace("\"changed\"", "\"unchanged\"");
    assert_ne!(good, forgetful);
    program(&folder, "castrum-provider-forgetful", &forgetful);
    let words = ["provider", "check", "forgetful", "--setting", "state=here.json", "--yes"];
    let checked = castrum(&folder, &words);
    assert_eq!(code(&checked), Some(1), "{}", out(&checked));
    let failed: Vec<String> = out(&checked)
        .lines()
        .filter_map(|line| line.strip_prefix("failed")?.split_whitespace().next().map(str::to_owned))
        .collect();
    assert_eq!(failed, ["change-keeps", "power-again"], "{}", out(&checked));
    assert!(err(&checked).contains("does not keep to the contract"));
}

#[test]
fn nothing_is_made_without_consent_or_with_a_wrong_word() {
    let folder = folder(ELSEWHERE);
    let state = ["--setting", "state=state.json"];
    let check = |words: &[&str]| castrum(&folder, &[&["provider", "check"], words].concat());
    let asked = check(&[&["example"], &state[..]].concat());
    assert_eq!(code(&asked), Some(64), "{}", err(&asked));
    assert!(err(&asked).contains("--yes"));
    for (words, ends) in [
        (&["nowhere", "--yes"][..], 1),
        (&["../bin/castrum", "--yes"], 64),
        (&["example", "--yes", "--setting", "state"], 64),
        (&["example", "--yes", "--blueprint", "cluster.yaml"], 64),
        (&["example", "--yes", "--blueprint", "cluster.yaml", "--site", "there"], 64),
        (&["sim", "--yes", "--blueprint", "cluster.yaml", "--site", "here"], 64),
        (&["sim", "--yes", "--setting", "sede=1"], 10),
    ] {
        let output = check(words);
        assert_eq!(code(&output), Some(ends), "{words:?}: {}", err(&output));
    }
    assert!(!folder.path().join("state.json").exists());
}

#[test]
fn who_stops_a_check_finds_everything_removed() {
    for signal in [Signal::INT, Signal::TERM] {
        stopped_by(signal);
    }
}

fn stopped_by(signal: Signal) {
    let folder = folder(ELSEWHERE);
    let bin = folder.path().join("bin");
    let child = Command::new(env!("CARGO_BIN_EXE_castrum"))
        .args(["provider", "check", "example", "--yes"])
        .args(["--setting", "state=state.json", "--setting", "seconds=0.5"])
        .current_dir(folder.path())
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("castrum runs");
    let state = || std::fs::read_to_string(folder.path().join("state.json")).unwrap_or_default();
    let began = Instant::now();
    while !state().contains("check/machine") {
        assert!(began.elapsed() < Duration::from_secs(30), "no machine is made");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, signal).expect("a signal");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), Some(130), "{}", err(&output));
    assert!(!state().contains("machine") && !state().contains("network"), "{}", state());
}

#[test]
fn a_blueprint_names_an_executable_and_its_settings_arrive() {
    let folder = folder(ELSEWHERE);
    let plan = castrum(&folder, &["plan"]);
    assert_eq!(code(&plan), Some(0), "{}", err(&plan));
    assert!(out(&plan).contains("machine masters-1 in here"), "{}", out(&plan));
    assert_eq!(code(&castrum(&folder, &["graph"])), Some(0));
    let words = ["provider", "check", "example", "--blueprint", "cluster.yaml", "--site", "here", "--yes"];
    let without = ELSEWHERE.replace("    settings: { state: state.json }\n", "");
    std::fs::write(folder.path().join("cluster.yaml"), without).expect("written");
    let checked = castrum(&folder, &words);
    assert_eq!(code(&checked), Some(1), "{}", out(&checked));
    assert!(out(&checked).contains("no state file"), "{}", out(&checked));
}

#[test]
fn a_missing_executable_is_shown_at_its_place_with_where_it_was_looked_for() {
    let folder = folder(&ELSEWHERE.replace("provider: example", "provider: nowhere"));
    for command in ["plan", "apply", "graph"] {
        let output = castrum(&folder, &[command]);
        assert_eq!(code(&output), Some(10), "{command}: {}", err(&output));
        let said = err(&output);
        assert!(said.contains("cluster.yaml:5:15") && said.contains("provider: nowhere"), "{said}");
        let bin = folder.path().join("bin").display().to_string();
        assert!(
            said.contains("`castrum-provider-nowhere` was not found in") && said.contains(&bin),
            "{said}"
        );
        assert!(!said.contains("`bin`"), "a folder that is not named from the root is anybody's: {said}");
    }
    assert_eq!(code(&castrum(&folder, &["validate"])), Some(0), "another machine may have it");
    let both =
        ELSEWHERE.replace("groups:", "  there: { provider: sim }\ngroups:").replace("1 }", "1, site: here }");
    std::fs::write(folder.path().join("cluster.yaml"), both).expect("written");
    let mixed = castrum(&folder, &["plan"]);
    assert!(code(&mixed) == Some(10) && err(&mixed).contains("real time"), "{}", err(&mixed));
}
