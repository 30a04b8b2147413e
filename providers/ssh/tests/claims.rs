//! The provider over real machines: whose a machine is, and that releasing it leaves nothing of ours.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use castrum_blueprints::blueprint::{ExistingMachine, Port, Protocol, Size};
use castrum_blueprints::names::{ClusterId, ResourcePath, Role};
use castrum_provider::{
    Attachments, Change, FailureClass, MachineSpec, PowerState, Provider, Removed, ResourceSpec, Wanted,
};
use castrum_provider_ssh::transport::{Auth, ClientConfig, Limits, Session};
use castrum_provider_ssh::{Ssh, SshOptions, machines_of};
use support::{KeyPair, SOON, Server, Setup};

const OURS: [u8; 6] = [1; 6];
const THEIRS: [u8; 6] = [2; 6];

fn path(number: usize) -> ResourcePath {
    format!("here/machine/masters-{number}").parse().unwrap()
}

fn machine(server: &Server) -> ExistingMachine {
    ExistingMachine {
        address: server.address.clone(),
        private_address: None,
        port: Some(server.port),
        user: Some("root".into()),
        key: Some(server.client.0.to_str().unwrap().to_owned()),
        host_key: Some(server.host.public_line()),
    }
}

fn spec(number: usize, machine: ExistingMachine) -> ResourceSpec {
    ResourceSpec::Machine(Box::new(MachineSpec {
        node: format!("masters-{number}").parse().unwrap(),
        role: Role::Master,
        size: Size { cpus: 1, memory_mib: 512, disk_gib: 4 },
        disks: Vec::new(),
        zone: None,
        image: None,
        open_ports: Vec::new(),
        existing: Some(machine),
        attached: Attachments::default(),
    }))
}

fn options() -> SshOptions {
    let config = ClientConfig::parse("", Path::new("/nonexistent"), "root").unwrap();
    SshOptions { connect: Duration::from_secs(5), ..SshOptions::new(config, Auth::default()) }
}

fn site(cluster: [u8; 6], machines: &[ExistingMachine]) -> (Ssh, Vec<Wanted>) {
    let specs =
        machines.iter().enumerate().map(|(at, machine)| (path(at + 1), spec(at + 1, machine.clone())));
    let resources: BTreeMap<_, _> = specs.collect();
    let declared = machines_of(&resources, &"here".parse().unwrap());
    let wanted = |(path, spec)| Wanted { path, spec, generation: 0, boot_data: None };
    (
        Ssh::new(ClusterId::from_bytes(cluster), declared, options()),
        resources.into_iter().map(wanted).collect(),
    )
}

async fn session(server: &Server) -> Session {
    Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap()
}

async fn shell(session: &Session, script: &str) -> String {
    let output = session.check(script, (), &Limits::default()).await.unwrap();
    String::from_utf8(output.stdout.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_claimed_once_and_seen_by_its_owner_only() {
    let server = Server::start();
    let (ours, wanted) = site(OURS, &[machine(&server)]);
    let (theirs, others) = site(THEIRS, &[machine(&server)]);
    assert!(ours.observe().await.seen.is_empty(), "a machine without a label is not there yet");

    let made = ours.ensure(&wanted[0]).await.unwrap();
    assert_eq!((made.change, made.seen.ready), (Change::Created, true));
    assert_eq!(made.seen.spec, Some(wanted[0].spec.digest()));
    let seen = made.seen.machine.clone().unwrap();
    assert_eq!((seen.address, seen.power), (Some("127.0.0.1".parse().unwrap()), PowerState::On));
    let again = ours.ensure(&wanted[0]).await.unwrap();
    assert_eq!(again.change, Change::Unchanged);
    assert_eq!(again.seen, made.seen);
    assert_eq!(ours.observe().await.seen, BTreeMap::from([(path(1), made.seen.clone())]));

    let stolen = theirs.ensure(&others[0]).await.unwrap_err();
    assert_eq!(stolen.class, FailureClass::NotOurs);
    assert!(stolen.message.contains("belongs to the cluster 010101010101"), "{stolen}");
    assert!(theirs.observe().await.seen.is_empty());
    assert_eq!(theirs.remove(&path(1)).await.unwrap(), Removed::Absent);
    assert_eq!(ours.observe().await.seen.len(), 1, "another cluster's removal changed nothing");

    let mut changed = wanted[0].clone();
    let ResourceSpec::Machine(spec) = &mut changed.spec else { panic!("not a machine") };
    spec.size.cpus = 2;
    let edited = ours.ensure(&changed).await.unwrap();
    assert_eq!(edited.change, Change::Changed);
    assert_eq!(edited.seen.machine, made.seen.machine, "it is the same machine");
    assert_eq!(edited.seen.spec, Some(changed.spec.digest()));
    let label = shell(&session(&server).await, "cat /etc/castrum/owner; ls -A /etc/castrum").await;
    assert!(label.starts_with("castrum-cluster=010101010101\ncastrum-resource=here/machine/masters-1\n"));
    assert!(label.ends_with("\nowner\n"), "drafts were left behind: {label}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_claim_at_once_one_wins() {
    let server = Server::with(&Setup { config: "MaxStartups 100\n".into(), ..Setup::default() });
    let sites: Vec<_> = (0..8).map(|n| site([n; 6], &[machine(&server)])).collect();
    let claims = sites.iter().map(|(ssh, wanted)| ssh.ensure(&wanted[0]));
    let results = futures_util::future::join_all(claims).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for lost in results.into_iter().filter_map(Result::err) {
        assert_eq!(lost.class, FailureClass::NotOurs, "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_changed_its_place_in_the_list_is_not_taken_for_another() {
    let servers = [Server::start(), Server::start()];
    let [first, second] = [machine(&servers[0]), machine(&servers[1])];
    let (before, wanted) = site(OURS, &[first.clone(), second.clone()]);
    for wanted in &wanted {
        before.ensure(wanted).await.unwrap();
    }
    let (after, swapped) = site(OURS, &[second, first]);
    let refused = after.ensure(&swapped[0]).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::NotOurs);
    assert!(refused.message.contains("is `here/machine/masters-2` of this cluster already"), "{refused}");
    let seen = after.observe().await.seen;
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), [path(1), path(2)]);
    assert_eq!(after.remove(&path(1)).await.unwrap(), Removed::Removed);
    let label = shell(&session(&servers[0]).await, "cat /etc/castrum/owner 2>/dev/null || echo none").await;
    assert_eq!(label, "none\n", "the label decides, not the order");
    assert_eq!(after.observe().await.seen.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releasing_a_machine_leaves_nothing_of_ours_and_all_else() {
    let server = Server::start();
    let (ssh, wanted) = site(OURS, &[machine(&server)]);
    ssh.ensure(&wanted[0]).await.unwrap();
    let admin = session(&server).await;
    let fill = "set -e; mkdir -p /opt/castrum/bin /opt/castrum/store/a /var/lib/castrum/etcd /run/castrum/x \
        /opt/other /etc/systemd/system/multi-user.target.wants; cp /bin/sleep /opt/castrum/bin/castrum-agent; \
        touch /etc/systemd/system/castrum-agent.service /etc/systemd/system/other.service; \
        ln -s /x /etc/systemd/system/multi-user.target.wants/castrum-agent.service; \
        mount -t tmpfs tmpfs /var/lib/castrum/etcd; mount -t tmpfs tmpfs /var/lib/castrum/etcd; \
        touch /var/lib/castrum/etcd/data; \
        setsid /opt/castrum/bin/castrum-agent 1000 </dev/null >/dev/null 2>&1 & sleep 0.2; echo done";
    assert_eq!(shell(&admin, fill).await, "done\n");
    assert_eq!(ssh.remove(&path(1)).await.unwrap(), Removed::Removed);
    let left = "ls -d /opt/castrum /var/lib/castrum /run/castrum /etc/castrum /etc/systemd/system/castrum-* \
        /etc/systemd/system/*.wants/castrum-* 2>/dev/null; grep -E ' /(opt|run|var/lib)/castrum' /proc/mounts; \
        for p in /proc/[0-9]*/exe; do readlink $p | grep castrum; done; \
        ls -d /opt/other /etc/systemd/system/other.service";
    assert_eq!(shell(&admin, left).await, "/etc/systemd/system/other.service\n/opt/other\n");
    assert_eq!(ssh.remove(&path(1)).await.unwrap(), Removed::Absent);
    assert!(ssh.observe().await.seen.is_empty());
    let reclaimed = ssh.ensure(&wanted[0]).await.unwrap();
    assert_eq!(reclaimed.change, Change::Created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_was_interrupted_is_finished_by_the_next() {
    let server = Server::start();
    let (ssh, wanted) = site(OURS, &[machine(&server)]);
    let made = ssh.ensure(&wanted[0]).await.unwrap();
    let admin = session(&server).await;
    shell(&admin, "mkdir -p /opt/castrum/store /var/lib/castrum; mount -o remount,ro /opt").await;
    let stuck = ssh.remove(&path(1)).await.unwrap_err();
    assert_eq!(stuck.class, FailureClass::Transient);
    assert!(stuck.message.contains("could not be removed"), "{stuck}");
    assert_eq!(shell(&admin, "ls -d /var/lib/castrum 2>&1 | grep -c 'No such'").await, "1\n");
    assert_eq!(ssh.observe().await.seen.get(&path(1)), Some(&made.seen), "the label is the last to go");
    shell(&admin, "mount -o remount,rw /opt").await;
    assert_eq!(ssh.remove(&path(1)).await.unwrap(), Removed::Removed);
    assert_eq!(shell(&admin, "ls -d /opt/castrum 2>&1 | grep -c 'No such'").await, "1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_do_not_answer_hide_none_of_the_others() {
    let (good, mut dead, frozen) = (Server::start(), Server::start(), Server::start());
    let liar = KeyPair::new(good.path("liar"), "ed25519", "").public_line();
    let wrong = ExistingMachine { host_key: Some(liar), ..machine(&good) };
    let list = [machine(&good), machine(&dead), machine(&frozen), wrong];
    let (ssh, wanted) = site(OURS, &list);
    for wanted in &wanted[..3] {
        ssh.ensure(wanted).await.unwrap();
    }
    dead.kill();
    frozen.signal("STOP");
    let before = Instant::now();
    let seen = ssh.observe().await;
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}: not in parallel", before.elapsed());
    assert!(seen.blind.is_empty());
    let notes: Vec<_> =
        seen.seen.values().map(|seen| (seen.ready, seen.note.clone().unwrap_or_default())).collect();
    assert_eq!(notes[0], (true, String::new()));
    assert!(!notes[1].0 && notes[1].1.contains("Connection refused"), "{notes:?}");
    assert!(!notes[2].0 && notes[2].1.contains("took longer than 5s"), "{notes:?}");
    assert!(!notes[3].0 && notes[3].1.contains("but expected is"), "{notes:?}");

    let failed = ssh.ensure(&wanted[1]).await.unwrap_err();
    assert!(failed.class == FailureClass::Transient && failed.hint.is_some(), "{failed}");
    let refused = ssh.ensure(&wanted[3]).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Denied);
    let unknown = ssh.remove(&path(2)).await.unwrap_err();
    assert_eq!(unknown.class, FailureClass::Transient, "unseen is not absent");
    frozen.signal("CONT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflight_names_what_a_machine_lacks() {
    let server = Server::start();
    let mut stranger = machine(&server);
    stranger.key = Some(KeyPair::new(server.path("stranger"), "ed25519", "").0.display().to_string());
    let (ssh, _) = site(OURS, &[machine(&server), stranger]);
    let findings = ssh.preflight().await;
    assert_eq!(findings.len(), 2, "{findings:?}");
    for part in ["refused every identity", "lacks systemd"] {
        assert!(findings.iter().any(|finding| finding.message.contains(part)), "{findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflight_wants_ports_to_be_free_where_nothing_of_ours_runs_yet() {
    let server = Server::start();
    let (ssh, wanted) = site(OURS, &[machine(&server)]);
    let port = |number, protocol| Port { number, protocol };
    // The server itself is what listens.
    let ports = [port(server.port, Protocol::Tcp), port(server.port, Protocol::Udp), port(1, Protocol::Tcp)];
    let ssh = ssh.listening(BTreeMap::from([(path(1), BTreeSet::from(ports))]));
    let about_ports = |findings: Vec<castrum_provider::Failure>| {
        let messages = findings.into_iter().map(|finding| finding.message);
        messages.filter(|message| message.contains("listens")).collect::<Vec<_>>()
    };
    let found = about_ports(ssh.preflight().await);
    assert!(matches!(found.as_slice(), [one] if one.contains(&format!("{}/tcp", server.port))), "{found:?}");
    ssh.ensure(&wanted[0]).await.unwrap();
    assert_eq!(about_ports(ssh.preflight().await), Vec::<String>::new(), "on our own machine it is ours");
    ssh.remove(&path(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_listed_machines_can_be_made() {
    let (ssh, _) = site(OURS, &[]);
    let image = castrum_provider::ImageSpec { release: "debian-12".into() };
    let spec = ResourceSpec::Image(image);
    let wanted =
        Wanted { path: "here/image/debian-12".parse().unwrap(), spec, generation: 0, boot_data: None };
    assert_eq!(ssh.ensure(&wanted).await.unwrap_err().class, FailureClass::Unsupported);
    assert!(!ssh.abilities().boot_data && ssh.power().is_none());
    assert_eq!(ssh.remove(&path(1)).await.unwrap(), Removed::Absent);
}
