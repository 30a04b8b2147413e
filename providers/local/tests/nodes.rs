//! Real nodes on this machine. The test binary is also what they are launched from, so it has its own `main`.
//!
//! It needs root, and fails without: a test that does not run proves nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use castrum_blueprints::names::{ClusterId, ResourceKind};
use castrum_provider::{Change, FailureClass, PowerState, Provider, Removed};
use castrum_provider_local::{leftovers, maybe_run_node_init};
use world::{Test, World, fresh_cluster, path, wanted_machine};

const TESTS: [(&str, fn()); 9] = [
    ("this_machine_has_what_is_needed", this_machine_has_what_is_needed),
    ("two_clusters_live_side_by_side", two_clusters_live_side_by_side),
    ("power_works_as_a_machines_does", power_works_as_a_machines_does),
    ("a_killed_maker_leaves_what_the_next_one_completes", a_killed_maker_leaves_what_the_next_one_completes),
    ("making_at_once_makes_one", making_at_once_makes_one),
    ("a_higher_generation_is_another_machine", a_higher_generation_is_another_machine),
    ("a_killed_image_build_leaves_only_a_folder", a_killed_image_build_leaves_only_a_folder),
    ("what_is_not_ours_is_left_alone", what_is_not_ours_is_left_alone),
    ("what_lost_its_record_is_found_and_removed", what_lost_its_record_is_found_and_removed),
];

fn main() -> ExitCode {
    if let Some(code) = maybe_run_node_init() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "maker") {
        return world::run_maker(&arguments[1..]);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let mut failed = 0;
    for (name, test) in TESTS.into_iter().filter(|(name, _)| chosen(name)) {
        let began = Instant::now();
        let passed = world::is_root() && std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {} ({:.1?})", if passed { "ok" } else { "FAILED" }, began.elapsed());
        failed += i32::from(!passed);
    }
    if failed > 0 && !world::is_root() {
        println!("these tests make real namespaces, bridges and mounts: run them as root");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn this_machine_has_what_is_needed() {
    let test = Test::new();
    let world = test.world(fresh_cluster());
    assert_eq!(test.run(world.provider.preflight()), []);
}

fn two_clusters_live_side_by_side() {
    let test = Test::new();
    let (one, two) = (test.world(fresh_cluster()), test.world(fresh_cluster()));
    let began = Instant::now();
    test.run(async { tokio::join!(one.make(3), two.make(2)) });
    println!("  5 nodes launched after {:.1?}", began.elapsed());
    let nodes: Vec<_> = (1..=3).map(|node| (&one, node)).chain((1..=2).map(|node| (&two, node))).collect();
    for (world, node) in &nodes {
        world.wait_banner(*node);
    }
    println!("  5 nodes with sshd banner after {:.1?}", began.elapsed());
    for (world, node) in &nodes {
        world.wait_cloud_init(*node);
    }
    println!("  5 nodes with cloud-init done after {:.1?}", began.elapsed());
    assert_ne!(one.address(1).octets()[..3], two.address(1).octets()[..3], "ranges of their own");
    for (world, node) in &nodes {
        let told =
            world.in_node(*node, "cat /etc/hostname /root/told; grep -c . /etc/ssh/ssh_host_ed25519_key.pub");
        assert_eq!(told, format!("node-{node}\nboot data of node-{node}\n1\n"));
        assert_eq!(world.in_node(*node, "systemctl --failed --no-legend"), "");
        assert_ne!(world.in_node(*node, "findmnt -no FSTYPE /var/lib/castrum").trim(), "overlay");
    }
    let to = one.address(2);
    assert_eq!(one.in_node(1, &format!("head -c 4 < /dev/tcp/{to}/22")), "SSH-", "nodes reach each other");
    assert!(two.in_node(1, "touch /proc/sys/kernel/panic 2>&1 || true").contains("Read-only"));
    assert_eq!(test.run(one.ensure_all(3)), vec![Change::Unchanged; 5], "a second run changes nothing");
    let seen = test.run(one.provider.observe());
    assert!(seen.blind.is_empty(), "{:?}", seen.blind);
    assert_eq!(seen.seen.len(), 5);
    assert!(seen.seen.values().all(|resource| resource.ready && resource.spec.is_some()));
    test.run(one.remove_all(3));
    assert_eq!(leftovers(&one.cluster, &test.options), Vec::<String>::new());
    two.wait_banner(1);
    test.run(two.remove_all(2));
    assert_eq!(leftovers(&two.cluster, &test.options), Vec::<String>::new());
    assert!(!test.options.state_root.exists());
}

fn power_works_as_a_machines_does() {
    let test = Test::new();
    let world = test.world(fresh_cluster());
    let machine = path(ResourceKind::Machine, "node-1");
    let power = world.provider.power().unwrap();
    let is = |wanted: PowerState| assert_eq!(test.run(power.state(&machine)).unwrap(), wanted);
    assert_eq!(test.run(power.state(&machine)).unwrap_err().class, FailureClass::Invalid);
    test.run(world.make(1));
    world.wait_cloud_init(1);
    is(PowerState::On);

    test.run(power.set(&machine, PowerState::Paused)).unwrap();
    is(PowerState::Paused);
    assert!(!world.has_banner(1), "a frozen node says nothing");
    test.run(power.set(&machine, PowerState::On)).unwrap();
    is(PowerState::On);
    world.wait_banner(1);

    world.in_node(1, "echo kept > /root/kept; echo data > /var/lib/castrum/kept; sync");
    let began = Instant::now();
    test.run(power.set(&machine, PowerState::Off)).unwrap();
    println!("  clean stop in {:.1?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(15), "it shut down by itself");
    is(PowerState::Off);
    assert!(!world.has_banner(1));
    let refused = test.run(power.set(&machine, PowerState::Paused)).unwrap_err();
    assert_eq!(refused.class, FailureClass::Invalid);
    test.run(power.set(&machine, PowerState::On)).unwrap();
    world.wait_banner(1);
    assert_eq!(
        world.in_node(1, "cat /root/kept /var/lib/castrum/kept"),
        "kept\ndata\n",
        "the disk is the same"
    );

    test.run(power.set(&machine, PowerState::Paused)).unwrap();
    test.run(power.kill(&machine)).unwrap();
    is(PowerState::Off);
    test.run(power.kill(&machine)).unwrap();
    assert_eq!(
        test.run(world.ensure_all(1)).last(),
        Some(&Change::Changed),
        "what is off is switched on again"
    );
    world.wait_banner(1);
    test.run(world.remove_all(1));
    assert_eq!(test.run(world.provider.remove(&machine)).unwrap(), Removed::Absent);
    assert_eq!(leftovers(&world.cluster, &test.options), Vec::<String>::new());
}

fn a_killed_maker_leaves_what_the_next_one_completes() {
    let test = Test::new();
    for millis in [3, 10, 20, 30, 45, 60, 80, 110, 150, 250] {
        let world = test.world(fresh_cluster());
        test.kill_a_maker(&world.cluster, Duration::from_millis(millis));
        let folder = test.options.state_root.join(world.cluster.as_str());
        let before = test.run(world.provider.observe());
        assert!(before.blind.is_empty(), "{:?}", before.blind);
        let changes = test.run(world.ensure_all(2));
        println!("  killed after {millis} ms: {} seen, then {changes:?}", before.seen.len());
        world.wait_banner(1);
        world.wait_banner(2);
        world.wait_cloud_init(1);
        assert_eq!(world.in_node(1, "cat /root/told"), "boot data of node-1\n", "after {millis} ms");
        assert_eq!(world.inits(), 2, "nothing is double after {millis} ms");
        test.run(world.remove_all(2));
        assert_eq!(leftovers(&world.cluster, &test.options), Vec::<String>::new(), "after {millis} ms");
        assert!(!folder.exists());
    }
}

fn making_at_once_makes_one() {
    let test = Test::new();
    let world = test.world(fresh_cluster());
    let again = World::new(&test, world.cluster.clone());
    let (one, two) = test.run(async { tokio::join!(world.ensure_all(2), again.ensure_all(2)) });
    for (one, two) in one.into_iter().zip(two) {
        let created = [one, two].iter().filter(|change| **change == Change::Created).count();
        assert_eq!(created, 1, "{one:?} {two:?}");
    }
    assert_eq!(world.inits(), 2);
    assert_ne!(world.address(1), world.address(2));
    let (one, two) = test.run(async { tokio::join!(world.remove_machines(2), again.remove_machines(2)) });
    assert_eq!(one.into_iter().chain(two).filter(|removed| *removed == Removed::Removed).count(), 2);
    test.run(world.remove_all(2));
    assert_eq!(leftovers(&world.cluster, &test.options), Vec::<String>::new());
}

fn a_higher_generation_is_another_machine() {
    let test = Test::new();
    let world = test.world(fresh_cluster());
    test.run(world.make(1));
    let machine = path(ResourceKind::Machine, "node-1");
    let before = test.run(world.provider.observe()).seen.remove(&machine).unwrap();
    let address = world.address(1);
    let mut wanted = wanted_machine(1);
    wanted.generation = 1;
    let ensured = test.run(world.provider.ensure(&wanted)).unwrap();
    assert_eq!(ensured.change, Change::Created);
    assert_ne!(ensured.seen.machine.unwrap().incarnation, before.machine.unwrap().incarnation);
    assert_eq!(world.address(1), address);
    world.wait_banner(1);
    assert_eq!(world.inits(), 1);
    let stale = test.run(world.provider.ensure(&wanted_machine(1))).unwrap_err();
    assert_eq!(stale.class, FailureClass::Invalid, "an older generation never comes back");
    test.run(world.remove_all(1));
    assert_eq!(leftovers(&world.cluster, &test.options), Vec::<String>::new());
}

fn a_killed_image_build_leaves_only_a_folder() {
    let mut test = Test::new();
    let cache = test.options.state_root.with_file_name("images");
    test.options.image_cache.clone_from(&cache);
    let (one, two) = (test.world(fresh_cluster()), test.world(fresh_cluster()));
    test.kill_a_maker(&one.cluster, Duration::from_secs(8));
    let entries = || {
        let names =
            std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    assert!(matches!(entries().as_slice(), [name] if name.starts_with(".build-")), "{:?}", entries());
    world::wait_no_process(cache.to_str().unwrap());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(cache.to_str().unwrap()));
    test.run(async { tokio::join!(one.ensure_all(0), two.ensure_all(0)) });
    assert!(matches!(entries().as_slice(), [name] if name.len() == 64), "built once: {:?}", entries());
    assert!(test.run(one.provider.observe()).seen.values().all(|resource| resource.ready));
    test.run(one.remove_all(0));
    test.run(two.remove_all(0));
    assert_eq!(entries().len(), 1, "the image is everybody's");
}

fn what_is_not_ours_is_left_alone() {
    let test = Test::new();
    let (ours, theirs) = (test.world(fresh_cluster()), test.world(fresh_cluster()));
    test.run(theirs.make(1));
    // The same folder and the same names, but another owner.
    let own = test.options.state_root.join(ours.cluster.as_str());
    std::fs::rename(test.options.state_root.join(theirs.cluster.as_str()), &own).unwrap();
    let machine = path(ResourceKind::Machine, "node-1");
    assert_eq!(test.run(ours.provider.remove(&machine)).unwrap_err().class, FailureClass::NotOurs);
    assert_eq!(test.run(ours.provider.ensure(&wanted_machine(1))).unwrap_err().class, FailureClass::NotOurs);
    let seen = test.run(ours.provider.observe());
    assert!(seen.seen.is_empty() && !seen.blind.is_empty(), "what cannot be told is blind: {seen:?}");
    std::fs::rename(&own, test.options.state_root.join(theirs.cluster.as_str())).unwrap();
    theirs.wait_banner(1);
    let network = path(ResourceKind::Network, "main");
    assert_eq!(test.run(theirs.provider.remove(&network)).unwrap_err().class, FailureClass::NotReady);
    test.run(theirs.remove_all(1));
}

fn what_lost_its_record_is_found_and_removed() {
    let test = Test::new();
    let world = test.world(fresh_cluster());
    test.run(world.make(1));
    let range = world.address(1);
    let records = test.options.state_root.join(world.cluster.as_str());
    // The node runs, and goes on writing to its disk while that is taken away.
    let gone = (0..100).any(|_| std::fs::remove_dir_all(&records).is_ok());
    assert!(gone, "{} cannot be removed", records.display());
    let seen = test.run(world.provider.observe()).seen;
    assert_eq!(seen.len(), 2, "bridge and cgroup tell of network and machine: {seen:?}");
    assert!(seen.values().all(|resource| !resource.ready && resource.note.is_some()));
    let machine = path(ResourceKind::Machine, "node-1");
    assert_eq!(test.run(world.provider.remove(&machine)).unwrap(), Removed::Removed);
    test.run(world.make(1));
    assert_eq!(world.address(1), range, "the range is found again from the bridge");
    test.run(world.remove_all(1));
    assert_eq!(leftovers(&world.cluster, &test.options), Vec::<String>::new());
    let other: ClusterId = fresh_cluster();
    assert_eq!(leftovers(&other, &test.options), Vec::<String>::new());
}
