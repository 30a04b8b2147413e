//! The MUSTs of the contract as checks that any provider can be held to, whatever language it is written in.
//!
//! The checks make and remove real things, of two clusters that exist for nothing else. What they made they remove again,
//! also when a check fails. A provider in a process of its own is killed in the middle of its work; one that lives in
//! this process is dropped there instead.

mod base;
mod check;
mod making;
mod owning;
mod power;
mod suite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::blueprint::ExistingMachine;
use castrum_blueprints::names::{ClusterId, NodeName, SiteName};
use serde::Serialize;

pub use check::Check;
pub use suite::Suite;

use crate::{Failure, ProcessProvider, Provider};

/// A provider that can be held to the contract: it is opened again and again, for the same place.
#[async_trait]
pub trait Candidate: Send + Sync {
    /// The provider of the site for `cluster`; each one opened knows nothing of the others.
    async fn open(&self, cluster: &ClusterId) -> Result<Opened, Failure>;

    /// The same where the place does not answer; `None` where that cannot be brought about.
    async fn open_unreachable(&self, _cluster: &ClusterId) -> Option<Result<Opened, Failure>> {
        None
    }
}

/// A provider that was opened.
#[derive(Clone)]
pub struct Opened {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// The same where it is a process of its own.
    pub process: Option<Arc<ProcessProvider>>,
}

impl Opened {
    /// A provider that lives in this process.
    pub fn here(provider: impl Provider + 'static) -> Self {
        Self { provider: Arc::new(provider), process: None }
    }

    /// A provider in a process of its own.
    pub fn process(provider: ProcessProvider) -> Self {
        let process = Arc::new(provider);
        Self { provider: Arc::clone(&process) as Arc<dyn Provider>, process: Some(process) }
    }
}

/// What the checks may use.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The site.
    pub site: SiteName,
    /// Two clusters that exist for nothing else.
    pub clusters: [ClusterId; 2],
    /// Two nodes or more, each with its machine where the place makes none.
    pub nodes: Vec<(NodeName, Option<ExistingMachine>)>,
    /// The zones of the place, where it has any; the first one is used.
    pub zones: Vec<String>,
    /// The place's own image that machines start from, where it has images of its own.
    pub image: Option<String>,
    /// How long one check may take, and how long a call that asks to come again is repeated.
    pub patience: Duration,
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The check.
    pub check: Check,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took.
    pub took_ms: u64,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "kebab-case")]
pub enum Verdict {
    /// The provider does as it must.
    Ok,
    /// It does not.
    Failed(String),
    /// It cannot be told here.
    Skipped(String),
}

/// Why a check has no good end.
enum Miss {
    Failed(String),
    Skipped(String),
}

type Checked = Result<(), Miss>;

impl From<Checked> for Verdict {
    fn from(checked: Checked) -> Self {
        match checked {
            Ok(()) => Self::Ok,
            Err(Miss::Failed(reason)) => Self::Failed(reason),
            Err(Miss::Skipped(reason)) => Self::Skipped(reason),
        }
    }
}

fn failed(reason: impl Into<String>) -> Miss {
    Miss::Failed(reason.into())
}

fn skipped(reason: impl Into<String>) -> Miss {
    Miss::Skipped(reason.into())
}

/// Fails the check with `reason` unless `held`.
fn must(held: bool, reason: impl FnOnce() -> String) -> Checked {
    if held { Ok(()) } else { Err(failed(reason())) }
}
