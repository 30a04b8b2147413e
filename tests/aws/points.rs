//! Every call of every verb on every kind: the provider is killed before it, after its effect, and after its answer. The
//! next process finds what is there and completes it, and nothing is left over.
//!
//! ```text
//!   for each kind, in the order of what needs what:
//!     ensure, killed ──▶ ensure again ──▶ as if nothing had happened      and from the account as it was before, again
//!     remove, killed ──▶ remove again ──▶ as if nothing had happened
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use castrum_blueprints::names::{ResourceKind, ResourcePath};
use castrum_blueprints::resource::ResourceSpec;
use castrum_provider::{BootData, Failure, Provider as _, Wanted};
use castrum_tests::cluster::small;
use castrum_tests::moto::{Camp, Peer, Stop};

use crate::life::assert_same;

const MOMENTS: [&str; 3] = ["before", "effect", "answer"];
/// A call that asks to come again is repeated for so long.
const PATIENCE: Duration = Duration::from_mins(1);
const AGAIN: Duration = Duration::from_millis(50);

/// Whether every point is to be covered, and not only each kind of point once.
pub fn all_points() -> bool {
    std::env::var_os("CASTRUM_ALL_POINTS").is_some_and(|value| value == "1" || value == "each")
}

/// Whether points that leave the same are all run as well.
pub fn each_point() -> bool {
    std::env::var_os("CASTRUM_ALL_POINTS").is_some_and(|value| value == "each")
}

/// What is proven, and how much of it.
#[derive(Default)]
struct Tally {
    points: usize,
    covered: usize,
    took: Duration,
    seen: BTreeSet<(bool, String, String, &'static str)>,
}

fn wanted(path: &ResourcePath, spec: &ResourceSpec) -> Wanted {
    let boot_data = (path.kind == ResourceKind::Machine)
        .then(|| BootData::new("#cloud-config\nhostname: x\n".to_owned()));
    Wanted { path: path.clone(), spec: spec.clone(), generation: 0, boot_data }
}

/// Repeats a verb as the one place that retries would.
async fn until_done<T, F: Future<Output = Result<T, Failure>>>(verb: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        match verb().await {
            Ok(done) => return done,
            Err(failure) if failure.class.is_retryable() && began.elapsed() < PATIENCE => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(failure) => panic!("it cannot be done: {failure:?}"),
        }
    }
}

/// One verb on one resource.
#[derive(Clone)]
struct Deed {
    wanted: Wanted,
    removes: bool,
}

impl Deed {
    async fn done(&self, camp: &Camp) {
        if self.removes {
            until_done(|| camp.cloud.remove(&self.wanted.path)).await;
        } else {
            until_done(|| camp.cloud.ensure(&self.wanted)).await;
        }
    }

    /// Does it with a process that is killed at one point; the action at which it died.
    async fn killed(&self, camp: &mut Camp, stop: &Stop) -> Option<String> {
        camp.restart().await;
        camp.peer.stop_at(stop).await;
        let (cloud, deed) = (Arc::clone(&camp.cloud), self.clone());
        let under_way = tokio::spawn(async move {
            if deed.removes {
                cloud.remove(&deed.wanted.path).await.map(drop)
            } else {
                cloud.ensure(&deed.wanted).await.map(drop)
            }
        });
        let action = camp.peer.stopped(20).await;
        camp.cloud.kill_process().await;
        under_way.abort();
        camp.peer.go_on().await;
        camp.restart().await;
        action
    }
}

/// A deed, and the account before and after it.
struct Case<'a> {
    deed: &'a Deed,
    before: u64,
    after: String,
}

impl Case<'_> {
    /// Kills the deed at one point, and does it again, from the account as it was before.
    async fn prove(&self, camp: &mut Camp, stop: &Stop, action: &str) {
        let text = format!("{} at its call {} ({action}), {}", self.deed.wanted.path, stop.nth, stop.moment);
        camp.peer.restore(self.before).await;
        // What is looked at side by side comes in any order, so that the call may be another one of these.
        let reached = self.deed.killed(camp, stop).await;
        assert!(reached.is_some(), "{}: it does not come to {text}", verb(self.deed));
        println!("{} killed: {text}", verb(self.deed));
        self.deed.done(camp).await;
        assert_same(&camp.peer.named().await, &self.after);
    }
}

/// Kills one deed at all of its points. `undo` brings the account back to what it was before the deed: the same to the byte
/// where nothing had to be made anew. It does so once: a point that ends with the same account ends with what can be taken back.
async fn prove(camp: &mut Camp, (deed, undo): (&Deed, &Deed), tally: &mut Tally) {
    let (account, before) = (camp.peer.account().await, camp.peer.copy().await);
    camp.restart().await;
    camp.peer.forget_calls().await;
    deed.done(camp).await;
    let calls = camp.peer.calls().await;
    let case = Case { deed, before, after: camp.peer.named().await };
    undo.done(camp).await;
    if undo.removes {
        assert_same(&camp.peer.account().await, &account);
    }
    let what = variant(&deed.wanted.spec);
    for (at, call) in calls.iter().enumerate() {
        for moment in MOMENTS {
            tally.points += 1;
            // A call that only looks leaves the same world at all of its moments.
            let same = call.looks() && moment != "before";
            let new = tally.seen.insert((deed.removes, what.clone(), call.action.clone(), moment));
            if (!new || same) && !all_points() {
                continue;
            }
            let began = Instant::now();
            case.prove(camp, &Stop { nth: at + 1, moment }, &call.action).await;
            tally.covered += 1;
            tally.took += began.elapsed();
        }
    }
    camp.peer.restore(before).await;
    camp.restart().await;
}

fn verb(deed: &Deed) -> &'static str {
    if deed.removes { "remove" } else { "ensure" }
}

/// The kind, with what makes its calls other ones.
fn variant(spec: &ResourceSpec) -> String {
    let more = match spec {
        ResourceSpec::Subnet(spec) => format!(" {:?} {}", spec.exit, spec.gateway.is_some()),
        ResourceSpec::Machine(spec) => {
            format!(" {} volumes, address {}", spec.attached.volumes.len(), spec.attached.address.is_some())
        }
        _ => String::new(),
    };
    format!("{}{}", spec.kind(), more.split('(').next().unwrap_or_default())
}

/// Resources in the order of what needs what.
pub fn in_order(resources: &BTreeMap<ResourcePath, ResourceSpec>) -> Vec<(ResourcePath, ResourceSpec)> {
    let (mut left, mut ordered): (Vec<_>, Vec<(ResourcePath, ResourceSpec)>) =
        (resources.iter().collect(), Vec::new());
    while !left.is_empty() {
        let there = |need: &(ResourceKind, &str)| {
            ordered.iter().any(|(path, _)| (path.kind, path.name.as_str()) == *need)
        };
        let (now, later): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, spec)| spec.needs().iter().all(there));
        assert!(!now.is_empty(), "a circle of needs");
        ordered.extend(now.into_iter().map(|(path, spec)| (path.clone(), spec.clone())));
        left = later;
    }
    ordered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_killed_at_any_call_is_completed_by_the_next() {
    let peer = Peer::start();
    let mut camp = Camp::new(peer, small(1)).await;
    let (mut tally, mut proven) = (Tally::default(), BTreeSet::new());
    for (path, spec) in in_order(&camp.desired().resources) {
        let wanted = wanted(&path, &spec);
        let (makes, removes) =
            (Deed { wanted: wanted.clone(), removes: false }, Deed { wanted, removes: true });
        if proven.insert(variant(&spec)) {
            prove(&mut camp, (&makes, &removes), &mut tally).await;
            makes.done(&camp).await;
            prove(&mut camp, (&removes, &makes), &mut tally).await;
        } else {
            makes.done(&camp).await;
        }
    }
    println!(
        "{} of {} points covered in {:?}: duplicates 0, orphans 0",
        tally.covered, tally.points, tally.took
    );
    assert!(tally.covered > 100, "only {} points were covered", tally.covered);
}
