//! What is secret is said nowhere: not in a log, an error, an answer, a tag or an argument.

use castrum_blueprints::names::ResourceKind;
use castrum_provider::{BootData, Provider as _, Wanted};
use castrum_tests::cluster::small;
use castrum_tests::moto::{Camp, Peer, provider, settings, wrapped};
use serde_json::json;

const IN_BOOT_DATA: &str = "canary-in-boot-data-9d1f";
const IN_KEY: &str = "canary/in+secret/key+4b7a";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_said_nowhere() {
    let camp = Camp::new(Peer::start(), small(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let more = [
        ("AWS_SECRET_ACCESS_KEY", IN_KEY),
        ("CASTRUM_TEST_LOG", log.to_str().unwrap()),
        ("CASTRUM_LOG", "trace"),
        ("RUST_LOG", "trace"),
    ];
    let program = wrapped(&camp.peer, folder.path(), &more);
    let cloud = provider(&program, &camp.cluster.lock.cluster, &settings()).await.unwrap();
    let mut heard = Vec::new();
    // Some calls fail, so that failures are said too.
    camp.peer.faults(json!([{ "action": "*", "chance": 8, "code": "InternalError", "status": 500 }])).await;
    for (path, spec) in crate::points::in_order(&camp.desired().resources) {
        let text = format!("#cloud-config\ntoken: {IN_BOOT_DATA}\n");
        let boot_data = (path.kind == ResourceKind::Machine).then(|| BootData::new(text));
        let wanted = Wanted { path, spec, generation: 0, boot_data };
        for _ in 0..200 {
            let answer = cloud.ensure(&wanted).await;
            heard.push(format!("{answer:?}"));
            if answer.is_ok() {
                break;
            }
        }
    }
    camp.peer.calm().await;
    heard.push(format!("{:?}", cloud.observe().await));
    heard.push(format!("{:?}", cloud.preflight().await));
    heard.push(camp.peer.account().await);
    heard.push(std::fs::read_to_string(&log).unwrap());
    assert!(heard.iter().any(|text| text.contains("machine/agents-1")), "machines were made");
    assert!(heard.iter().any(|text| text.starts_with("Err")), "there were failures");
    assert!(!cloud.told_boot_data());
    for secret in [IN_BOOT_DATA, IN_KEY] {
        let told: Vec<_> = heard.iter().filter(|text| text.contains(secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:#?}");
    }
}
