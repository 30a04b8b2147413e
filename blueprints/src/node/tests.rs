//! Decisions are held to their promises: by a few stories, and over random lives of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::manifest::{
    Assertion, Blob, Check, ComponentManifest, FolderManifest, Manifest, MembershipManifest,
};
use crate::names::{ComponentName, Digest, Role, Timestamp};
use crate::status::{CheckResult, Phase, Verdict};

const NOW: Timestamp = Timestamp(1_000_000);

fn name(text: &str) -> ComponentName {
    text.parse().expect("a name")
}

/// A component whose process reads `version`.
fn component(text: &str, wave: u32, requires: &[&str], version: u32) -> ComponentManifest {
    let digest = Digest::of(format!("{text} {version}").as_bytes());
    ComponentManifest {
        name: name(text),
        wave,
        requires: requires.iter().map(|r| name(r)).collect(),
        bundle: Some(Blob { digest, size: 10 }),
        account: Some(text.to_owned()),
        folders: vec![FolderManifest {
            path: format!("/var/lib/{text}"),
            owner: text.to_owned(),
            mode: 0o750,
        }],
        config: BTreeMap::from([("a.conf".to_owned(), format!("version = {version}"))]),
        unit: Some(format!("[Service]\nExecStart=/opt/castrum/active/{text}/store/run\n")),
        membership: None,
        facts: BTreeMap::new(),
        checks: vec![check("answers", 10)],
        digests: crate::manifest::Digests::default(),
    }
}

fn check(text: &str, every: u32) -> Check {
    Check {
        name: text.to_owned(),
        description: "it answers".to_owned(),
        assert: Assertion::Tcp("127.0.0.1:1".to_owned()),
        every,
        timeout: 5,
    }
}

fn manifest(role: Role, generation: u64, components: Vec<ComponentManifest>) -> Manifest {
    Manifest {
        format_version: 1,
        cluster: "0123456789ab".parse().expect("an id"),
        cluster_name: "demo".parse().expect("a name"),
        node: "agents-1".parse().expect("a name"),
        role,
        generation,
        masters: Vec::new(),
        components: components.into_iter().map(Arc::new).collect(),
    }
}

fn pair(generation: u64) -> Manifest {
    manifest(Role::Agent, generation, vec![component("base", 1, &[], 1), component("top", 2, &["base"], 1)])
}

fn ok() -> CheckResult {
    CheckResult { verdict: Verdict::Ok, since: NOW, at: NOW, seen: "open".to_owned() }
}

/// Gives every running process the results that a healthy one has, and remembers who was healthy.
fn let_checks_pass(manifest: &Manifest, facts: &mut NodeFacts) {
    for component in &manifest.components {
        let Some(held) = facts.components.get_mut(&component.name) else { continue };
        if component.unit.is_none() || held.unit.state == UnitState::Active {
            held.checks = component.checks.iter().map(|c| (c.name.clone(), ok())).collect();
        }
    }
    note_settled(manifest, facts);
}

fn note_settled(manifest: &Manifest, facts: &mut NodeFacts) {
    for (name, progress) in decide(manifest, facts, NOW).phases {
        let component = manifest.components.iter().find(|c| c.name == name);
        if let (Phase::Healthy, Some(component)) = (progress.phase, component) {
            facts.components.get_mut(&name).expect("a healthy component is held").settled =
                Some(component.process_digest());
            facts.attempts.retain(|attempt| attempt.action.component() != Some(&name));
        }
    }
}

/// Every action succeeds and every check passes, until nothing is due. The actions, round by round.
fn converge(manifest: &Manifest, facts: &mut NodeFacts) -> Vec<Vec<Action>> {
    facts.attempts.clear();
    let mut rounds = Vec::new();
    for _ in 0..40 {
        let decision = decide(manifest, facts, NOW);
        for action in &decision.actions {
            apply(manifest, facts, action);
        }
        let idle = decision.actions.is_empty();
        let_checks_pass(manifest, facts);
        if idle && decide(manifest, facts, NOW).actions.is_empty() {
            return rounds;
        }
        rounds.push(decision.actions);
    }
    panic!("no end after 40 rounds: {rounds:#?}");
}

fn words(rounds: &[Vec<Action>]) -> Vec<String> {
    let word = |a: &Action| match a.component() {
        Some(component) => format!("{} {component}", a.as_str()),
        None => a.as_str().to_owned(),
    };
    rounds.iter().map(|round| round.iter().map(word).collect::<Vec<_>>().join(", ")).collect()
}

fn phase(decision: &Decision, text: &str) -> Phase {
    decision.phases[&name(text)].phase
}

#[test]
fn an_empty_node_is_filled_in_boot_order() {
    let mut facts = NodeFacts::default();
    let rounds = converge(&pair(1), &mut facts);
    assert_eq!(
        words(&rounds),
        [
            "fetch base, configure base, account base, fetch top, configure top, account top",
            "unpack base, folder base, unpack top, folder top",
            "activate",
            "reload",
            "start base",
            "start top",
        ]
    );
}

#[test]
fn a_converged_node_is_left_alone() {
    let mut facts = NodeFacts::default();
    let _ = converge(&pair(1), &mut facts);
    let decision = decide(&pair(1), &facts, NOW);
    assert!(decision.actions.is_empty() && decision.wake_at.is_none(), "{decision:?}");
    assert!(decision.phases.values().all(|p| p.phase == Phase::Healthy && p.note.is_none()), "{decision:?}");
    assert_eq!(
        words(&converge(&pair(2), &mut facts)),
        Vec::<String>::new(),
        "a generation alone changes nothing"
    );
}

#[test]
fn only_the_changed_process_is_restarted() {
    let mut facts = NodeFacts::default();
    let _ = converge(&pair(1), &mut facts);
    let changed =
        manifest(Role::Agent, 2, vec![component("base", 1, &[], 1), component("top", 2, &["base"], 2)]);
    assert_eq!(
        words(&converge(&changed, &mut facts)),
        ["fetch top, configure top", "unpack top", "activate", "restart top", "collect"]
    );
}

#[test]
fn an_unchanged_component_stays_healthy_while_another_is_prepared() {
    let mut facts = NodeFacts::default();
    let _ = converge(&pair(1), &mut facts);
    let changed =
        manifest(Role::Agent, 2, vec![component("base", 1, &[], 1), component("top", 2, &["base"], 2)]);
    let decision = decide(&changed, &facts, NOW);
    assert_eq!((phase(&decision, "base"), phase(&decision, "top")), (Phase::Healthy, Phase::Fetching));
}

#[test]
fn a_removed_component_is_stopped_in_reverse_order_and_forgotten() {
    let mut facts = NodeFacts::default();
    let _ = converge(&pair(1), &mut facts);
    let rounds = converge(&manifest(Role::Agent, 2, Vec::new()), &mut facts);
    assert_eq!(
        words(&rounds),
        ["stop top", "forget top", "stop base", "forget base", "activate", "reload", "collect"]
    );
    let Some(Action::Collect { blobs, .. }) = rounds.last().and_then(|round| round.first()) else {
        panic!("the last action collects")
    };
    assert_eq!(blobs.len(), 2, "an agent keeps no blob that it does not need");
    assert_eq!(facts.stores.len(), 2, "the set before is kept, so that going back is one switch");
}

#[test]
fn a_master_keeps_blobs_for_others() {
    let mut facts = NodeFacts::default();
    let stray = Digest::of(b"for a public agent");
    facts.blobs.insert(stray.clone());
    let _ = converge(&manifest(Role::Master, 1, vec![component("base", 1, &[], 1)]), &mut facts);
    assert!(facts.blobs.contains(&stray));
}

#[test]
fn going_back_takes_the_set_that_is_still_there() {
    let mut facts = NodeFacts::default();
    let _ = converge(&pair(1), &mut facts);
    let first = facts.active.clone();
    let changed =
        manifest(Role::Agent, 2, vec![component("base", 1, &[], 1), component("top", 2, &["base"], 2)]);
    let _ = converge(&changed, &mut facts);
    assert_ne!(facts.active, first);
    assert_eq!(words(&converge(&pair(3), &mut facts)), ["activate", "restart top", "collect"]);
    assert_eq!(facts.active, first);
}

#[test]
fn a_dependent_waits_and_says_for_what() {
    let mut facts = NodeFacts::default();
    let pair = pair(1);
    for _ in 0..5 {
        for action in decide(&pair, &facts, NOW).actions {
            apply(&pair, &mut facts, &action);
        }
    }
    let refused = CheckResult { verdict: Verdict::Critical, seen: "connection refused".to_owned(), ..ok() };
    let base = facts.components.get_mut(&name("base")).expect("base is held");
    base.checks.insert("answers".to_owned(), refused);
    let decision = decide(&pair, &facts, NOW);
    assert!(decision.actions.is_empty());
    let top = &decision.phases[&name("top")];
    assert_eq!(top.phase, Phase::Waiting);
    let note = top.note.as_deref().expect("a wait names its reason");
    assert_eq!(note, "waits for `base`: settling: check `answers` is critical: connection refused");
}

#[test]
fn a_failed_unit_is_started_again_later_and_later() {
    let mut facts = NodeFacts::default();
    let pair = pair(1);
    let _ = converge(&pair, &mut facts);
    let start = Action::Start { component: name("base"), process: pair.components[0].process_digest() };
    facts.components.get_mut(&name("base")).expect("held").unit.state = UnitState::Failed;
    let decision = decide(&pair, &facts, NOW);
    assert_eq!(decision.actions, std::slice::from_ref(&start), "the first time at once");
    assert_eq!(phase(&decision, "base"), Phase::Failing);
    assert_eq!(phase(&decision, "top"), Phase::Healthy, "what runs on is not pulled down with it");
    facts.attempts.push(Attempt {
        action: start.clone(),
        count: 3,
        last: NOW,
        error: Some("exit 1".to_owned()),
    });
    let decision = decide(&pair, &facts, NOW);
    assert_eq!((decision.actions.len(), decision.wake_at), (0, Some(NOW.plus(800))));
    assert_eq!(decision.phases[&name("base")].note.as_deref(), Some("exit 1"));
    assert_eq!(decide(&pair, &facts, NOW.plus(800)).actions, [start]);
}

#[test]
fn only_a_check_that_was_run_makes_it_failing() {
    let mut facts = NodeFacts::default();
    let pair = pair(1);
    let _ = converge(&pair, &mut facts);
    facts.components.get_mut(&name("base")).expect("held").checks.clear();
    assert_eq!(
        phase(&decide(&pair, &facts, NOW), "base"),
        Phase::Settling,
        "an agent that came back knows nothing yet"
    );
    let unknown = CheckResult { verdict: Verdict::Unknown, ..ok() };
    facts.components.get_mut(&name("base")).expect("held").checks.insert("answers".to_owned(), unknown);
    assert_eq!(phase(&decide(&pair, &facts, NOW), "base"), Phase::Failing);
}

#[test]
fn what_comes_and_goes_is_not_healthy_in_between() {
    let mut facts = NodeFacts::default();
    let pair = pair(1);
    let _ = converge(&pair, &mut facts);
    let unit = &mut facts.components.get_mut(&name("base")).expect("held").unit;
    (unit.restarts, unit.since) = (2, NOW);
    let decision = decide(&pair, &facts, NOW.plus(2999));
    assert_eq!((phase(&decision, "base"), decision.wake_at), (Phase::Failing, Some(NOW.plus(3000))));
    assert_eq!(phase(&decide(&pair, &facts, NOW.plus(3000)), "base"), Phase::Healthy);

    let mut bare = component("base", 1, &[], 1);
    bare.checks.clear();
    let manifest = manifest(Role::Agent, 2, vec![bare]);
    let unit = &mut facts.components.get_mut(&name("base")).expect("held").unit;
    (unit.restarts, unit.since) = (0, NOW);
    assert_ne!(phase(&decide(&manifest, &facts, NOW.plus(999)), "base"), Phase::Healthy);
}

#[test]
fn a_crash_loop_is_left_by_a_new_manifest() {
    let mut facts = NodeFacts::default();
    let _ = converge(&pair(1), &mut facts);
    facts.components.get_mut(&name("base")).expect("held").unit.state = UnitState::Activating;
    let mended =
        manifest(Role::Agent, 2, vec![component("base", 1, &[], 2), component("top", 2, &["base"], 1)]);
    assert!(words(&converge(&mended, &mut facts)).contains(&"restart base".to_owned()));
}

#[test]
fn membership_comes_between_running_and_checks() {
    let mut joiner = component("base", 1, &[], 1);
    let member = Assertion::Tcp("127.0.0.1:1".to_owned());
    joiner.membership = Some(MembershipManifest { member, calls: Vec::new(), facts_from: None });
    let manifest = manifest(Role::Agent, 1, vec![joiner]);
    let mut facts = NodeFacts::default();
    let rounds = words(&converge(&manifest, &mut facts));
    assert_eq!(rounds.last().map(String::as_str), Some("join base"));
    facts.components.get_mut(&name("base")).expect("held").unit.state = UnitState::Inactive;
    assert_eq!(words(&converge(&manifest, &mut facts)), ["start base"], "a member does not join again");
}

#[test]
fn a_component_without_a_process_waits_for_those_that_it_requires() {
    let mut swarm = component("swarm", 2, &["base"], 1);
    (swarm.unit, swarm.bundle, swarm.account) = (None, None, None);
    (swarm.config, swarm.folders) = (BTreeMap::new(), Vec::new());
    let member = Assertion::Tcp("127.0.0.1:1".to_owned());
    swarm.membership = Some(MembershipManifest { member, calls: Vec::new(), facts_from: None });
    let manifest = manifest(Role::Agent, 1, vec![component("base", 1, &[], 1), swarm]);
    let mut facts = NodeFacts::default();
    let rounds = words(&converge(&manifest, &mut facts));
    assert_eq!(rounds[rounds.len() - 2..], ["start base", "join swarm"]);
    let base = facts.components.get_mut(&name("base")).expect("held");
    base.checks.clear();
    assert_eq!(phase(&decide(&manifest, &facts, NOW), "swarm"), Phase::Healthy, "base still runs");
    facts.components.get_mut(&name("base")).expect("held").unit.state = UnitState::Inactive;
    assert_eq!(phase(&decide(&manifest, &facts, NOW), "swarm"), Phase::Waiting);
}

#[test]
fn a_silent_service_manager_is_not_an_empty_one() {
    let mut facts = NodeFacts::default();
    let pair = pair(1);
    let _ = converge(&pair, &mut facts);
    for held in facts.components.values_mut() {
        held.unit.state = UnitState::Unknown;
    }
    let decision = decide(&pair, &facts, NOW);
    assert!(decision.actions.is_empty(), "{decision:?}");
    assert!(decision.phases.values().all(|p| p.phase != Phase::Healthy));
}

#[test]
fn a_component_that_loses_its_unit_loses_its_process() {
    let mut facts = NodeFacts::default();
    let _ = converge(&pair(1), &mut facts);
    let mut bare = component("top", 2, &["base"], 1);
    bare.unit = None;
    let manifest = manifest(Role::Agent, 2, vec![component("base", 1, &[], 1), bare]);
    assert!(words(&converge(&manifest, &mut facts)).contains(&"stop top".to_owned()));
}

#[test]
fn what_has_no_process_is_not_well_before_what_it_requires() {
    let mut chain = vec![component("base", 1, &[], 1), component("mid", 2, &["base"], 1)];
    chain[1].unit = None;
    chain.push(component("top", 3, &["mid"], 1));
    let (manifest, mut facts) = (manifest(Role::Agent, 1, chain), NodeFacts::default());
    let _ = converge(&manifest, &mut facts);
    for held in facts.components.values_mut() {
        (held.unit.state, held.settled) = (UnitState::Inactive, None);
    }
    assert_eq!(words(&[decide(&manifest, &facts, NOW).actions]), ["start base"], "its checks are ok");
}

#[test]
fn facts_and_actions_travel_as_json() {
    let mut facts = NodeFacts::default();
    let rounds = converge(&pair(1), &mut facts);
    let text = serde_json::to_string(&(&facts, &rounds)).expect("facts are plain data");
    let read: (NodeFacts, Vec<Vec<Action>>) = serde_json::from_str(&text).expect("the same again");
    assert_eq!(read, (facts, rounds));
}

/// Whether what the links of a component lead to is there.
fn is_laid_down(component: &ComponentManifest, facts: &NodeFacts) -> bool {
    let store = component.bundle.as_ref().map(|blob| store_name(&component.name, blob));
    store.is_none_or(|name| facts.stores.contains(&name))
        && config_name(component).is_none_or(|name| facts.configs.contains(&name))
}

const NAMES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "omega"];

/// Something that happens to a node.
#[derive(Debug, Clone)]
enum Event {
    /// The `n`-th due action succeeds.
    Succeed(usize),
    /// The `n`-th due action fails.
    Fail(usize),
    /// The agent dies; all it had in memory is gone.
    AgentDies,
    /// The machine reboots.
    Reboot,
    /// A process ends: badly, or not.
    Crash(usize, bool),
    /// The checks of all running processes pass.
    ChecksPass,
    /// The check of one component does not hold any more.
    CheckBreaks(usize),
    /// Another manifest is accepted.
    Manifest(Manifest),
}

fn a_manifest() -> impl Strategy<Value = Manifest> {
    let one = (any::<bool>(), 1..3_u32, any::<u8>(), 0..6_u8);
    (proptest::collection::vec(one, NAMES.len()), any::<bool>()).prop_map(|(parts, is_master)| {
        let mut components = Vec::new();
        for (index, (present, version, requires, kind)) in parts.into_iter().enumerate() {
            if !present {
                continue;
            }
            let earlier: Vec<&str> = components.iter().map(|c: &ComponentManifest| c.name.as_str()).collect();
            let bit = |n: &usize| requires & (1 << n) != 0;
            let requires: Vec<&str> = (0..earlier.len()).filter(bit).map(|n| earlier[n]).collect();
            let wave = u32::try_from(index).expect("five") + 1;
            let mut made = component(NAMES[index], wave, &requires, version);
            match kind {
                0 => made.unit = None,
                1 => made.bundle = None,
                2 | 3 => {
                    if kind == 3 {
                        made.unit = None;
                    }
                    let member = Assertion::Exec(vec!["true".to_owned()]);
                    made.membership =
                        Some(MembershipManifest { member, calls: Vec::new(), facts_from: None });
                }
                _ => {}
            }
            components.push(made);
        }
        manifest(if is_master { Role::Master } else { Role::Agent }, 1, components)
    })
}

fn an_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any::<usize>().prop_map(Event::Succeed),
        2 => any::<usize>().prop_map(Event::Fail),
        1 => Just(Event::AgentDies),
        1 => Just(Event::Reboot),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(n, badly)| Event::Crash(n, badly)),
        3 => Just(Event::ChecksPass),
        1 => (0..NAMES.len()).prop_map(Event::CheckBreaks),
        1 => a_manifest().prop_map(Event::Manifest),
    ]
}

struct Life {
    manifest: Manifest,
    facts: NodeFacts,
    now: Timestamp,
}

impl Life {
    fn happens(&mut self, event: Event) {
        self.now = self.now.plus(150);
        let due = decide(&self.manifest, &self.facts, self.now).actions;
        match event {
            Event::Succeed(n) if !due.is_empty() => self.succeed(&due[n % due.len()]),
            Event::Fail(n) if !due.is_empty() => self.fail(&due[n % due.len()]),
            Event::Succeed(_) | Event::Fail(_) => {}
            Event::AgentDies => {
                self.facts.attempts.clear();
                self.facts.components.values_mut().for_each(|held| held.checks.clear());
            }
            Event::Reboot => {
                self.facts.attempts.clear();
                for held in self.facts.components.values_mut() {
                    held.checks.clear();
                    held.unit.state = UnitState::Inactive;
                }
            }
            Event::Crash(n, badly) => {
                let count = self.facts.components.len().max(1);
                if let Some(held) = self.facts.components.values_mut().nth(n % count) {
                    held.unit.state = if badly { UnitState::Failed } else { UnitState::Inactive };
                }
            }
            Event::ChecksPass => let_checks_pass(&self.manifest, &mut self.facts),
            Event::CheckBreaks(n) => {
                if let Some(held) = self.facts.components.get_mut(&name(NAMES[n])) {
                    held.checks.clear();
                }
            }
            Event::Manifest(mut next) => {
                next.generation = self.manifest.generation + 1;
                self.manifest = next;
                self.facts.attempts.clear();
            }
        }
    }

    fn succeed(&mut self, action: &Action) {
        self.judge(action);
        apply(&self.manifest, &mut self.facts, action);
        self.facts.attempts.retain(|attempt| attempt.action != *action);
        self.is_whole();
    }

    fn fail(&mut self, action: &Action) {
        let count = self.facts.attempts.iter().find(|a| a.action == *action).map_or(0, |a| a.count);
        self.facts.attempts.retain(|attempt| attempt.action != *action);
        let error = Some("it failed".to_owned());
        self.facts.attempts.push(Attempt { action: action.clone(), count: count + 1, last: self.now, error });
    }

    /// What must never be asked for.
    fn judge(&self, action: &Action) {
        let component =
            action.component().and_then(|n| self.manifest.components.iter().find(|c| c.name == *n));
        let held = action.component().and_then(|n| self.facts.components.get(n));
        match (action, component, held) {
            (Action::Restart { process, .. }, Some(component), Some(held)) => {
                assert_eq!(*process, component.process_digest());
                assert_ne!(
                    held.unit.started_with.as_ref(),
                    Some(process),
                    "an unchanged process was restarted"
                );
            }
            (Action::Start { .. }, Some(component), Some(held)) => {
                assert!(!matches!(held.unit.state, UnitState::Active | UnitState::Activating));
                let phases = decide(&self.manifest, &self.facts, self.now).phases;
                for required in &component.requires {
                    assert_eq!(
                        phases[required].phase,
                        Phase::Healthy,
                        "{} started too early",
                        component.name
                    );
                }
            }
            (Action::Join { .. }, Some(component), Some(held))
                if component.unit.is_none() && held.settled.is_none() =>
            {
                let phases = decide(&self.manifest, &self.facts, self.now).phases;
                for required in &component.requires {
                    assert_eq!(phases[required].phase, Phase::Healthy, "{} joined too early", component.name);
                }
            }
            (Action::Stop { .. }, Some(component), _) => {
                assert!(component.unit.is_none(), "stopped what belongs here");
            }
            (Action::Start { .. } | Action::Restart { .. }, ..) => {
                panic!("started what does not belong here")
            }
            _ => {}
        }
    }

    /// Whatever the active set refers to is there.
    fn is_whole(&self) {
        let Some(active) = &self.facts.active else { return };
        let set = &self.facts.sets[active];
        assert!(set.stores.is_subset(&self.facts.stores), "a store of the active set is missing");
        assert!(set.configs.is_subset(&self.facts.configs), "a config tree of the active set is missing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_life_ends_converged(
        first in a_manifest(),
        events in proptest::collection::vec(an_event(), 0..120),
    ) {
        let mut life = Life { manifest: first, facts: NodeFacts::default(), now: NOW };
        for event in events {
            life.happens(event);
        }
        let Life { manifest, mut facts, .. } = life;
        let _ = converge(&manifest, &mut facts);
        let decision = decide(&manifest, &facts, NOW);
        prop_assert!(decision.actions.is_empty() && decision.wake_at.is_none(), "{:?}", decision);
        prop_assert!(decision.phases.values().all(|p| p.phase == Phase::Healthy), "{:?}", decision);
        prop_assert_eq!(decision.phases.len(), manifest.components.len());
        for component in &manifest.components {
            prop_assert!(is_laid_down(component, &facts));
            let unit = &facts.components[&component.name].unit;
            prop_assert_eq!(unit.state == UnitState::Active, component.unit.is_some());
            if component.unit.is_some() {
                prop_assert_eq!(unit.started_with.as_ref(), Some(&component.process_digest()));
            }
        }
        let carried: BTreeSet<_> = facts.components.keys().collect();
        prop_assert_eq!(carried, manifest.components.iter().map(|c| &c.name).collect());
        prop_assert!(facts.sets.len() <= 2, "sets pile up: {:?}", facts.sets.keys());
    }
}
