//! A node that stops in the middle of an apply holds up nobody, and is finished when it goes on.

use std::time::Duration;

use castrum::project::Project;
use castrum_blueprints::event::What;
use castrum_blueprints::names::NodeName;
use castrum_provider::PowerState;

use crate::world::{APPLY, LARGE, SMALL, World, of_step, until, whether};

/// Short enough that the test need not wait for minutes, long enough for a busy machine.
const LIMITS: &str = "limits: { boot: 30s, silence: 15s }\n";
/// The exit code of a cluster that can be used, with something set aside.
const PARTIAL: i32 = 30;
/// A node that goes on is finished within this time.
const THAWED: Duration = Duration::from_secs(90);

#[test]
fn a_frozen_agent_node_is_set_aside_and_finished_when_it_thaws() {
    holds_up_nobody("frozen-agent", SMALL, "ensure here/machine/agents-1", |_| "agents-1".to_owned());
}

#[test]
fn a_frozen_master_is_set_aside_while_the_others_are_a_majority() {
    holds_up_nobody("frozen-master", LARGE, "ensure here/machine/masters-2", |_| "masters-2".to_owned());
}

#[test]
fn a_master_frozen_half_way_learns_what_was_published_meanwhile() {
    let not_the_founder = |world: &World| {
        let lock = Project::of(&world.blueprint()).read_lock().expect("a lock file").expect("it is there");
        let founders: Vec<&str> = lock.founders.values().map(NodeName::as_str).collect();
        let mut masters = world.nodes().iter().filter(|node| node.starts_with("masters-"));
        masters
            .rfind(|node| !founders.contains(&node.as_str()))
            .expect("not all masters are founders")
            .clone()
    };
    holds_up_nobody("frozen-half-way", LARGE, "found overlay", not_the_founder);
}

/// Freezes a node when a step is done, and lets it go on when the apply has ended without it.
fn holds_up_nobody(name: &str, groups: &[(&str, &str, u32)], moment: &str, choose: fn(&World) -> String) {
    let world = World::new(name, groups, LIMITS);
    let apply = world.start(&["apply", "--yes"]);
    until(APPLY, moment, || {
        whether(world.journal().0.iter().any(|event| of_step(event, "step-done", moment)))
    });
    let frozen = choose(&world);
    world.set_power(&[&frozen], PowerState::Paused);
    let ran = apply.wait(APPLY);
    assert_eq!(ran.code, PARTIAL, "{}", ran.tail());
    eprintln!("{name}: partial after {:?}", ran.took);
    let debt = debt_of(&world);
    assert!(!debt.is_empty() && debt.iter().all(|(subject, _)| subject.contains(&frozen)), "{debt:?}");
    assert!(debt.iter().all(|(_, reason)| !reason.is_empty()), "{debt:?}");
    assert!(ran.stderr.contains(&frozen) || ran.stdout.contains(&frozen), "it is not shown\n{}", ran.tail());
    let others: Vec<&str> = world.nodes().iter().map(String::as_str).filter(|node| *node != frozen).collect();
    world.await_healthy(Duration::from_secs(10), &others, |_| true);

    world.set_power(&[&frozen], PowerState::On);
    let ran = world.apply_well();
    eprintln!("{name}: whole after {:?}", ran.took);
    assert!(ran.took < THAWED, "it took {:?}", ran.took);
    let nodes: Vec<&str> = world.nodes().iter().map(String::as_str).collect();
    world.await_healthy(Duration::from_secs(10), &nodes, |_| true);
    world.assert_nothing_double();
    world.destroy_well();
}

fn debt_of(world: &World) -> Vec<(String, String)> {
    let journal = world.journal();
    let Some(What::RunFinished { debt, .. }) = journal.last_run().last().map(|event| &event.what) else {
        panic!("the run did not say how it ended");
    };
    debt.iter().map(|debt| (debt.subject.clone(), debt.reason.clone())).collect()
}
