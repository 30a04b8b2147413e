//! The life of one node: the real decision over modelled facts, and actions that take their time.

use std::collections::BTreeMap;
use std::sync::Arc;

use castrum_blueprints::manifest::{ComponentManifest, Manifest};
use castrum_blueprints::names::{ClusterId, ComponentName, Digest, NodeName, Role, Timestamp};
use castrum_blueprints::node::{
    Action, Attempt, Decision, HeldFacts, Progress, UnitState, apply, decide, runs,
};
use castrum_blueprints::status::{CheckResult, ComponentStatus, NodeStatus, Phase, Verdict};

use crate::audit::{Happened, Happening, Joining};
use crate::chance::Dice;
use crate::node::Node;
use crate::settings::Settings;
use crate::state::{Agenda, Around, What};

/// One node with what is around it.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a ClusterId,
    pub(crate) name: &'a NodeName,
    pub(crate) node: &'a mut Node,
    pub(crate) around: &'a mut Around,
    pub(crate) agenda: &'a mut Agenda,
    pub(crate) settings: &'a Settings,
    pub(crate) dice: Dice,
    pub(crate) record: &'a mut Option<Vec<Happening>>,
    pub(crate) now: Timestamp,
}

/// More rounds at one instant than any manifest needs: an action that succeeds and changes nothing would go on for ever.
const MAX_ROUNDS: u32 = 500;
/// How often a check that does not hold is run.
const CHECK_AGAIN_MS: u64 = 1_000;

impl Scene<'_> {
    pub(crate) fn happens(&mut self, what: What) {
        match what {
            What::Ends(action, manifest) => {
                if self.node.run.in_flight.remove(&*action) {
                    self.end(&action, &manifest);
                    self.decides();
                }
            }
            What::Checks(component, process) => {
                self.node.run.checking.remove(&component);
                self.check(&component, process.as_ref());
                // Also where it was for a process that is gone: those of the next one have waited for it.
                self.decides();
            }
            What::Decides => {
                self.node.run.wake_at = None;
                self.decides();
            }
            What::Says => self.says(),
            What::Booted | What::Hangs | What::Joins | What::Pulls => {}
        }
    }

    fn later(&mut self, millis: u64, what: What) {
        self.agenda.add(self.now.plus(millis), (self.name, self.node.run.life), what);
    }

    /// Decides, begins what is due, and goes on until nothing more happens at this instant.
    pub(crate) fn decides(&mut self) {
        if !self.node.is_awake() {
            return;
        }
        let Some(manifest) = self.node.manifest.clone() else { return self.speaks() };
        for _ in 0..MAX_ROUNDS {
            let decision = decide(&manifest, &self.node.facts, self.now);
            let mut moved = false;
            for action in &decision.actions {
                moved |= self.begin(action, &manifest);
            }
            moved |= self.begin_checks(&manifest, &decision);
            if !moved {
                return self.settle(&manifest, &decision);
            }
        }
        self.say(Some("the node does not settle: some action succeeds and changes nothing".to_owned()), None);
    }

    /// Begins an action that is not under way. True if it ended at once.
    fn begin(&mut self, action: &Action, manifest: &Arc<Manifest>) -> bool {
        if self.node.run.in_flight.contains(action) {
            return false;
        }
        let pace = action.component().map(|component| self.settings.pace(component));
        let range = match (action, pace) {
            (Action::Fetch { .. }, Some(pace)) => pace.fetch,
            (Action::Start { .. } | Action::Restart { .. }, Some(pace)) => pace.start,
            (Action::Join { .. }, Some(pace)) => pace.join,
            _ => crate::settings::Range::exactly(0),
        };
        let key = (action.as_str(), self.name, action.component(), self.node.facts.attempts.len());
        let millis = self.dice.within(range, key);
        if millis == 0 {
            self.end(action, manifest);
            return true;
        }
        if let Action::Start { component, process } | Action::Restart { component, process } = action {
            let held = self.node.facts.components.entry(component.clone()).or_default();
            held.unit.state = UnitState::Activating;
            held.unit.started_with = Some(process.clone());
        }
        self.node.run.in_flight.insert(action.clone());
        self.later(millis, What::Ends(Box::new(action.clone()), Arc::clone(manifest)));
        false
    }

    fn end(&mut self, action: &Action, manifest: &Manifest) {
        let attempts = &mut self.node.facts.attempts;
        let before = attempts.iter().position(|attempt| attempt.action == *action);
        let before = before.map(|index| attempts.swap_remove(index));
        match self.fails(action, manifest) {
            None => {
                apply(manifest, &mut self.node.facts, action);
                self.succeeded(action);
            }
            Some(error) => {
                if let (true, Some(component)) = (action.starts(), action.component())
                    && let Some(held) = self.node.facts.components.get_mut(component)
                {
                    held.unit.state = UnitState::Failed;
                }
                let count = before.map_or(0, |attempt| attempt.count) + 1;
                let (action, last) = (action.clone(), self.now);
                self.node.facts.attempts.push(Attempt { action, count, last, error: Some(error) });
            }
        }
    }

    /// Why the action fails, if it does.
    fn fails(&mut self, action: &Action, manifest: &Manifest) -> Option<String> {
        match action {
            Action::Fetch { blob, .. } if !self.around.serves(&blob.digest) => {
                Some(format!("no master serves {}", blob.digest.short()))
            }
            Action::Start { component, .. } | Action::Restart { component, .. } => {
                let failures = self.node.failed_starts.entry(component.clone()).or_insert(0);
                let fails = *failures < self.settings.pace(component).failing_starts;
                *failures += u32::from(fails);
                fails.then(|| "simulated: the unit did not start".to_owned())
            }
            Action::Join { component } => {
                let of = manifest.components.iter().find(|c| c.name == *component);
                let from = of.and_then(|c| c.membership.as_ref()?.facts_from.clone())?;
                let members = self.around.members.get(component);
                let answers = members.is_some_and(|members| members.contains(&from.name));
                (!answers).then(|| format!("{} does not answer as a member", from.name))
            }
            _ => None,
        }
    }

    fn succeeded(&mut self, action: &Action) {
        match action {
            Action::Fetch { .. } if self.node.role == Role::Master => {
                self.around.masters.insert(self.name.clone(), self.node.facts.blobs.clone());
            }
            Action::Start { component, .. } | Action::Restart { component, .. } => {
                self.note(|| Happened::Started(component.clone()));
            }
            Action::Join { component } => self.joined(component),
            _ => {}
        }
    }

    fn joined(&mut self, component: &ComponentName) {
        let manifest = self.node.manifest.as_ref();
        let of = manifest.and_then(|m| m.components.iter().find(|c| c.name == *component));
        let through = of.and_then(|c| c.membership.as_ref()?.facts_from.as_ref());
        let how = if through.is_some() { Joining::Joined } else { Joining::Founded };
        if how == Joining::Founded {
            self.around.founders.entry(component.clone()).or_default().push(self.name.clone());
        }
        self.around.members.entry(component.clone()).or_default().insert(self.name.clone());
        self.note(|| Happened::Joined(component.clone(), how));
    }

    /// Lets the checks of whatever waits for them run. True if some gave a result at once.
    fn begin_checks(&mut self, manifest: &Manifest, decision: &Decision) -> bool {
        let mut moved = false;
        for component in &manifest.components {
            let phase = decision.phases.get(&component.name).map(|progress| progress.phase);
            if !matches!(phase, Some(Phase::Settling | Phase::Failing))
                || self.node.run.checking.contains(&component.name)
            {
                continue;
            }
            let Some(held) = self.node.facts.components.get(&component.name) else { continue };
            if component.unit.is_some() && !runs(component, held) {
                continue;
            }
            let process = held.unit.started_with.clone();
            let again = !held.checks.is_empty();
            let key = ("check", self.name, &component.name, held.unit.restarts);
            let millis = self.dice.within(self.settings.pace(&component.name).check, key);
            let millis = if again { millis.max(CHECK_AGAIN_MS) } else { millis };
            if millis == 0 {
                moved |= self.check(&component.name, process.as_ref());
            } else {
                self.node.run.checking.insert(component.name.clone());
                self.later(millis, What::Checks(component.name.clone(), process));
            }
        }
        moved
    }

    /// Runs the checks of a component. False if the process that they were for is gone.
    fn check(&mut self, name: &ComponentName, process: Option<&Digest>) -> bool {
        let manifest = self.node.manifest.clone();
        let component = manifest.iter().flat_map(|m| &m.components).find(|c| c.name == *name);
        let (Some(component), Some(held)) = (component, self.node.facts.components.get_mut(name)) else {
            return false;
        };
        if held.unit.started_with.as_ref() != process
            || (component.unit.is_some() && held.unit.state != UnitState::Active)
        {
            return false;
        }
        let broken = self.settings.pace(name).broken_on.contains(self.name);
        let (verdict, seen) =
            if broken { (Verdict::Critical, "simulated: broken") } else { (Verdict::Ok, "ok") };
        for check in &component.checks {
            let since = held.checks.get(&check.name).filter(|c| c.verdict == verdict).map(|c| c.since);
            let since = since.unwrap_or(self.now);
            let result = CheckResult { verdict, since, at: self.now, seen: seen.to_owned() };
            held.checks.insert(check.name.clone(), result);
        }
        if !broken {
            self.note(|| Happened::Healthy(name.clone()));
        }
        true
    }

    /// Remembers who is healthy, asks to be woken, and says how it is.
    fn settle(&mut self, manifest: &Manifest, decision: &Decision) {
        for component in &manifest.components {
            let healthy = decision.phases.get(&component.name).is_some_and(|p| p.phase == Phase::Healthy);
            if let (true, Some(held)) = (healthy, self.node.facts.components.get_mut(&component.name)) {
                let process = component.process_digest();
                if held.settled.as_ref() != Some(&process) {
                    held.settled = Some(process);
                    let attempts = &mut self.node.facts.attempts;
                    attempts.retain(|attempt| attempt.action.component() != Some(&component.name));
                }
            }
        }
        if let Some(at) = decision.wake_at
            && self.node.run.wake_at.is_none_or(|held| at < held)
        {
            self.node.run.wake_at = Some(at);
            self.later(at.since(self.now), What::Decides);
        }
        self.say(None, Some((manifest, decision)));
    }

    /// Says how it is before there is anything to converge to.
    pub(crate) fn speaks(&mut self) {
        if self.node.manifest.is_none() {
            self.say(None, None);
        }
    }

    fn say(&mut self, problem: Option<String>, known: Option<(&Manifest, &Decision)>) {
        let components = known.map_or_else(BTreeMap::new, |(m, decision)| self.components(m, decision));
        let run = &self.node.run;
        let (generation, content) = (self.node.generation(), self.node.content.as_ref());
        let same = run.status.as_ref().is_some_and(|status| {
            status.started_at == run.started_at
                && status.generation == generation
                && status.content.as_ref() == content
                && status.problem == problem
                && status.components == components
                && status.blobs == self.node.facts.blobs
        });
        if same {
            return;
        }
        self.node.run.sequence += 1;
        let status = NodeStatus {
            format_version: 1,
            cluster: self.cluster.clone(),
            node: self.name.clone(),
            incarnation: self.node.incarnation.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: format!("{}-{}", self.node.incarnation, self.node.run.life),
            sequence: self.node.run.sequence,
            started_at: self.node.run.started_at,
            at: self.now,
            generation,
            content: content.cloned(),
            components,
            blobs: self.node.facts.blobs.clone(),
            problem,
        };
        self.node.run.status = Some(Arc::new(status));
        if self.node.run.reporting {
            return;
        }
        let millis =
            self.dice.within(self.settings.latency.report, ("report", self.name, self.node.run.sequence));
        if millis == 0 {
            return self.says();
        }
        self.node.run.reporting = true;
        self.later(millis, What::Says);
    }

    /// Its word is heard.
    fn says(&mut self) {
        self.node.run.reporting = false;
        self.node.run.said = self.around.tell(self.name, self.node.run.said);
    }

    fn components(
        &mut self,
        manifest: &Manifest,
        decision: &Decision,
    ) -> BTreeMap<ComponentName, ComponentStatus> {
        let Node { facts, run, .. } = &mut *self.node;
        run.since.retain(|name, _| decision.phases.contains_key(name));
        let mut components = BTreeMap::new();
        for (name, progress) in &decision.phases {
            let since = run.since.entry(name.clone()).or_insert((progress.phase, self.now));
            if since.0 != progress.phase {
                *since = (progress.phase, self.now);
            }
            let component = manifest.components.iter().find(|component| component.name == *name);
            let status = status(component, progress, since.1, facts.components.get(name));
            components.insert(name.clone(), status);
        }
        components
    }

    fn note(&mut self, what: impl FnOnce() -> Happened) {
        if let Some(record) = self.record {
            record.push(Happening { at: self.now, node: self.name.clone(), what: what() });
        }
    }
}

fn status(
    component: Option<&Arc<ComponentManifest>>,
    progress: &Progress,
    since: Timestamp,
    held: Option<&HeldFacts>,
) -> ComponentStatus {
    ComponentStatus {
        applied: component.map_or_else(|| Digest::of(b""), |component| component.digest()),
        phase: progress.phase,
        since,
        note: progress.note.clone(),
        checks: held.map(|held| held.checks.clone()).unwrap_or_default(),
        restarts: held.map_or(0, |held| held.unit.restarts),
    }
}
