//! One machine over SSH: how it is reached, and the scripts that run there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use castrum_blueprints::blueprint::ExistingMachine;
use castrum_provider::{Failure, FailureClass};

use crate::transport::{
    Auth, ClientConfig, HostKeyPolicy, Limits, Route, RouteRequest, Session, SshError, SshErrorKind,
    command_line, parse_public_key,
};

/// Who we are to the machines, and how long they may take.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// The user's SSH configuration.
    pub config: ClientConfig,
    /// Identities for machines that name no key.
    pub auth: Auth,
    /// The user's home folder, for keys that are declared as `~/...`.
    pub home: PathBuf,
    /// From the first packet to the end of authentication, jumps included.
    pub connect: Duration,
    /// The longest that a script may run; releasing a machine stops all its services.
    pub script: Duration,
    /// How many machines are spoken to at once.
    pub parallel: usize,
}

impl SshOptions {
    /// The options of the user that runs this process.
    pub fn from_environment() -> Result<Self, SshError> {
        Ok(Self::new(ClientConfig::from_environment()?, Auth::from_environment()))
    }

    /// The usual times and bounds with this configuration and these identities.
    pub fn new(config: ClientConfig, auth: Auth) -> Self {
        Self {
            config,
            auth,
            home: std::env::home_dir().unwrap_or_default(),
            connect: Duration::from_secs(20),
            script: Duration::from_mins(3),
            parallel: 32,
        }
    }

    /// The way to a machine: what the blueprint declares wins over the user's configuration.
    pub fn route(&self, machine: &ExistingMachine) -> Result<Route, SshError> {
        let auth = match &machine.key {
            None => self.auth.clone(),
            Some(key) => {
                let path = key.strip_prefix("~/").map_or_else(|| key.into(), |rest| self.home.join(rest));
                self.auth.clone().with_files([path]).only_listed()
            }
        };
        let key = machine.host_key.as_deref().map(parse_public_key).transpose()?;
        self.config.route(&RouteRequest {
            name: machine.address.clone(),
            port: machine.port,
            user: machine.user.clone(),
            auth,
            policy: key.map(|key| HostKeyPolicy::Pinned(vec![key])),
        })
    }
}

/// What a script said, and the address by which the machine was reached as the machine sees it.
pub(crate) struct Said {
    pub(crate) own_address: Option<IpAddr>,
    pub(crate) text: String,
}

/// Runs `script` as root on the machine, with `arguments`. The script itself goes in on standard input.
pub(crate) async fn run_script(
    options: &SshOptions,
    machine: &ExistingMachine,
    script: &'static str,
    arguments: &[&str],
) -> Result<Said, Failure> {
    let work = async {
        let session = Session::open(&options.route(machine)?, options.connect).await?;
        let sudo: &[&str] = if session.user() == "root" { &[] } else { &["sudo", "-n"] };
        let shell = command_line(&[sudo, &["sh", "-s", "--"], arguments].concat())?;
        let command = format!("echo \"$SSH_CONNECTION\" && {shell}");
        let output = session.check(&command, script, &Limits::within(options.script)).await?;
        session.close().await;
        Ok(output)
    };
    let output = work.await.map_err(|error| failure(&machine.address, &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (connection, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let own_address = connection.split(' ').nth(2).and_then(|address| address.parse().ok());
    Ok(Said { own_address, text: rest.to_owned() })
}

/// An error of the transport in the classes of the contract.
pub(crate) fn failure(machine: &str, error: &SshError) -> Failure {
    let needs_password = matches!(error, SshError::CommandFailed { stderr, .. } if stderr.contains("sudo:"));
    let class = match error.kind() {
        SshErrorKind::Refused | SshErrorKind::HostKey => FailureClass::Denied,
        SshErrorKind::Local => FailureClass::Invalid,
        SshErrorKind::Command if needs_password => FailureClass::Denied,
        SshErrorKind::Unreachable | SshErrorKind::Command | SshErrorKind::TimedOut | SshErrorKind::Lost => {
            FailureClass::Transient
        }
    };
    let mut message = format!("machine `{machine}`: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    let failure = Failure::new(class, message);
    let hint = if needs_password {
        Some("log in as root, or let the user run `sudo` without a password".to_owned())
    } else {
        error.hint()
    };
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
