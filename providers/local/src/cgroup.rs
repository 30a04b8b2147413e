//! One cgroup (v2) per node: it names the node's processes, freezes them, and kills all of them at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use castrum_blueprints::names::{ClusterId, ResourcePath, SiteName};
use rustix::event::{PollFd, PollFlags, poll};

use crate::error::LocalError;
use crate::process::{Process, timespec, wait_end};

/// How long the kernel may take to freeze, kill or forget a node's processes.
const SETTLE: Duration = Duration::from_secs(30);

/// The cgroup of one node. The folder need not exist.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    mount: PathBuf,
    dir: PathBuf,
}

impl Cgroup {
    /// The cgroup of the machine `path`.
    pub(crate) fn of(cluster: &ClusterId, path: &ResourcePath) -> Result<Self, LocalError> {
        let mount = mount_point()?;
        let dir = site_dir(&mount, cluster, &path.site).join(&path.name);
        Ok(Self { mount, dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the folder, handing down the controllers that this machine has for v2.
    pub(crate) fn create(&self) -> Result<(), LocalError> {
        for attempt in 0.. {
            match fs::create_dir_all(&self.dir) {
                Ok(()) => break,
                // Another cluster's removal may take an empty parent away under us.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < 100 => {}
                Err(error) => return Err(LocalError::file("create", &self.dir)(error)),
            }
        }
        let mut parent = self.mount.clone();
        for part in self.dir.strip_prefix(&self.mount).unwrap_or(Path::new("")).components() {
            hand_down_controllers(&parent);
            parent.push(part);
        }
        Ok(())
    }

    /// All live processes in it and below it.
    pub(crate) fn processes(&self) -> Vec<Process> {
        processes_below(&self.dir)
    }

    /// The node's PID 1, if it runs.
    pub(crate) fn init(&self) -> Option<Process> {
        self.processes().into_iter().find(|process| process.is_namespace_init())
    }

    /// Whether `process` is in it or below it.
    pub(crate) fn holds(&self, process: Process) -> bool {
        let ours = self.dir.strip_prefix(&self.mount).unwrap_or(&self.dir);
        let seen = read(Path::new(&format!("/proc/{}/cgroup", process.pid)));
        let theirs = seen.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        Path::new(theirs).starts_with(ours)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        read(&self.dir.join("cgroup.freeze")).trim() == "1"
    }

    /// Freezes or thaws every process, and waits until it is so.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), LocalError> {
        let (word, event) = if frozen { ("1", "frozen 1") } else { ("0", "frozen 0") };
        self.write("cgroup.freeze", word)?;
        self.wait_event(event)
    }

    /// Kills every process, frozen or not, and waits until they are gone.
    pub(crate) fn kill(&self) -> Result<(), LocalError> {
        if !self.dir.exists() {
            return Ok(());
        }
        let init = self.init().and_then(Process::open);
        self.write("cgroup.kill", "1")?;
        self.wait_event("populated 0")?;
        // A dying PID 1 leaves its cgroup before it has buried everybody else.
        if let Some(init) = init {
            wait_end(&init, SETTLE);
        }
        Ok(())
    }

    /// Waits until no process is left in it.
    pub(crate) fn wait_empty(&self) -> Result<(), LocalError> {
        self.wait_event("populated 0")
    }

    /// Removes the empty folder, what the node made below it, and parents that are empty now.
    pub(crate) fn remove(&self) -> Result<(), LocalError> {
        let deadline = Instant::now() + SETTLE;
        loop {
            match remove_tree(&self.dir) {
                Ok(()) => break,
                // The kernel lets go of an emptied cgroup a moment after its last process.
                Err(error) if error.raw_os_error() == Some(16) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(LocalError::file("remove", &self.dir)(error)),
            }
        }
        for parent in self.dir.ancestors().skip(1).take_while(|parent| *parent != self.mount) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, file: &str, word: &str) -> Result<(), LocalError> {
        let file = self.dir.join(file);
        fs::write(&file, word).map_err(LocalError::file("write", &file))
    }

    /// The kernel tells of changes in `cgroup.events`, so nobody needs to poll by the clock.
    fn wait_event(&self, line: &str) -> Result<(), LocalError> {
        let path = self.dir.join("cgroup.events");
        let deadline = Instant::now() + SETTLE;
        loop {
            let Ok(events) = File::open(&path) else { return Ok(()) };
            if read(&path).lines().any(|seen| seen == line) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = format!("cgroup `{}` did not reach `{line}` in {SETTLE:?}", self.dir.display());
                return Err(LocalError::NotReady { what });
            }
            // A change between the reading and the wait is caught by the short limit.
            let limit = left.min(Duration::from_millis(50));
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timespec(limit)));
        }
    }
}

/// The names of the nodes of `site` that have a cgroup.
pub(crate) fn nodes_with_cgroup(cluster: &ClusterId, site: &SiteName) -> Result<Vec<String>, LocalError> {
    let dir = site_dir(&mount_point()?, cluster, site);
    Ok(subfolders(&dir).into_iter().filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned())).collect())
}

/// The folder of everything that belongs to `cluster`.
pub(crate) fn cluster_dir(cluster: &ClusterId) -> Result<PathBuf, LocalError> {
    Ok(mount_point()?.join("castrum").join(cluster.as_str()))
}

/// All live processes in `dir` and below it.
pub(crate) fn processes_below(dir: &Path) -> Vec<Process> {
    let mut found: Vec<Process> =
        read(&dir.join("cgroup.procs")).lines().filter_map(|pid| Process::of(pid.parse().ok()?)).collect();
    for child in subfolders(dir) {
        found.extend(processes_below(&child));
    }
    found
}

/// Where cgroup v2 is mounted: alone, or beside v1 on hybrid machines.
pub(crate) fn mount_point() -> Result<PathBuf, LocalError> {
    let path = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(path).map_err(LocalError::file("read", path))?;
    find_mount(&mounts).ok_or_else(|| LocalError::Host {
        what: "cgroup v2 is not mounted".to_owned(),
        remedy: "run `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`"
            .to_owned(),
    })
}

fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let kind = back.split(' ').next()?;
        (kind == "cgroup2").then(|| front.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn site_dir(mount: &Path, cluster: &ClusterId, site: &SiteName) -> PathBuf {
    mount.join("castrum").join(cluster.as_str()).join(site.as_str())
}

fn hand_down_controllers(dir: &Path) {
    for controller in read(&dir.join("cgroup.controllers")).split_ascii_whitespace() {
        if ["cpu", "cpuset", "io", "memory", "pids"].contains(&controller)
            && let Err(error) = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))
        {
            // Nodes run without; only limits inside them are not enforced then.
            tracing::debug!(dir = %dir.display(), controller, %error, "a cgroup controller is not handed down");
        }
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in subfolders(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn subfolders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_mount_is_found_on_pure_and_hybrid_machines() {
        let pure = "25 30 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(pure), Some("/sys/fs/cgroup".into()));
        assert_eq!(find_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("22 27 0:21 / /proc rw - proc proc rw\n"), None);
    }
}
