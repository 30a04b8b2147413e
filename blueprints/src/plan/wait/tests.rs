//! Waits over time: each begins when it was first seen, and is forgotten when it is over.

use super::*;

fn plan(waits: &[(&str, u64)]) -> Plan {
    let blocked = |(subject, since): &(&str, u64)| Blocked {
        subject: (*subject).to_owned(),
        waits_for: "its turn".to_owned(),
        gate: Gate::Turn,
        since: Timestamp(*since),
        last_seen: String::new(),
        node: None,
        by_debt: false,
    };
    Plan { blocked: waits.iter().map(blocked).collect(), ..Plan::default() }
}

fn noted(waiting: &mut Waiting, waits: &[(&str, u64)]) -> Vec<u64> {
    let mut plan = plan(waits);
    waiting.note(&mut plan);
    plan.blocked.iter().map(|blocked| blocked.since.0).collect()
}

#[test]
fn a_wait_begins_when_it_was_first_seen() {
    let mut waiting = Waiting::default();
    assert_eq!(noted(&mut waiting, &[("a", 5), ("b", 6)]), [5, 6]);
    assert_eq!(noted(&mut waiting, &[("a", 9), ("b", 3)]), [5, 3]);
    assert_eq!(noted(&mut waiting, &[("b", 12)]), [3]);
    assert_eq!(noted(&mut waiting, &[("a", 20), ("b", 21)]), [20, 3], "`a` was over in between");
}

#[test]
fn waits_that_were_told_before_go_on() {
    let mut waiting = Waiting::of(&plan(&[("a", 5)]).blocked);
    assert_eq!(noted(&mut waiting, &[("a", 9), ("b", 9)]), [5, 9]);
}
