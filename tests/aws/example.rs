//! The example for AWS, through the command line: it is valid, and its plan is all that there would be.

use std::path::Path;
use std::process::Command;

use castrum_tests::moto::{Peer, wrapped};

#[tokio::test]
async fn the_example_is_valid_and_is_planned_against_an_account() {
    let peer = Peer::start();
    let before = peer.account().await;
    let folder = tempfile::tempdir().unwrap();
    wrapped(&peer, folder.path(), &[]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../blueprints/examples/aws.yaml");
    let blueprint = folder.path().join("aws.yaml");
    std::fs::copy(example, &blueprint).unwrap();
    let castrum = |verb: &str| {
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(castrum());
        command
            .arg(verb)
            .arg(&blueprint)
            .current_dir(folder.path())
            .env("PATH", path)
            .env("HOME", folder.path());
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{verb}: {said}");
        String::from_utf8_lossy(&done.stdout).into_owned() + &said
    };
    castrum("validate");
    let plan = castrum("plan");
    for made in ["cloud/network/nodes", "cloud/subnet/private-eu-central-1b", "cloud/machine/masters-3"] {
        assert!(plan.contains(made), "{made}: {plan}");
    }
    assert_eq!(peer.account().await, before, "a plan changes nothing");
}

/// The command line, where Cargo or `make` put it.
fn castrum() -> std::path::PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap();
    let places = ["dist", "release", "debug"].map(|place| target.join(place).join("castrum"));
    places.into_iter().find(|place| place.is_file()).expect("castrum is built: `make build`")
}
