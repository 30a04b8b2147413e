//! The contract's suite, against the executable.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use castrum_blueprints::names::ClusterId;
use castrum_provider::Failure;
use castrum_provider::conformance::{Candidate, Ground, Opened, Suite, Verdict};
use castrum_tests::cluster::site;
use castrum_tests::moto::{Peer, provider, settings, wrapped};
use serde_json::json;

use crate::life::assert_same;

/// The newest Debian that the peer has (`images.json`).
const IMAGE: &str = "ami-0c1e0a8e5d3f4b202";

/// The provider, for a peer that is there and for a place where nobody listens.
struct Aws {
    program: std::path::PathBuf,
}

#[async_trait]
impl Candidate for Aws {
    async fn open(&self, cluster: &ClusterId) -> Result<Opened, Failure> {
        Ok(Opened::process(provider(&self.program, cluster, &settings()).await?))
    }

    async fn open_unreachable(&self, cluster: &ClusterId) -> Option<Result<Opened, Failure>> {
        let mut settings = settings();
        // The port for "tcpmux", where nobody listens.
        settings.insert("endpoint".to_owned(), json!("http://127.0.0.1:1"));
        Some(provider(&self.program, cluster, &settings).await.map(Opened::process))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_executable_passes_the_suite() {
    let peer = Peer::start();
    let folder = tempfile::tempdir().unwrap();
    let candidate = Aws { program: wrapped(&peer, folder.path(), &[]) };
    let before = peer.account().await;
    let ground = Ground {
        site: site(),
        clusters: [ClusterId::from_bytes([7; 6]), ClusterId::from_bytes([8; 6])],
        nodes: ["check-1", "check-2"].map(|name| (name.parse().unwrap(), None)).to_vec(),
        zones: vec!["eu-central-1a".to_owned()],
        image: Some(IMAGE.to_owned()),
        patience: Duration::from_mins(1),
    };
    let suite = Suite::new(&candidate, &ground);
    let began = Instant::now();
    let outcomes =
        suite.run(&mut |outcome| println!("{}: {:?}", outcome.check.name(), outcome.verdict)).await;
    suite.sweep().await.unwrap();
    println!("{} checks in {:?}", outcomes.len(), began.elapsed());
    let missed = |outcome: &&castrum_provider::conformance::Outcome| outcome.verdict != Verdict::Ok;
    let missed: Vec<_> =
        outcomes.iter().filter(missed).map(|outcome| (outcome.check.name(), &outcome.verdict)).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    assert_same(&peer.account().await, &before);
}
