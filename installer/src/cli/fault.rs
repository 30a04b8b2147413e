//! What a command ends with when it does not succeed: an exit code, a line, its causes, hints.

use castrum_blueprints::document::Findings;
use castrum_provider::{Failure, FailureClass};

use crate::project::{ProjectError, StateError};

/// The exit codes. A code's meaning is never used for another.
pub mod code {
    /// Done, or nothing to do.
    pub const DONE: u8 = 0;
    /// Any other error.
    pub const ERROR: u8 = 1;
    /// Succeeded, and there are differences.
    pub const DIFFERENCES: u8 = 2;
    /// The blueprint is invalid.
    pub const BLUEPRINT: u8 = 10;
    /// Preflight, permission or quota.
    pub const PREFLIGHT: u8 = 11;
    /// Another command is at work on the cluster.
    pub const LOCKED: u8 = 12;
    /// A saved plan is stale, or the world changed under it.
    pub const STALE: u8 = 13;
    /// Infrastructure could not be made.
    pub const INFRASTRUCTURE: u8 = 20;
    /// Machines did not boot or join.
    pub const BOOT: u8 = 21;
    /// The platform did not become healthy.
    pub const PLATFORM: u8 = 22;
    /// Refused by a safety guard.
    pub const REFUSED: u8 = 24;
    /// Converged with debt, or a destroy left things unconfirmed.
    pub const PARTIAL: u8 = 30;
    /// Timed out.
    pub const TIMED_OUT: u8 = 40;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// Interrupted.
    pub const INTERRUPTED: u8 = 130;
}

/// Why a command did not succeed.
#[derive(Debug)]
pub struct Fault {
    /// The exit code.
    pub code: u8,
    /// What failed, then each cause.
    pub lines: Vec<String>,
    /// What would help.
    pub hints: Vec<String>,
    /// What is wrong with the blueprint, if that is why.
    pub findings: Option<Box<Findings>>,
}

impl Fault {
    /// A fault with one line.
    pub fn new(code: u8, line: impl Into<String>) -> Self {
        Self { code, lines: vec![line.into()], hints: Vec::new(), findings: None }
    }

    /// A fault that is a blueprint's own.
    pub fn invalid(findings: Findings) -> Self {
        let line = findings.to_string();
        Self { findings: Some(Box::new(findings)), ..Self::new(code::BLUEPRINT, line) }
    }

    /// A fault made from an error with its causes.
    pub fn of(code: u8, error: &dyn std::error::Error) -> Self {
        let mut lines = vec![error.to_string()];
        let mut source = error.source();
        while let Some(cause) = source {
            lines.push(cause.to_string());
            source = cause.source();
        }
        Self { code, lines, hints: Vec::new(), findings: None }
    }

    /// The same fault with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The text for standard error.
    pub fn render(&self) -> String {
        let mut text = self.findings.as_ref().map(|findings| findings.render()).unwrap_or_default();
        for (depth, line) in self.lines.iter().enumerate() {
            let lead = if depth == 0 { "error: " } else { "  caused by: " };
            text.push_str(lead);
            text.push_str(line);
            text.push('\n');
        }
        // Several lacks may have one remedy.
        for (at, hint) in self.hints.iter().enumerate() {
            if self.hints[..at].contains(hint) {
                continue;
            }
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }

    /// The same as data.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "format_version": 1, "error": self.lines, "hints": self.hints, "code": self.code
        });
        if let Some(findings) = &self.findings {
            json["findings"] = findings.to_json()["findings"].take();
        }
        json
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        let code = if matches!(error, StateError::Gone(_)) { code::LOCKED } else { code::ERROR };
        Self::of(code, &error).hint(error.remedy())
    }
}

impl From<ProjectError> for Fault {
    fn from(error: ProjectError) -> Self {
        match error {
            ProjectError::State(error) => error.into(),
            ProjectError::Strayed { ref path, ref place } => {
                let hint = format!(
                    "`{place}` counts for everybody: move `{}` away to take it from there, or give this cluster a prefix \
                     of its own in `state.place`",
                    path.display()
                );
                Self::of(code::STALE, &error).hint(hint)
            }
            ProjectError::Lock { .. } => Self::of(code::ERROR, &error)
                .hint("take it back from version control: nothing else knows which cluster is meant"),
            _ => Self::of(code::ERROR, &error),
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let code = match failure.class {
            FailureClass::Denied | FailureClass::Exhausted | FailureClass::Unsupported => code::PREFLIGHT,
            FailureClass::Invalid => code::ERROR,
            FailureClass::NotOurs => code::REFUSED,
            FailureClass::Throttled | FailureClass::Transient | FailureClass::NotReady => {
                code::INFRASTRUCTURE
            }
        };
        Self { code, lines: vec![failure.message], hints: failure.hint.into_iter().collect(), findings: None }
    }
}
