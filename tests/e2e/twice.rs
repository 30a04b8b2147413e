//! Two people at once: one wins, or both end well, and nothing is ever made twice.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::world::{APPLY, Running, SMALL, World, is, until, whether};

/// The exit code of whoever comes second.
const LOCKED: i32 = 12;

#[test]
fn two_applies_in_one_folder_make_one_cluster() {
    let world = World::new("twice", SMALL, "");
    let both = [world.start(&["apply", "--yes"]), world.start(&["apply", "--yes"])];
    let ended = both.map(|apply| apply.wait(APPLY));
    let mut codes = [ended[0].code, ended[1].code];
    codes.sort_unstable();
    assert!(codes == [0, LOCKED] || codes == [0, 0], "{}\n{}", ended[0].tail(), ended[1].tail());
    all_is_there_once(&world);
    world.destroy_well();
}

#[test]
fn two_copies_of_a_folder_make_one_cluster() {
    let world = World::new("copies", SMALL, "");
    // The lock file and the keyring are there, and no machine yet.
    let mut apply = world.start(&["apply", "--yes"]);
    until(APPLY, "the run to begin", || {
        whether(apply.has_ended() || world.journal().0.iter().any(|event| is(event, "run-started")))
    });
    apply.kill();
    let copy = world.dir().join("copy");
    fs::create_dir_all(copy.join(".castrum")).expect("a folder");
    for file in ["cluster.yaml", "castrum.lock", ".castrum/keyring"] {
        fs::copy(world.dir().join(file), copy.join(file)).expect("a copy");
    }
    let both = [apply_in(&world, world.dir()), apply_in(&world, &copy)];
    let ended = both.map(|apply| apply.wait(APPLY));
    for ran in &ended {
        assert_eq!(ran.code, 0, "{}\n{}", ended[0].tail(), ended[1].tail());
    }
    all_is_there_once(&world);
    world.destroy_well();
}

fn apply_in(world: &World, dir: &Path) -> Running {
    let mut command = world.castrum_in(dir);
    command.args(["apply", "--yes"]);
    Running::start(command, world.dir())
}

fn all_is_there_once(world: &World) {
    let nodes: Vec<&str> = world.nodes().iter().map(String::as_str).collect();
    world.await_healthy(Duration::from_secs(30), &nodes, |_| true);
    world.assert_nothing_double();
    world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "there was something left to do");
}
