//! The way to a machine: the hosts to jump through, and the machine itself.

use std::fmt;

use super::auth::Auth;
use super::config::{ClientConfig, HostSettings};
use super::error::SshError;
use super::hostkey::{HostKeyPolicy, KnownHosts};

/// How deep jumps may lead to jumps; more is a circle in the configuration.
const MOST_HOPS: usize = 8;

/// A machine's SSH server and the user on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// A host name or an IP address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The login name.
    pub user: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.contains(':') {
            write!(f, "[{}]:{}", self.address, self.port)
        } else {
            write!(f, "{}:{}", self.address, self.port)
        }
    }
}

/// One host on the way, the machine itself included.
#[derive(Clone)]
pub struct Hop {
    /// Where it is.
    pub target: Target,
    /// Who we are to it.
    pub auth: Auth,
    /// By what its host key is accepted.
    pub policy: HostKeyPolicy,
}

/// The way to a machine.
#[derive(Clone)]
pub struct Route {
    pub(crate) jumps: Vec<Hop>,
    pub(crate) last: Hop,
}

impl Route {
    /// Straight to the machine.
    pub fn direct(target: Target, auth: Auth, policy: HostKeyPolicy) -> Self {
        Self { jumps: Vec::new(), last: Hop { target, auth, policy } }
    }

    /// The same way, with `jump` as the last host before the machine.
    #[must_use]
    pub fn through(mut self, jump: Hop) -> Self {
        self.jumps.push(jump);
        self
    }

    /// The machine that the way leads to.
    pub fn target(&self) -> &Target {
        &self.last.target
    }
}

/// What is known about a machine before the user's SSH configuration is asked; what is given here wins.
#[derive(Clone)]
pub struct RouteRequest {
    /// A host name, an address, or an alias of the configuration.
    pub name: String,
    /// The port, if declared.
    pub port: Option<u16>,
    /// The user, if declared.
    pub user: Option<String>,
    /// The identities; key files of the configuration are added.
    pub auth: Auth,
    /// By what the host key is accepted; `None`: the `known_hosts` files of the configuration.
    pub policy: Option<HostKeyPolicy>,
}

impl ClientConfig {
    /// The way to a machine, as this configuration has it.
    pub fn route(&self, request: &RouteRequest) -> Result<Route, SshError> {
        let settings = self.host(&request.name, request.user.as_deref());
        let jumps = self.jumps_of(&request.name, &settings, &request.auth, 0)?;
        Ok(Route { jumps, last: self.hop(request, &settings) })
    }

    fn hop(&self, request: &RouteRequest, settings: &HostSettings) -> Hop {
        let user = request.user.clone().or_else(|| settings.user.clone());
        let target = Target {
            address: settings.host_name.clone(),
            port: request.port.or(settings.port).unwrap_or(22),
            user: user.unwrap_or_else(|| self.local_user().to_owned()),
        };
        let known = || {
            HostKeyPolicy::KnownHosts(KnownHosts {
                files: settings.known_hosts.clone(),
                alias: settings.host_key_alias.clone(),
            })
        };
        let policy = request.policy.clone().unwrap_or_else(known);
        Hop { target, auth: settings.identities(&request.auth), policy }
    }

    fn jumps_of(
        &self,
        name: &str,
        settings: &HostSettings,
        auth: &Auth,
        depth: usize,
    ) -> Result<Vec<Hop>, SshError> {
        let refuse =
            |reason: &str| SshError::Config { place: format!("host `{name}`"), reason: reason.into() };
        if settings.proxy_jump.is_empty() {
            return match &settings.proxy_command {
                Some(_) => Err(refuse("`ProxyCommand` is not supported; use `ProxyJump`")),
                None => Ok(Vec::new()),
            };
        }
        if depth + settings.proxy_jump.len() > MOST_HOPS {
            return Err(refuse("`ProxyJump` goes in a circle, or through too many hosts"));
        }
        let mut hops = Vec::new();
        for (index, jump) in settings.proxy_jump.iter().enumerate() {
            let mut request =
                parse_jump(jump).ok_or_else(|| refuse("a host of `ProxyJump` cannot be read"))?;
            request.auth = auth.without_keys();
            let its = self.host(&request.name, request.user.as_deref());
            // Only the first host is reached from here, so only its own `ProxyJump` has a meaning.
            if index == 0 {
                hops = self.jumps_of(&request.name, &its, auth, depth + settings.proxy_jump.len())?;
            }
            hops.push(self.hop(&request, &its));
        }
        Ok(hops)
    }
}

/// `[user@]host[:port]`, with an IPv6 address in brackets, or the same behind `ssh://`.
fn parse_jump(text: &str) -> Option<RouteRequest> {
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (name, port) = if let Some(rest) = rest.strip_prefix('[') {
        let (name, port) = rest.split_once(']')?;
        (name, port.strip_prefix(':'))
    } else {
        match rest.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (rest, None),
        }
    };
    let port = port.map(str::parse).transpose().ok()?;
    if name.is_empty() {
        return None;
    }
    Some(RouteRequest { name: name.to_owned(), port, user, auth: Auth::default(), policy: None })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn route(text: &str, name: &str) -> Result<String, SshError> {
        let config = ClientConfig::parse(text, Path::new("/home/me"), "me")?;
        let auth = Auth::for_user(Path::new("/home/me"), None);
        let route =
            config.route(&RouteRequest { name: name.into(), port: None, user: None, auth, policy: None })?;
        let hops = route.jumps.iter().chain([&route.last]);
        Ok(hops.map(|hop| format!("{}@{}", hop.target.user, hop.target)).collect::<Vec<_>>().join(" > "))
    }

    #[test]
    fn jumps_are_resolved_by_the_same_configuration() {
        let text = "Host inner\n HostName 10.0.0.9\n User deep\n ProxyJump ops@gate,[fd00::1]:2200\n\
                    Host gate\n HostName gate.example.org\n Port 2022\n ProxyJump outer\nHost *\n User any\n";
        let expected = "any@outer:22 > ops@gate.example.org:2022 > any@[fd00::1]:2200 > deep@10.0.0.9:22";
        assert_eq!(route(text, "inner").unwrap(), expected);
        assert_eq!(route(text, "else").unwrap(), "any@else:22");
        assert_eq!(route("", "plain").unwrap(), "me@plain:22");
    }

    #[test]
    fn circles_and_proxy_commands_are_refused() {
        let circle = route("Host a\n ProxyJump b\nHost b\n ProxyJump a\n", "a").unwrap_err();
        assert!(circle.to_string().contains("circle"), "{circle}");
        let command = route("Host a\n ProxyCommand nc %h %p\n", "a").unwrap_err();
        assert!(command.to_string().contains("use `ProxyJump`"), "{command}");
        assert_eq!(route("Host a\n ProxyJump none\n ProxyCommand none\n", "a").unwrap(), "me@a:22");
    }
}
