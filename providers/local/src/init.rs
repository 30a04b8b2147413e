//! What runs in a node before systemd does: namespaces (outer stage), then the root folder (inner stage, PID 1).

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{pivot_root, setsid};
use rustix::thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set};

use castrum_provider::Failure;

use crate::launch::{INIT_ARGUMENT, NodeSpec, Told};
use crate::process::Process;
use crate::store::write_atomically;
use crate::sys;

/// Devices that a node shares with this machine; the last two only where they exist.
const DEVICES: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun"];

/// What root in a node must not do to this machine, whose kernel it shares.
const DROPPED: [CapabilitySet; 7] = [
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_TIME,
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::WAKE_ALARM,
    CapabilitySet::SYSLOG,
];

/// Becomes the init of a node if this program was started as one; call it first in `main`, before any thread.
///
/// `Some` is the exit code to return from `main` with.
pub fn maybe_run_node_init() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != INIT_ARGUMENT {
        return None;
    }
    let done = match arguments.next()?.to_str()? {
        "outer" => outer(),
        "inner" => inner(),
        stage => Err(format!("there is no stage `{stage}`")),
    };
    let Err(reason) = done else { return Some(ExitCode::SUCCESS) };
    // Nobody listens any more if this fails, too.
    let _ = tell(&mut io::stdout(), &Told::Failed { reason });
    Some(ExitCode::FAILURE)
}

/// Adds to an error what was being done.
fn step<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("cannot {what}: {error}"))
}

fn outer() -> Result<(), String> {
    let mut lines = io::stdin().lock().lines();
    let text = lines.next().ok_or("no spec was given")?.map_err(|error| error.to_string())?;
    let spec: NodeSpec = step("read the spec", serde_json::from_str(&text))?;
    step("close descriptors", sys::keep_descriptors_from_children())?;
    step("leave the session", setsid())?;
    step("join the cgroup", fs::write(spec.cgroup.join("cgroup.procs"), "0"))?;
    let namespaces = UnshareFlags::NEWPID
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWCGROUP;
    step("make namespaces", sys::unshare(namespaces))?;
    quiet_ipv6();
    let pid = i32::try_from(std::process::id()).map_err(|error| error.to_string())?;
    step("report", tell(&mut io::stdout(), &Told::Ready { pid }))?;
    if !matches!(lines.next(), Some(Ok(word)) if word == "go") {
        return Err("it was called off".to_owned());
    }
    let mut child = Command::new("/proc/self/exe")
        .args([INIT_ARGUMENT, "inner"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start PID 1: {error}"))?;
    let init = i32::try_from(child.id()).ok().and_then(Process::of).ok_or("PID 1 ended at once")?;
    if let Some(mut stdin) = child.stdin.take() {
        step("hand over the spec", stdin.write_all(text.as_bytes()))?;
    }
    let note = serde_json::to_vec(&init).map_err(|error| error.to_string())?;
    step(
        "note the pid",
        write_atomically(&spec.init_note, &note).map_err(|error| Failure::from(error).message),
    )?;
    step("report", tell(&mut io::stdout(), &Told::Started { init }))
}

/// The network has no IPv6 and no routers; without this, systemd-networkd waits for both.
fn quiet_ipv6() {
    for file in ["all/accept_ra", "default/accept_ra"] {
        let _ = fs::write(Path::new("/proc/sys/net/ipv6/conf").join(file), "0");
    }
    // Inherited by the cable that comes later; the loopback keeps its address. Kernels without IPv6 have no such file.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

fn inner() -> Result<(), String> {
    let spec: NodeSpec = step("read the spec", serde_json::from_reader(io::stdin().lock()))?;
    // Closed by the exec itself: its end of file is how our starter knows that systemd took over.
    let mut report =
        step("keep the report pipe", rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3))
            .map(File::from)?;
    let reason = match become_node(&spec) {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    let _ = tell(&mut report, &Told::Failed { reason: reason.clone() });
    Err(reason)
}

fn become_node(spec: &NodeSpec) -> Result<std::convert::Infallible, String> {
    step("set the host name", rustix::system::sethostname(spec.hostname.as_bytes()))?;
    // Only here: entering the new root takes along every process of the same mount namespace.
    step("make a mount namespace", sys::unshare(UnshareFlags::NEWNS))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("part from this machine's mounts", mount_change("/", private))?;
    mount_root(spec)?;
    mount_kernel(&spec.root)?;
    make_devices(&spec.root)?;
    mount_tmpfs(&spec.root.join("run"), "mode=755")?;
    protect_host(&spec.root)?;
    let folders = take_folders(spec)?;
    enter(&spec.root)?;
    put_folders(folders)?;
    for capability in DROPPED {
        step("drop a capability", remove_capability_from_bounding_set(capability))?;
    }
    let null = step("open /dev/null", File::options().read(true).write(true).open("/dev/null"))?;
    let null = OwnedFd::from(null);
    step("let go of stdin", rustix::stdio::dup2_stdin(&null))?;
    step("let go of stdout", rustix::stdio::dup2_stdout(&null))?;
    step("let go of stderr", rustix::stdio::dup2_stderr(&null))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let error = Command::new("/sbin/init")
        .env_clear()
        .env("container", "castrum")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .exec();
    Err(format!("cannot run /sbin/init: {error}"))
}

fn mount_root(spec: &NodeSpec) -> Result<(), String> {
    let (lower, upper, work) = (spec.lower.display(), spec.upper.display(), spec.work.display());
    let options =
        step("name the layers", CString::new(format!("lowerdir={lower},upperdir={upper},workdir={work}")))?;
    step("mount the root", mount("overlay", &spec.root, "overlay", MountFlags::empty(), options.as_c_str()))
}

fn mount_kernel(root: &Path) -> Result<(), String> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    step("mount /proc", mount("proc", root.join("proc"), "proc", strict, None))?;
    // Read-only, so that udev in the node stays off.
    step("mount /sys", mount("sysfs", root.join("sys"), "sysfs", strict | MountFlags::RDONLY, None))?;
    let cgroup = root.join("sys/fs/cgroup");
    let delegated = mount("cgroup2", &cgroup, "cgroup2", strict, c"nsdelegate");
    step("mount the cgroup", delegated.or_else(|_| mount("cgroup2", &cgroup, "cgroup2", strict, None)))
}

fn mount_tmpfs(place: &Path, options: &str) -> Result<(), String> {
    let options = step("name the options", CString::new(options))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    step("mount a tmpfs", mount("tmpfs", place, "tmpfs", flags, options.as_c_str()))
}

fn make_devices(root: &Path) -> Result<(), String> {
    let dev = root.join("dev");
    let options = c"mode=755";
    step("mount /dev", mount("tmpfs", &dev, "tmpfs", MountFlags::NOSUID, options))?;
    for name in DEVICES {
        let (source, place) = (Path::new("/dev").join(name), dev.join(name));
        if !source.exists() {
            continue;
        }
        step("make a device", place.parent().map_or(Ok(()), fs::create_dir_all))?;
        step("make a device", File::create(&place))?;
        step("mount a device", mount_bind(&source, &place))?;
    }
    for folder in ["pts", "shm"] {
        step("make a folder in /dev", fs::create_dir(dev.join(folder)))?;
    }
    let options = c"newinstance,ptmxmode=0666,mode=620,gid=5";
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    step("mount /dev/pts", mount("devpts", dev.join("pts"), "devpts", flags, options))?;
    mount_tmpfs(&dev.join("shm"), "mode=1777")?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        step("link a device", symlink(target, dev.join(name)))?;
    }
    Ok(())
}

/// This machine's own settings are read-only in a node, but for those of the node's network.
fn protect_host(root: &Path) -> Result<(), String> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let settings = root.join("proc/sys");
    let network = settings.join("net");
    step("guard /proc/sys", mount_bind(&settings, &settings))?;
    step("guard /proc/sys/net", mount_bind(&network, &network))?;
    let read_only = MountFlags::BIND | MountFlags::RDONLY | strict;
    step("guard /proc/sys", mount_remount(&settings, read_only, c""))?;
    new_boot_id(root)?;
    let trigger = root.join("proc/sysrq-trigger");
    if trigger.exists() {
        step("guard sysrq", mount_bind(&trigger, &trigger))?;
        step("guard sysrq", mount_remount(&trigger, read_only, c""))?;
    }
    Ok(())
}

/// Every start of a node is a boot of its own, to its journal and to whoever asks whether it was restarted.
fn new_boot_id(root: &Path) -> Result<(), String> {
    let file = root.join("run/castrum-boot-id");
    let known = root.join("proc/sys/kernel/random/boot_id");
    let id = step("draw a boot id", fs::read("/proc/sys/kernel/random/uuid"))?;
    step("write the boot id", fs::write(&file, id))?;
    step("give the node a boot id", mount_bind(&file, &known))?;
    let flags =
        MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    step("guard the boot id", mount_remount(&known, flags, c""))
}

/// Takes hold of the real folders while this machine's own paths can still be seen.
fn take_folders(spec: &NodeSpec) -> Result<Vec<(OwnedFd, &Path)>, String> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let take = |(source, _): &(PathBuf, PathBuf)| step("take a data folder", open_tree(CWD, source, flags));
    spec.binds.iter().map(|bind| Ok((take(bind)?, bind.1.as_path()))).collect()
}

/// Puts them in place by the node's own paths, so that no symbolic link in it can lead out of it.
fn put_folders(folders: Vec<(OwnedFd, &Path)>) -> Result<(), String> {
    for (folder, place) in folders {
        step("make the place of a data folder", fs::create_dir_all(place))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        step("mount a data folder", move_mount(&folder, c"", CWD, place, flags))?;
    }
    Ok(())
}

fn enter(root: &Path) -> Result<(), String> {
    let old = PathBuf::from("mnt");
    step("enter the root", rustix::process::chdir(root))?;
    step("make the place of the old root", fs::create_dir_all(&old))?;
    step("enter the root", pivot_root(".", &old))?;
    step("enter the root", rustix::process::chdir("/"))?;
    step("leave the old root", unmount("/mnt", UnmountFlags::DETACH))?;
    // As on a booted machine: without it, mounts that systemd makes for a unit (credentials, for one) do not arrive.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    step("share mounts within the node", mount_change("/", shared))
}

fn tell(to: &mut impl Write, told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}
