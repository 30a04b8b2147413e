//! One simulated node: a machine with an operating system, and on it an agent that holds facts and a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castrum_blueprints::boot::{BOOT_FILE, BootConfig};
use castrum_blueprints::manifest::Manifest;
use castrum_blueprints::names::{ComponentName, Digest, ResourcePath, Role, Timestamp};
use castrum_blueprints::node::{Action, NodeFacts, UnitState};
use castrum_blueprints::status::{NodeStatus, Phase};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::What;

/// One node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) machine: ResourcePath,
    pub(crate) role: Role,
    pub(crate) incarnation: String,
    /// What its boot data lets it join with; `None` if the installer brings the agent.
    pub(crate) boot: Option<BootConfig>,
    pub(crate) system: System,
    pub(crate) agent: Agent,
    /// Paused from outside, which the place can tell.
    pub(crate) paused: bool,
    /// Hung, which nobody outside can tell.
    pub(crate) hung: bool,
    pub(crate) facts: NodeFacts,
    pub(crate) manifest: Option<Arc<Manifest>>,
    pub(crate) content: Option<Digest>,
    /// How often each component's start has failed.
    pub(crate) failed_starts: BTreeMap<ComponentName, u32>,
    /// When its agent last spoke, if it does not speak now.
    pub(crate) silent_since: Timestamp,
    #[serde(skip)]
    pub(crate) run: Run,
}

/// How far the operating system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum System {
    Off,
    Booting,
    Up,
}

/// How far the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Agent {
    Absent,
    /// It runs, and has no certificate yet.
    Joining,
    Running,
}

/// What ends with the process that simulates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// Tells what was planned for this life of the machine from what was planned for an earlier one.
    pub(crate) life: u64,
    pub(crate) in_flight: BTreeSet<Action>,
    pub(crate) checking: BTreeSet<ComponentName>,
    pub(crate) since: BTreeMap<ComponentName, (Phase, Timestamp)>,
    pub(crate) wake_at: Option<Timestamp>,
    /// What came due while it was frozen.
    pub(crate) deferred: Vec<What>,
    pub(crate) started_at: Timestamp,
    pub(crate) sequence: u64,
    /// What it says of itself; heard by others once it is `said`.
    pub(crate) status: Option<Arc<NodeStatus>>,
    pub(crate) reporting: bool,
    /// The version of its last heard word.
    pub(crate) said: u64,
    /// The version at which it was admitted.
    pub(crate) admitted: u64,
}

impl Node {
    pub(crate) fn new(
        machine: ResourcePath,
        role: Role,
        incarnation: String,
        boot_data: Option<&str>,
    ) -> Self {
        Self {
            machine,
            role,
            incarnation,
            boot: boot_data.and_then(boot_config),
            system: System::Booting,
            agent: Agent::Absent,
            paused: false,
            hung: false,
            facts: NodeFacts::default(),
            manifest: None,
            content: None,
            failed_starts: BTreeMap::new(),
            silent_since: Timestamp(0),
            run: Run::default(),
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.paused || self.hung
    }

    /// Whether its agent works and speaks.
    pub(crate) fn is_awake(&self) -> bool {
        self.agent == Agent::Running && self.system == System::Up && !self.is_frozen()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |manifest| manifest.generation)
    }

    /// The power goes: what was in memory is gone, disks are kept.
    pub(crate) fn lose_power(&mut self) {
        self.system = System::Off;
        (self.paused, self.hung) = (false, false);
        self.facts.units_loaded = None;
        for held in self.facts.components.values_mut() {
            held.unit.state = UnitState::Inactive;
        }
        self.lose_memory();
        self.run.life += 1;
        self.run.in_flight.clear();
        self.run.deferred.clear();
    }

    /// The agent's process ends: what it had in memory is gone. Starts under way are the service manager's.
    pub(crate) fn lose_memory(&mut self) {
        self.facts.attempts.clear();
        self.facts.components.values_mut().for_each(|held| held.checks.clear());
        self.run.in_flight.retain(Action::starts);
        self.run.checking.clear();
        self.run.wake_at = None;
    }

    /// A new agent process: its words come after those of the one before.
    pub(crate) fn start_agent(&mut self, now: Timestamp) {
        self.run.started_at = Timestamp(now.0.max(self.run.started_at.0 + 1));
        self.run.sequence = 0;
    }
}

/// The agent's config in cloud-init user-data; `None` if the data has none.
fn boot_config(user_data: &str) -> Option<BootConfig> {
    let document: Value = serde_json::from_str(user_data.strip_prefix("#cloud-config\n")?).ok()?;
    let files = document.get("write_files")?.as_array()?;
    let file = files.iter().find(|file| file.get("path").and_then(Value::as_str) == Some(BOOT_FILE))?;
    serde_json::from_str(file.get("content")?.as_str()?).ok()
}
