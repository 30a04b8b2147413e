//! The command line as a person meets it: help, answers, errors and exit codes, run as the real program.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SMALL: &str = "\
apiVersion: castrum/v1
name: small
sites: { here: { provider: sim } }
groups:
  masters: { role: master, count: 1 }
  agents: { role: agent, count: 2 }
stack: { name: swarm }
";

fn castrum(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_castrum"))
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .expect("castrum runs")
}

fn folder(blueprint: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("cluster.yaml"), blueprint).expect("written");
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("castrum ended by itself")
}

#[test]
fn every_command_has_help() {
    let folder = folder(SMALL);
    let commands = [
        "",
        "init",
        "validate",
        "fmt",
        "explain",
        "plan",
        "apply",
        "recover",
        "status",
        "wait-for",
        "get",
        "events",
        "timeline",
        "graph",
        "node",
        "node ssh",
        "node logs",
        "provider",
        "provider list",
        "provider check",
        "unlock",
        "destroy",
        "completion",
    ];
    let mut all = String::new();
    for command in commands {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        words.push("--help");
        let output = castrum(folder.path(), &words);
        assert_eq!(code(&output), 0, "{command}");
        write!(all, "$ castrum {}\n{}\n", words.join(" "), text(&output.stdout)).expect("a String takes all");
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn a_plan_shows_every_round_and_changes_nothing() {
    let folder = folder(SMALL);
    let output = castrum(folder.path(), &["plan"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    insta::assert_snapshot!("plan", text(&output.stdout));
    let again = castrum(folder.path(), &["plan"]);
    assert_eq!(output.stdout, again.stdout);
    assert_eq!(code(&castrum(folder.path(), &["plan", "--detailed-exitcode"])), 2);
    let files: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|f| f.file_name()).collect();
    assert_eq!(files, ["cluster.yaml"], "a plan writes nothing");
    let json: serde_json::Value =
        serde_json::from_slice(&castrum(folder.path(), &["plan", "-o", "json"]).stdout).expect("JSON");
    assert_eq!(json["format_version"], 1);
}

#[test]
fn a_wrong_blueprint_is_shown_with_every_finding_at_its_place() {
    let folder = folder(
        "apiVersion: castrum/v1\nname: Small\nsites: {here: {provider: sim}}\ngroups:\n  masters: {rolle: master, count: 2}\n",
    );
    let output = castrum(folder.path(), &["validate"]);
    assert_eq!(code(&output), 10);
    insta::assert_snapshot!("findings", text(&output.stderr));
    let json = castrum(folder.path(), &["validate", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert!(value["findings"].as_array().is_some_and(|findings| findings.len() >= 3), "{value}");
    for command in ["plan", "apply", "destroy", "status"] {
        assert_eq!(code(&castrum(folder.path(), &[command])), 10, "{command}");
    }
}

#[test]
fn errors_say_what_where_and_what_would_help() {
    let folder = folder(SMALL);
    let cases: [(&[&str], i32); 9] = [
        (&["status"], 1),
        (&["apply"], 64),
        (&["plan", "nowhere.yaml"], 10),
        (&["frobnicate"], 64),
        (&["get", "noodles"], 64),
        (&["explain", "groups.cuont"], 64),
        (&["wait-for", "heathy"], 64),
        (&["init"], 1),
        (&["timeline"], 1),
    ];
    let mut all = String::new();
    for (words, wanted) in cases {
        let output = castrum(folder.path(), words);
        assert_eq!(code(&output), wanted, "{words:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "errors are not data: {words:?}");
        write!(all, "$ castrum {}   # {wanted}\n{}\n", words.join(" "), text(&output.stderr))
            .expect("a String takes all");
    }
    insta::assert_snapshot!("errors", all);
}

#[test]
fn a_new_blueprint_is_valid_and_in_its_usual_form() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(code(&castrum(folder.path(), &["init", "--provider", "sim"])), 0);
    assert_eq!(code(&castrum(folder.path(), &["validate"])), 0);
    assert_eq!(code(&castrum(folder.path(), &["fmt", "--check"])), 0);
}

#[test]
fn settings_of_the_stack_are_checked_before_anything_is_made() {
    let wrong =
        SMALL.replace("{ name: swarm }", "{ name: swarm, settings: { prometheus: { retantion: 7d } } }");
    let folder = folder(&wrong);
    let output = castrum(folder.path(), &["plan"]);
    assert_eq!(code(&output), 10);
    assert!(text(&output.stderr).contains("did you mean `retention`"), "{}", text(&output.stderr));
}

#[test]
fn completions_are_written_for_every_shell() {
    let folder = folder(SMALL);
    for shell in ["bash", "zsh", "fish"] {
        let output = castrum(folder.path(), &["completion", shell]);
        assert!(code(&output) == 0 && text(&output.stdout).contains("castrum"), "{shell}");
    }
}

#[test]
fn what_a_user_prefers_stands_in_for_flags_that_are_not_given() {
    let folder = folder(SMALL);
    let config = folder.path().join(".config/castrum");
    std::fs::create_dir_all(&config).expect("a folder");
    let explained = |words: &[&str]| castrum(folder.path(), &[&["explain", "name"], words].concat());
    let is_json = |output: &Output| serde_json::from_str::<serde_json::Value>(&text(&output.stdout)).is_ok();
    assert!(!is_json(&explained(&[])));
    std::fs::write(config.join("config.yaml"), "output: json\nnoColor: true\n").expect("written");
    assert!(is_json(&explained(&[])));
    assert!(!is_json(&explained(&["--output", "table"])), "a flag comes first");
    std::fs::write(config.join("config.yaml"), "# nothing yet\n").expect("written");
    assert_eq!(code(&explained(&[])), 0);
    std::fs::write(config.join("config.yaml"), "outptu: json\n").expect("written");
    let refused = explained(&[]);
    assert_eq!(code(&refused), 1);
    let said = text(&refused.stderr);
    assert!(said.contains("config.yaml") && said.contains("outptu") && said.contains("hint:"), "{said}");
    assert_eq!(code(&castrum(folder.path(), &["--help"])), 0, "help is always there");
}

#[test]
fn a_simulated_cluster_is_made_applied_again_and_destroyed() {
    let folder = folder(SMALL);
    let apply = castrum(folder.path(), &["apply", "--yes", "-o", "json"]);
    assert_eq!(code(&apply), 0, "{}", text(&apply.stderr));
    let last = text(&apply.stdout).lines().last().map(serde_json::from_str::<serde_json::Value>);
    assert_eq!(last.expect("events").expect("JSON")["event"], "run-finished");
    let status = castrum(folder.path(), &["status"]);
    assert_eq!(code(&status), 0, "another process finds it healthy\n{}", text(&status.stdout));
    let again = castrum(folder.path(), &["apply", "--yes", "-o", "json"]);
    let did_something = text(&again.stdout).contains("\"step-started\"");
    assert!(code(&again) == 0 && !did_something, "{}", text(&again.stdout));
    let saved = castrum(folder.path(), &["plan", "--out", "saved.plan"]);
    assert_eq!(code(&saved), 0, "{}", text(&saved.stderr));
    let changed = SMALL.replace("count: 2", "count: 3");
    std::fs::write(folder.path().join("cluster.yaml"), changed).expect("written");
    assert_eq!(code(&castrum(folder.path(), &["apply", "--yes", "saved.plan"])), 13, "the plan is stale");
    let destroyed = castrum(folder.path(), &["destroy", "--yes"]);
    assert_eq!(code(&destroyed), 0, "{}", text(&destroyed.stderr));
    assert_eq!(code(&castrum(folder.path(), &["destroy", "--yes"])), 0);
}

#[test]
fn a_cluster_keeps_the_masters_that_it_was_made_with() {
    let folder = folder(SMALL);
    let blueprint = folder.path().join("cluster.yaml");
    assert_eq!(code(&castrum(folder.path(), &["apply", "--yes"])), 0);
    for other in [SMALL.replace("count: 1", "count: 3"), SMALL.replace("masters:", "heads:")] {
        assert_ne!(other, SMALL);
        std::fs::write(&blueprint, other).expect("written");
        for words in [&["plan"][..], &["apply", "--yes"]] {
            let refused = castrum(folder.path(), words);
            let said = text(&refused.stderr);
            assert!(code(&refused) == 24 && said.contains("made with the masters masters-1, "), "{said}");
        }
    }
    std::fs::write(&blueprint, SMALL).expect("written");
    assert_eq!(code(&castrum(folder.path(), &["plan", "--detailed-exitcode"])), 0, "nothing was touched");
    assert_eq!(code(&castrum(folder.path(), &["destroy", "--yes"])), 0);
    std::fs::write(&blueprint, SMALL.replace("count: 1", "count: 3")).expect("written");
    let again = castrum(folder.path(), &["apply", "--yes"]);
    assert_eq!(code(&again), 0, "where nothing is left anything can be made\n{}", text(&again.stderr));
}

#[test]
fn what_explain_wait_is_asked_about_must_exist() {
    let folder = folder(SMALL);
    assert_eq!(code(&castrum(folder.path(), &["apply", "--yes"])), 0);
    let asked = |about: &str| castrum(folder.path(), &["explain", "wait", about]);
    assert_eq!(text(&asked("masters-1").stdout), "Nothing of `masters-1` waits.\n");
    for about in ["cluster.yaml", "mastres-1"] {
        let refused = asked(about);
        assert!(code(&refused) == 64 && text(&refused.stderr).contains("is no node"), "{about}");
    }
}

#[test]
fn scripts_of_own_checks_are_part_of_what_is_planned() {
    let folder = folder(&format!("{SMALL}checks: {{ own: {{ description: It holds., run: own.sh }} }}\n"));
    let script = |text: &str| std::fs::write(folder.path().join("own.sh"), text).expect("a script");
    let plan = || castrum(folder.path(), &["plan", "--detailed-exitcode"]);
    let missing = plan();
    assert_eq!(code(&missing), 10);
    assert!(text(&missing.stderr).contains("cannot read the script `own.sh`"), "{}", text(&missing.stderr));
    script("echo no interpreter\n");
    assert!(text(&plan().stderr).contains("`own.sh` does not begin with `#!`"));
    script("#!/bin/sh\nexit 0\n");
    assert_eq!(code(&castrum(folder.path(), &["apply", "--yes"])), 0);
    assert_eq!(code(&plan()), 0);
    script("#!/bin/sh\nexit 1\n");
    assert_eq!(code(&plan()), 2, "another script is another check");
    std::fs::remove_file(folder.path().join("own.sh")).expect("removed");
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("own.sh")).expect("a link");
    assert!(text(&plan().stderr).contains("leads out of the blueprint's folder"));
}

#[test]
fn a_simulated_cluster_is_found_again_and_gets_a_keyring() {
    let world = tempfile::tempdir().expect("a folder");
    let kept = format!("provider: sim, settings: {{ state: {} }}", world.path().join("world.json").display());
    let folder = folder(&SMALL.replace("provider: sim", &kept));
    let run = |words: &[&str]| castrum(folder.path(), words);
    assert_eq!(code(&run(&["recover"])), 1, "there is no cluster yet");
    assert_eq!(code(&run(&["apply", "--yes"])), 0);
    let whole = run(&["recover"]);
    assert_eq!(code(&whole), 0, "{}", text(&whole.stderr));
    assert!(text(&whole.stderr).contains("nothing is changed"), "{}", text(&whole.stderr));
    insta::assert_snapshot!("recover", text(&whole.stdout));

    std::fs::remove_dir_all(folder.path().join(".castrum")).expect("it was there");
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["recover", "-o", "json"]).stdout).expect("JSON");
    assert_eq!((&json["keyring"], &json["format_version"]), (&"missing".into(), &1.into()));
    assert!(json["findings"].as_array().is_some_and(|findings| findings.len() >= 3), "{json}");
    for (words, wanted) in
        [(&["plan"][..], 0), (&["status"], 0), (&["apply", "--yes"], 24), (&["recover"], 64)]
    {
        let said = run(words);
        assert_eq!(code(&said), wanted, "{words:?}: {}", text(&said.stderr));
        let named = text(&said.stderr).contains("castrum recover") || words == ["recover"];
        assert!(named, "{words:?}: {}", text(&said.stderr));
    }
    assert!(!folder.path().join(".castrum/keyring").exists(), "nobody has said yes");
    let made = run(&["recover", "--yes"]);
    assert_eq!(code(&made), 0, "{}", text(&made.stderr));
    assert_eq!(code(&run(&["apply", "--yes"])), 0);
    assert!(text(&run(&["recover"]).stderr).contains("nothing is changed"));
}

#[test]
fn a_destroy_that_cannot_confirm_something_ends_with_30_and_says_how_to_look_for_it() {
    let folder = folder(SMALL);
    let path = folder.path().join("cluster.yaml");
    assert_eq!(code(&castrum(folder.path(), &["apply", "--yes"])), 0);
    let stuck = SMALL.replace("provider: sim", "provider: sim, settings: { faults: { dead: [agents-2] } }");
    std::fs::write(&path, stuck).expect("written");
    let left = castrum(folder.path(), &["destroy", "--yes"]);
    let told = text(&left.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(code(&left), 30, "{told}");
    assert!(told.contains("castrum-resource=here/machine/agents-2"), "{told}");
    assert!(told.contains("then destroy again"), "{told}");
    std::fs::write(&path, SMALL).expect("written");
    let ended = castrum(folder.path(), &["destroy", "--yes"]);
    assert_eq!(code(&ended), 0, "{}", text(&ended.stderr));
}
