//! Several processes at one keyring, and processes that end in the middle of it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::resting::Place;
use super::*;

const FOLDER: &str = "CASTRUM_TEST_KEYRING_FOLDER";
const GROUP: &str = "CASTRUM_TEST_KEYRING_GROUP";
const COUNT: &str = "CASTRUM_TEST_KEYRING_COUNT";

/// A process that offers tokens to `<group>-0`, `<group>-1` and so on, and says so after each; ended when dropped.
struct Offerer(Child);

impl Offerer {
    fn start(folder: &Path, group: &str, count: u32) -> Self {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "keyring::tests::processes::a_process_that_offers_tokens",
                "--ignored",
                "--nocapture",
            ])
            .env(FOLDER, folder)
            .env(GROUP, group)
            .env(COUNT, count.to_string())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("a process"))
    }

    fn said(&mut self) -> impl Iterator<Item = u32> + use<> {
        let lines = BufReader::new(self.0.stdout.take().expect("a pipe")).lines();
        let number = |line: String| line.rsplit_once("offered ").and_then(|(_, number)| number.parse().ok());
        <std::io::Lines<BufReader<ChildStdout>>>::map_while(lines, Result::ok).filter_map(number)
    }
}

impl Drop for Offerer {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
#[ignore = "the other tests of this file start it as a process of its own"]
fn a_process_that_offers_tokens() {
    let variable = |name| std::env::var(name).expect("set by the test that starts this");
    let file = resting::file_in(Path::new(&variable(FOLDER)));
    for number in 0..variable(COUNT).parse().expect("a number") {
        let node = name(&format!("{}-{number}", variable(GROUP)));
        file.update::<_, EnrolError>(&rng(), |keyring| keyring.offer_token(&node, 1, NOW + HOUR, NOW))
            .expect("a token");
        println!("\noffered {number}");
    }
}

#[test]
fn processes_at_once_lose_nothing() {
    let place = Place::new();
    place.file().create(NOW, &rng()).expect("a keyring");
    let groups = ["a", "b", "c", "d"];
    let mut offerers: Vec<Offerer> =
        groups.iter().map(|group| Offerer::start(place.folder.path(), group, 15)).collect();
    for offerer in &mut offerers {
        assert_eq!(offerer.said().count(), 15);
        assert!(offerer.0.wait().expect("it ends").success());
    }
    let keyring = place.file().open().expect("a keyring");
    for node in groups.iter().flat_map(|group| (0..15).map(move |number| format!("{group}-{number}"))) {
        assert!(keyring.enrolment(&name(&node)).is_some(), "{node}");
    }
}

#[test]
fn a_process_killed_at_any_moment_loses_nothing_that_it_said() {
    let place = Place::new();
    let first = place.file().create(NOW, &rng()).expect("a keyring");
    for (round, stop) in [0_u32, 1, 2, 5, 9, 14].into_iter().enumerate() {
        let group = format!("g{round}");
        let mut offerer = Offerer::start(place.folder.path(), &group, 10_000);
        let mut said = offerer.said();
        assert_eq!(said.find(|number| *number == stop), Some(stop));
        // Some way into the next change, another way each time.
        std::thread::sleep(std::time::Duration::from_micros(u64::from(stop) * 700));
        offerer.0.kill().expect("killed");
        let last = said.last().unwrap_or(stop);
        drop(offerer);

        let keyring = place.file().open().expect("a whole keyring");
        assert_eq!(keyring.ca_der(), first.ca_der());
        for number in 0..=last {
            assert!(keyring.enrolment(&name(&format!("{group}-{number}"))).is_some(), "{group}-{number}");
        }
        let after = place.file().update::<_, EnrolError>(&rng(), |keyring| {
            keyring.offer_token(&name(&format!("after-{round}")), 1, NOW + HOUR, NOW)
        });
        assert!(after.is_ok(), "the lock ended with its process");
    }
}

#[test]
fn processes_that_make_the_keyring_at_once_get_the_same() {
    let place = Place::new();
    let made: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| place.file().open_or_create(NOW, &rng()).expect("a keyring").ca_der().to_vec())
            })
            .collect();
        makers.into_iter().map(|maker| maker.join().expect("no panic")).collect()
    });
    assert!(made.iter().all(|ca| *ca == made[0]));
}
