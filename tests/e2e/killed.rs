//! `kill -9` of an apply at moments all along its way. Nothing is done about it but one more apply at the end.

use std::time::Duration;

use castrum_blueprints::event::Event;

use crate::world::{APPLY, SMALL, World, is, of_component, of_node, of_step, until, whether};

type Moment = (&'static str, fn(&Event) -> bool);

/// In the order of a run. Each is still ahead after the kill before it.
const MOMENTS: &[Moment] = &[
    ("it has begun", |event| is(event, "run-started")),
    ("the first machine is being made", |event| {
        of_step(event, "step-started", "ensure here/machine/masters-1")
    }),
    ("a machine is being made", |event| of_step(event, "step-started", "ensure here/machine/agents-1")),
    ("a master is being enrolled", |event| of_step(event, "step-started", "enroll masters-1")),
    ("a master has been admitted", |event| of_node(event, "node-admitted", "masters-1")),
    ("the depot is being filled", |event| of_step(event, "step-started", "fill masters-1")),
    ("the first manifest is being published", |event| of_step(event, "step-started", "publish masters-1@1")),
    ("a founder is being pinned", |event| of_step(event, "step-started", "found swarm")),
    ("the swarm is being joined", |event| of_component(event, "swarm", "joining")),
    ("the last component is being fetched", |event| of_component(event, "edge", "fetching")),
];

#[test]
fn an_apply_killed_at_any_moment_is_completed_by_the_next() {
    let world = World::new("killed", SMALL, "");
    for (moment, is_now) in MOMENTS {
        kill_when(&world, moment, *is_now);
    }
    let id = world.id();
    world.apply_well();
    assert_eq!(world.id(), id, "it is another cluster");
    let nodes: Vec<&str> = world.nodes().iter().map(String::as_str).collect();
    world.await_healthy(Duration::from_secs(10), &nodes, |_| true);
    world.assert_nothing_double();
    world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "there was something left to do");
    world.destroy_well();
}

fn kill_when(world: &World, moment: &str, is_now: fn(&Event) -> bool) {
    let before = world.journal().0.len();
    let mut apply = world.start(&["apply", "--yes"]);
    let mut ended = false;
    until(APPLY, moment, || {
        ended = apply.has_ended();
        let journal = world.journal();
        whether(ended || journal.0[before..].iter().any(is_now))
    });
    let came = world.journal().0[before..].iter().any(is_now);
    assert!(came, "the run ended before the moment when {moment}\n{}", apply.wait(APPLY).tail());
    apply.kill();
}
