//! An account that misbehaves: answers are lost, calls are refused, limits are hit, looks are late. In the end everything
//! is there once, and after a destroy nothing is.

use std::time::Instant;

use castrum_blueprints::names::Role;
use castrum_blueprints::plan::Progress;
use castrum_tests::cluster::{Cluster, small};
use castrum_tests::moto::{Camp, Peer, settings};
use serde_json::{Value, json};

use crate::life::{assert_same, changes};
use crate::points::all_points;

/// What goes wrong in an account.
struct Weather {
    name: String,
    faults: Value,
    limits: Value,
    /// For how many milliseconds looks may be late.
    stale: u64,
    /// What is made in it.
    cluster: Cluster,
}

/// One node of each role, for weather in which every step takes many runs at it.
fn few() -> Cluster {
    let cluster = Cluster::new(castrum_tests::camp::stack());
    let cluster = cluster.group("masters", Role::Master, 1).group("agents", Role::Agent, 1);
    cluster.group("edges", Role::PublicAgent, 1)
}

/// What an account looks like in which a cluster was made without any trouble.
async fn undisturbed(cluster: Cluster) -> String {
    let camp = Camp::new(Peer::start(), cluster).await;
    let (outcome, _) = camp.apply().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    camp.peer.named().await
}

/// Makes a cluster in bad weather and removes it again.
async fn through(weather: Weather) {
    let Weather { name: weather, faults, limits, stale, mut cluster } = weather;
    let whole = undisturbed(cluster.clone()).await;
    let peer = Peer::start();
    let before = peer.account().await;
    let site = cluster.blueprint.sites.values_mut().next().unwrap();
    site.settings = settings();
    site.settings.insert("stale".to_owned(), json!(stale));
    let camp = Camp::new(peer, cluster).await;
    camp.peer.settings(limits).await;
    camp.peer.faults(faults).await;
    let began = Instant::now();
    let (outcome, runs) = camp.apply_until_whole().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{weather}: {:#?}", outcome.plan);
    let (calls, applied) = (camp.peer.calls().await, began.elapsed());
    assert_same(&camp.peer.named().await, &whole);
    let (outcome, removals) = camp.destroy_until_gone().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{weather}: {:#?}", outcome.plan);
    println!(
        "{weather}: {runs} applies, {} calls, {applied:?}; {removals} destroys, {:?} in all; {:?}",
        calls.len(),
        began.elapsed(),
        changes(&calls),
    );
    assert_same(&camp.peer.account().await, &before);
}

async fn losing(percent: u32) {
    // Nobody repeats a single call, only a whole verb: half of all looks lost, a machine would never be made.
    let looks = percent.min(5);
    let lost = json!([
        { "action": "*", "changes": true, "chance": percent, "when": "after", "close": true },
        { "action": "Describe*", "chance": looks, "when": "after", "close": true },
    ]);
    let name = format!("{percent} % of the answers to changes and {looks} % of others are lost");
    let cluster = if percent < 50 { small(2) } else { few() };
    through(Weather { name, faults: lost, limits: json!({ "seed": percent }), stale: 0, cluster }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answer_of_a_hundred_is_lost() {
    losing(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answer_of_ten_is_lost() {
    losing(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_answer_to_a_change_is_lost() {
    losing(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nearly_every_answer_to_a_change_is_lost() {
    losing(90).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_a_change_is_lost() {
    losing(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_answered_at_all_a_run_ends_and_says_so() {
    let camp = Camp::new(Peer::start(), few()).await;
    let empty = camp.peer.account().await;
    camp.apply().await.0.progress.expect("it ended");
    let whole = camp.peer.account().await;
    camp.peer.faults(json!([{ "action": "*", "chance": 100, "when": "after", "close": true }])).await;
    for outcome in [camp.apply().await.0, camp.destroy().await.0] {
        assert_eq!((outcome.progress, outcome.observed.blind.len()), (Some(Progress::Partial), 1));
        assert!(outcome.observed.blind[0].reason.contains("got no answer"), "{:?}", outcome.observed.blind);
    }
    assert_same(&camp.peer.account().await, &whole);
    camp.peer.calm().await;
    let (outcome, _) = camp.destroy().await;
    assert_eq!(outcome.progress, Some(Progress::Converged), "{:#?}", outcome.plan);
    assert_same(&camp.peer.account().await, &empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_change_is_an_error_of_the_service() {
    let faults = json!([
        { "action": "*", "changes": true, "chance": 50, "code": "InternalError", "status": 500 },
        { "action": "Describe*", "chance": 5, "code": "InternalError", "status": 500 },
    ]);
    let name = "50 % of all changes and 5 % of all looks fail".to_owned();
    through(Weather { name, faults, limits: json!({ "seed": 3 }), stale: 0, cluster: few() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_limited_as_in_a_real_account() {
    let (name, limits) = ("limits of EC2".to_owned(), json!({ "buckets": true }));
    through(Weather { name, faults: json!([]), limits, stale: 0, cluster: small(2) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_show_the_past_and_things_take_time() {
    for seed in if all_points() { 4..12 } else { 4..5 } {
        let slow = json!({ "stale_ms": 1500, "pending_ms": 300, "terminating_ms": 700, "seed": seed });
        let name = format!("looks are up to 1.5 s late, seed {seed}");
        through(Weather { name, faults: json!([]), limits: slow, stale: 1500, cluster: small(2) }).await;
    }
}
