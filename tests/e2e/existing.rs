//! A cluster on machines that somebody lends: it comes up, changes nothing when applied again, and gives them back as
//! they were.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::world::{Ground, SMALL, World, until};

const COMMAND: Duration = Duration::from_secs(20);

#[test]
fn machines_that_exist_become_a_cluster_and_are_given_back_as_they_were() {
    let (world, ground) = World::on_ground("existing", SMALL);
    let machines = 1..=world.nodes().len();
    let before: Vec<_> = machines.clone().map(|number| settled(&ground, number)).collect();

    let made = world.apply_well();
    println!("healthy after {:?}", made.took);
    let nodes: Vec<&str> = world.nodes().iter().map(String::as_str).collect();
    assert!(ground.inside(1, "cat /etc/castrum/owner").contains(world.id().as_str()));

    world.apply_well();
    assert_eq!(world.journal().last_steps(), Vec::<String>::new(), "there was something left to do");

    let status = world.start(&["status", "-o", "json"]).wait(COMMAND);
    assert_eq!(status.code, 0, "{}", status.tail());
    let told: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    for node in nodes {
        assert!(status.stdout.contains(node), "{told:#}");
    }

    for number in machines.clone() {
        ground.keep_tables(number);
        assert!(ground.rules(number).iter().any(|rule| rule.contains("docker0")), "the tool sees nothing");
    }
    world.destroy_well();
    for (number, before) in machines.zip(before) {
        let after = settled(&ground, number);
        let rules = ground.rules(number);
        assert!(
            rules.iter().all(|rule| !rule.starts_with("-A") && !rule.contains("DROP")),
            "rack-{number}: {rules:#?}"
        );
        let differences: Vec<_> = before
            .difference(&after)
            .map(|fact| format!("- {fact}"))
            .chain(after.difference(&before).map(|fact| format!("+ {fact}")))
            .collect();
        assert!(differences.is_empty(), "rack-{number} is another: {differences:#?}");
    }
}

/// Looks until two looks are alike: services that somebody called for a moment end by themselves.
fn settled(ground: &Ground, number: usize) -> BTreeSet<String> {
    let mut last = ground.inventory(number);
    until(Duration::from_secs(20), "a machine at rest", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = ground.inventory(number);
        let changed = format!("{:?}", now.symmetric_difference(&last).collect::<Vec<_>>());
        let same = now == last;
        last = now;
        if same { Ok(()) } else { Err(changed) }
    });
    last
}
