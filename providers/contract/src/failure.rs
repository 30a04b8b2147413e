//! What can go wrong at a provider, in the few classes that decide what is done about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a failure means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The place asks for fewer calls; `retry_after_ms` may say when.
    Throttled,
    /// Passing trouble: a network fault, a server's own error. The call may or may not have had its effect.
    Transient,
    /// Something else must happen first (still in use, not yet ready).
    NotReady,
    /// A quota or the capacity of the place is used up.
    Exhausted,
    /// Credentials are missing, wrong, or not allowed to do this.
    Denied,
    /// The request itself is wrong; sending it again is no use.
    Invalid,
    /// What was asked for belongs to somebody else, or its owner cannot be told.
    NotOurs,
    /// This place cannot do it at all.
    Unsupported,
}

impl FailureClass {
    /// Whether the same call may succeed later without anybody's help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient | Self::NotReady)
    }
}

/// One failed call, with what a person needs to act on it. It carries no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// What it means.
    pub class: FailureClass,
    /// What was attempted and what came back, in one line.
    pub message: String,
    /// What would help, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long the place asks us to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The call that failed, in the place's own word, where a verb makes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Failure {
    /// A failure of `class`.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, retry_after_ms: None, at: None }
    }

    /// The same failure with its remedy.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
