//! `make bench`: what planning and running cost, and how close a boot comes to its critical path.
//!
//! Each case runs in a process of its own, so that its memory is its own. Goals are printed beside what was measured;
//! with `--check` a goal that is missed ends in exit code 1.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use castrum_blueprints::names::{ComponentName, NodeName, Role, Timestamp};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Progress, foresee, plan};
use castrum_provider_sim::{Component, Latencies, Settings};
use castrum_tests::camp;
use castrum_tests::clouds;
use castrum_tests::cluster::Cluster;
use castrum_tests::idle;
use castrum_tests::makespan;
use castrum_tests::rig::{Rig, on_sim};

type Error = Box<dyn std::error::Error>;

/// What a case measured, by name.
type Measured = BTreeMap<String, f64>;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, case, size, world @ ..] = args.as_slice()
        && word == "case"
    {
        return run_case(case, size.parse()?, world.first());
    }
    let goals = report()?;
    if args.iter().any(|arg| arg == "--check") && !goals {
        return Err("a goal was missed".into());
    }
    Ok(())
}

/// Runs every case and prints what it measured. Whether all goals were met.
fn report() -> Result<bool, Error> {
    let mut table = Table { met: true };
    let dir = tempfile::tempdir()?;
    planning(&mut table, dir.path())?;
    let (one, ten) = (case("run", 1_000, None)?, case("run", 10_000, None)?);
    // Linear, but for the processor's caches, which a world of 1,000 fits into, and for the bursts in which a place's limit
    // is felt for: each is one more plan of the whole.
    for (verb, linear) in [("apply", 20.0), ("destroy", 30.0)] {
        table.say(&format!("{verb} of 1,000 simulated nodes, no latency"), one[verb], "CPU-s", 0.5);
        table.say(&format!("{verb} of 10,000: times that of 1,000"), ten[verb] / one[verb], "times", linear);
    }
    for (nodes, goal) in [(50, 1.10), (500, 1.25)] {
        let boot = case("boot", nodes, None)?;
        let what = format!("boot path of {nodes}: {} s / {} s", boot["taken"], boot["critical"]);
        table.say(&what, boot["ratio"], "", goal);
    }
    let make = case("make", 1_000, None)?;
    for (key, bucket) in [("requests", "5 calls, 2/s"), ("machines", "1,000, 2/s")] {
        let of = |what: &str| make[&format!("{key} {what}")];
        let what = format!("1,000 machines, {bucket}: {:.0} s / {:.0} s", of("taken"), of("bound"));
        table.say(&what, of("taken") / of("bound"), "", 1.05);
        let what = format!("  API calls: {} / {} needed", of("calls"), of("needed"));
        table.say(&what, of("calls") / of("needed"), "", 1.05);
    }
    let agent = idle::agent(&idle::built("castrum-agent"))?;
    table.say("the agent's file", agent.file, "MiB", 6.0);
    table.say("  its resident memory with nothing to do", agent.resident, "MiB", 8.0);
    table.say("  its threads", agent.threads, "", 2.0);
    table.say("plan of 3 nodes, process and all", idle::cold_plan(&idle::built("castrum"))?, "ms", 30.0);
    Ok(table.met)
}

fn planning(table: &mut Table, dir: &Path) -> Result<(), Error> {
    let mut all = Vec::new();
    for nodes in [10_000, 100_000] {
        let world = dir.join(format!("{nodes}.json"));
        let fresh = case("fresh", nodes, None)?;
        let foreseen = case("foresee", nodes, Some(&world))?;
        all.push((fresh, foreseen, case("settled", nodes, Some(&world))?));
        fs::remove_file(world)?;
    }
    let [(fresh, foreseen, whole), (fresh_10, foreseen_10, whole_10)] = all.as_slice() else { return Ok(()) };
    table.say("plan of 10,000 nodes, nothing there", fresh["cpu"], "CPU-s", 1.0);
    table.say("  its peak memory", fresh["rss"], "MiB", 150.0);
    table.say("plan of 10,000 nodes, all there and healthy", whole["settled"], "CPU-s", 1.0);
    table.say("  its peak memory", whole["rss"], "MiB", 150.0);
    table.say("plan of 10,000 nodes, all with waves to open", whole["opening"], "CPU-s", 1.0);
    table.say(
        "plan of 100,000 nodes, nothing there: times that",
        fresh_10["cpu"] / fresh["cpu"],
        "times",
        12.0,
    );
    table.say("plan of 100,000, healthy: times that", whole_10["settled"] / whole["settled"], "times", 12.0);
    table.say("plan of 100,000, waves: times that", whole_10["opening"] / whole["opening"], "times", 12.0);
    table.say("forecast of 10,000 nodes, every round", foreseen["cpu"], "CPU-s", f64::INFINITY);
    table.say("  its peak memory", foreseen["rss"], "MiB", f64::INFINITY);
    table.say("forecast of 100,000: times that", foreseen_10["cpu"] / foreseen["cpu"], "times", 12.0);
    Ok(())
}

/// What is printed, line by line.
struct Table {
    met: bool,
}

impl Table {
    fn say(&mut self, what: &str, value: f64, unit: &str, goal: f64) {
        self.met &= value <= goal;
        let verdict = match (goal.is_finite(), value <= goal) {
            (false, _) => String::new(),
            (true, true) => format!("goal {goal:>6.2}  met"),
            (true, false) => format!("goal {goal:>6.2}  MISSED"),
        };
        println!("{what:<52} {value:>9.3} {unit:<6} {verdict}");
    }
}

fn case(name: &str, size: u32, world: Option<&Path>) -> Result<Measured, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["case", name, &size.to_string()]).args(world).output()?;
    if !output.status.success() {
        return Err(format!("{name} {size}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn run_case(name: &str, nodes: u32, world: Option<&String>) -> Result<(), Error> {
    let world = || world.map(Path::new).ok_or("this case needs the path of a world");
    let measured = match name {
        "fresh" => planning_fresh(nodes)?,
        "foresee" => foreseeing(nodes, world()?)?,
        "settled" => planning_settled(nodes, world()?)?,
        "run" => running(nodes)?,
        "boot" => booting(nodes),
        "make" => making(nodes),
        _ => return Err(format!("there is no case `{name}`").into()),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Five masters, and 49 groups of agents.
fn cluster(nodes: u32) -> Cluster {
    let mut cluster = Cluster::new(camp::stack()).group("masters", Role::Master, 5.min(nodes));
    let rest = nodes.saturating_sub(5);
    for group in 0..49 {
        let count = rest / 49 + u32::from(group < rest % 49);
        let role = if group == 0 { Role::PublicAgent } else { Role::Agent };
        cluster = cluster.group(&format!("group-{group:02}"), role, count);
    }
    cluster.limits(|limits| limits.boot_seconds = 3_600)
}

fn now() -> Timestamp {
    Timestamp(1_900_000_000_000)
}

/// A plan of a cluster of which nothing exists yet.
fn planning_fresh(nodes: u32) -> Result<Measured, Error> {
    let desired = cluster(nodes).desired();
    let (observed, planned) = (Observed::default(), cpu()?);
    let plan = plan(&desired, &observed, now())?;
    let measured = [("cpu", cpu()? - planned), ("rss", peak_mib()?)];
    assert!(!plan.steps.is_empty() && plan.blocked.len() >= nodes as usize);
    Ok(named(measured))
}

/// Draws the whole cluster into a file, and forecasts it on the way.
fn foreseeing(nodes: u32, path: &Path) -> Result<Measured, Error> {
    let desired = cluster(nodes).desired();
    let before = cpu()?;
    let foreseen = foresee(&desired, &Observed::default(), now())?;
    let measured = [("cpu", cpu()? - before), ("rss", peak_mib()?)];
    assert_eq!(foreseen.forecast.progress, Progress::Converged);
    let file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(file, &(&foreseen.desired.founders, &foreseen.observed))?;
    Ok(named(measured))
}

/// Plans of a cluster that is all there: with nothing to do, and with the last waves of every node still to open.
fn planning_settled(nodes: u32, path: &Path) -> Result<Measured, Error> {
    let (founders, mut observed): (BTreeMap<ComponentName, NodeName>, Observed) =
        serde_json::from_reader(BufReader::new(File::open(path)?))?;
    let desired = cluster(nodes).desired().with_founders(founders);
    let loaded = peak_mib()?;
    let before = cpu()?;
    let settled = plan(&desired, &observed, now())?;
    let settled_cpu = cpu()? - before;
    let rss = peak_mib()?;
    assert_eq!((settled.progress(), settled.steps.len()), (Progress::Converged, 0));
    for seen in observed.nodes.values_mut() {
        let late = ["pool", "net", "edge"].map(|name| name.parse::<ComponentName>().expect("a name"));
        seen.opened.retain(|name| !late.contains(name));
        let Some(heard) = &mut seen.heard else { continue };
        Arc::make_mut(&mut heard.status).components.retain(|name, _| !late.contains(name));
        seen.published = None;
        Arc::make_mut(&mut heard.status).content = None;
    }
    let before = cpu()?;
    let opening = plan(&desired, &observed, now())?;
    let opening_cpu = cpu()? - before;
    assert!(opening.steps.len() + 10 > nodes as usize, "{} steps", opening.steps.len());
    Ok(named([("settled", settled_cpu), ("opening", opening_cpu), ("loaded", loaded), ("rss", rss)]))
}

/// An apply and a destroy on a world in which nothing takes time.
fn running(nodes: u32) -> Result<Measured, Error> {
    let mut measured = Ok(Measured::new());
    on_sim(async { measured = apply_and_destroy(nodes).await });
    measured
}

async fn apply_and_destroy(nodes: u32) -> Result<Measured, Error> {
    let rig = Rig::new(cluster(nodes), Settings::instant());
    let desired = rig.desired();
    let (engine, _canceller) = rig.engine_that_tells(Vec::new());
    let before = cpu()?;
    let outcome = engine.converge(desired).await?;
    let apply = cpu()? - before;
    assert_eq!(outcome.progress, Some(Progress::Converged));
    assert_eq!(rig.world.audit().agents, nodes as usize);
    drop((engine, outcome));
    let (engine, _canceller) = rig.engine_that_tells(Vec::new());
    let before = cpu()?;
    let outcome = engine.destroy().await;
    let destroy = cpu()? - before;
    assert_eq!((outcome.progress, rig.world.audit().resources), (Some(Progress::Converged), 0));
    Ok(named([("apply", apply), ("destroy", destroy), ("rss", peak_mib()?)]))
}

/// How long it takes to make machines of 30 s each under EC2's limits, beside what cannot be had in less time.
fn making(machines: u32) -> Measured {
    let mut measured = Measured::new();
    for (key, buckets) in [("requests", clouds::ec2()), ("machines", clouds::ec2_machines())] {
        let makespan = makespan::measure(machines, buckets);
        let bound = makespan.critical.max(makespan.bucket);
        let values = [
            ("taken", makespan.taken),
            ("bound", bound),
            ("calls", makespan.calls),
            ("needed", makespan.needed),
        ];
        measured.extend(values.map(|(name, value)| (format!("{key} {name}"), value)));
    }
    measured
}

/// How long a cluster takes to be healthy, beside the longest chain of delays that it cannot do without.
fn booting(nodes: u32) -> Measured {
    let settings = clouds::steady(4_000, BTreeMap::new());
    let (latency, component) = (settings.latency, settings.component.clone());
    let mut taken = 0;
    on_sim(async {
        let rig = Rig::new(cluster(nodes), settings);
        let begun = rig.world.now();
        let (engine, _canceller) = rig.engine_that_tells(Vec::new());
        let outcome = engine.converge(rig.desired()).await.expect("rendered");
        assert_eq!(outcome.progress, Some(Progress::Converged));
        taken = rig.world.last_change().since(begun);
    });
    let critical = critical_path(&latency, &component);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of an hour")]
    let ratio = taken as f64 / critical as f64;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of an hour")]
    named([("ratio", ratio), ("taken", taken as f64 / 1000.0), ("critical", critical as f64 / 1000.0)])
}

/// The longest chain of what must follow one another, ending in the last component of a public agent: look, network,
/// machine, boot, agent, runtime, engine, pool, edge. On the masters, which come first, the depot is filled on the way
/// (one bundle; the others come meanwhile), and the pool is founded, which everybody else joins. Every wave is told to
/// the node, fetched, started, checked and told back.
fn critical_path(latency: &Latencies, component: &Component) -> u64 {
    let told = latency.publish.low + latency.deliver.low + latency.report.low;
    let process = component.fetch.low + component.start.low + component.check.low + told;
    let membership = component.join.low + component.check.low + told;
    let machines = latency.observe.low + latency.network.low + latency.machine.low;
    let agent_runs = latency.enroll.low + latency.report.low + latency.fill.low;
    let founded = machines + latency.boot.low + agent_runs + 2 * process + membership;
    // Agents' machines are made once those of the masters have addresses.
    let joined = latency.machine.low + latency.boot.low + latency.join.low + latency.report.low;
    founded.max(machines + joined + 2 * process) + membership + process
}

fn named<const N: usize>(values: [(&str, f64); N]) -> Measured {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The processor time that this process has taken, in seconds.
fn cpu() -> Result<f64, Error> {
    let mut nanos = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split_whitespace().next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}

/// The most memory that this process ever had, in MiB.
fn peak_mib() -> Result<f64, Error> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
