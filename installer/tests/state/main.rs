//! A team whose state lies in an object store, each person with a process of their own: one cluster, one holder, and
//! nobody who was passed over writes anything more. The store is S3 as moto knows it.

mod peer;
mod team;

use std::fs;
use std::time::{Duration, Instant};

use peer::Peer;
use rustix::process::Signal;
use team::{Checkout, Running, Team};

/// What is kept back of an apply in the middle of its run: the pin of its first founder.
const MID_RUN: &str = "rule?part=lock/&skip=2&times=1&do=";

const APPLY: [&str; 2] = ["apply", "--yes"];

/// An apply of `checkout` that stands in the middle of its run, with one of its requests `how` kept back.
fn in_the_middle(peer: &Peer, checkout: &Checkout, how: &str) -> Running {
    peer.ask(&format!("{MID_RUN}{how}"));
    let running = checkout.begin(&APPLY);
    peer.wait_for_one_kept_back();
    running
}

#[test]
fn two_checkouts_are_one_cluster_with_one_lock_file_keyring_and_journal() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 10);
    let (ada, ben) = (team.checkout("ada"), team.checkout("ben"));
    ben.run(&["status"]).assert(1, &["no cluster"]);
    ada.run(&APPLY).assert(0, &["everything is healthy"]);

    // Ben has the blueprint and nothing else.
    assert!(ben.run(&["status"]).assert(0, &[]).out.contains("5 of 5 nodes healthy"));
    ben.run(&["plan", "--detailed-exitcode"]).assert(0, &[]);
    assert!(!ben.path("castrum.lock").exists(), "a plan writes nothing");
    ben.run(&APPLY).assert(0, &["everything is healthy"]);
    assert_eq!(ada.lock(), ben.lock());
    assert!(ada.lock().contains("\"founders\": {\n    \"overlay\""), "{}", ada.lock());
    let events = ben.run(&["events", "--all", "-o", "json"]).assert(0, &[]).out;
    assert_eq!(events.matches("run-started").count(), 2, "{events}");
    assert!(ben.run(&["timeline"]).assert(0, &[]).out.contains("masters-1"));

    let stored = peer.dump();
    assert_eq!(stored.keys().filter(|name| name.contains("/keyring/")).count(), 1, "{:?}", stored.keys());
    assert!(stored.values().all(|text| !text.contains("PRIVATE") && !text.contains("of the whole team")));
    assert!(!ada.path(".castrum/keyring").exists() && !ben.path(".castrum/keyring").exists());

    ben.run(&["destroy", "--yes"]).assert(0, &[]);
    ada.run(&["plan", "--detailed-exitcode"]).assert(2, &[]);
}

#[test]
fn whoever_comes_second_is_told_who_the_first_is_and_may_break_its_lease_on_purpose() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 6);
    let (ada, ben) = (team.checkout("ada"), team.checkout_elsewhere("ben"));
    let first = in_the_middle(&peer, &ada, "after");
    let id = peer.head()["lease"]["id"].as_str().expect("an id").to_owned();

    let remedy = format!("castrum unlock {id} -f cluster.yaml");
    ben.run(&APPLY).assert(12, &["`castrum apply` of ada@", "since 20", "until 20", &remedy]);
    ben.run(&["unlock", "1-000000"])
        .assert(24, &["has no lease `1-000000`", "held by `castrum apply` of ada@"]);
    assert_eq!(peer.head()["lease"]["id"], id.as_str(), "a wrong id breaks nothing");
    ben.run(&["unlock", &id]).assert(0, &["broken: `castrum apply` of ada@"]);
    assert!(peer.head()["lease"].is_null());
    ben.run(&["unlock", &id]).assert(24, &["nobody holds it"]);

    peer.ask("open");
    first.end().assert(12, &["was broken by ben@", "writes nothing more"]);
    ben.run(&APPLY).assert(0, &["everything is healthy"]);
    assert!(peer.head()["lease"].is_null(), "given back");
}

#[test]
fn a_holder_that_was_killed_is_waited_for_and_taken_over() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 4);
    let (ada, ben) = (team.checkout("ada"), team.checkout_elsewhere("ben"));
    let first = in_the_middle(&peer, &ada, "after");
    first.signal(Signal::KILL);
    first.end();
    peer.ask("open");
    let began = Instant::now();
    ben.run(&APPLY).assert(0, &["of ada@", "watched for 4 s", "everything is healthy"]);
    assert!(began.elapsed() >= Duration::from_secs(4), "taken over after {:?}", began.elapsed());
    assert_eq!(peer.head()["token"], 2);
    assert_eq!(
        ben.lock(),
        peer.dump()[&format!("small/lock/{}", peer.head()["lock"].as_str().expect("a pin"))]
    );
}

/// How many steps the runs of a checkout have begun, as its own journal says.
fn steps_begun(checkout: &Checkout) -> usize {
    let journal = fs::read_to_string(checkout.path(".castrum/journal.jsonl")).expect("a journal");
    let begun = journal.matches("step-started").count();
    assert!(begun > 0, "it was not in the middle of anything");
    begun
}

/// Stops an apply longer than its lease, lets another finish, and wakes it.
fn sleeps_through_a_take_over(how: &str, rule: &str) {
    let peer = Peer::start();
    let team = Team::at(peer.port, 4);
    let (ada, ben) = (team.checkout("ada"), team.checkout_elsewhere("ben"));
    peer.ask(&format!("rule?times=1&do={how}&{rule}"));
    let mut first = ada.begin(&APPLY);
    peer.wait_for_one_kept_back();
    first.signal(Signal::STOP);

    ben.run(&APPLY).assert(0, &["of ada@", "everything is healthy"]);
    let (stored, begun, lock) = (peer.dump(), steps_begun(&ada), ada.lock());
    assert!(!first.has_ended());
    first.signal(Signal::CONT);
    peer.ask("open");
    first.end().assert(12, &["was taken over by ben@", "this run has stopped and writes nothing more"]);
    assert_eq!(peer.dump(), stored, "{how} {rule}: it wrote to the store");
    assert_eq!(steps_begun(&ada), begun, "{how} {rule}: it began something");
    assert_eq!(ada.lock(), lock, "{how} {rule}: it wrote its lock file");
    assert_eq!(peer.head()["token"], 2);
    // Its lock file is behind by now, and no more than that.
    assert_eq!(ada.run(&["plan", "--detailed-exitcode"]).code, 2);
    assert_ne!(ada.lock(), ben.lock());
}

#[test]
fn a_holder_that_slept_beyond_its_lease_writes_nothing_more() {
    sleeps_through_a_take_over("after", "part=lock/&skip=2");
}

#[test]
fn a_pin_that_was_under_way_all_the_time_is_refused() {
    // The first is the taking, then come lock file, keyring and lock file again; the fifth pins a founder.
    sleeps_through_a_take_over("before", "part=lease.json&skip=4");
}

#[test]
fn answers_that_are_lost_are_found_out_about() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 20);
    let ada = team.checkout("ada");
    peer.ask("rule?do=lose&part=lease.json&times=0");
    peer.ask("rule?do=lose&part=lock/&times=2");
    ada.run(&APPLY).assert(0, &["everything is healthy"]);
    assert_eq!((&peer.head()["token"], &peer.head()["lease"]), (&1.into(), &serde_json::Value::Null));
}

#[test]
fn a_journal_that_cannot_be_uploaded_stops_nothing() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 10);
    let ada = team.checkout("ada");
    peer.ask("rule?do=fail&part=journal/&times=0");
    ada.run(&APPLY).assert(0, &["everything is healthy", "journal is only in the folder `.castrum/`"]);
    assert!(!peer.dump().keys().any(|name| name.contains("journal/")));
}

#[test]
fn a_store_that_forgets_conditions_is_refused() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 10);
    let ada = team.checkout("ada");
    peer.ask("rule?do=careless&part=/&times=0");
    ada.run(&APPLY).assert(11, &["writes although it was asked not to", "If-None-Match"]);
    assert!(!ada.path("castrum.lock").exists());
}

#[test]
fn a_place_that_cannot_be_used_is_no_empty_one() {
    let nobody = Team::at(1, 10);
    let ada = nobody.checkout("ada");
    for words in [&["status"][..], &["plan"], &APPLY, &["destroy", "--yes"], &["events"], &["unlock", "1-0"]]
    {
        let ended = ada
            .run(words)
            .assert(1, &["`s3://clusters/small` does not answer: no connection", "state.endpoint"]);
        assert!(!ended.err.contains("no cluster") && ended.out.is_empty(), "{words:?}: {}", ended.err);
    }
    let peer = Peer::start();
    let endpoint = format!("endpoint: \"http://127.0.0.1:{}\"", peer.port);
    let elsewhere = Team::new(&format!("place: \"s3://nowhere/small\", {endpoint}"));
    elsewhere
        .checkout("ada")
        .run(&["status"])
        .assert(1, &["refuses: there is no such bucket", "the bucket exists"]);
}

#[test]
fn two_histories_are_refused_and_a_checkout_that_is_behind_is_brought_up() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 10);
    let (ada, ben) = (team.checkout("ada"), team.checkout("ben"));
    ada.run(&APPLY).assert(0, &[]);
    let newest = ada.lock();
    let first = peer.dump().into_iter().filter(|(name, _)| name.contains("/lock/"));
    let oldest = first.map(|(_, text)| text).min_by_key(String::len).expect("a lock file");
    fs::write(ben.path("castrum.lock"), &oldest).expect("written");
    ben.run(&APPLY).assert(0, &[]);
    assert_eq!(ben.lock(), newest);

    // A lock file that nobody ever pinned, and one of another cluster.
    let mut other: serde_json::Value = serde_json::from_str(&newest).expect("JSON");
    other["founders"]["swarm"] = "masters-9".into();
    for strange in [other.to_string(), oldest.replace("small", "other")] {
        fs::write(ben.path("castrum.lock"), &strange).expect("written");
        for words in [&["status"][..], &APPLY] {
            ben.run(words).assert(13, &["are not of one history", "move `./castrum.lock` away"]);
        }
        assert_eq!(ben.lock(), strange, "nothing was overwritten");
    }
    fs::remove_file(ben.path("castrum.lock")).expect("removed");
    ben.run(&APPLY).assert(0, &[]);
    assert_eq!(ben.lock(), newest);
}

#[test]
fn what_was_in_the_folder_before_is_taken_to_the_place() {
    let peer = Peer::start();
    let team = Team::at(peer.port, 10);
    let (ada, ben) = (team.checkout("ada"), team.checkout("ben"));
    let shared = fs::read_to_string(ada.path("cluster.yaml")).expect("read");
    let alone = shared.lines().filter(|line| !line.starts_with("state:")).collect::<Vec<_>>().join("\n");
    fs::write(ada.path("cluster.yaml"), alone).expect("written");
    ada.run(&APPLY).assert(0, &[]);
    let (keyring, lock) = (fs::read(ada.path(".castrum/keyring")).expect("a keyring"), ada.lock());
    assert!(peer.dump().is_empty(), "without a place nothing travels");

    fs::write(ada.path("cluster.yaml"), shared).expect("written");
    assert!(ada.run(&["status"]).assert(0, &[]).out.contains("5 of 5 nodes healthy"));
    ada.run(&APPLY).assert(0, &[]);
    assert!(peer.dump().values().any(|text| text.chars().map(|c| c as u8).eq(keyring.iter().copied())));
    ben.run(&APPLY).assert(0, &[]);
    assert_eq!(ben.lock(), lock);
}
