//! A plan for people: every round with what is made, changed and removed, what waits, and a summary.
//!
//! Steps that are alike become one line, so that a plan of ten thousand nodes is as short as one of ten.

use std::collections::{BTreeMap, BTreeSet};

use castrum_blueprints::names::{ComponentName, NodeName};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Action, EnsureStep, Forecast, Plan, Progress, Step};
use castrum_blueprints::resource::ResourceSpec;
use serde_json::{Value, json};

use super::names::ranges;
use super::style::{Text, Tone, bytes, clean, counted, paint, safe, wrap};
use super::waits::{debt_lines, gathered, wait_lines};
use super::{FORMAT_VERSION, Opts};

/// How many kinds of waits and debts are shown of one round.
const MOST: usize = 8;

/// The rounds to come, for people.
pub fn plan_text(forecast: &Forecast, observed: &Observed, opts: &Opts) -> String {
    let mut text = Text::default();
    let mut opened = Opened::of(observed);
    let mut totals = Totals::default();
    let with_steps = forecast.rounds.iter().filter(|round| !round.steps.is_empty());
    for (at, round) in with_steps.enumerate() {
        text.heading(opts.color, &format!("Round {}", at + 1));
        for line in lines(round, &mut opened, &mut totals) {
            line.write(&mut text, opts);
        }
        if at == 0 {
            wait_lines(&mut text, &round.blocked, MOST, opts);
        }
    }
    blind_lines(&mut text, observed, opts);
    left_over(&mut text, forecast, opts);
    if !text.0.is_empty() {
        text.line("");
    }
    text.line(&wrap(&totals.summary(forecast), opts.width, 0));
    text.0
}

/// What stays undone after the last round.
fn left_over(text: &mut Text, forecast: &Forecast, opts: &Opts) {
    let Some(last) = forecast.rounds.last() else { return };
    if !last.debt.is_empty() {
        text.heading(opts.color, "Set aside");
        debt_lines(text, &last.debt, MOST, opts);
    }
    if last.steps.is_empty() && !last.blocked.is_empty() {
        text.heading(opts.color, "Still waiting after that");
        wait_lines(text, &last.blocked, MOST, opts);
    }
}

fn blind_lines(text: &mut Text, observed: &Observed, opts: &Opts) {
    if observed.blind.is_empty() {
        return;
    }
    text.heading(opts.color, "Not seen, and so not touched");
    for blind in observed.blind.iter().take(MOST) {
        let what = blind.kind.map_or_else(|| "all of it".to_owned(), |kind| format!("every {kind}"));
        let line = format!("  ? site {}, {what}: {}", blind.site, clean(&blind.reason));
        text.line(&paint(opts.color, Tone::Bad, &wrap(&line, opts.width, 4)));
    }
}

/// The components that are open on each node, as rounds go by.
struct Opened(BTreeMap<NodeName, BTreeSet<ComponentName>>);

impl Opened {
    fn of(observed: &Observed) -> Self {
        let opened = observed.nodes.iter().map(|(name, seen)| {
            let held = seen.heard.iter().flat_map(|heard| heard.status.components.keys());
            (name.clone(), seen.opened.iter().chain(held).cloned().collect())
        });
        Self(opened.collect())
    }
}

/// One line of a plan, for all steps that are alike.
struct Line {
    sign: char,
    what: What,
    subjects: Vec<String>,
    reason: String,
}

/// What a line's steps do, beside which nodes or resources they do it to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Resource(String),
    Machine(String),
    Enroll,
    Readmit,
    Fill(String),
    Found(String),
    Open(Vec<ComponentName>),
    Change,
}

#[derive(Default)]
struct Totals {
    made: usize,
    changed: usize,
    removed: usize,
    joined: BTreeSet<NodeName>,
    readmitted: BTreeSet<NodeName>,
    opened: usize,
    reconfigured: BTreeSet<NodeName>,
    bytes: u64,
}

fn lines(round: &Plan, opened: &mut Opened, totals: &mut Totals) -> Vec<Line> {
    let mut order: Vec<Line> = Vec::new();
    let mut places: BTreeMap<(char, What, String), usize> = BTreeMap::new();
    for step in &round.steps {
        let (sign, what, subject) = describe(step, opened, totals);
        // That components have opened is what the line itself says.
        let reason = match &what {
            What::Open(_) => String::new(),
            _ => clean(&step.reason).replace(&subject, "it"),
        };
        let key = (sign, what, reason);
        if let Some(at) = places.get(&key) {
            order[*at].subjects.push(subject);
            continue;
        }
        places.insert(key.clone(), order.len());
        order.push(Line { sign, what: key.1, subjects: vec![subject], reason: key.2 });
    }
    order
}

fn describe(step: &Step, opened: &mut Opened, totals: &mut Totals) -> (char, What, String) {
    match &step.action {
        Action::Ensure(ensure) => {
            let count = if ensure.create { &mut totals.made } else { &mut totals.changed };
            *count += 1;
            let (what, subject) = resource(ensure);
            (if ensure.create { '+' } else { '~' }, what, subject)
        }
        Action::Remove { path } => {
            totals.removed += 1;
            let place = format!("{} in {}", path.kind, path.site);
            ('-', What::Resource(place), clean(&path.name))
        }
        Action::Enroll { node, .. } => {
            totals.joined.insert(node.clone());
            ('+', What::Enroll, node.to_string())
        }
        Action::Readmit { node, .. } => {
            totals.readmitted.insert(node.clone());
            ('~', What::Readmit, node.to_string())
        }
        Action::Fill { node, blobs } => {
            let size: u64 = blobs.iter().map(|blob| blob.size).sum();
            totals.bytes += size;
            let load = format!("{}, {}", counted(blobs.len(), "bundle"), bytes(size));
            ('+', What::Fill(load), node.to_string())
        }
        Action::Found { component, node } => ('~', What::Found(component.to_string()), node.to_string()),
        Action::Publish { manifest, .. } => {
            let held = opened.0.entry(manifest.node.clone()).or_default();
            let names = manifest.components.iter().map(|component| component.name.clone());
            let new: Vec<ComponentName> = names.filter(|name| held.insert(name.clone())).collect();
            totals.opened += new.len();
            if new.is_empty() {
                totals.reconfigured.insert(manifest.node.clone());
                return ('~', What::Change, manifest.node.to_string());
            }
            ('+', What::Open(new), manifest.node.to_string())
        }
    }
}

fn resource(ensure: &EnsureStep) -> (What, String) {
    let (path, name) = (&ensure.path, clean(&ensure.path.name));
    match &ensure.spec {
        ResourceSpec::Machine(spec) if spec.existing.is_some() => {
            (What::Machine(format!("in {} ({}, exists already)", path.site, spec.role)), name)
        }
        ResourceSpec::Machine(spec) => {
            let size = spec.size;
            let memory = bytes(size.memory_mib.saturating_mul(1 << 20));
            let disks = if spec.disks.is_empty() {
                String::new()
            } else {
                format!(" and {}", counted(spec.disks.len(), "further disk"))
            };
            let has = format!(
                "in {} ({}, {}, {memory} memory, {} GiB disk{disks})",
                path.site,
                spec.role,
                counted(size.cpus as usize, "cpu"),
                size.disk_gib
            );
            (What::Machine(has), name)
        }
        _ => (What::Resource(format!("{} in {}", path.kind, path.site)), name),
    }
}

impl Line {
    fn sentence(&self) -> String {
        let count = self.subjects.len();
        let names = ranges(self.subjects.iter().map(String::as_str), 6);
        let many = |one: &str| if count == 1 { one.to_owned() } else { counted(count, one) };
        match &self.what {
            What::Resource(place) if count == 1 => format!("{place}: {names}"),
            What::Resource(place) => format!("{count} times {place}: {names}"),
            What::Machine(place) => format!("{} {names} {place}", many("machine")),
            What::Enroll => format!("agent on {names}{}", plural(count)),
            What::Readmit => format!("new keys on {names}{}", plural(count)),
            What::Fill(load) => format!("depot of {names}: {load}"),
            What::Found(component) => format!("found {component} on {names}"),
            What::Open(components) => {
                let components: Vec<_> = components.iter().map(ComponentName::as_str).collect();
                format!("start {} on {names}{}", components.join(", "), plural(count))
            }
            What::Change => format!("change what runs on {names}{}", plural(count)),
        }
    }

    fn write(&self, text: &mut Text, opts: &Opts) {
        let tone = match self.sign {
            '+' => Tone::Good,
            '-' => Tone::Bad,
            _ => Tone::Warn,
        };
        let reason = if self.reason.is_empty() { String::new() } else { format!(" -- {}", self.reason) };
        let line = wrap(&format!("  {} {}{reason}", self.sign, self.sentence()), opts.width, 4);
        text.line(&paint(opts.color, tone, &line));
    }
}

fn plural(count: usize) -> String {
    if count > 1 { format!(" ({count} nodes)") } else { String::new() }
}

impl Totals {
    fn summary(&self, forecast: &Forecast) -> String {
        let rounds = forecast.rounds.iter().filter(|round| !round.steps.is_empty()).count();
        let end = match forecast.progress {
            Progress::Converged => "Then everything is as declared.",
            Progress::Partial => "Then something is still set aside.",
            Progress::Pending => "Then something is still awaited.",
        };
        if rounds == 0 {
            return match forecast.progress {
                Progress::Converged => "Nothing to do: everything is as declared.".to_owned(),
                Progress::Partial => "Nothing can be done now: something is set aside.".to_owned(),
                Progress::Pending => "Nothing can be done now: something is awaited.".to_owned(),
            };
        }
        let mut parts = vec![format!(
            "{} to make, {} to change, {} to remove",
            counted(self.made, "resource"),
            self.changed,
            self.removed
        )];
        let mut add = |count: usize, text: String| {
            if count > 0 {
                parts.push(text);
            }
        };
        add(self.joined.len(), format!("{} to join over SSH", counted(self.joined.len(), "node")));
        add(self.readmitted.len(), format!("{} to get new keys", counted(self.readmitted.len(), "node")));
        add(self.opened, format!("{} to start", counted(self.opened, "component")));
        add(self.reconfigured.len(), format!("{} to change", counted(self.reconfigured.len(), "node")));
        add(usize::from(self.bytes > 0), format!("{} to upload", bytes(self.bytes)));
        format!("Plan: {}; {}. {end}", parts.join("; "), counted(rounds, "round"))
    }
}

/// The rounds to come, as data. Manifests are named by node and generation; they are not written out.
pub fn plan_json(forecast: &Forecast, observed: &Observed) -> Value {
    let mut opened = Opened::of(observed);
    let mut totals = Totals::default();
    let rounds: Vec<Value> =
        forecast.rounds.iter().map(|round| round_json(round, &mut opened, &mut totals)).collect();
    safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": "plan",
        "progress": forecast.progress,
        "rounds": rounds,
        "blind": observed.blind,
        "summary": {
            "make": totals.made,
            "change": totals.changed,
            "remove": totals.removed,
            "join": totals.joined.len(),
            "start": totals.opened,
            "reconfigure": totals.reconfigured.len(),
            "upload_bytes": totals.bytes,
        },
    }))
}

fn round_json(round: &Plan, opened: &mut Opened, totals: &mut Totals) -> Value {
    let steps: Vec<Value> = round.steps.iter().map(|step| step_json(step, opened, totals)).collect();
    json!({ "steps": steps, "blocked": round.blocked, "debt": round.debt })
}

fn step_json(step: &Step, opened: &mut Opened, totals: &mut Totals) -> Value {
    let (sign, what, _) = describe(step, opened, totals);
    let change = match sign {
        '+' => "add",
        '-' => "remove",
        _ => "change",
    };
    let detail = match (&step.action, what) {
        (Action::Ensure(EnsureStep { path, spec, .. }), _) => json!({ "resource": path, "spec": spec }),
        (Action::Remove { path }, _) => json!({ "resource": path }),
        (Action::Enroll { address, .. } | Action::Readmit { address, .. }, _) => {
            json!({ "address": address })
        }
        (Action::Fill { blobs, .. }, _) => json!({ "blobs": blobs }),
        (Action::Found { component, .. }, _) => json!({ "component": component }),
        (Action::Publish { manifest, content }, What::Open(new)) => {
            json!({ "generation": manifest.generation, "content": content, "starts": new })
        }
        (Action::Publish { manifest, content }, _) => {
            json!({ "generation": manifest.generation, "content": content, "starts": [] })
        }
    };
    let node = step.action.node();
    json!({ "id": step.id, "change": change, "reason": step.reason, "node": node, "area": step.action.area(), "detail": detail })
}

/// What a destroy would remove, for people.
pub fn destroy_text(plan: &Plan, observed: &Observed, opts: &Opts) -> String {
    let mut text = Text::default();
    let mut doomed: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for path in doomed_paths(plan, observed) {
        doomed.entry((path.site.to_string(), path.kind.to_string())).or_default().push(clean(&path.name));
    }
    for ((site, kind), names) in &doomed {
        let line = Line {
            sign: '-',
            what: What::Resource(format!("{kind} in {site}")),
            subjects: names.clone(),
            reason: String::new(),
        };
        line.write(&mut text, opts);
    }
    blind_lines(&mut text, observed, opts);
    if !plan.debt.is_empty() {
        text.heading(opts.color, "Cannot be removed now");
        debt_lines(&mut text, &plan.debt, MOST, opts);
    }
    let count: usize = doomed.values().map(Vec::len).sum();
    if !text.0.is_empty() {
        text.line("");
    }
    text.line(&if count == 0 {
        "Nothing to remove: nothing that carries this cluster's label was found.".to_owned()
    } else {
        format!("{} to remove, with all data on them.", counted(count, "resource"))
    });
    text.0
}

fn doomed_paths<'a>(
    plan: &'a Plan,
    observed: &'a Observed,
) -> impl Iterator<Item = &'a castrum_blueprints::names::ResourcePath> {
    let waits: BTreeSet<&str> = plan.blocked.iter().map(|blocked| blocked.subject.as_str()).collect();
    let steps: BTreeSet<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    observed.resources.keys().filter(move |path| {
        let id = format!("remove {path}");
        waits.contains(id.as_str()) || steps.contains(id.as_str())
    })
}

/// What a destroy would remove, as data.
pub fn destroy_json(plan: &Plan, observed: &Observed) -> Value {
    let waits: Vec<Value> = gathered(&plan.blocked)
        .iter()
        .map(|wait| json!({ "subject": wait.subject, "waits_for": wait.waits_for }))
        .collect();
    safe(json!({
        "format_version": FORMAT_VERSION,
        "kind": "destroy-plan",
        "remove": doomed_paths(plan, observed).collect::<Vec<_>>(),
        "waits": waits,
        "debt": plan.debt,
        "blind": observed.blind,
    }))
}
