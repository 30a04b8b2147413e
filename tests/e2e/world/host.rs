//! What this machine has of a cluster, counted without asking the provider: a double of anything would show here.

use std::fs;

use super::World;

/// What makes a cluster's nodes on this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Machinery {
    /// Folders of machines.
    pub machines: usize,
    /// Bridges and cables.
    pub links: usize,
    /// Control groups of nodes.
    pub groups: usize,
    /// Processes that are PID 1 of a node.
    pub inits: usize,
    /// Network namespaces that nodes' PID 1 are in.
    pub networks: usize,
}

/// The machinery of so many nodes.
pub fn machinery(nodes: usize) -> Machinery {
    Machinery { machines: nodes, links: nodes + 1, groups: nodes, inits: nodes, networks: nodes }
}

impl World {
    /// What is there of this cluster.
    pub fn machinery(&self) -> Machinery {
        let id = self.id();
        let folders = |path: String| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.filter(|entry| entry.path().is_dir()).count()
        };
        let inits = inits(id.as_str());
        let mut networks: Vec<_> =
            inits.iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok()).collect();
        networks.sort();
        networks.dedup();
        Machinery {
            machines: folders(format!("/var/lib/castrum/local/{id}/here/machine")),
            links: links(id.as_str()).len(),
            groups: folders(group_folder(id.as_str())),
            inits: inits.len(),
            networks: networks.len(),
        }
    }

    /// Fails if anything is there twice, or is missing.
    pub fn assert_nothing_double(&self) {
        let links = links(self.id().as_str());
        assert_eq!(self.machinery(), machinery(self.nodes().len()), "{links:#?}");
        let swarm = self.docker("masters-1", "node ls --format '{{.Hostname}} {{.Status}}'");
        let mut members: Vec<_> = swarm.lines().map(str::to_owned).collect();
        members.sort();
        let mut declared: Vec<_> = self.nodes().iter().map(|node| format!("{node} Ready")).collect();
        declared.sort();
        assert_eq!(members, declared, "the members of the swarm");
    }
}

/// The links that carry the cluster's label, each with its label.
fn links(id: &str) -> Vec<String> {
    let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let labelled = links.filter_map(|link| {
        let alias = fs::read_to_string(link.path().join("ifalias")).ok()?;
        alias.contains(id).then(|| format!("{} {}", link.file_name().display(), alias.trim()))
    });
    labelled.collect()
}

fn group_folder(id: &str) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "cgroup2").then(|| place.to_owned())
    });
    format!("{}/castrum/{id}/here", mount.unwrap_or_else(|| "/sys/fs/cgroup".to_owned()))
}

fn inits(id: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let status = read("status");
        let spaces = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let numbers: Vec<_> = spaces.split_ascii_whitespace().collect();
        // Containers inside nodes have a third number; the dead are listed until somebody asks how they ended.
        let lives = !status.lines().any(|line| line.starts_with("State:\tZ"));
        lives && numbers.len() == 2 && numbers[1] == "1" && read("cgroup").contains(id)
    })
    .collect()
}
