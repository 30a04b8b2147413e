//! `recover`: finds the cluster again when `.castrum/` is lost, and brings a new keyring to its nodes.
//!
//! ```text
//! labels, agents' words ──▶ findings ──▶ nothing to do: 0
//!                              │  └─────▶ something declared is ambiguous: refused, 24
//!                              ▼
//!                  keyring missing, or not at every node yet ──▶ plan ──▶ consent ──▶ new keyring ──▶ admit each node anew
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::sync::Arc;

use castrum_blueprints::desired::Desired;
use castrum_blueprints::event::What;
use castrum_blueprints::lock::Lock;
use castrum_blueprints::manifest::Peer;
use castrum_blueprints::names::{Digest, ResourcePath};
use castrum_blueprints::observed::Observed;
use castrum_blueprints::plan::{Progress, forecast_recover};
use castrum_blueprints::recover::{
    Answer, Asked, Confidence, Finding, Strangers, is_refused, judge, strangers,
};
use castrum_blueprints::resource::{PowerState, ResourceSpec};
use castrum_provider::{Fleet, Reach};
use ring::rand::SystemRandom;

use super::args::{Format, Global, Recover};
use super::context::{Context, assumed_lock, cache, fleet, real_fleet, ssh_options};
use super::fault::{Fault, code};
use super::hold::{guard, tenure};
use super::interrupt::{STOPPING, interruptible};
use super::output::{self, print, print_json};
use super::run::{Preview, ask, events, has_keyring, pin_fault, preview, run_id};
use crate::engine::{Engine, ProjectPort};
use crate::pin::pin_agent;
use crate::recover::{Inquiry, Told, ask as ask_machines, fingerprint, heard};
use crate::trust::{Trust, TrustedProject, unix_seconds};
use crate::view::plan_view::plan_text;
use crate::view::recover_view::{findings_json, findings_text, recovered_text};

/// A cluster that was looked for.
struct Search {
    context: Context,
    lock: Lock,
    preview: Preview,
    trust: Option<Arc<Trust>>,
    asked: Asked,
    told: Told,
}

/// `castrum recover`.
pub(super) async fn recover(args: &Recover, global: &Global) -> Result<u8, Fault> {
    let context = Context::load(&args.blueprint.file)?;
    output::note(&context.warnings);
    let lock = context.existing_lock()?;
    let search = Search::begin(context, lock, args).await?;
    let (desired, observed) = (&search.preview.desired, &search.preview.observed);
    let findings = judge(desired, observed, &search.asked);
    match global.output {
        Format::Table => print(&findings_text(&findings, &output::opts(global, search.preview.clock.now()))),
        format => print_json(&findings_json(&findings, search.trust.is_some()), format),
    }
    let strangers = strangers(desired, observed, &search.asked);
    if is_refused(desired, &findings) {
        return Err(refused(&findings));
    }
    if search.is_whole(&strangers) {
        output::note(
            "the keyring is there, and every node that could be asked holds to it: nothing is changed\n",
        );
        return Ok(code::DONE);
    }
    if search.trust.is_none() && !observed.resources.values().any(|seen| seen.machine.is_some()) {
        output::note("there are no machines; `castrum apply` makes a keyring together with them\n");
        return Ok(code::DONE);
    }
    search.refuse_blindly(&strangers)?;
    search.carry_out(&strangers, args, global).await
}

fn refused(findings: &[Finding]) -> Fault {
    let ambiguous = findings.iter().filter(|finding| finding.confidence == Confidence::Ambiguous);
    let mut fault = Fault::new(code::REFUSED, "what was found contradicts itself, so nothing is changed");
    for finding in ambiguous {
        fault.lines.push(format!("{}: {}", finding.resource, finding.found));
        fault.hints.extend(finding.remedy.clone());
    }
    fault
}

impl Search {
    async fn begin(context: Context, lock: Lock, args: &Recover) -> Result<Self, Fault> {
        let preview = preview(&context, Some(lock.clone())).await?;
        let trust = has_keyring(&context)?.then(|| context.trust(&lock.cluster)).transpose()?;
        let authority = trust.as_ref().and_then(|trust| fingerprint(trust.ca_pem()));
        let mut search = Self {
            asked: Asked { answers: BTreeMap::new(), authority },
            told: Told::default(),
            context,
            lock,
            preview,
            trust,
        };
        search.listen();
        if !search.context.is_simulated() {
            search.ask(&BTreeMap::new()).await?;
            let accepted = accepted(&search.told.unknown, args)?;
            if !accepted.is_empty() {
                search.ask(&accepted).await?;
            }
        }
        Ok(search)
    }

    /// Takes in what is heard of nodes already.
    fn listen(&mut self) {
        let (desired, observed) = (&self.preview.desired, &self.preview.observed);
        for (name, node) in desired.nodes.iter() {
            let seen = observed.nodes.get(name).and_then(|seen| seen.heard.as_ref());
            let is_on = power(observed, &node.machine) == Some(PowerState::On);
            if let Some(word) = seen.filter(|_| is_on) {
                let answer = heard(&word.status, self.asked.authority.as_ref());
                self.asked.answers.insert(node.machine.clone(), answer);
            }
        }
    }

    /// Asks every machine that was not heard, and is not known to be off.
    async fn ask(&mut self, accepted: &BTreeMap<ResourcePath, String>) -> Result<(), Fault> {
        let known = |path: &ResourcePath| matches!(self.asked.answers.get(path), Some(Answer::Said(_)));
        let mut machines = reaches(&self.preview.desired, &self.preview.observed);
        machines.retain(|path, _| !known(path));
        let ssh = ssh_options()?;
        let trust = self.trust.as_deref();
        let inquiry = Inquiry { cluster: &self.lock.cluster, ssh: &ssh, trust, accepted };
        let told = ask_machines(&inquiry, &machines).await;
        self.asked.answers.extend(told.answers.clone());
        self.told.sessions.extend(told.sessions);
        self.told.held.extend(told.held);
        self.told.authorities.extend(told.authorities);
        self.told.unknown = told.unknown;
        Ok(())
    }

    /// Whether there is nothing to recover.
    fn is_whole(&self, strangers: &Strangers) -> bool {
        self.trust.is_some() && strangers.known.is_empty()
    }

    /// A keyring that no node can be brought to would only be in the way.
    fn refuse_blindly(&self, strangers: &Strangers) -> Result<(), Fault> {
        let real = !self.context.is_simulated();
        if !self.told.unknown.is_empty() {
            let text = "the host keys of some machines are not known, so nothing is changed";
            return Err(Fault::new(code::REFUSED, text).hint(
                "compare the fingerprints above with the machines' own, and give `--accept-host-keys`",
            ));
        }
        if real && self.trust.is_none() && strangers.known.is_empty() {
            let text = "no machine let us in, so no new keyring could be brought to it";
            return Err(Fault::new(code::REFUSED, text)
                .hint("log in with a key that `access.authorizedKeys` names, from `ssh-agent` or `~/.ssh`"));
        }
        Ok(())
    }

    async fn carry_out(self, strangers: &Strangers, args: &Recover, global: &Global) -> Result<u8, Fault> {
        let run = run_id();
        let _guard = guard(&self.context.project, &run, "recover")?;
        let Preview { desired, observed, clock, .. } = &self.preview;
        if global.output == Format::Table {
            let forecast = forecast_recover(desired, observed, strangers, clock.now());
            output::note(&plan_text(&forecast, observed, &output::note_opts(global, clock.now())));
        }
        if !args.yes {
            ask("Make a new keyring and bring it to these nodes? Only `yes` is taken for a yes: ", "yes")?;
        }
        let trust = self.new_keyring()?;
        let events = events(&self.context, clock, &run, global)?;
        events.say(What::RunStarted { verb: "recover".to_owned(), cluster: self.lock.cluster.clone() });
        let (cancel, _interrupts) = interruptible(STOPPING);
        let cancel = cancel.bound_to(tenure(&self.context.project));
        let project: Arc<dyn ProjectPort> = Arc::new(TrustedProject {
            trust: Arc::clone(&trust),
            project: Arc::clone(&self.context.project),
        });
        let desired = self.desired()?;
        let (sites, clock) = (self.preview.sites.clone(), Arc::clone(clock));
        let blueprint = self.context.project.blueprint_path().display().to_string();
        let fleet = self.fleet(&trust).await?;
        let engine = Engine { sites, fleet, clock, project, events, cancel };
        let forced = engine.cancel.clone();
        let outcome = tokio::select! {
            outcome = engine.recover(desired, strangers) => outcome,
            () = forced.wait_for_force() => return Ok(code::INTERRUPTED),
        };
        let ended = match outcome.progress {
            None => code::INTERRUPTED,
            Some(Progress::Converged) => code::DONE,
            Some(_) => code::PARTIAL,
        };
        let debt = outcome.plan.debt.clone();
        engine.events.say(What::RunFinished { progress: outcome.progress, debt, code: ended });
        if global.output == Format::Table {
            let opts = output::note_opts(global, engine.clock.now());
            output::note(&recovered_text(&outcome.plan, &blueprint, ended == code::DONE, &opts));
        }
        Ok(ended)
    }

    /// The keyring, made now if there is none. What the lost one vouched for stays trusted by components.
    fn new_keyring(&self) -> Result<Arc<Trust>, Fault> {
        if self.trust.is_none() {
            let agreed: BTreeSet<Digest> = self.asked.agreed(&self.lock.cluster);
            let former = agreed.iter().filter_map(|known| self.told.authorities.get(known).cloned());
            let file = self.context.keyring(&self.lock.cluster)?;
            file.create_after(former.collect(), unix_seconds(), &SystemRandom::new())
                .map_err(|error| Fault::of(code::ERROR, &error).hint(error.remedy()))?;
        }
        self.context.trust(&self.lock.cluster)
    }

    /// With the agent that is here: it knows how to change over, which those on the nodes may not.
    fn desired(&self) -> Result<Desired, Fault> {
        let mut lock = self.lock.clone();
        if !self.context.is_simulated() {
            pin_agent(&mut lock, &cache()?).map_err(|error| pin_fault(&error))?;
        }
        self.context.desired(&assumed_lock(&self.context, Some(lock)), &self.preview.sites)
    }

    async fn fleet(self, trust: &Arc<Trust>) -> Result<Arc<dyn Fleet>, Fault> {
        if self.context.is_simulated() {
            return fleet(&self.lock.cluster, &self.preview.sites, trust);
        }
        let fleet = real_fleet(&self.lock.cluster, trust)?;
        fleet.take_over(self.told.sessions, self.told.held).await;
        Ok(Arc::new(fleet))
    }
}

fn power(observed: &Observed, machine: &ResourcePath) -> Option<PowerState> {
    Some(observed.resources.get(machine)?.machine.as_ref()?.power)
}

/// The machines that can be asked.
fn reaches(desired: &Desired, observed: &Observed) -> BTreeMap<ResourcePath, Reach> {
    let one =
        |(name, node): (&castrum_blueprints::names::NodeName, &castrum_blueprints::desired::DesiredNode)| {
            let machine = observed.resources.get(&node.machine)?.machine.as_ref()?;
            let may_answer = matches!(machine.power, PowerState::On | PowerState::Unknown);
            let peer = Peer { name: name.clone(), address: machine.address.filter(|_| may_answer)? };
            let existing = match desired.resources.get(&node.machine) {
                Some(ResourceSpec::Machine(spec)) => spec.existing.clone(),
                _ => None,
            };
            let address = machine.public_address.unwrap_or(peer.address);
            Some((node.machine.clone(), Reach { peer, role: node.role, address, existing }))
        };
    desired.nodes.iter().filter_map(one).collect()
}

/// Host keys that nothing vouches for: shown, and accepted only by somebody's word.
fn accepted(
    unknown: &BTreeMap<ResourcePath, String>,
    args: &Recover,
) -> Result<BTreeMap<ResourcePath, String>, Fault> {
    if unknown.is_empty() {
        return Ok(BTreeMap::new());
    }
    output::note("nothing vouches for these host keys:\n");
    for (path, line) in unknown {
        let key = castrum_provider_ssh::transport::parse_public_key(line);
        let shown =
            key.map_or_else(|_| line.clone(), |key| castrum_provider_ssh::transport::fingerprint(&key));
        output::note(&format!("  {}: {shown}\n", path.name));
    }
    if args.accept_host_keys {
        return Ok(unknown.clone());
    }
    if !std::io::stdin().is_terminal() {
        return Ok(BTreeMap::new());
    }
    ask(
        "Are these the machines' own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there)? Only `yes` is taken for a yes: ",
        "yes",
    )?;
    Ok(unknown.clone())
}
