//! What is known of a run while it goes on, as far as it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use castrum_blueprints::event::{Event, What};
use castrum_blueprints::names::{ComponentName, NodeName, Timestamp};
use castrum_blueprints::plan::Blocked;
use castrum_blueprints::status::Phase;

use super::area::AreaLine;
use crate::view::Opts;
use crate::view::names::node_in;
use crate::view::style::{Tone, bytes, clean, counted, duration, fit};
use crate::view::waits::{gathered, wait_lines};

/// How many waits and transfers are shown at once.
const WAITS: usize = 3;
const TRANSFERS: usize = 3;

#[derive(Debug, Default)]
pub(super) struct State {
    nodes: usize,
    verb: String,
    started: Timestamp,
    now: Timestamp,
    running: bool,
    steps: BTreeMap<String, (Timestamp, String)>,
    transfers: BTreeMap<String, Transfer>,
    machines: BTreeSet<String>,
    heard: BTreeSet<NodeName>,
    phases: BTreeMap<NodeName, BTreeMap<ComponentName, Phase>>,
    by_phase: BTreeMap<Phase, usize>,
    blocked: Vec<Blocked>,
    debt: usize,
    /// Steps that failed and are tried again: since when, or when that was last told.
    retried: BTreeMap<String, Timestamp>,
    tell_failure: bool,
}

/// What is tried again is told when it has not worked for so long: a machine that still boots refuses a few times.
const PATIENCE_MS: u64 = 15_000;

#[derive(Debug)]
struct Transfer {
    began: Timestamp,
    done: u64,
    total: u64,
}

impl State {
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    pub(super) fn started(&self) -> Timestamp {
        self.started
    }

    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    pub(super) fn at(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    pub(super) fn take(&mut self, event: &Event) {
        if self.started == Timestamp(0) {
            self.started = event.at;
        }
        self.at(event.at);
        match &event.what {
            What::RunStarted { verb, .. } => {
                (self.verb, self.started, self.running) = (clean(verb), event.at, true);
            }
            What::StepStarted { id, reason } => {
                self.steps.insert(id.clone(), (event.at, reason.clone()));
            }
            What::StepProgress { id, done, total } => self.progress(id, (*done, *total), event.at),
            What::StepDone { id, .. } => self.step_done(id),
            What::StepFailed { id, retry_at, .. } => {
                self.failed(id, retry_at.is_some(), event.at);
                self.steps.remove(id);
                self.transfers.remove(id);
            }
            What::NodeHeard { node } => {
                self.heard.insert(node.clone());
            }
            What::ComponentPhase { node, component, phase, .. } => self.phase(node, component, *phase),
            What::Waiting { blocked } => self.blocked.clone_from(blocked),
            What::SetAside { .. } => self.debt += 1,
            What::RunFinished { .. } => self.running = false,
            _ => {}
        }
        self.forget_stale(&event.what);
    }

    /// What a new event proves to be over is not shown as awaited until the next heartbeat.
    fn forget_stale(&mut self, what: &What) {
        match what {
            What::NodeHeard { node } => self.blocked.retain(|one| one.node.as_ref() != Some(node)),
            What::ComponentPhase { node, component, phase: Phase::Healthy, .. } => {
                let subject = format!("{component} on {node}");
                self.blocked.retain(|one| one.subject != subject);
            }
            _ => {}
        }
    }

    fn failed(&mut self, id: &str, again: bool, at: Timestamp) {
        let since = self.retried.entry(id.to_owned()).or_insert(at);
        self.tell_failure = !again || at.since(*since) >= PATIENCE_MS;
        if self.tell_failure {
            *since = at;
        }
    }

    /// Whether the failure that was just taken in has a line of its own.
    pub(super) fn tells_failure(&self) -> bool {
        self.tell_failure
    }

    fn step_done(&mut self, id: &str) {
        self.retried.remove(id);
        self.steps.remove(id);
        self.transfers.remove(id);
        if let Some(node) = node_in(id).filter(|_| id.starts_with("ensure ")) {
            self.machines.insert(node.to_owned());
        }
    }

    fn progress(&mut self, id: &str, (done, total): (u64, u64), at: Timestamp) {
        let began = self.steps.get(id).map_or(at, |(began, _)| *began);
        let transfer = self.transfers.entry(id.to_owned()).or_insert(Transfer { began, done: 0, total });
        (transfer.done, transfer.total) = (done.min(total), total);
    }

    fn phase(&mut self, node: &NodeName, component: &ComponentName, phase: Phase) {
        let known = self.phases.entry(node.clone()).or_default().insert(component.clone(), phase);
        if let Some(count) = known.and_then(|known| self.by_phase.get_mut(&known)) {
            *count = count.saturating_sub(1);
        }
        *self.by_phase.entry(phase).or_default() += 1;
    }

    /// How far it is, in a line.
    fn summary(&self) -> String {
        let verb = if self.verb.is_empty() { "run" } else { &self.verb };
        let mut parts = vec![format!("{verb} {}", duration(self.now.since(self.started)))];
        if !self.machines.is_empty() {
            parts.push(counted(self.machines.len(), "machine"));
        }
        match self.nodes {
            0 => parts.push(format!("{} heard", counted(self.heard.len(), "node"))),
            nodes => parts.push(format!("{}/{nodes} heard", self.heard.len())),
        }
        for (phase, count) in self.by_phase.iter().rev().filter(|(_, count)| **count > 0) {
            parts.push(format!("{count} {phase}"));
        }
        for (count, word) in [(self.steps.len(), "under way"), (self.debt, "set aside")] {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        if !self.retried.is_empty() {
            parts.push(format!("{} tried again", self.retried.len()));
        }
        parts.join(" | ")
    }

    /// What is redrawn: how far it is, transfers, what waits longest, what has been under way longest.
    pub(super) fn area(&self, width: usize, color: bool) -> Vec<(AreaLine, bool)> {
        let mut lines: Vec<AreaLine> = vec![(Tone::Bold, self.summary())];
        let transfers = self.transfers.iter().take(TRANSFERS);
        lines.extend(transfers.map(|(id, transfer)| (Tone::Change, transfer.line(id, width, self.now))));
        let waits = gathered(&self.blocked);
        for wait in waits.iter().filter(|wait| !wait.by_debt).take(WAITS) {
            lines.push((Tone::Warn, format!(". {}", wait.sentence(self.now))));
        }
        let steps = self.steps.iter().filter(|(id, _)| !self.transfers.contains_key(*id));
        if let Some((id, (since, reason))) = steps.min_by_key(|(_, (since, _))| *since) {
            let age = duration(self.now.since(*since));
            lines.push((Tone::Dim, clean(&format!("> {id} for {age}: {reason}"))));
        }
        lines.into_iter().map(|line| (line, color)).collect()
    }

    /// A sign of life in a log.
    pub(super) fn heartbeat(&self, opts: &Opts) -> String {
        let mut text = crate::view::style::Text::default();
        let elapsed = format!("+{}", duration(self.now.since(self.started)));
        text.line(&format!("{elapsed:>8}  {}", self.summary()));
        for (id, transfer) in self.transfers.iter().take(TRANSFERS) {
            text.line(&format!("  {}", transfer.line(id, 100, self.now)));
        }
        wait_lines(&mut text, &self.blocked, WAITS, opts);
        text.0
    }
}

impl Transfer {
    /// `fill masters-1 [####......] 42%, 88 MiB of 210 MiB, 12 MiB/s, 10s left`.
    fn line(&self, id: &str, width: usize, now: Timestamp) -> String {
        let cells = if width >= 90 { 20 } else { 10 };
        let full = u128::from(self.done) * u128::from(cells as u64) / u128::from(self.total.max(1));
        let full = usize::try_from(full).unwrap_or(cells).min(cells);
        let percent = u128::from(self.done) * 100 / u128::from(self.total.max(1));
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(cells - full));
        let mut line = format!("{} [{bar}] {percent}%", fit(&clean(id), 28));
        let ms = now.since(self.began);
        if width >= 60 {
            let _ = write!(line, ", {} of {}", bytes(self.done), bytes(self.total));
        }
        if ms >= 500 && self.done > 0 {
            let rate = u128::from(self.done) * 1000 / u128::from(ms);
            let left = u128::from(self.total - self.done) * 1000 / rate.max(1);
            let (rate, left) =
                (u64::try_from(rate).unwrap_or(u64::MAX), u64::try_from(left).unwrap_or(u64::MAX));
            let _ = write!(line, ", {}/s, {} left", bytes(rate), duration(left));
        }
        line
    }
}
