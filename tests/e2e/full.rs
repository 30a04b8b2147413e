//! The main way, whole: made, made again, worked with, hurt, switched off and on, and removed without trace.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use castrum_provider::PowerState;

use crate::canary::{Argv, Canary};
use crate::world::{LARGE, Running, World, of_step, program};

const SETTLE: Duration = Duration::from_secs(90);
/// The exit code of a safety guard.
const REFUSED: i32 = 24;

#[test]
fn one_blueprint_becomes_a_cluster_that_works_survives_and_goes_without_trace() {
    let world = World::new("full", LARGE, OWN_CHECK);
    std::fs::create_dir(world.dir().join("checks")).expect("a folder");
    std::fs::write(world.dir().join("checks/own.sh"), OWN_SCRIPT).expect("a script");
    let argv = Argv::watch();
    let made = world.start(&["-vv", "apply", "--yes"]).wait(crate::world::APPLY);
    let argv = argv.seen();
    assert_eq!(made.code, 0, "apply has failed\n{}", made.tail());
    eprintln!("healthy after {:?}", made.took);
    let journal = world.journal();
    let refused = journal.0.iter().find(|event| of_step(event, "step-failed", "publish "));
    assert!(refused.is_none(), "a manifest was refused: {refused:?}");
    all_are_healthy(&world);
    world.assert_nothing_double();
    agents_are_small(&world);
    Canary::of(&world).stays_hidden(&world, &made, &argv);
    a_second_apply_changes_nothing(&world);
    a_check_of_ones_own_is_a_gate(&world);
    work_is_done(&world);
    a_killed_agent_comes_back_and_nothing_restarts(&world);
    a_reboot_needs_no_installer(&world);
    work_is_done(&world);
    a_node_without_power_is_switched_on_and_waited_for(&world);
    a_lost_keyring_is_missed_before_anything_is_done(&world);
    world.destroy_well();
    let again = world.start(&["destroy", "--yes"]).wait(SETTLE);
    assert_eq!(again.code, 0, "a second destroy has failed\n{}", again.tail());
}

/// A check beside those of the stack: it does not hold while somebody says so.
const OWN_CHECK: &str = "checks:
  own: { description: Nobody objects., run: checks/own.sh, roles: [agent, public-agent], every: 2s, timeout: 2s }
";
const OWN_SCRIPT: &str = "#!/bin/sh
[ -e /tmp/slow ] && sleep 30
[ -e /tmp/objection ] && { echo somebody objects; exit 2; }
echo nobody objects
";

/// The cluster's own check is run by those that it is for, and while it does not hold, or does not end, nothing counts as
/// healthy.
fn a_check_of_ones_own_is_a_gate(world: &World) {
    let gate =
        |timeout: &str| world.start(&["wait-for", "component/check-own", "--timeout", timeout]).wait(SETTLE);
    let checks = world.start(&["get", "checks", "--output", "json"]).wait(SETTLE);
    let runs = |node: &str| checks.stdout.contains("nobody objects") && on_node(&checks.stdout, node);
    assert!(runs("agents-1") && runs("public-1") && !runs("masters-1"), "{}", checks.stdout);
    for (sign, seen) in [("objection", "is critical: somebody objects"), ("slow", "is unknown")] {
        world.on("agents-1", &format!("touch /tmp/{sign}"));
        crate::world::until(Duration::from_secs(20), "the gate to close", || {
            if gate("1").code == 0 { Err("it is open".to_owned()) } else { Ok(()) }
        });
        let waits = world.start(&["explain", "wait", "agents-1", "--output", "json"]).wait(SETTLE);
        assert!(waits.stdout.contains(seen), "{}", waits.stdout);
        world.on("agents-1", &format!("rm /tmp/{sign}"));
        assert_eq!(gate("30").code, 0, "the gate does not open again");
    }
}

/// Whether the list has the check on this node.
fn on_node(checks: &str, node: &str) -> bool {
    let list: serde_json::Value = serde_json::from_str(checks).expect("JSON");
    let items = list["items"].as_array().expect("a list");
    items.iter().any(|item| item["node"] == node && item["component"] == "check-own")
}

fn all_are_healthy(world: &World) {
    let nodes: Vec<&str> = world.nodes().iter().map(String::as_str).collect();
    world.await_healthy(Duration::from_secs(10), &nodes, |_| true);
    let status = world.start(&["status", "--output", "json"]).wait(SETTLE);
    assert_eq!(status.code, 0, "{}", status.tail());
    let _: serde_json::Value = serde_json::from_str(&status.stdout).expect("status is JSON");
}

/// At most 8 MiB of memory, 2 threads and 6 MiB of file, with everything running.
fn agents_are_small(world: &World) {
    for node in world.nodes() {
        let seen = world.on(
            node,
            "pid=$(systemctl show --property=MainPID --value castrum-agent.service); \
             stat -L -c %s /proc/$pid/exe 2>/dev/null || sudo stat -L -c %s /proc/$pid/exe; \
             awk '/^VmRSS|^Threads/ {print $2}' /proc/$pid/status",
        );
        let numbers: Vec<u64> = seen.lines().map(|line| line.trim().parse().expect("a number")).collect();
        let [file, resident, threads] = numbers.as_slice() else { panic!("{seen}") };
        eprintln!("agent of {node}: {file} B of file, {resident} KiB resident, {threads} threads");
        assert!(*file <= 6 << 20 && *resident <= 8 << 10 && *threads <= 2, "{node}: {seen}");
    }
}

fn a_second_apply_changes_nothing(world: &World) {
    let before = world.units();
    let ran = world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "a second apply did something");
    assert!(ran.took < Duration::from_secs(10), "a second apply took {:?}", ran.took);
    assert_eq!(world.units(), before, "a second apply restarted something");
}

fn work_is_done(world: &World) {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("workload.sh"));
    command.arg(program()).arg(world.blueprint()).env("XDG_CONFIG_HOME", world.dir().join("config"));
    let ran = Running::start(command, world.dir()).wait(Duration::from_mins(4));
    assert_eq!(ran.code, 0, "the workload was not carried\n{}", ran.tail());
    for proof in ["hello-1 hello-2", "job        completed"] {
        assert!(ran.stdout.contains(proof), "no `{proof}`\n{}", ran.tail());
    }
}

fn a_killed_agent_comes_back_and_nothing_restarts(world: &World) {
    let agent = |unit: &str| unit == "castrum-agent.service";
    let before = world.units();
    let started = started(world);
    let nodes = ["masters-1", "agents-1"];
    for node in nodes {
        world.on(node, "sudo systemctl kill --signal=KILL castrum-agent.service");
    }
    world.await_healthy(SETTLE, &nodes, |status| started[status.node.as_str()] < status.started_at.0);
    let after = world.units();
    for ((node, unit), start) in &before {
        let same = after.get(&(node.clone(), unit.clone())) == Some(start);
        let killed = agent(unit) && nodes.contains(&node.as_str());
        assert_eq!(same, !killed, "{unit} on {node}");
    }
}

fn a_reboot_needs_no_installer(world: &World) {
    let started = started(world);
    let nodes: Vec<&str> = world.nodes().iter().map(String::as_str).collect();
    world.set_power(&nodes, PowerState::Off);
    world.set_power(&nodes, PowerState::On);
    world.await_healthy(SETTLE * 2, &nodes, |status| started[status.node.as_str()] < status.started_at.0);
    world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "an apply after a reboot did something");
    world.assert_nothing_double();
}

fn a_node_without_power_is_switched_on_and_waited_for(world: &World) {
    let before = started(world)["agents-1"];
    world.set_power(&["agents-1"], PowerState::Off);
    world.apply_well();
    assert_eq!(world.journal().last_steps(), ["ensure here/machine/agents-1"]);
    let after = started(world)["agents-1"];
    assert!(before < after, "what it said before its end was taken for its health");
}

fn a_lost_keyring_is_missed_before_anything_is_done(world: &World) {
    let keyring = world.dir().join(".castrum/keyring");
    let aside = world.dir().join("keyring-aside");
    std::fs::rename(&keyring, &aside).expect("moved");
    let ran = world.apply();
    std::fs::rename(&aside, &keyring).expect("moved back");
    assert_eq!(ran.code, REFUSED, "{}", ran.tail());
    assert!(ran.stderr.contains("keyring"), "{}", ran.tail());
}

/// When each agent's process started.
fn started(world: &World) -> std::collections::BTreeMap<String, u64> {
    world.statuses().into_iter().map(|(node, heard)| (node, heard.status.started_at.0)).collect()
}
