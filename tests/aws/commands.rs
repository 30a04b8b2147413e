//! The commands themselves, on the example for AWS: checked, planned, applied through kills and beside each other, looked at
//! and destroyed. Nothing boots on the peer, so that an apply ends by saying so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use castrum_tests::moto::{Peer, environment, plant, wrapped};
use serde_json::Value;
use tempfile::TempDir;

use crate::life::assert_same;

/// The resources of the example.
const RESOURCES: usize = 25;
/// After how many calls to the peer an apply is killed.
const DEATHS: [usize; 4] = [30, 90, 60, 40];

/// A folder with the example in it, and the provider for a peer.
struct Desk {
    peer: Peer,
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let (peer, folder) = (Peer::start(), tempfile::tempdir().unwrap());
        wrapped(&peer, folder.path(), &[]);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../blueprints/examples/aws.yaml");
        let text = std::fs::read_to_string(example).unwrap();
        // Looks at the peer are never late, and nobody has to wait for machines that do not boot.
        let ours = text.replace("boot: 10m", "boot: 10s").replace("region:", "stale: 0\n      region:");
        assert_eq!(ours.matches("boot: 10s").count() + ours.matches("stale: 0").count(), 2, "{ours}");
        std::fs::write(folder.path().join("aws.yaml"), ours).unwrap();
        Self { peer, folder }
    }

    fn command(&self, words: &str) -> Command {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(castrum());
        command
            .args(words.split(' '))
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("HOME", self.folder.path())
            // A provider beside the command line comes before that in the folder.
            .envs(environment(&self.peer))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command, which must end with this code; what it said on standard output, and in all.
    fn ends(&self, code: i32, words: &str) -> (String, String) {
        said(code, words, &self.command(words).output().unwrap())
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ends(0, words).0).unwrap()
    }

    /// Waits until so many calls of a command have come.
    async fn calls(&self, count: usize, command: &mut Child) {
        while self.peer.calls().await.len() < count {
            assert_eq!(command.try_wait().unwrap(), None, "it ended before its call {count}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills an apply after so many calls, by a signal that it cannot see.
    async fn apply_killed_after(&self, calls: usize) {
        self.peer.forget_calls().await;
        let (out, all) = (Stdio::null(), Stdio::inherit());
        let mut apply = self.command("apply aws.yaml --yes").stdout(out).stderr(all).spawn().unwrap();
        self.calls(calls, &mut apply).await;
        apply.kill().unwrap();
        assert_eq!(apply.wait().unwrap().code(), None, "it was killed, and had not ended");
    }

    /// How many things there are of each resource's part, of those that carry the cluster's label.
    async fn parts(&self) -> BTreeMap<(String, String), BTreeSet<String>> {
        let account: Value = serde_json::from_str(&self.peer.account().await).unwrap();
        let mut tags: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for tag in account["DescribeTags"]["tagSet"].as_array().unwrap() {
            let [id, key, value] = ["resourceId", "key", "value"].map(|name| tag[name].as_str().unwrap());
            tags.entry(id).or_default().insert(key, value);
        }
        let mut parts: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for (id, tags) in tags.iter().filter(|(_, tags)| tags.contains_key("castrum-spec")) {
            let part = ["castrum-resource", "castrum-part"].map(|key| tags[key].to_owned());
            parts.entry(part.into()).or_default().insert((*id).to_owned());
        }
        parts
    }
}

/// The command line: `CASTRUM_BIN`, or where Cargo or `make` put it.
fn castrum() -> PathBuf {
    if let Some(named) = std::env::var_os("CASTRUM_BIN") {
        return PathBuf::from(named);
    }
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap();
    let places = ["dist", "release", "debug"].map(|place| target.join(place).join("castrum"));
    places.into_iter().find(|place| place.is_file()).expect("castrum is built: `make build`")
}

fn said(code: i32, words: &str, done: &Output) -> (String, String) {
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let all = format!("{out}{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(code), "{words}: {all}");
    (out, all)
}

/// Two applies at a time: the first goes on, the second ends at once and says who is at work.
async fn two_at_once(desk: &Desk) {
    desk.peer.forget_calls().await;
    let mut first = desk.command("apply aws.yaml --yes").spawn().unwrap();
    desk.calls(1, &mut first).await;
    let (_, second) = desk.ends(12, "apply aws.yaml --yes");
    assert!(second.contains(&format!("{}", first.id())), "it says which process is at work: {second}");
    let (_, first) = said(21, "apply", &first.wait_with_output().unwrap());
    assert!(first.contains("agents-1 is set aside") && first.contains("did not come"), "{first}");
    assert!(first.contains("machines did not boot or join. Exit code 21"), "{first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_is_made_once_through_kills_and_removed_without_a_trace() {
    let desk = Desk::new();
    plant(&desk.peer, "demo").await;
    let before = desk.peer.account().await;
    desk.ends(0, "validate aws.yaml");
    let (plan, _) = desk.ends(0, "plan aws.yaml");
    for made in ["25 resources to make", "network in cloud: nodes", "masters-1..masters-3 in cloud"] {
        assert!(plan.contains(made), "{made}: {plan}");
    }
    assert_same(&desk.peer.account().await, &before);
    for calls in DEATHS {
        desk.apply_killed_after(calls).await;
    }
    two_at_once(&desk).await;
    let resources = desk.json("get resources -f aws.yaml -o json");
    let held: Vec<&str> =
        resources["items"].as_array().unwrap().iter().map(|item| item["state"].as_str().unwrap()).collect();
    assert_eq!(held, ["as declared"; RESOURCES], "{resources:#}");
    let parts = desk.parts().await;
    let twice: Vec<_> = parts.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(twice.is_empty() && parts.len() > RESOURCES - 2, "{twice:?} of {parts:#?}");
    let (again, _) = desk.ends(0, "plan aws.yaml");
    assert!(again.contains("0 resources to make, 0 to change, 0 to remove"), "{again}");
    let status = desk.ends(0, "status aws.yaml").1;
    assert!(status.contains("masters-1") && status.contains("agents-1"), "{status}");
    desk.ends(0, "destroy aws.yaml --yes");
    assert_same(&desk.peer.account().await, &before);
}
