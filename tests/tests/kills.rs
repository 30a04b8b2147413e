//! An installer that dies at any moment leaves nothing that the next one cannot finish: the same cluster, nothing
//! twice, nothing orphaned.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use castrum_blueprints::event::{Event, What};
use castrum_blueprints::plan::Progress;
use castrum_provider_sim::{Faults, Settings};
use castrum_tests::cluster::small;
use castrum_tests::rig::{Rig, on_sim};
use castrum_tests::verdict::{assert_nothing_twice, assert_whole};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the events that lie at the boundary of a step.
#[derive(Clone, Default)]
struct Boundaries(Arc<AtomicUsize>);

impl castrum::events::Listener for Boundaries {
    fn hear(&mut self, event: &Event) {
        if matches!(event.what, What::StepStarted { .. } | What::StepDone { .. } | What::StepFailed { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Polls `run` until it ends, or until `dead` holds after a poll; then it is dropped where it stands.
async fn until<T>(run: impl Future<Output = T>, dead: impl Fn() -> bool) -> Option<T> {
    let mut run = pin!(run);
    std::future::poll_fn(|cx: &mut Context<'_>| match run.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if dead() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// What kills the installer.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// So many step boundaries were seen.
    Boundary(usize),
    /// It was polled so often: in the middle of whatever it did.
    Poll(usize),
}

/// Runs an apply that dies, and then one that does not. False if the first was done before it could die.
async fn dies_and_goes_on(rig: &Rig, death: Death) -> bool {
    let boundaries = Boundaries::default();
    let (engine, canceller) = rig.engine_that_tells(vec![Box::new(boundaries.clone())]);
    let polls = Cell::new(0);
    let dead = || {
        polls.set(polls.get() + 1);
        match death {
            Death::Boundary(n) => boundaries.0.load(Ordering::Relaxed) >= n,
            Death::Poll(n) => polls.get() >= n,
        }
    };
    let ended = until(engine.converge(rig.desired()), dead).await;
    drop((engine, canceller));
    assert_nothing_twice(rig);
    let (outcome, _) = rig.apply().await.expect("rendered");
    assert_eq!(outcome.progress, Some(Progress::Converged), "{death:?}: {:#?}", outcome.plan);
    assert_whole(rig);
    assert_eq!(rig.world.audit().made, rig.world.audit().resources as u64, "made twice");
    ended.is_none()
}

#[test]
fn killed_at_every_step_boundary_the_next_apply_makes_the_same_cluster() {
    let mut points = 0;
    for settings in [Settings::instant(), Settings { seed: 5, ..Settings::default() }] {
        for boundary in 1.. {
            let died = Cell::new(false);
            on_sim(async {
                let rig = Rig::new(small(2), settings.clone());
                died.set(dies_and_goes_on(&rig, Death::Boundary(boundary)).await);
            });
            if !died.get() {
                break;
            }
            points += 1;
        }
    }
    println!("killed at {points} step boundaries: duplicates 0, orphans 0");
    assert!(points > 60, "only {points} points were covered");
}

#[test]
fn killed_between_any_two_polls_the_next_apply_makes_the_same_cluster() {
    let mut points = 0;
    // Every third poll, so that the test is done within seconds; the boundaries above are all of them.
    for poll in (1..).step_by(3) {
        let died = Cell::new(false);
        on_sim(async {
            let rig = Rig::new(small(2), Settings { seed: 9, ..Settings::default() });
            died.set(dies_and_goes_on(&rig, Death::Poll(poll)).await);
        });
        if !died.get() {
            break;
        }
        points += 1;
    }
    println!("killed after {points} different polls: duplicates 0, orphans 0");
    assert!(points > 60, "only {points} points were covered");
}

#[test]
fn a_destroy_that_was_killed_anywhere_is_finished_by_the_next() {
    let mut points = 0;
    for poll in 1.. {
        let died = Cell::new(false);
        on_sim(async {
            let rig = Rig::new(small(2), Settings::default());
            rig.apply().await.expect("rendered").0.progress.expect("ended");
            let (engine, _, canceller) = rig.engine();
            let polls = Cell::new(0);
            let dead = || {
                polls.set(polls.get() + 1);
                polls.get() >= poll
            };
            died.set(until(engine.destroy(), dead).await.is_none());
            drop((engine, canceller));
            let (outcome, _) = rig.destroy().await;
            assert_eq!(outcome.progress, Some(Progress::Converged));
            assert_eq!((rig.world.audit().resources, rig.world.audit().agents), (0, 0));
        });
        if !died.get() {
            break;
        }
        points += 1;
    }
    println!("destroy killed after each of {points} polls: nothing left");
    assert!(points > 5, "only {points} points were covered");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn killed_again_and_again_on_a_faulty_world_it_still_converges(
        seed in any::<u64>(),
        agents in 0..6_u32,
        deaths in proptest::collection::vec(1..120_usize, 1..5),
        (before, after) in (0.0..0.3_f64, 0.0..0.3_f64),
    ) {
        on_sim(async {
            let faults = Faults { before, after, ..Faults::default() };
            let rig = Rig::new(small(agents), Settings { seed, faults, ..Settings::default() });
            for poll in deaths {
                let (engine, _, canceller) = rig.engine();
                let polls = Cell::new(0);
                let dead = || {
                    polls.set(polls.get() + 1);
                    polls.get() >= poll
                };
                until(engine.converge(rig.desired()), dead).await;
                drop((engine, canceller));
                assert_nothing_twice(&rig);
            }
            let outcome = rig.apply_until_seen().await.expect("rendered");
            assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
            assert_whole(&rig);
        });
    }
}
