//! `node ssh` and `node logs`: a person at one node. They work while the platform is down.

use std::io::IsTerminal as _;

use castrum_blueprints::blueprint::ExistingMachine;
use castrum_blueprints::manifest::Peer;
use castrum_blueprints::names::{ComponentName, NodeName};
use castrum_blueprints::resource::{PowerState, ResourceSpec};
use castrum_provider::Reach;
use castrum_provider_ssh::transport::{ExitStatus, Session, command_line};

use super::args::{BlueprintOption, Node};
use super::context::{Context, real_fleet};
use super::fault::{Fault, code};
use crate::ssh::{Terminal, command, shell};

/// `castrum node`.
pub(super) async fn node(args: &Node) -> Result<u8, Fault> {
    match args {
        Node::Ssh { node, blueprint, command } => ssh(node, blueprint, command).await,
        Node::Logs { node, component, blueprint, follow, lines } => {
            let unit = unit(component.as_deref(), &Context::load(&blueprint.file)?)?;
            let mut words = vec!["sudo", "-n", "journalctl", "--no-pager", "--output=short-iso"];
            let lines = format!("--lines={lines}");
            words.push(&lines);
            if let Some(unit) = &unit {
                words.push(unit);
            }
            if *follow {
                words.push("--follow");
            }
            let session = session(node, blueprint).await?;
            run(&session, &words).await
        }
    }
}

async fn ssh(node: &str, blueprint: &BlueprintOption, words: &[String]) -> Result<u8, Fault> {
    let session = session(node, blueprint).await?;
    if !words.is_empty() {
        // As with `ssh HOST COMMAND...`, the words are one line for the node's shell.
        return ended(command(&session, &words.join(" ")).await);
    }
    if !std::io::stdin().is_terminal() {
        return Err(
            Fault::new(code::USAGE, "there is no terminal for a shell").hint("give a command after `--`")
        );
    }
    let terminal = Terminal::standard().map_err(|error| Fault::of(code::ERROR, &error))?;
    let kind = std::env::var("TERM").ok();
    ended(shell(&session, terminal, kind.as_deref()).await)
}

async fn run(session: &Session, words: &[&str]) -> Result<u8, Fault> {
    let line = command_line(words).map_err(|error| Fault::of(code::ERROR, &error))?;
    ended(command(session, &line).await)
}

fn ended(status: Result<ExitStatus, crate::ssh::ShellError>) -> Result<u8, Fault> {
    match status.map_err(|error| Fault::of(code::ERROR, &error))? {
        ExitStatus::Code(status) => Ok(u8::try_from(status).unwrap_or(code::ERROR)),
        ExitStatus::Signal(name) => {
            Err(Fault::new(code::ERROR, format!("the command was ended by signal {name}")))
        }
    }
}

/// The agent's own log has the name `agent`.
fn unit(component: Option<&str>, context: &Context) -> Result<Option<String>, Fault> {
    let Some(component) = component else { return Ok(None) };
    let name: ComponentName = component.parse().map_err(|error| Fault::of(code::USAGE, &error))?;
    let known = &context.stack.components;
    if component != "agent" && !known.contains_key(&name) {
        let names: Vec<_> = known.keys().map(ComponentName::as_str).collect();
        return Err(Fault::new(code::USAGE, format!("the stack has no component `{name}`"))
            .hint(format!("there are agent, {}", names.join(", "))));
    }
    Ok(Some(format!("--unit=castrum-{name}.service")))
}

/// A machine that is known not to run is not asked: its silence would be told as trouble of the network.
fn is_up(name: &NodeName, power: PowerState) -> Result<(), Fault> {
    let state = match power {
        PowerState::On | PowerState::Unknown => return Ok(()),
        PowerState::Off => "off",
        PowerState::Paused => "paused",
    };
    Err(Fault::new(code::INFRASTRUCTURE, format!("the machine of {name} is {state}"))
        .hint("`castrum apply` switches on what is off; what somebody paused, they have to thaw"))
}

async fn session(node: &str, blueprint: &BlueprintOption) -> Result<Session, Fault> {
    let context = Context::load(&blueprint.file)?;
    let lock = context.existing_lock()?;
    let sites = context.sites(&lock.cluster).await?;
    let desired = context.desired(&super::context::assumed_lock(&context, Some(lock.clone())), &sites)?;
    let name: NodeName = node.parse().map_err(|error| Fault::of(code::USAGE, &error))?;
    let Some(wanted) = desired.nodes.get(&name) else {
        let known: Vec<_> = desired.nodes.keys().take(12).map(NodeName::as_str).collect();
        return Err(Fault::new(code::USAGE, format!("the blueprint declares no node `{name}`"))
            .hint(format!("its nodes are {}", known.join(", "))));
    };
    let observation = sites.observe().await;
    let machine = observation.seen.get(&wanted.machine).and_then(|seen| seen.machine.as_ref());
    if let Some(machine) = machine {
        is_up(&name, machine.power)?;
    }
    let address =
        machine.and_then(|machine| Some((machine.address?, machine.public_address.or(machine.address)?)));
    let Some((inside, outside)) = address else {
        return Err(Fault::new(
            code::INFRASTRUCTURE,
            format!("the machine of {name} is not there, or has no address"),
        )
        .hint("`castrum status` shows what is"));
    };
    let existing: Option<ExistingMachine> = match desired.resources.get(&wanted.machine) {
        Some(ResourceSpec::Machine(spec)) => spec.existing.clone(),
        _ => None,
    };
    let peer = Peer { name, address: inside };
    let reach = Reach { peer, role: wanted.role, address: outside, existing };
    let trust = context.trust(&lock.cluster)?;
    let fleet = real_fleet(&lock.cluster, &trust)?;
    fleet.session(&reach).await.map_err(Fault::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_that_may_run_is_asked() {
        let name: NodeName = "masters-1".parse().expect("a name");
        assert!(is_up(&name, PowerState::On).is_ok() && is_up(&name, PowerState::Unknown).is_ok());
        for (power, word) in [(PowerState::Off, "off"), (PowerState::Paused, "paused")] {
            let fault = is_up(&name, power).expect_err("it does not run");
            assert_eq!(fault.lines, [format!("the machine of masters-1 is {word}")]);
        }
    }
}
