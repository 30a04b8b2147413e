//! Whole commands, and everything that a kill in their middle can leave: time stands still at every moment of every call
//! of one run, and what there is then is copied: the account, the lock file, the nodes. From each of these one more run makes
//! the account what it would have been.
//!
//! ```text
//!   one run:   call 1 before ▪ effect ▪ answer ▪  call 2 before ▪ effect ▪ ...        each ▪ is copied
//!   then:      copy ──▶ new provider, new engine ──▶ the command again ──▶ the account is the same text
//! ```
//!
//! Nobody is killed here, but nothing lives on either: what is in memory of installer and provider is not copied. Moments that
//! leave the same are run once. `kills.rs` kills real processes, at few points.

use std::collections::BTreeMap;
use std::time::Instant;

use castrum_tests::moto::{Camp, Left, Stood};

use crate::kills::Command;
use crate::life::assert_same;
use crate::points::{all_points, each_point};

/// How many states are run where not all are.
const CHOSEN: usize = 2;

/// Every moment of a run of the command.
async fn watched(command: Command, camp: &Camp) -> Vec<(Stood, Left)> {
    let mut moments = Vec::new();
    camp.peer.watch().await;
    let watch = async {
        loop {
            if let Some(stood) = camp.peer.stands(5).await {
                moments.push((stood, camp.left().await));
                camp.peer.next().await;
            }
        }
    };
    tokio::select! {
        () = command.run(camp) => {}
        () = watch => {}
    }
    camp.peer.go_on().await;
    moments
}

/// Completes the command from everything that a kill can leave.
async fn prove(command: Command) {
    let began = Instant::now();
    let mut camp = command.begun().await;
    camp.peer.forget_calls().await;
    let moments = watched(command, &camp).await;
    let done = camp.peer.named().await;
    let mut states: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, (_, left)) in moments.iter().enumerate() {
        let alone = if each_point() { at } else { 0 };
        states.entry((left.fingerprint(), alone)).or_default().push(at);
    }
    let watching = began.elapsed();
    let every = if all_points() { 1 } else { states.len() / CHOSEN };
    let (mut covered, mut run, mut unfinished) = (0, 0, 0);
    for same in states.values().skip(every / 2).step_by(every) {
        let (stood, left) = &moments[same[0]];
        camp.back_to(left).await;
        unfinished += usize::from(camp.peer.named().await != done);
        println!("{command:?} again from call {} ({}), {}", stood.nth, stood.action, stood.moment);
        command.run(&camp).await;
        assert_same(&camp.peer.named().await, &done);
        (covered, run) = (covered + same.len(), run + 1);
    }
    println!(
        "{command:?}: {covered} of {} points, which leave {run} of {} states, covered: duplicates 0, orphans 0; \
         watched in {watching:?}, in all {:?}",
        moments.len(),
        states.len(),
        began.elapsed()
    );
    assert!(moments.len() > 100 && run >= CHOSEN, "only {} moments, {run} states run", moments.len());
    assert!(unfinished * 2 >= run, "only {unfinished} of {run} states were other than at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_killed_apply_leaves_is_completed_by_one_more() {
    prove(Command::Apply).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_killed_growth_leaves_is_completed_by_one_more() {
    prove(Command::Grow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_killed_shrinking_leaves_is_completed_by_one_more() {
    prove(Command::Shrink).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_killed_destroy_leaves_is_completed_by_one_more() {
    prove(Command::Destroy).await;
}
