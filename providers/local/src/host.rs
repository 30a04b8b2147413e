//! What this machine must have before anything is made on it, each with its remedy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use castrum_provider::Failure;

use crate::LocalOptions;
use crate::cgroup;
use crate::error::LocalError;

/// Every node's systemd takes several; at the kernel's default of 128 the 22nd node ends without a word.
const INOTIFY_INSTANCES: u64 = 8192;
const INOTIFY_FILE: &str = "/proc/sys/fs/inotify/max_user_instances";

/// An image is about 0.3 GiB, a node's disk starts at 0.01.
const FREE_GIB: u64 = 3;

/// Programs that are run, with the Debian package of each.
const PROGRAMS: [(&str, &str); 6] = [
    ("apt-get", "apt"),
    ("dpkg-query", "dpkg"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// Namespaces that every node has of its own.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// All that is missing here.
pub(crate) fn check(options: &LocalOptions) -> Vec<Failure> {
    let root = check_root();
    if let Err(error) = root {
        // Everything else would fail for this reason alone.
        return vec![error.into()];
    }
    let mut found: Vec<LocalError> =
        PROGRAMS.iter().filter_map(|(name, package)| check_program(name, package)).collect();
    found.extend(NAMESPACES.iter().filter_map(|kind| check_namespace(kind)));
    let checks = [
        cgroup::mount_point().map(|_| ()),
        check_overlay(),
        check_folder(&options.state_root),
        check_folder(&options.image_cache),
        raise_inotify_limit(),
        check_bridge_filter(),
    ];
    found.extend(checks.into_iter().filter_map(Result::err));
    found.into_iter().map(Failure::from).collect()
}

/// Raises the limit on inotify instances where it is too low for many nodes.
pub(crate) fn raise_inotify_limit() -> Result<(), LocalError> {
    let read = || fs::read_to_string(INOTIFY_FILE).ok()?.trim().parse::<u64>().ok();
    let Some(limit) = read().filter(|limit| *limit < INOTIFY_INSTANCES) else { return Ok(()) };
    let written = fs::write(INOTIFY_FILE, INOTIFY_INSTANCES.to_string());
    if written.is_ok() {
        tracing::warn!(
            "raised `fs.inotify.max_user_instances` of this machine from {limit} to {INOTIFY_INSTANCES}: every node needs several"
        );
        return Ok(());
    }
    Err(LocalError::Host {
        what: format!("`fs.inotify.max_user_instances` is {limit}, which is enough for few nodes"),
        remedy: format!("run `sysctl -w fs.inotify.max_user_instances={INOTIFY_INSTANCES}`"),
    })
}

fn check_root() -> Result<(), LocalError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(LocalError::Host {
        what: "provider `local` makes namespaces, bridges and mounts, which needs root".to_owned(),
        remedy: "run the same command with `sudo`".to_owned(),
    })
}

fn check_program(name: &str, package: &str) -> Option<LocalError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    (!found).then(|| LocalError::Host {
        what: format!("program `{name}` is missing"),
        remedy: format!("run `apt-get install {package}` (and have /usr/sbin in PATH)"),
    })
}

fn check_namespace(kind: &str) -> Option<LocalError> {
    let missing = !Path::new("/proc/self/ns").join(kind).exists();
    missing.then(|| LocalError::Host {
        what: format!("this kernel has no `{kind}` namespaces"),
        remedy: "boot a Debian kernel, or use another provider".to_owned(),
    })
}

fn check_overlay() -> Result<(), LocalError> {
    let path = Path::new("/proc/filesystems");
    let has =
        || fs::read_to_string(path).unwrap_or_default().lines().any(|line| line.trim().ends_with("overlay"));
    if has() {
        return Ok(());
    }
    // It may be a module that nobody needed so far.
    let _ = Command::new("modprobe")
        .arg("overlay")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if has() {
        return Ok(());
    }
    Err(LocalError::Host {
        what: "this kernel has no overlayfs".to_owned(),
        remedy: "run `modprobe overlay`, or boot a Debian kernel".to_owned(),
    })
}

fn check_folder(folder: &Path) -> Result<(), LocalError> {
    let text = folder.to_string_lossy();
    if text.contains([',', ':', '\\']) {
        let what = format!("`{text}` cannot carry node disks: its name holds `,`, `:` or `\\`");
        return Err(LocalError::Host { what, remedy: "choose another folder".to_owned() });
    }
    let existing = existing_ancestor(folder);
    let look = |errno: rustix::io::Errno| LocalError::file("look at", &existing)(errno.into());
    let kind = rustix::fs::statfs(&existing).map_err(look)?.f_type;
    if u64::try_from(kind).ok() == Some(OVERLAYFS_MAGIC) {
        return Err(LocalError::Host {
            what: format!("`{text}` is on an overlay, which cannot carry node disks"),
            remedy: format!("mount a real file system or a tmpfs at `{text}`"),
        });
    }
    let space = rustix::fs::statvfs(&existing).map_err(look)?;
    let free = space.f_bavail.saturating_mul(space.f_frsize) >> 30;
    if free < FREE_GIB {
        return Err(LocalError::Host {
            what: format!("`{text}` has {free} GiB of free space"),
            remedy: format!("free at least {FREE_GIB} GiB there"),
        });
    }
    Ok(())
}

fn existing_ancestor(folder: &Path) -> PathBuf {
    folder.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// A packet filter that sees bridged frames and drops what it forwards would keep nodes from each other.
fn check_bridge_filter() -> Result<(), LocalError> {
    let filtered = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").unwrap_or_default();
    if filtered.trim() != "1" {
        return Ok(());
    }
    let Ok(rules) = Command::new("iptables").args(["-S", "FORWARD"]).stdin(Stdio::null()).output() else {
        return Ok(());
    };
    if !String::from_utf8_lossy(&rules.stdout).lines().any(|line| line == "-P FORWARD DROP") {
        return Ok(());
    }
    Err(LocalError::Host {
        what: "this machine's packet filter drops what nodes on one bridge send each other".to_owned(),
        remedy: "run `sysctl -w net.bridge.bridge-nf-call-iptables=0`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_comes_with_its_package() {
        assert!(check_program("sh", "dash").is_none());
        let missing = Failure::from(check_program("no-such-program", "some-package").unwrap());
        assert!(missing.message.contains("no-such-program"));
        assert!(missing.hint.unwrap().contains("apt-get install some-package"));
    }

    #[test]
    fn a_folder_that_overlay_options_cannot_name_is_refused() {
        assert!(check_folder(Path::new("/var/lib/a:b")).is_err());
        assert!(check_folder(Path::new("/var/lib/no/such/folder/yet")).is_ok());
    }
}
