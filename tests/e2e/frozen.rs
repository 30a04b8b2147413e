//! A node that stops in the middle of an apply holds up nobody, and is finished when it goes on.

use std::time::Duration;

use castrum_blueprints::event::What;
use castrum_provider::PowerState;

use crate::world::{APPLY, LARGE, SMALL, World, of_step, until, whether};

/// Short enough that the test need not wait for minutes, long enough for a busy machine.
const LIMITS: &str = "limits: { boot: 45s, silence: 15s }\n";
/// The exit code of a cluster that can be used, with something set aside.
const PARTIAL: i32 = 30;

#[test]
fn a_frozen_agent_node_is_set_aside_and_finished_when_it_thaws() {
    holds_up_nobody("frozen-agent", SMALL, "agents-1");
}

#[test]
fn a_frozen_master_is_set_aside_while_the_others_are_a_majority() {
    holds_up_nobody("frozen-master", LARGE, "masters-2");
}

fn holds_up_nobody(name: &str, groups: &[(&str, &str, u32)], frozen: &str) {
    let world = World::new(name, groups, LIMITS);
    let apply = world.start(&["apply", "--yes"]);
    let made = format!("ensure here/machine/{frozen}");
    until(APPLY, "the machine to be made", || {
        whether(world.journal().0.iter().any(|event| of_step(event, "step-done", &made)))
    });
    world.set_power(&[frozen], PowerState::Paused);
    let ran = apply.wait(APPLY);
    assert_eq!(ran.code, PARTIAL, "{}", ran.tail());
    eprintln!("partial after {:?}", ran.took);
    let debt = debt_of(&world);
    assert!(!debt.is_empty() && debt.iter().all(|(subject, _)| subject.contains(frozen)), "{debt:?}");
    assert!(debt.iter().all(|(_, reason)| !reason.is_empty()), "{debt:?}");
    assert!(ran.stderr.contains(frozen) || ran.stdout.contains(frozen), "it is not shown\n{}", ran.tail());
    let others: Vec<&str> = world.nodes().iter().map(String::as_str).filter(|node| *node != frozen).collect();
    world.await_healthy(Duration::from_secs(10), &others, |_| true);

    world.set_power(&[frozen], PowerState::On);
    world.apply_well();
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
