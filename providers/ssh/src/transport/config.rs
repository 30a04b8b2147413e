//! `~/.ssh/config`, as far as it decides where a host is, who we are to it and by what its key is known.
//!
//! As in OpenSSH the first value wins, but key files add up. `Match` knows `all`, `host`, `originalhost`, `user` and
//! `localuser`; a block with another criterion never applies, since nothing of the configuration is executed here.
//! `StrictHostKeyChecking` is read and has no effect: every policy here is as strict as `yes` already.

mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::read::{Reader, in_home};
use super::auth::Auth;
use super::error::SshError;
use super::pattern;

/// The settings of a user's SSH client.
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    lines: Vec<Setting>,
    home: PathBuf,
    local_user: String,
}

/// One line, with the block that it stands in.
#[derive(Debug, Clone)]
struct Setting {
    block: Arc<Block>,
    keyword: String,
    words: Vec<String>,
}

/// When the lines of a block apply; a block inside an included file also needs the one around the `Include`.
#[derive(Debug)]
struct Block {
    when: When,
    outer: Option<Arc<Block>>,
}

#[derive(Debug)]
enum When {
    Always,
    Never,
    Host(Vec<String>),
    Match(Vec<(String, Vec<String>)>),
}

/// What the configuration says about one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostSettings {
    /// The address to connect to (`HostName`, else the name itself).
    pub host_name: String,
    /// `Port`.
    pub port: Option<u16>,
    /// `User`.
    pub user: Option<String>,
    /// `IdentityFile`, all of them.
    pub identity_files: Vec<PathBuf>,
    /// `IdentitiesOnly`.
    pub identities_only: bool,
    /// `IdentityAgent`: `Some(None)` is `none`.
    pub identity_agent: Option<Option<PathBuf>>,
    /// `ProxyJump`, host by host.
    pub proxy_jump: Vec<String>,
    /// `ProxyCommand`, which is not supported.
    pub proxy_command: Option<String>,
    /// `UserKnownHostsFile` and `GlobalKnownHostsFile`.
    pub known_hosts: Vec<PathBuf>,
    /// `HostKeyAlias`.
    pub host_key_alias: Option<String>,
}

impl HostSettings {
    /// `auth` with what the configuration adds to it.
    pub(crate) fn identities(&self, auth: &Auth) -> Auth {
        let mut auth = auth.clone();
        if !self.identity_files.is_empty() {
            auth = auth.with_configured_files(&self.identity_files);
        }
        if self.identities_only {
            auth = auth.only_listed();
        }
        match &self.identity_agent {
            Some(Some(socket)) => auth.with_agent(socket),
            Some(None) => auth.without_agent(),
            None => auth,
        }
    }
}

impl ClientConfig {
    /// The configuration of the user that runs this process and that of the system.
    pub fn from_environment() -> Result<Self, SshError> {
        let home = std::env::home_dir().unwrap_or_default();
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        let files = [home.join(".ssh/config"), PathBuf::from("/etc/ssh/ssh_config")];
        Self::load(&files, &home, &user.unwrap_or_else(|_| "root".to_owned()))
    }

    /// The configuration in `files`, the first of which wins; those that do not exist are empty.
    pub fn load(files: &[PathBuf], home: &Path, local_user: &str) -> Result<Self, SshError> {
        let mut reader = Reader { home: home.to_owned(), lines: Vec::new() };
        for file in files {
            let always = Arc::new(Block { when: When::Always, outer: None });
            reader.file(file, &always, 0)?;
        }
        Ok(Self { lines: reader.lines, home: home.to_owned(), local_user: local_user.to_owned() })
    }

    /// The configuration in `text`.
    pub fn parse(text: &str, home: &Path, local_user: &str) -> Result<Self, SshError> {
        let mut reader = Reader { home: home.to_owned(), lines: Vec::new() };
        let always = Arc::new(Block { when: When::Always, outer: None });
        reader.text(text, &home.join(".ssh/config"), &always, 0)?;
        Ok(Self { lines: reader.lines, home: home.to_owned(), local_user: local_user.to_owned() })
    }

    pub(crate) fn local_user(&self) -> &str {
        &self.local_user
    }

    /// What applies to `name`; `user` is the login name, if it is settled already.
    pub fn host(&self, name: &str, user: Option<&str>) -> HostSettings {
        let mut found = Found { name, user, settings: HostSettings::default(), known: [None, None] };
        let mut seen: Vec<&str> = Vec::new();
        for line in &self.lines {
            // A keyword's first line wins; only key files add up.
            let adds_up = line.keyword == "identityfile";
            if (adds_up || !seen.contains(&line.keyword.as_str())) && self.applies(&line.block, &found) {
                found.take(line);
                seen.push(&line.keyword);
            }
        }
        self.finish(found)
    }

    fn applies(&self, block: &Block, found: &Found<'_>) -> bool {
        let here = match &block.when {
            When::Always => true,
            When::Never => false,
            When::Host(patterns) => pattern::list_matches(patterns.iter().map(String::as_str), found.name),
            When::Match(criteria) => criteria.iter().all(|(what, list)| self.fits(what, list, found)),
        };
        here && block.outer.as_ref().is_none_or(|outer| self.applies(outer, found))
    }

    fn fits(&self, what: &str, list: &[String], found: &Found<'_>) -> bool {
        let host = Some(found.settings.host_name.as_str()).filter(|host| !host.is_empty());
        let text = match what {
            "host" => host.unwrap_or(found.name),
            "originalhost" => found.name,
            "user" => found.user.or(found.settings.user.as_deref()).unwrap_or(&self.local_user),
            _ => &self.local_user,
        };
        pattern::list_matches(list.iter().map(String::as_str), text)
    }

    fn finish(&self, found: Found<'_>) -> HostSettings {
        let mut settings = found.settings;
        settings.host_name = match settings.host_name.as_str() {
            "" => found.name.to_owned(),
            name => name.replace("%h", found.name).replace("%%", "%"),
        };
        let user = found.user.or(settings.user.as_deref()).unwrap_or(&self.local_user).to_owned();
        let port = settings.port.unwrap_or(22).to_string();
        let expand = |path: &Path| {
            let path = path.to_string_lossy();
            let tokens = [
                ("%h", settings.host_name.as_str()),
                ("%n", found.name),
                ("%p", &port),
                ("%r", &user),
                ("%u", &self.local_user),
                ("%d", &self.home.to_string_lossy()),
            ];
            let text =
                tokens.iter().fold(path.into_owned(), |text, (token, value)| text.replace(token, value));
            in_home(&text.replace("%%", "%"), &self.home)
        };
        let [user_files, global_files] = found.known;
        let ssh = self.home.join(".ssh");
        let user_files =
            user_files.unwrap_or_else(|| vec![ssh.join("known_hosts"), ssh.join("known_hosts2")]);
        let global_files = global_files.unwrap_or_else(|| vec!["/etc/ssh/ssh_known_hosts".into()]);
        settings.known_hosts = user_files.iter().chain(&global_files).map(|path| expand(path)).collect();
        settings.identity_files = settings.identity_files.iter().map(|path| expand(path)).collect();
        settings.identity_agent = settings.identity_agent.as_ref().map(|s| s.as_deref().map(expand));
        settings
    }
}

/// What was gathered for a host so far.
struct Found<'a> {
    name: &'a str,
    user: Option<&'a str>,
    settings: HostSettings,
    /// Of the user, of the system.
    known: [Option<Vec<PathBuf>>; 2],
}

impl Found<'_> {
    fn take(&mut self, line: &Setting) {
        let Some(first) = line.words.first() else { return };
        let s = &mut self.settings;
        let paths = || line.words.iter().filter(|w| *w != "none").map(PathBuf::from).collect::<Vec<_>>();
        match line.keyword.as_str() {
            "hostname" => s.host_name.clone_from(first),
            "port" => s.port = first.parse().ok(),
            "user" => s.user = Some(first.clone()),
            "identityfile" => s.identity_files.extend(paths()),
            "identitiesonly" => s.identities_only = first.eq_ignore_ascii_case("yes"),
            "identityagent" => {
                s.identity_agent = match first.as_str() {
                    "none" => Some(None),
                    "SSH_AUTH_SOCK" => None,
                    path => Some(Some(PathBuf::from(path))),
                }
            }
            "proxyjump" if first != "none" => {
                s.proxy_jump = first.split(',').map(|jump| jump.trim().to_owned()).collect();
            }
            "proxycommand" if first != "none" => s.proxy_command = Some(line.words.join(" ")),
            "userknownhostsfile" => self.known[0] = Some(paths()),
            "globalknownhostsfile" => self.known[1] = Some(paths()),
            "hostkeyalias" => s.host_key_alias = Some(first.clone()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "/home/me";

    fn host(text: &str, name: &str) -> HostSettings {
        ClientConfig::parse(text, Path::new(HOME), "me").unwrap().host(name, None)
    }

    #[test]
    fn the_first_value_wins_and_key_files_add_up() {
        let text = "Host web* !web9\n  HostName=%h.example.org\n  Port 2222\n  IdentityFile \"~/.ssh/my key\"\n\
                    Host *\n  Port 22\n  User=any # comment\n  IdentityFile %d/.ssh/%u-%r@%n\n  IdentitiesOnly yes\n";
        let web = host(text, "web1");
        assert_eq!(
            (web.host_name.as_str(), web.port, web.user.as_deref()),
            ("web1.example.org", Some(2222), Some("any"))
        );
        let files = ["/home/me/.ssh/my key", "/home/me/.ssh/me-any@web1"].map(PathBuf::from);
        assert_eq!(web.identity_files, files);
        assert!(web.identities_only);
        assert_eq!(host(text, "web9").port, Some(22));
    }

    #[test]
    fn match_blocks_apply_only_when_all_their_criteria_do() {
        let text = "Host short\n HostName long.example.org\nMatch host *.example.org user me\n Port 1\n\
                    Match exec \"touch /tmp/never\"\n Port 2\nMatch originalhost other\n Port 3\nMatch all\n Port 4\n";
        assert_eq!(host(text, "short").port, Some(1));
        assert_eq!(host(text, "other").port, Some(3));
        assert_eq!(host(text, "third").port, Some(4));
    }

    #[test]
    fn known_hosts_agents_and_jumps() {
        let text = "Host a\n UserKnownHostsFile /x/a ~/b\n HostKeyAlias c\n IdentityAgent none\n ProxyJump p,q\n\
                    StrictHostKeyChecking no\n";
        let a = host(text, "a");
        let files = ["/x/a", "/home/me/b", "/etc/ssh/ssh_known_hosts"].map(PathBuf::from);
        assert_eq!(a.known_hosts, files);
        assert_eq!((a.identity_agent, a.host_key_alias.as_deref()), (Some(None), Some("c")));
        assert_eq!(a.proxy_jump, ["p", "q"]);
        assert_eq!(host(text, "b").known_hosts[0], Path::new("/home/me/.ssh/known_hosts"));
    }

    #[test]
    fn included_files_keep_the_condition_around_them() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = dir.path().join(".ssh");
        std::fs::create_dir_all(ssh.join("conf.d")).unwrap();
        std::fs::write(ssh.join("config"), "Host in*\n Include conf.d/*.conf\nHost *\n Port 9\n").unwrap();
        std::fs::write(ssh.join("conf.d/1.conf"), "Port 7\nHost inner\n User one\n").unwrap();
        std::fs::write(ssh.join("conf.d/2.conf"), "User two\n").unwrap();
        let config = ClientConfig::load(&[ssh.join("config")], dir.path(), "me").unwrap();
        let at = |name| (config.host(name, None).port, config.host(name, None).user);
        assert_eq!(at("inner"), (Some(7), Some("one".to_owned())));
        assert_eq!(at("inside"), (Some(7), Some("two".to_owned())));
        assert_eq!(at("outside"), (Some(9), None));
        std::fs::write(ssh.join("config"), "Include config\n").unwrap();
        let endless = ClientConfig::load(&[ssh.join("config")], dir.path(), "me").unwrap_err();
        assert!(endless.to_string().contains("too deep"), "{endless}");
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        for text in ["Port ssh\n", "\nUser \"me\n", "Host a\n HostName\n"] {
            let error = ClientConfig::parse(text, Path::new(HOME), "me").unwrap_err();
            assert!(error.to_string().starts_with("/home/me/.ssh/config:"), "{error}");
        }
    }
}
