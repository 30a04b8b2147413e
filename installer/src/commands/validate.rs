//! `castrum validate`: everything that is wrong with a blueprint, at once.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use castrum_blueprints::blueprint::Blueprint;
use castrum_blueprints::check::check;
use castrum_blueprints::document::{BYTES_LIMIT, Findings, Severity, read};
use castrum_blueprints::names::Role;
use serde_json::Value;

/// A blueprint that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the blueprint `{}` cannot be read", path.display())]
pub struct ReadBlueprintError {
    /// Where it was looked for.
    pub path: PathBuf,
    source: io::Error,
}

/// Reads the file at `path`, or standard input for `-`; of a file that is too large, one byte more than is allowed.
pub fn read_blueprint(path: &Path) -> Result<Vec<u8>, ReadBlueprintError> {
    let read =
        if path == Path::new("-") { limited(io::stdin().lock()) } else { File::open(path).and_then(limited) };
    read.map_err(|source| ReadBlueprintError { path: path.to_owned(), source })
}

fn limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(BYTES_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What there is to say about a blueprint.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The blueprint, if it is valid.
    pub blueprint: Option<Blueprint>,
    /// Everything that was found.
    pub findings: Findings,
}

/// Checks the blueprint that the file named `file` holds.
pub fn validate(file: &str, bytes: &[u8]) -> Verdict {
    match check(&read(file, bytes)) {
        Ok(checked) => Verdict { blueprint: Some(checked.blueprint), findings: checked.warnings },
        Err(findings) => Verdict { blueprint: None, findings },
    }
}

impl Verdict {
    /// Whether the blueprint can be used.
    pub fn is_valid(&self) -> bool {
        self.blueprint.is_some()
    }

    /// The findings and a last line, for people.
    pub fn render(&self) -> String {
        let mut out = self.findings.render();
        let Some(blueprint) = &self.blueprint else {
            let _ = writeln!(out, "{}", self.findings);
            return out;
        };
        let _ = write!(out, "`{}` is a valid blueprint: {}", self.findings.file, contents(blueprint));
        if self.findings.count(Severity::Warning) > 0 {
            let _ = write!(out, "; {}", self.findings.summary());
        }
        out.push('\n');
        out
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        self.findings.to_json()
    }
}

fn contents(blueprint: &Blueprint) -> String {
    let of_role = |role: Role| {
        let groups = blueprint.groups.values().filter(move |group| group.role == role);
        groups.map(|group| u64::from(group.count)).sum::<u64>()
    };
    let several = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let sites = several(blueprint.sites.len() as u64, "site");
    format!(
        "{}, {} and {} in {sites}",
        several(of_role(Role::Master), "master"),
        several(of_role(Role::Agent), "agent"),
        several(of_role(Role::PublicAgent), "public agent"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../blueprints/examples/local.yaml");

    #[test]
    fn a_valid_blueprint_is_said_to_be_so() {
        let verdict = validate("cluster.yaml", GOOD.as_bytes());
        let line = "`cluster.yaml` is a valid blueprint: 3 masters, 1 agent and 1 public agent in 1 site\n";
        assert_eq!(verdict.render(), line);
        assert_eq!(verdict.to_json()["valid"], true);
    }

    #[test]
    fn warnings_do_not_make_it_invalid() {
        let text =
            "apiVersion: castrum/v1\nname: a\nsites: {s: {provider: sim}}\ngroups: {m: {role: master}}\n";
        let verdict = validate("cluster.yaml", text.as_bytes());
        assert!(verdict.is_valid());
        assert!(verdict.render().ends_with("in 1 site; 2 warnings\n"), "{}", verdict.render());
    }

    #[test]
    fn every_finding_is_said_at_once() {
        let verdict =
            validate("cluster.yaml", GOOD.replace("count", "cuont").replace("name", "nmae").as_bytes());
        assert!(!verdict.is_valid());
        let text = verdict.render();
        assert_eq!(text.matches("did you mean `count`?").count(), 3, "{text}");
        assert!(text.contains("did you mean `name`?"), "{text}");
        assert_eq!(verdict.to_json()["valid"], false);
    }

    #[test]
    fn of_a_huge_file_no_more_than_needed_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("huge.yaml");
        File::create(&path).and_then(|file| file.set_len(100 * 1024 * 1024)).expect("a huge file");
        let bytes = read_blueprint(&path).expect("its beginning");
        assert_eq!(bytes.len(), BYTES_LIMIT + 1);
        assert!(validate("huge.yaml", &bytes).render().contains("at most 1024 KiB"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read_blueprint(Path::new("/nowhere/cluster.yaml")).expect_err("no file");
        assert_eq!(error.to_string(), "the blueprint `/nowhere/cluster.yaml` cannot be read");
        assert!(std::error::Error::source(&error).is_some());
    }
}
