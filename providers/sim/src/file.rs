//! The world in a file, for commands that follow each other as separate processes.
//!
//! It is written whole, beside its place first. What is under way ends with the process, as if every agent had been
//! started anew; what nodes hold and what exists is kept, and time goes on from where it stood.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use castrum_blueprints::manifest::Manifest;
use castrum_blueprints::names::{ClusterId, ComponentName, Digest, NodeName, ResourceKind, Role, Timestamp};
use serde::{Deserialize, Serialize};

use crate::node::{Agent, Node, System};
use crate::place::Place;
use crate::state::{Held, State};

/// Why a world cannot be kept in its file.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be understood.
    #[error("cannot understand `{}`", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file holds another cluster.
    #[error("`{}` holds the world of the cluster {cluster}", path.display())]
    OtherCluster {
        /// Which.
        path: PathBuf,
        /// The cluster in it.
        cluster: ClusterId,
    },
    /// Two sites of one cluster share one world, and it can be in one file only.
    #[error("another simulated site keeps the same world in `{}`", path.display())]
    OtherFile {
        /// That of the other site.
        path: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format_version: u32,
    cluster: ClusterId,
    time: Timestamp,
    place: Place,
    nodes: BTreeMap<NodeName, Node>,
    held: BTreeMap<NodeName, (Arc<Manifest>, Digest)>,
    founders: BTreeMap<ComponentName, Vec<NodeName>>,
}

/// Writes the world to its file.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    written: Option<Instant>,
    took: Duration,
}

/// Of all time, at most the twentieth part is spent on writing.
const PAUSE: u32 = 20;

impl Keeper {
    /// Opens the file, and puts what it holds into `state`. The time at which that goes on, if there was any.
    pub(crate) fn open(path: PathBuf, state: &mut State) -> Result<(Self, Option<Timestamp>), WorldError> {
        let keeper = Self { path: path.clone(), written: None, took: Duration::ZERO };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((keeper, None)),
            Err(source) => return Err(WorldError::Read { path, source }),
        };
        let kept: Kept = match serde_json::from_slice(&text) {
            Ok(kept) => kept,
            Err(source) => return Err(WorldError::Parse { path, source }),
        };
        if kept.cluster != state.cluster {
            return Err(WorldError::OtherCluster { path, cluster: kept.cluster });
        }
        let time = kept.time;
        kept.restore(state);
        Ok((keeper, Some(time)))
    }

    pub(crate) fn is_of(&self, path: &Path) -> Result<(), WorldError> {
        if self.path == path { Ok(()) } else { Err(WorldError::OtherFile { path: self.path.clone() }) }
    }

    /// Writes the world, unless it was written a moment ago. At the end it is always written.
    pub(crate) fn save(&mut self, state: &State, at_last: bool) {
        if !at_last && self.written.is_some_and(|at| at.elapsed() < self.took * PAUSE) {
            return;
        }
        let begun = Instant::now();
        if let Err(error) = self.write(state) {
            tracing::warn!(%error, path = %self.path.display(), "the simulated world cannot be written");
        }
        self.took = begun.elapsed();
        self.written = Some(Instant::now());
    }

    fn write(&self, state: &State) -> io::Result<()> {
        if state.place.resources.is_empty() {
            // Nothing exists: a destroyed world leaves nothing behind.
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let held = state.held.iter();
        let kept = Kept {
            format_version: 1,
            cluster: state.cluster.clone(),
            time: state.time,
            place: state.place.clone(),
            nodes: state.nodes.clone(),
            held: held
                .map(|(n, held)| (n.clone(), (Arc::clone(&held.manifest), held.content.clone())))
                .collect(),
            founders: state.around.founders.clone(),
        };
        let beside = self.path.with_extension(format!("{}.new", std::process::id()));
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&beside, serde_json::to_vec(&kept)?)?;
        fs::rename(&beside, &self.path)
    }
}

impl Kept {
    fn restore(self, state: &mut State) {
        state.time = self.time;
        state.place = self.place;
        state.nodes = self.nodes;
        state.around.founders = self.founders;
        for (node, (manifest, content)) in self.held {
            let version = state.around.tell(&node, 0);
            state.held.insert(node, Held { manifest, content, version });
        }
    }
}

/// Lets the nodes of a loaded world go on, once the rules of their site are known.
pub(crate) fn resume(state: &mut State, site: &castrum_blueprints::names::SiteName) {
    let of_site = state.nodes.iter().filter(|(_, node)| {
        node.machine.site == *site && node.machine.kind == ResourceKind::Machine && node.run.life == 0
    });
    let mut names: Vec<(NodeName, Role)> = of_site.map(|(name, node)| (name.clone(), node.role)).collect();
    names.sort_by_key(|(_, role)| *role);
    for (name, _) in names {
        let Some(node) = state.nodes.get_mut(&name) else { continue };
        node.run.life = 1;
        node.run.started_at = state.time;
        node.lose_memory();
        match (node.system, node.agent) {
            (System::Off, _) => {}
            (System::Booting, _) | (System::Up, Agent::Joining) => state.boot(&name, 0),
            (System::Up, _) => state.agent_runs(&name),
        }
    }
}
