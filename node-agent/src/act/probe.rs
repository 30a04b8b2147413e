//! Looks at what is on the disk. It is looked at anew before every decision, so nothing here can be out of date.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use castrum_blueprints::manifest::Manifest;
use castrum_blueprints::names::ComponentName;
use castrum_blueprints::node::{NodeFacts, SetFacts};

use super::accounts::{self, Ids};
use super::files::{FileError, sweep};
use super::sets::{unit_link, unit_target};
use crate::paths::Paths;

/// Removes what an agent that died left half done, and lets components reach their folders.
pub fn tidy(paths: &Paths) -> Result<(), FileError> {
    for dir in [paths.store(), paths.config(), paths.sets()] {
        sweep(&dir)?;
    }
    let state = paths.state();
    // Components keep their data below it, under accounts of their own.
    fs::set_permissions(&state, Permissions::from_mode(0o711))
        .map_err(FileError::of("set the mode of", &state))?;
    let active = paths.active();
    sweep(active.parent().unwrap_or(Path::new("/")))
}

/// The part of the facts that is on the disk.
pub fn probe(paths: &Paths, manifest: &Manifest) -> Result<NodeFacts, FileError> {
    let accounts = accounts::all(paths)?;
    let sets = names(&paths.sets())?;
    let active = fs::read_link(paths.active()).ok();
    let active = active.and_then(|target| Some(target.file_name()?.to_string_lossy().into_owned()));
    let components = manifest.components.iter().map(|c| &c.name);
    Ok(NodeFacts {
        stores: names(&paths.store())?,
        configs: names(&paths.config())?,
        sets: sets
            .iter()
            .map(|set| Ok((set.clone(), set_facts(&paths.sets().join(set))?)))
            .collect::<Result<_, FileError>>()?,
        active: active.filter(|set| sets.contains(set)),
        linked: components.filter(|name| is_linked(paths, name)).cloned().collect(),
        folders: folders(paths, manifest, &accounts),
        accounts: accounts.into_keys().collect(),
        ..NodeFacts::default()
    })
}

fn is_linked(paths: &Paths, component: &ComponentName) -> bool {
    fs::read_link(unit_link(paths, component)).is_ok_and(|target| target == unit_target(component))
}

/// The entries of a folder, without those that are not finished.
fn names(dir: &Path) -> Result<BTreeSet<String>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(FileError::of("list", dir))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(FileError::of("list", dir))?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.insert(name);
        }
    }
    Ok(names)
}

fn set_facts(set: &Path) -> Result<SetFacts, FileError> {
    let mut facts = SetFacts::default();
    for component in names(set)? {
        let dir = set.join(component);
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        facts.stores.extend(fs::read_link(dir.join("store")).ok().and_then(|target| name(&target)));
        let config = fs::read_link(dir.join("config")).ok();
        facts.configs.extend(config.and_then(|target| name(target.parent()?)));
    }
    Ok(facts)
}

/// The mode is not looked at: programs set it on their own data folders, and it would be a fight without end.
fn folders(paths: &Paths, manifest: &Manifest, accounts: &BTreeMap<String, Ids>) -> BTreeSet<String> {
    let all = manifest.components.iter().flat_map(|component| &component.folders);
    let right = all.filter(|folder| {
        let found = fs::metadata(paths.at(&folder.path)).ok().filter(fs::Metadata::is_dir);
        let owner = accounts.get(&folder.owner);
        found.zip(owner).is_some_and(|(found, owner)| found.uid() == owner.0)
    });
    right.map(|folder| folder.path.clone()).collect()
}
