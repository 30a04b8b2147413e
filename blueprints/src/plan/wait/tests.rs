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

fn event(at: u64, what: What) -> Event {
    Event { format_version: crate::event::EVENT_FORMAT, at: Timestamp(at), run: "r".to_owned(), what }
}

#[test]
fn waits_that_the_last_run_told_go_on_unless_it_ended_well() {
    let cluster: crate::names::ClusterId = "0123456789ab".parse().expect("an id");
    let started = || event(1, What::RunStarted { verb: "apply".to_owned(), cluster: cluster.clone() });
    let waiting = || event(5, What::Waiting { blocked: plan(&[("a", 5)]).blocked });
    let ended = |progress| event(8, What::RunFinished { progress, debt: Vec::new(), code: 0 });
    let since = |events: &[Event]| noted(&mut Waiting::told(events), &[("a", 9)]);
    assert_eq!(since(&[started(), waiting()]), [5], "it goes on, or was killed");
    assert_eq!(since(&[started(), waiting(), ended(Some(Progress::Partial))]), [5]);
    assert_eq!(since(&[started(), waiting(), ended(Some(Progress::Converged))]), [9], "that wait was over");
    assert_eq!(since(&[started(), waiting(), started()]), [9], "of another run");
}
