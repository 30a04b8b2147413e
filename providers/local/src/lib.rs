//! Nodes as real Debian userlands in namespaces of this machine.
//!
//! A node is what a cloud machine is to everybody above: systemd as PID 1, cloud-init reading a `NoCloud` seed, sshd on
//! a private address. It is made of an overlay on one shared image, a cgroup and namespaces that live exactly as long
//! as the node's PID 1: mounts, network namespace and cable vanish with it, so that nothing of a dead node can be
//! forgotten. A launcher of our own rather than systemd-nspawn: it needs no systemd on this host, gives every node its
//! own cgroup and sysfs, and starts in milliseconds.
//!
//! What exists is told by the machine itself: records below the state folder (written before anything is made), link
//! aliases and cgroups, all named from the cluster id and the resource path.

mod cgroup;
mod error;
mod host;
mod image;
mod init;
mod ip;
mod launch;
mod machine;
mod network;
mod observe;
mod power;
mod process;
mod provider;
mod range;
mod seed;
mod sources;
mod store;
mod sys;

use std::path::PathBuf;

pub use init::maybe_run_node_init;
pub use observe::leftovers;
pub use provider::Local;

/// Where this provider keeps things on this machine, and what it launches nodes with.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The folder of all records and node disks; one folder per cluster below it.
    pub state_root: PathBuf,
    /// The folder of built images, shared by all clusters.
    pub image_cache: PathBuf,
    /// A program whose `main` calls [`maybe_run_node_init`] first; by default the running program itself.
    pub launcher: PathBuf,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            state_root: "/var/lib/castrum/local".into(),
            image_cache: "/var/cache/castrum/images".into(),
            launcher: "/proc/self/exe".into(),
        }
    }
}
