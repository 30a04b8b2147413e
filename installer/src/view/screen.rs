//! Runs as they happen: for people on a terminal, for people who read a log, and for programs.
//!
//! On a terminal a few lines at the bottom are redrawn and say how far it is, what is under way and what waits for
//! what; above them scroll the events that matter. The cursor is never hidden, so that a process that is killed leaves
//! a terminal as it should be. Elsewhere there are plain lines, with a sign of life at each heartbeat.

mod area;
mod state;

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use castrum_blueprints::event::{Event, What};
use castrum_blueprints::names::Timestamp;
use castrum_blueprints::status::Phase;

use super::Opts;
use super::events_view::event_line;
use super::style::{clean, json_line};
use crate::events::Listener;
use area::Area;
use state::State;

/// With more nodes than this, only what goes wrong has a line of its own.
const MANY: usize = 60;

/// How a screen is made.
#[derive(Clone)]
pub struct ScreenOpts {
    /// Whether lines can be redrawn.
    pub terminal: bool,
    /// Whether to use colour.
    pub color: bool,
    /// How many columns there are now; it is asked again for every drawing, as windows change.
    pub width: Arc<dyn Fn() -> usize + Send + Sync>,
    /// How many nodes are declared; 0 if that is not known.
    pub nodes: usize,
}

impl fmt::Debug for ScreenOpts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScreenOpts")
            .field("terminal", &self.terminal)
            .field("color", &self.color)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

/// A width that does not change.
pub fn fixed(width: usize) -> Arc<dyn Fn() -> usize + Send + Sync> {
    Arc::new(move || width)
}

/// A run, for people. Clones draw on the same screen.
#[derive(Clone)]
pub struct HumanScreen(Arc<Mutex<Inner>>);

struct Inner {
    out: Box<dyn Write + Send>,
    opts: ScreenOpts,
    state: State,
    area: Area,
}

impl fmt::Debug for HumanScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HumanScreen").finish_non_exhaustive()
    }
}

impl HumanScreen {
    /// A screen that writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, opts: ScreenOpts) -> Self {
        let state = State::new(opts.nodes);
        Self(Arc::new(Mutex::new(Inner { out, opts, state, area: Area::default() })))
    }

    /// Redraws what changes as time goes by.
    pub fn tick(&self, now: Timestamp) {
        let mut inner = self.inner();
        if inner.opts.terminal && inner.state.is_running() {
            inner.state.at(now);
            inner.show("");
        }
    }

    /// Writes a line above what is redrawn.
    pub fn line(&self, text: &str) {
        let mut lines = String::new();
        for line in text.lines() {
            lines.push_str(&clean(line));
            lines.push('\n');
        }
        self.inner().show(&lines);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for HumanScreen {
    fn hear(&mut self, event: &Event) {
        let mut inner = self.inner();
        inner.state.take(event);
        let opts = inner.line_opts(event.at);
        let mut lines = String::new();
        if inner.is_told(&event.what)
            && let Some(line) = event_line(event, inner.state.started(), &opts)
        {
            lines.push_str(&line);
            lines.push('\n');
        }
        if let What::Waiting { .. } = event.what
            && !inner.opts.terminal
        {
            lines.push_str(&inner.state.heartbeat(&opts));
        }
        inner.show(&lines);
    }
}

impl Inner {
    fn line_opts(&self, now: Timestamp) -> Opts {
        // A log has no width: lines are folded by whoever reads it.
        let width = if self.opts.terminal { (self.opts.width)() } else { 0 };
        Opts { width, color: self.opts.color, now }
    }

    /// Whether an event has a line of its own.
    fn is_told(&self, what: &What) -> bool {
        let few = self.opts.nodes <= MANY;
        match what {
            What::RunStarted { .. }
            | What::NodeRefused { .. }
            | What::SetAside { .. }
            | What::Notice { .. }
            | What::Interrupted
            | What::RunFinished { .. } => true,
            What::StepFailed { .. } => self.state.tells_failure(),
            What::StepDone { .. } | What::NodeHeard { .. } => few,
            What::ComponentPhase { phase, .. } => *phase == Phase::Failing || few && *phase == Phase::Healthy,
            What::Looked { blind, .. } => *blind > 0,
            What::StepStarted { .. }
            | What::StepProgress { .. }
            | What::NodeAdmitted { .. }
            | What::Waiting { .. } => false,
        }
    }

    /// Writes `lines` for good, and what is redrawn under them. Whoever reads may be gone: that must not end a run.
    fn show(&mut self, lines: &str) {
        let mut text = String::new();
        if self.opts.terminal {
            let width = (self.opts.width)();
            text.push_str(&self.area.wipe(width));
            text.push_str(lines);
            if self.state.is_running() {
                text.push_str(&self.area.draw(&self.state.area(width, self.opts.color), width));
            }
        } else {
            text.push_str(lines);
        }
        if !text.is_empty() {
            let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.opts.terminal {
            let text = self.area.wipe((self.opts.width)());
            let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}

/// A run, for programs: one JSON document a line.
pub struct JsonScreen {
    out: Box<dyn Write + Send>,
}

impl fmt::Debug for JsonScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonScreen").finish_non_exhaustive()
    }
}

impl JsonScreen {
    /// A screen that writes to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out }
    }
}

impl Listener for JsonScreen {
    fn hear(&mut self, event: &Event) {
        let line = json_line(event);
        let _ = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush());
    }
}
