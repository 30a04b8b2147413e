//! Whole commands, killed in their middle: provider and installer die at a call, and one more run makes the account what
//! it would have been.

use std::time::Duration;

use castrum_blueprints::plan::Progress;
use castrum_tests::cluster::{Cluster, small};
use castrum_tests::moto::{Camp, Peer, Stop};

use crate::life::assert_same;
use crate::points::all_points;

const MOMENTS: [&str; 3] = ["effect", "before", "answer"];
/// How many calls of a command are chosen to die at, evenly, and how many where all points are to be covered: what all of them
/// leave is run by `states.rs`.
const CHOSEN: usize = 2;
const MANY: usize = 12;

/// What a command brings about.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Command {
    Apply,
    Grow,
    Shrink,
    Destroy,
}

/// Three masters, one public agent, and so many agents that they are twelve.
fn twelve() -> Cluster {
    small(8)
}

impl Command {
    /// What there is before, and what is declared.
    fn clusters(self) -> (Option<Cluster>, Cluster) {
        match self {
            Self::Apply => (None, twelve()),
            Self::Grow => (Some(small(6)), twelve()),
            Self::Shrink => (Some(twelve()), small(6)),
            Self::Destroy => (Some(twelve()), twelve()),
        }
    }

    /// The account of a new peer as it is before the command.
    pub async fn begun(self) -> Camp {
        let (before, declared) = self.clusters();
        let mut camp = Camp::new(Peer::start(), before.clone().unwrap_or_else(|| declared.clone())).await;
        if before.is_some() {
            whole(&camp).await;
        }
        camp.declare(declared);
        camp
    }

    /// Runs the command to its end.
    pub async fn run(self, camp: &Camp) {
        let (outcome, _) = if self == Self::Destroy { camp.destroy().await } else { camp.apply().await };
        assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    }

    /// Runs it until time stands still, and lets everybody die there. Whether it came to that.
    async fn killed(self, camp: &mut Camp, stop: &Stop) -> bool {
        camp.peer.stop_at(stop).await;
        let reached = tokio::select! {
            () = self.run(camp) => false,
            action = stopped(camp) => action,
        };
        camp.cloud.kill_process().await;
        camp.peer.go_on().await;
        camp.restart().await;
        reached
    }

    async fn prove(self) {
        let mut camp = self.begun().await;
        let before = camp.left().await;
        camp.peer.forget_calls().await;
        self.run(&camp).await;
        let (calls, done) = (camp.peer.calls().await.len(), camp.peer.named().await);
        let chosen = if all_points() { MANY } else { CHOSEN };
        let mut missed = 0;
        for index in 0..chosen {
            let stop = Stop { nth: 1 + (2 * index + 1) * calls / (2 * chosen), moment: MOMENTS[index % 3] };
            camp.back_to(&before).await;
            missed += usize::from(!self.killed(&mut camp, &stop).await);
            self.run(&camp).await;
            assert_same(&camp.peer.named().await, &done);
        }
        println!("{chosen} of {} points covered, {missed} not reached: duplicates 0, orphans 0", calls * 3);
        assert!(missed < chosen, "{missed} of {chosen} points were not reached");
    }
}

/// The cluster as it is declared.
async fn whole(camp: &Camp) {
    let (outcome, _) = camp.apply().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
}

/// Waits until time stands still.
async fn stopped(camp: &Camp) -> bool {
    loop {
        if camp.peer.stopped(5).await.is_some() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apply_killed_at_a_call_is_completed_by_one_more() {
    Command::Apply.prove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growth_killed_at_a_call_is_completed_by_one_more() {
    Command::Grow.prove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shrinking_killed_at_a_call_is_completed_by_one_more() {
    Command::Shrink.prove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroy_killed_at_a_call_is_completed_by_one_more() {
    Command::Destroy.prove().await;
}
