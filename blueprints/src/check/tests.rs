//! What checking finds where it takes more than one value to judge.

use crate::blueprint::{Blueprint, Limits};
use crate::check::check;
use crate::document::{Code, Findings, Severity, read};

fn good(text: &str) -> (Blueprint, Findings) {
    let checked = check(&read("test.yaml", text.as_bytes())).map_err(|findings| findings.render());
    let checked = checked.expect("a good blueprint");
    (checked.blueprint, checked.warnings)
}

fn codes(text: &str) -> Vec<Code> {
    let findings = check(&read("test.yaml", text.as_bytes())).expect_err("a bad blueprint");
    let errors = findings.list.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.code).collect()
}

fn with(groups: &str) -> String {
    format!("apiVersion: castrum/v1\nname: demo\nsites: {{ here: {{ provider: sim }} }}\ngroups:\n{groups}\n")
}

#[test]
fn the_examples_are_good() {
    let examples = [
        include_str!("../../examples/local.yaml"),
        include_str!("../../examples/aws.yaml"),
        include_str!("../../examples/sim.yaml"),
        include_str!("../../examples/ssh.yaml"),
    ];
    for example in examples {
        assert_eq!(good(example).1.list, []);
    }
    let (local, _) = good(examples[0]);
    assert_eq!(local.name.as_str(), "demo");
    let counts: Vec<(&str, u32)> =
        local.groups.iter().map(|(name, group)| (name.as_str(), group.count)).collect();
    assert_eq!(counts, [("agents", 1), ("masters", 3), ("public", 1)]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let (blueprint, _) = good(&with("  masters: { role: master, count: 3 }\n  workers: { role: agent }"));
    let workers = &blueprint.groups["workers"];
    assert_eq!((workers.count, workers.site.as_str()), (1, "here"));
    assert_eq!((workers.size.cpus, workers.size.memory_mib, workers.size.disk_gib), (2, 2048, 20));
    assert_eq!(blueprint.limits, Limits::default());
    assert_eq!(blueprint.stack.name, "swarm");
}

#[test]
fn the_machines_of_a_group_are_its_count() {
    let (blueprint, _) = good(include_str!("../../examples/ssh.yaml"));
    let masters = &blueprint.groups["masters"];
    assert_eq!((masters.count, masters.machines.len()), (3, 3));
    assert_eq!(blueprint.groups["workers"].machines[1].port, Some(2222));
}

#[test]
fn masters_are_1_3_5_or_7() {
    for count in 0..=9 {
        let text = with(&format!("  m: {{ role: master, count: {count} }}\n  w: {{ role: agent }}"));
        let checked = check(&read("test.yaml", text.as_bytes()));
        assert_eq!(checked.is_ok(), [1, 3, 5, 7].contains(&count), "{count}");
    }
}

#[test]
fn a_quorum_is_not_judged_while_counts_are_unreadable() {
    assert_eq!(codes(&with("  m: { role: master, count: two }")), [Code::WrongType]);
    assert_eq!(codes(&with("  m: { role: mastr, count: 2 }")), [Code::BadValue]);
}

#[test]
fn one_master_and_no_agent_are_worth_a_warning() {
    let (_, warnings) = good(&with("  m: { role: master }"));
    assert_eq!(warnings.count(Severity::Warning), 2);
    assert!(!warnings.has_errors());
}

#[test]
fn node_names_stay_within_their_limit() {
    let group = |letters: usize, count: u32| {
        with(&format!(
            "  m: {{ role: master }}\n  {}: {{ role: agent, count: {count} }}",
            "w".repeat(letters)
        ))
    };
    good(&group(38, 9));
    assert_eq!(codes(&group(38, 10)), [Code::BadName]);
    assert_eq!(codes(&group(39, 1)), [Code::BadName]);
    assert_eq!(codes(&group(41, 1)), [Code::BadName]);
}

#[test]
fn findings_come_in_the_order_of_the_file() {
    let text = with("  m: { role: master, count: 2, zones: [a, a] }\n  w: { role: agent, cuont: 1 }");
    let findings = check(&read("test.yaml", text.as_bytes())).expect_err("a bad blueprint");
    let lines: Vec<usize> = findings.list.iter().map(|finding| finding.line).collect();
    assert!(lines.is_sorted(), "{lines:?}");
    assert_eq!(findings.list.len(), 3);
}

#[test]
fn very_many_findings_are_counted() {
    let keys = (0..500).map(|at| format!("  key{at}: 1")).collect::<Vec<_>>().join("\n");
    let findings =
        check(&read("test.yaml", format!("limits:\n{keys}").as_bytes())).expect_err("a bad blueprint");
    assert_eq!(findings.list.len(), 100);
    assert!(findings.left_out >= 400);
    assert!(findings.render().contains("more findings"));
}
