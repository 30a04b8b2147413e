//! Where Debian packages come from: what this machine's own apt is configured with, never a host named here.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::LocalError;

/// What mmdebstrap needs to know of this machine's apt.
#[derive(Debug)]
pub(crate) struct Sources {
    /// One-line sources (`deb [...] URI SUITE COMPONENT`). They may hold credentials, so they go through a pipe.
    pub lines: String,
    /// Options such as proxies.
    pub options: String,
}

/// One package index, as `apt-get indextargets` lists it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Index {
    repo: String,
    suite: String,
    component: String,
    signed_by: Option<String>,
    /// The file and stanza it was declared in.
    entry: String,
}

/// The sources of `suite` (with its updates and security suites).
pub(crate) fn of_this_machine(suite: &str) -> Result<Sources, LocalError> {
    let targets = output("apt-get", &["indextargets", "Created-By: Packages"])?;
    let mut lines: Vec<String> = parse_targets(&targets)
        .into_iter()
        .filter(|index| belongs_to(&index.suite, suite))
        .map(|index| line(index, declared_keyring))
        .collect();
    lines.sort();
    lines.dedup();
    if lines.is_empty() {
        return Err(LocalError::Invalid {
            what: format!("apt on this machine has no source for Debian `{suite}`"),
            hint: format!(
                "add a `deb` source for `{suite}` below /etc/apt/sources.list.d, or choose this machine's own release"
            ),
        });
    }
    let dump = output("apt-config", &["dump"])?;
    Ok(Sources { lines: lines.join("\n") + "\n", options: keep_options(&dump) })
}

/// The code name of this machine's own release.
pub(crate) fn own_suite() -> Result<String, LocalError> {
    let path = Path::new("/etc/os-release");
    let text = fs::read_to_string(path).map_err(LocalError::file("read", path))?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'));
    name.map(str::to_owned).ok_or_else(|| LocalError::Host {
        what: "this machine does not tell its Debian release".to_owned(),
        remedy: "name a release in the blueprint, as in `debian-12`".to_owned(),
    })
}

fn belongs_to(seen: &str, suite: &str) -> bool {
    let seen = seen.split('/').next().unwrap_or(seen);
    seen.strip_prefix(suite).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
}

fn parse_targets(text: &str) -> Vec<Index> {
    text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()).map(parse_target).collect()
}

fn parse_target(stanza: &str) -> Index {
    let mut index = Index::default();
    for (key, value) in stanza.lines().filter_map(|line| line.split_once(": ")) {
        let value = value.trim().to_owned();
        match key {
            "Repo-URI" => index.repo = value,
            "Release" => index.suite = value,
            "Component" => index.component = value,
            "Signed-By" => index.signed_by = Some(value),
            "Sourcesentry" => index.entry = value,
            _ => {}
        }
    }
    index
}

fn line(index: Index, declared: impl Fn(&str) -> Option<String>) -> String {
    let keyring = index.signed_by.or_else(|| declared(&index.entry)).filter(|path| path.starts_with('/'));
    let options = keyring.map(|path| format!("[signed-by={path}] ")).unwrap_or_default();
    format!("deb {options}{} {} {}", index.repo, index.suite, index.component)
}

/// The keyring that the source `FILE:NUMBER` is declared with, for an apt that does not list it.
fn declared_keyring(entry: &str) -> Option<String> {
    let (file, number) = entry.rsplit_once(':')?;
    let text = fs::read_to_string(file).ok()?;
    let number = number.parse::<usize>().ok()?.checked_sub(1)?;
    keyring_in(&text, number, Path::new(file).extension().is_some_and(|kind| kind == "sources"))
}

fn keyring_in(text: &str, number: usize, stanzas: bool) -> Option<String> {
    if !stanzas {
        let line = text.lines().nth(number)?;
        let options = line.split_once('[')?.1.split_once(']')?.0;
        let value = options.split(' ').find_map(|option| option.strip_prefix("signed-by="))?;
        return Some(value.to_owned());
    }
    let live: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanza = live.split(|line| line.trim().is_empty()).filter(|stanza| !stanza.is_empty()).nth(number)?;
    stanza.iter().find_map(|line| line.strip_prefix("Signed-By:")).map(|value| value.trim().to_owned())
}

fn keep_options(dump: &str) -> String {
    const KEPT: [&str; 5] =
        ["Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Retries", "Acquire::ForceIPv"];
    let kept = |line: &&str| KEPT.iter().any(|prefix| line.starts_with(prefix));
    dump.lines().filter(kept).fold(String::new(), |text, line| text + line + "\n")
}

fn output(program: &str, args: &[&str]) -> Result<String, LocalError> {
    let output = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LocalError::Spawn { program: program.to_owned(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LocalError::Command { program: format!("{program} {}", args.join(" ")), output: said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "MetaKey: main/binary-amd64/Packages\nComponent: main\nRelease: bookworm\n\
        Repo-URI: http://mirror.invalid/debian/\nSourcesentry: /x/debian.sources:1\n\n\
        Component: main\nRelease: bookworm-security\nRepo-URI: http://mirror.invalid/security/\n\
        Signed-By: /k.gpg\nSourcesentry: /x/debian.sources:2\n\n\
        Component: stable\nRelease: bookworm-pgdg\nRepo-URI: http://other.invalid/\nSourcesentry: /x/o.list:1\n";

    #[test]
    fn the_suite_with_updates_and_security_is_taken_and_nothing_else() {
        let lines: Vec<String> = parse_targets(TARGETS)
            .into_iter()
            .filter(|index| belongs_to(&index.suite, "bookworm"))
            .map(|index| line(index, |entry| Some(format!("/keys/{}", entry.len()))))
            .collect();
        assert_eq!(
            lines,
            [
                "deb [signed-by=/keys/19] http://mirror.invalid/debian/ bookworm main",
                "deb [signed-by=/k.gpg] http://mirror.invalid/security/ bookworm-security main",
            ]
        );
        assert!(belongs_to("bookworm/updates", "bookworm"));
        assert!(!belongs_to("trixie", "bookworm"));
    }

    #[test]
    fn keyrings_are_found_in_both_kinds_of_source_files() {
        let sources = "# c\nTypes: deb\n# c\nSigned-By: /a.gpg\n\n\nTypes: deb\nSigned-By: /b.gpg\n";
        assert_eq!(keyring_in(sources, 0, true).as_deref(), Some("/a.gpg"));
        assert_eq!(keyring_in(sources, 1, true).as_deref(), Some("/b.gpg"));
        let list = "# c\ndeb [arch=amd64 signed-by=/c.gpg] http://x stable main\ndeb http://x stable main\n";
        assert_eq!(keyring_in(list, 1, false).as_deref(), Some("/c.gpg"));
        assert_eq!(keyring_in(list, 2, false), None);
    }

    #[test]
    fn proxies_are_kept_and_hooks_are_not() {
        let dump =
            "Acquire::http::Proxy \"http://p:1\";\nDPkg::Post-Invoke:: \"rm x\";\nAcquire::Retries \"3\";\n";
        assert_eq!(keep_options(dump), "Acquire::http::Proxy \"http://p:1\";\nAcquire::Retries \"3\";\n");
    }
}
