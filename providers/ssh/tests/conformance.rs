//! The conformance suite, held against machines that exist already.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::blueprint::ExistingMachine;
use castrum_blueprints::names::{ClusterId, ResourcePath};
use castrum_provider::conformance::{Candidate, Ground, Opened, Suite, Verdict};
use castrum_provider::{Abilities, Ensured, Failure, Observation, Provider, Removed, ResourceSpec, Wanted};
use castrum_provider_ssh::transport::{Auth, ClientConfig, Limits, Session};
use castrum_provider_ssh::{Ssh, SshOptions};
use support::{SOON, Server};

/// Two machines, by the paths that the suite gives them.
struct Machines(BTreeMap<ResourcePath, ExistingMachine>);

fn ssh(cluster: &ClusterId, machines: BTreeMap<ResourcePath, ExistingMachine>) -> Ssh {
    let config = ClientConfig::parse("", Path::new("/nonexistent"), "root").unwrap();
    let options = SshOptions { connect: Duration::from_secs(5), ..SshOptions::new(config, Auth::default()) };
    Ssh::new(cluster.clone(), machines, options)
}

/// The same machine where nobody answers: no one listens on the port for "tcpmux".
fn silent(machine: &ExistingMachine) -> ExistingMachine {
    ExistingMachine { port: Some(1), ..machine.clone() }
}

/// Machines that do not answer, whatever is wanted of them.
struct Silent(Ssh);

#[async_trait]
impl Provider for Silent {
    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }

    async fn observe(&self) -> Observation {
        self.0.observe().await
    }

    async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, Failure> {
        let mut wanted = wanted.clone();
        if let ResourceSpec::Machine(spec) = &mut wanted.spec {
            spec.existing = spec.existing.as_ref().map(silent);
        }
        self.0.ensure(&wanted).await
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        self.0.remove(path).await
    }
}

#[async_trait]
impl Candidate for Machines {
    async fn open(&self, cluster: &ClusterId) -> Result<Opened, Failure> {
        Ok(Opened::here(ssh(cluster, self.0.clone())))
    }

    async fn open_unreachable(&self, cluster: &ClusterId) -> Option<Result<Opened, Failure>> {
        let machines = self.0.iter().map(|(path, machine)| (path.clone(), silent(machine))).collect();
        Some(Ok(Opened::here(Silent(ssh(cluster, machines)))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_exist_already_pass_the_suite() {
    let servers = [Server::start(), Server::start()];
    for server in &servers {
        // A machine with systemd, as far as a look at its files tells; `/run` there is the server's own.
        let session =
            Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap();
        session.check("mkdir -p /run/systemd/system", (), &Limits::default()).await.unwrap();
    }
    let machine = |server: &Server| ExistingMachine {
        address: server.address.clone(),
        private_address: None,
        port: Some(server.port),
        user: Some("root".into()),
        key: Some(server.client.0.to_str().unwrap().to_owned()),
        host_key: Some(server.host.public_line()),
    };
    let named = servers.iter().enumerate().map(|(at, server)| (format!("check-{}", at + 1), machine(server)));
    let named: Vec<(String, ExistingMachine)> = named.collect();
    let ground = Ground {
        site: "here".parse().unwrap(),
        clusters: [ClusterId::from_bytes([7; 6]), ClusterId::from_bytes([8; 6])],
        nodes: named.iter().map(|(name, machine)| (name.parse().unwrap(), Some(machine.clone()))).collect(),
        zones: vec!["a".to_owned()],
        image: None,
        patience: Duration::from_mins(1),
    };
    let by_path = named.into_iter().map(|(name, machine)| {
        let path: ResourcePath = format!("here/machine/{name}").parse().unwrap();
        (path, machine)
    });
    let candidate = Machines(by_path.collect());
    let suite = Suite::new(&candidate, &ground);
    let outcomes = suite.run(&mut |_| {}).await;
    suite.sweep().await.unwrap();
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let skipped: Vec<_> = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.verdict, Verdict::Skipped(_)))
        .map(|outcome| outcome.check.name())
        .collect();
    assert_eq!(skipped, ["boot-data-once", "not-ready", "power-again", "power-set"]);
}
