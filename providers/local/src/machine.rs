//! Machines: their disks, seeds, cables and cgroups, and what makes, starts and removes them.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use castrum_blueprints::names::{Digest, ResourceKind, ResourcePath};
use castrum_provider::{Change, MachineSpec, Removed, ResourceSpec, Wanted, now};

use crate::LocalOptions;
use crate::cgroup::Cgroup;
use crate::error::LocalError;
use crate::image::{self, Recipe};
use crate::launch::{NodeSpec, launch};
use crate::network::link_name;
use crate::process::Process;
use crate::range::Range;
use crate::store::{DirLock, MachineMade, Made, Record, Store};
use crate::{host, ip, power, seed};

/// Container engines keep their data below it; an overlay cannot carry theirs, so it is a real folder.
const DATA: &str = "/var/lib/castrum";

/// Makes the machine and starts it, or finds it so.
pub(crate) fn ensure(
    store: &Store,
    options: &LocalOptions,
    wanted: &Wanted,
    spec: &MachineSpec,
) -> Result<(Change, Record), LocalError> {
    let lock = DirLock::acquire(&store.dir(&wanted.path)?)?;
    let old = store.read(&wanted.path)?;
    if let Some(old) = &old {
        refuse_what_cannot_change(old, wanted)?;
        if old.complete && old.generation == wanted.generation {
            return settle(store, options, wanted, old.clone());
        }
    }
    let record = match old {
        Some(old) if old.generation == wanted.generation => old,
        Some(old) => {
            take_apart(store, &old.path)?;
            announce(store, wanted, spec)?
        }
        None => match announce(store, wanted, spec) {
            Ok(record) => record,
            Err(error) => {
                // Nothing was made but the locked folder.
                store.erase(&wanted.path, lock)?;
                return Err(error);
            }
        },
    };
    let record = make(store, wanted, record, spec)?;
    start(store, options, &record)?;
    Ok((Change::Created, record))
}

/// Removes the machine with everything that belongs to it.
pub(crate) fn remove(store: &Store, path: &ResourcePath) -> Result<Removed, LocalError> {
    let lock = DirLock::existing(&store.dir(path)?)?;
    let known = store.read(path)?.is_some();
    if !known && lock.is_some() {
        refuse_unannounced(&store.dir(path)?)?;
    }
    let stray = Cgroup::of(&store.cluster, path)?.dir().exists();
    take_apart(store, path)?;
    let Some(lock) = lock else {
        return Ok(if stray { Removed::Removed } else { Removed::Absent });
    };
    store.erase(path, lock)?;
    Ok(Removed::Removed)
}

/// Starts a machine that is off; one that runs is left alone.
pub(crate) fn start(store: &Store, options: &LocalOptions, record: &Record) -> Result<(), LocalError> {
    let Made::Machine(made) = &record.made else { return Err(not_a_machine(&record.path)) };
    let cgroup = Cgroup::of(&store.cluster, &record.path)?;
    let dir = store.dir(&record.path)?;
    if init(&cgroup, &dir).is_some() {
        return Ok(());
    }
    host::raise_inotify_limit()?;
    cgroup.kill()?;
    cgroup.create()?;
    if cgroup.is_frozen() {
        cgroup.freeze(false)?;
    }
    ip::delete(&made.cable)?;
    let spec = node_spec(store, options, record, made, &cgroup)?;
    let started = launch(&options.launcher, &spec, |pid| plug_in(store, record, made, pid));
    if started.is_err() {
        cgroup.kill()?;
        ip::delete(&made.cable)?;
    }
    started.map(|_| ())
}

/// The node's PID 1, by the note of its pid or, where that is missing or stale, by its cgroup.
pub(crate) fn init(cgroup: &Cgroup, dir: &Path) -> Option<Process> {
    let noted: Option<Process> =
        fs::read(dir.join("init.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    noted.filter(|process| process.is_alive() && cgroup.holds(*process)).or_else(|| cgroup.init())
}

/// That `path` is no machine, as an error.
pub(crate) fn not_a_machine(path: &ResourcePath) -> LocalError {
    LocalError::Invalid { what: format!("`{path}` is not a machine"), hint: "name a machine".to_owned() }
}

fn settle(
    store: &Store,
    options: &LocalOptions,
    wanted: &Wanted,
    mut record: Record,
) -> Result<(Change, Record), LocalError> {
    let mut change = Change::Unchanged;
    if record.spec != wanted.spec {
        record.spec = wanted.spec.clone();
        store.write(&record)?;
        change = Change::Changed;
    }
    let cgroup = Cgroup::of(&store.cluster, &record.path)?;
    if init(&cgroup, &store.dir(&record.path)?).is_none() {
        start(store, options, &record)?;
        change = Change::Changed;
    }
    Ok((change, record))
}

fn refuse_what_cannot_change(old: &Record, wanted: &Wanted) -> Result<(), LocalError> {
    let image = |spec: &ResourceSpec| match spec {
        ResourceSpec::Machine(machine) => machine.image.clone(),
        _ => None,
    };
    if old.generation > wanted.generation {
        let what = format!("machine `{}` is of generation {} already", old.path, old.generation);
        return Err(LocalError::Invalid { what, hint: "plan again with what exists now".to_owned() });
    }
    if old.generation == wanted.generation && image(&old.spec) != image(&wanted.spec) {
        let what = format!("machine `{}` cannot be given another image", old.path);
        return Err(LocalError::Invalid { what, hint: "replace the machine".to_owned() });
    }
    Ok(())
}

/// A folder without a record may hold nothing that we would have made.
fn refuse_unannounced(dir: &Path) -> Result<(), LocalError> {
    let entries = fs::read_dir(dir).map_err(LocalError::file("list", dir))?;
    if entries.flatten().any(|entry| entry.file_name() != "record.new") {
        return Err(LocalError::NotOurs {
            what: format!("folder `{}`, which has no record,", dir.display()),
        });
    }
    Ok(())
}

/// Settles every name and address of the machine and writes them down, before anything is made.
fn announce(store: &Store, wanted: &Wanted, spec: &MachineSpec) -> Result<Record, LocalError> {
    // Two machines must not take the same address.
    let _choosing = DirLock::acquire(&store.site_dir())?;
    let image = image_of(store, spec)?;
    let (bridge, range) = network_of(store)?;
    let address = free_address(store, &wanted.path, range)?;
    let created_at = now();
    let seed = format!("{}\0{}\0{}\0{}", store.cluster, wanted.path, wanted.generation, created_at.0);
    let record = Record {
        cluster: store.cluster.clone(),
        path: wanted.path.clone(),
        spec: wanted.spec.clone(),
        generation: wanted.generation,
        created_at,
        complete: false,
        made: Made::Machine(MachineMade {
            image,
            bridge,
            cable: link_name("cv-", &store.cluster, &wanted.path),
            mac: mac_of(store, &wanted.path),
            address,
            prefix: range.prefix(),
            incarnation: format!("i-{}", Digest::of(seed.as_bytes()).short()),
        }),
    };
    store.write(&record)?;
    Ok(record)
}

fn image_of(store: &Store, spec: &MachineSpec) -> Result<Digest, LocalError> {
    let images = store.records(ResourceKind::Image)?;
    let wanted = |record: &&Record| spec.image.as_ref().is_none_or(|name| record.path.name == *name);
    let found = images.iter().find(wanted).map(|record| &record.made);
    match found {
        Some(Made::Image { digest }) => Ok(digest.clone()),
        _ => Err(LocalError::NotReady { what: format!("the image of node `{}` is not made yet", spec.node) }),
    }
}

fn network_of(store: &Store) -> Result<(String, Range), LocalError> {
    let networks = store.records(ResourceKind::Network)?;
    match networks.into_iter().next().map(|record| record.made) {
        Some(Made::Network { bridge, range }) => Ok((bridge, range)),
        _ => Err(LocalError::NotReady { what: format!("site `{}` has no network yet", store.site) }),
    }
}

fn free_address(store: &Store, path: &ResourcePath, range: Range) -> Result<Ipv4Addr, LocalError> {
    let machines = store.records(ResourceKind::Machine)?;
    let taken: Vec<Ipv4Addr> = machines
        .iter()
        .filter(|record| record.path != *path)
        .filter_map(|record| match &record.made {
            Made::Machine(made) => Some(made.address),
            _ => None,
        })
        .collect();
    range.node_addresses().find(|address| !taken.contains(address)).ok_or_else(|| LocalError::Exhausted {
        what: format!("range {range} has no free address left"),
        hint: "give the site a larger `cidr`".to_owned(),
    })
}

/// A locally administered address, the same for the same machine of the same cluster.
fn mac_of(store: &Store, path: &ResourcePath) -> String {
    let digest = Digest::of(format!("mac\0{}\0{path}", store.cluster).as_bytes());
    let pairs: Vec<&str> = (0..5).map(|pair| &digest.as_str()[pair * 2..pair * 2 + 2]).collect();
    format!("02:{}", pairs.join(":"))
}

/// Makes the disk anew; what an interrupted call left of it is thrown away.
fn make(
    store: &Store,
    wanted: &Wanted,
    mut record: Record,
    spec: &MachineSpec,
) -> Result<Record, LocalError> {
    let Made::Machine(made) = &record.made else { return Err(not_a_machine(&record.path)) };
    let Some(boot_data) = &wanted.boot_data else {
        let what = format!("machine `{}` cannot be made without boot data", record.path);
        return Err(LocalError::Invalid { what, hint: "plan again".to_owned() });
    };
    take_apart(store, &record.path)?;
    store.clear(&record.path)?;
    let dir = store.dir(&record.path)?;
    let disks = disk_folders(&dir, spec)?;
    let seed_folder = Path::new("upper/var/lib/cloud/seed/nocloud");
    let folders = ["root", "work", "data", "upper/var/lib/castrum"].map(Path::new);
    for folder in folders.into_iter().chain([seed_folder]) {
        make_folders(&dir, folder)?;
    }
    for (source, _) in disks {
        make_folders(&dir, source.strip_prefix(&dir).unwrap_or(&source))?;
    }
    seed::write(&dir.join("upper"), spec.node.as_str(), made, boot_data)?;
    record.complete = true;
    store.write(&record)?;
    Ok(record)
}

/// Makes folders that everybody in the node may pass, whatever our own umask.
fn make_folders(dir: &Path, below: &Path) -> Result<(), LocalError> {
    let mut path = dir.to_owned();
    for part in below.components() {
        path.push(part);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(LocalError::file("create", &path)(error));
            }
            _ => {}
        }
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, mode).map_err(LocalError::file("change", &path))?;
    }
    Ok(())
}

/// The real folders that stand for the machine's further disks, with their places in the node.
fn disk_folders(dir: &Path, spec: &MachineSpec) -> Result<Vec<(PathBuf, PathBuf)>, LocalError> {
    let folder = |(number, disk): (usize, &castrum_blueprints::blueprint::Disk)| {
        let place = PathBuf::from(&disk.mount);
        let plain = place.is_absolute() && place.components().all(|part| part.as_os_str() != "..");
        if !plain {
            let what = format!("a disk of node `{}` cannot be mounted at `{}`", spec.node, disk.mount);
            return Err(LocalError::Invalid { what, hint: "use an absolute path without `..`".to_owned() });
        }
        Ok((dir.join("disks").join(number.to_string()), place))
    };
    spec.disks.iter().enumerate().map(folder).collect()
}

fn node_spec(
    store: &Store,
    options: &LocalOptions,
    record: &Record,
    made: &MachineMade,
    cgroup: &Cgroup,
) -> Result<NodeSpec, LocalError> {
    let ResourceSpec::Machine(spec) = &record.spec else { return Err(not_a_machine(&record.path)) };
    let lower = image_folder(store, options, made)?;
    let dir = store.dir(&record.path)?;
    let mut binds = vec![(dir.join("data"), PathBuf::from(DATA))];
    binds.extend(disk_folders(&dir, spec)?);
    for (source, _) in &binds {
        make_folders(&dir, source.strip_prefix(&dir).unwrap_or(source))?;
    }
    Ok(NodeSpec {
        hostname: spec.node.to_string(),
        cgroup: cgroup.dir().to_owned(),
        lower,
        upper: dir.join("upper"),
        work: dir.join("work"),
        root: dir.join("root"),
        binds,
        init_note: dir.join("init.json"),
    })
}

/// The image's root folder, built again if somebody cleared the cache.
fn image_folder(store: &Store, options: &LocalOptions, made: &MachineMade) -> Result<PathBuf, LocalError> {
    let folder = image::rootfs(&options.image_cache, &made.image);
    if folder.is_dir() {
        return Ok(folder);
    }
    for record in store.records(ResourceKind::Image)? {
        if let (ResourceSpec::Image(spec), Made::Image { digest }) = (&record.spec, &record.made)
            && *digest == made.image
            && Recipe::of(spec)?.digest() == *digest
        {
            image::ensure(&options.image_cache, &Recipe::of(spec)?)?;
            return Ok(folder);
        }
    }
    Err(LocalError::Invalid {
        what: format!("image {} is no longer in `{}`", made.image.short(), options.image_cache.display()),
        hint: "replace the machine".to_owned(),
    })
}

fn plug_in(store: &Store, record: &Record, made: &MachineMade, pid: i32) -> Result<(), LocalError> {
    let (cable, bridge) = (&made.cable, &made.bridge);
    let alias = ip::alias(&store.cluster, &record.path);
    ip::batch(&[
        format!("link add {cable} type veth peer name eth0 address {} netns {pid}", made.mac),
        format!("link set dev {cable} alias \"{alias}\""),
        format!("link set dev {cable} addrgenmode none master {bridge} up"),
    ])
}

/// Ends the machine and takes away everything outside its folder. Works by derived names, so it needs no record.
fn take_apart(store: &Store, path: &ResourcePath) -> Result<(), LocalError> {
    let cgroup = Cgroup::of(&store.cluster, path)?;
    if cgroup.dir().exists() {
        power::kill(&cgroup)?;
        cgroup.remove()?;
    }
    let cable = link_name("cv-", &store.cluster, path);
    match ip::link(&cable)? {
        Some(link) if link.ifalias.is_some() && link.resource_of(&store.cluster).as_ref() != Some(path) => {
            Err(LocalError::NotOurs { what: format!("link `{cable}`") })
        }
        Some(_) => ip::delete(&cable).map(|_| ()),
        None => Ok(()),
    }
}
