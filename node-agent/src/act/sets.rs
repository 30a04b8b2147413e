//! Config trees, sets of links, and the one switch from a set to the next.
//!
//! ```text
//! /opt/castrum/active ─▶ sets/7-0123456789ab/etcd/store  ─▶ store/etcd-0123456789ab
//!                                                /config ─▶ config/etcd-0123456789ab/files
//!                                                /unit   ─▶ config/etcd-0123456789ab/castrum-etcd.service
//! /etc/systemd/system/castrum-etcd.service ─▶ /opt/castrum/active/etcd/unit
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use castrum_blueprints::manifest::{ACTIVE_DIR, ComponentManifest, FolderManifest, Manifest};
use castrum_blueprints::names::ComponentName;
use castrum_blueprints::node::{config_name, store_name};

use super::accounts::Ids;
use super::files::{FileError, beside, inside, make_dir, remove, swap_link, sync_dir, write_synced};
use crate::paths::Paths;

/// Where in a config tree the files are; the unit lies beside it.
const FILES: &str = "files";

/// Lays down the config tree of a component.
pub(crate) fn configure(paths: &Paths, component: &ComponentManifest, tree: &str) -> Result<(), FileError> {
    let target = paths.config().join(tree);
    let temporary = beside(&target);
    remove(&temporary)?;
    let files = temporary.join(FILES);
    make_dir(&files)?;
    for (path, content) in &component.config {
        let outside = || std::io::Error::other("it leads out of the config tree");
        let place =
            inside(Path::new(path)).ok_or_else(|| FileError::of("write", Path::new(path))(outside()))?;
        let place = files.join(place);
        if let Some(parent) = place.parent() {
            make_dir(parent)?;
        }
        write_synced(&place, content.as_bytes(), 0o644)?;
    }
    if let Some(unit) = &component.unit {
        write_synced(&temporary.join(component.unit_name()), unit.as_bytes(), 0o644)?;
    }
    sync_dir(&files)?;
    sync_dir(&temporary)?;
    remove(&target)?;
    fs::rename(&temporary, &target).map_err(FileError::of("name", &target))?;
    sync_dir(&paths.config())
}

/// Makes the set of a manifest if it is not there, lets the service manager find its units, and switches to it.
pub(crate) fn activate(paths: &Paths, manifest: &Manifest, set: &str) -> Result<(), FileError> {
    let target = paths.sets().join(set);
    if !target.is_dir() {
        make_set(&target, manifest)?;
    }
    for component in &manifest.components {
        let link = unit_link(paths, &component.name);
        if component.unit.is_some() {
            swap_link(&link, &unit_target(&component.name))?;
        } else {
            remove(&link)?;
        }
    }
    swap_link(&paths.active(), &Path::new("sets").join(set))?;
    Ok(())
}

fn make_set(target: &Path, manifest: &Manifest) -> Result<(), FileError> {
    let temporary = beside(target);
    remove(&temporary)?;
    make_dir(&temporary)?;
    let up = Path::new("../../..");
    for component in &manifest.components {
        let dir = temporary.join(component.name.as_str());
        make_dir(&dir)?;
        let link = |name: &str, to: PathBuf| {
            let place = dir.join(name);
            symlink(to, &place).map_err(FileError::of("link", &place))
        };
        if let Some(blob) = &component.bundle {
            link("store", up.join("store").join(store_name(&component.name, blob)))?;
        }
        if let Some(tree) = config_name(component) {
            let tree = up.join("config").join(tree);
            link("config", tree.join(FILES))?;
            if component.unit.is_some() {
                link("unit", tree.join(component.unit_name()))?;
            }
        }
        sync_dir(&dir)?;
    }
    sync_dir(&temporary)?;
    fs::rename(&temporary, target).map_err(FileError::of("name", target))?;
    sync_dir(target.parent().unwrap_or(Path::new("/")))
}

/// Makes a data folder with its owner and mode; what is in it is left alone.
pub(crate) fn folder(paths: &Paths, folder: &FolderManifest, owner: Ids) -> Result<(), FileError> {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let place = paths.at(&folder.path);
    make_dir(&place)?;
    chown(&place, Some(owner.0), Some(owner.1)).map_err(FileError::of("give an owner to", &place))?;
    let permissions = fs::Permissions::from_mode(folder.mode & 0o7777);
    fs::set_permissions(&place, permissions).map_err(FileError::of("set the mode of", &place))
}

/// The link by which the service manager finds a component's unit.
pub(crate) fn unit_link(paths: &Paths, component: &ComponentName) -> PathBuf {
    paths.units().join(format!("castrum-{component}.service"))
}

/// Where that link points to.
pub(crate) fn unit_target(component: &ComponentName) -> PathBuf {
    Path::new(ACTIVE_DIR).join(component.as_str()).join("unit")
}
