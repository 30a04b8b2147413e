//! What happens in a run, in words. The engine speaks only these; screen, JSON and journal are listeners.
//!
//! The journal is these events, one JSON document a line. [`What::RunFinished`] is always the last of a run; a run
//! whose journal has none was killed.

use serde::{Deserialize, Serialize};

use crate::names::{ClusterId, ComponentName, NodeName, Timestamp};
use crate::plan::{Blocked, Debt, Progress};
use crate::status::Phase;

/// The version of the events' form.
pub const EVENT_FORMAT: u32 = 1;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`EVENT_FORMAT`].
    pub format_version: u32,
    /// When.
    pub at: Timestamp,
    /// The run that it belongs to.
    pub run: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of things that happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A run has begun.
    RunStarted {
        /// The command.
        verb: String,
        /// The cluster.
        cluster: ClusterId,
    },
    /// The world was looked at.
    Looked {
        /// How many resources exist.
        resources: usize,
        /// How many nodes are heard.
        heard: usize,
        /// How many things could not be looked at.
        blind: usize,
    },
    /// A step has begun. Written before its effect.
    StepStarted {
        /// The step.
        id: String,
        /// Why it is done.
        reason: String,
    },
    /// A long step has come further.
    StepProgress {
        /// The step.
        id: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A step has succeeded.
    StepDone {
        /// The step.
        id: String,
        /// What it did.
        outcome: String,
    },
    /// A step has failed.
    StepFailed {
        /// The step.
        id: String,
        /// The error.
        message: String,
        /// What would help.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// When it is tried again; never if empty.
        retry_at: Option<Timestamp>,
    },
    /// A node proved its token and has its certificate.
    NodeAdmitted {
        /// The node.
        node: NodeName,
    },
    /// A node was not admitted.
    NodeRefused {
        /// The node.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// A node's agent was heard for the first time in this run.
    NodeHeard {
        /// The node.
        node: NodeName,
    },
    /// A component of a node is in another phase.
    ComponentPhase {
        /// The node.
        node: NodeName,
        /// The component.
        component: ComponentName,
        /// Its phase.
        phase: Phase,
        /// What is awaited or wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A sign of life during long waits: what waits for what.
    Waiting {
        /// Everything that waits.
        blocked: Vec<Blocked>,
    },
    /// Something was set aside.
    SetAside {
        /// What and why.
        debt: Debt,
    },
    /// Something for people that is no failure.
    Notice {
        /// The text.
        text: String,
    },
    /// Somebody asked to stop: nothing new is started.
    Interrupted,
    /// The run has ended. Always the last event of a run.
    RunFinished {
        /// How far the cluster is.
        progress: Option<Progress>,
        /// What is set aside.
        debt: Vec<Debt>,
        /// The exit code.
        code: u8,
    },
}
