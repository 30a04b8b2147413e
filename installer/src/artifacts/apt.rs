//! Runs apt as this machine has it set up, and puts its complaints into words that name a remedy.
//!
//! Sources, keys, preferences and proxies are the machine's own. What is installed on it is not looked at: apt gets an
//! empty status file, so that every machine with the same lists resolves the same packages.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::{ArtifactError, Cache};

/// How apt is called.
#[derive(Debug, Clone, Default)]
pub struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// With one more of apt's configuration items, as in `Dir::Etc::sourcelist`.
    #[must_use]
    pub fn with_option(mut self, item: &str, value: &str) -> Self {
        self.options.push(format!("{item}={value}"));
        self
    }

    /// What `apt-get --print-uris install` has to say about `packages`.
    pub(crate) async fn solve(&self, cache: &Cache, packages: &[String]) -> Result<String, ArtifactError> {
        let mut args = vec!["-qq", "-y", "--no-install-recommends", "--print-uris", "install", "--"];
        args.extend(packages.iter().map(String::as_str));
        self.run(cache, "apt-get", &args, None).await
    }

    /// The paragraphs of the package lists for these exact packages.
    pub(crate) async fn show(&self, cache: &Cache, specs: &[String]) -> Result<String, ArtifactError> {
        let mut args = vec!["show", "--"];
        args.extend(specs.iter().map(String::as_str));
        self.run(cache, "apt-cache", &args, None).await
    }

    /// Downloads these exact packages into `folder`; apt checks them against its signed lists.
    pub(crate) async fn download(
        &self,
        cache: &Cache,
        specs: &[String],
        folder: &Path,
    ) -> Result<(), ArtifactError> {
        let mut args = vec!["-qq", "download", "--"];
        args.extend(specs.iter().map(String::as_str));
        self.run(cache, "apt-get", &args, Some(folder)).await.map(drop)
    }

    /// Downloads `url` with apt's transports, so that its proxy and certificate settings hold here too.
    pub(crate) async fn download_url(
        &self,
        cache: &Cache,
        url: &str,
        to: &Path,
    ) -> Result<(), ArtifactError> {
        let to = to.to_string_lossy();
        let args = ["-qq", "download-file", url, &to];
        self.run(cache, "/usr/lib/apt/apt-helper", &args, None).await.map(drop)
    }

    async fn run(
        &self,
        cache: &Cache,
        program: &str,
        args: &[&str],
        folder: Option<&Path>,
    ) -> Result<String, ArtifactError> {
        let output = self.spawn(cache, program, args, folder).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = [output.stdout, output.stderr].concat();
        let packages = args.iter().skip_while(|&&arg| arg != "--").skip(1).copied().collect::<Vec<_>>();
        let command = program.rsplit('/').next().unwrap_or(program);
        let error = classify(command, &packages.join(" "), &String::from_utf8_lossy(&said));
        let unknown = matches!(error, ArtifactError::UnknownPackage { .. });
        if unknown && !self.has_lists(cache).await? {
            return Err(ArtifactError::NoLists);
        }
        Err(error)
    }

    async fn has_lists(&self, cache: &Cache) -> Result<bool, ArtifactError> {
        let args = ["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"];
        let output = self.spawn(cache, "apt-get", &args, None).await?;
        Ok(!output.stdout.is_empty())
    }

    async fn spawn(
        &self,
        cache: &Cache,
        program: &str,
        args: &[&str],
        folder: Option<&Path>,
    ) -> Result<Output, ArtifactError> {
        let scratch = cache.apt_folder()?;
        let mut command = Command::new(program);
        for (item, file) in [
            ("Dir::State::status", "status"),
            ("Dir::State::extended_states", "extended_states"),
            ("Dir::Cache::archives", "archives/"),
            ("Dir::Cache::pkgcache", "pkgcache.bin"),
            ("Dir::Cache::srcpkgcache", "srcpkgcache.bin"),
        ] {
            let mut option = OsString::from(format!("{item}="));
            option.push(scratch.join(file));
            command.arg("-o").arg(option);
        }
        // Nothing is installed, so there is nothing to lock, and no user but root could.
        command.args(["-o", "Debug::NoLocking=true", "-o", "APT::Get::AllowUnauthenticated=false"]);
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command.args(args).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let failed = |source| ArtifactError::Program { program: program.to_owned(), source };
        command.output().await.map_err(failed)
    }
}

/// Phrases of apt's transports for a connection that did not come about.
const OFFLINE: [&str; 9] = [
    "Could not connect",
    "Could not resolve",
    "Temporary failure resolving",
    "Unable to connect",
    "Cannot initiate the connection",
    "Connection timed out",
    "Connection failed",
    "Network is unreachable",
    "Could not wait for server fd",
];

/// Phrases for an archive that is not the one that the lists describe.
const STALE: [&str; 3] = ["404  Not Found", "Hash Sum mismatch", "File has unexpected size"];

fn classify(command: &str, packages: &str, said: &str) -> ArtifactError {
    let detail = complaint(said);
    let quoted = |after: &str, nth: usize| -> Option<String> {
        said.split_once(after)?.1.split('\'').nth(nth).map(str::to_owned)
    };
    if let Some((_, rest)) = said.split_once("Unable to locate package ") {
        return ArtifactError::UnknownPackage { name: rest.lines().next().unwrap_or("").trim().to_owned() };
    }
    if said.contains("has no installation candidate") {
        return ArtifactError::UnknownPackage { name: quoted("E: Package ", 1).unwrap_or_default() };
    }
    if said.contains("was not found") && said.contains("E: Version ") {
        let (version, name) = (quoted("E: Version ", 1), quoted("E: Version ", 3));
        return gone(name, version);
    }
    if said.contains("Can't find a source to download version ") {
        let after = "Can't find a source to download version ";
        return gone(quoted(after, 3), quoted(after, 1));
    }
    if STALE.iter().any(|phrase| said.contains(phrase)) {
        return ArtifactError::StaleLists { detail };
    }
    if said.contains("authenticated") {
        return ArtifactError::Unauthenticated { detail };
    }
    if OFFLINE.iter().any(|phrase| said.contains(phrase)) {
        return ArtifactError::Offline { detail };
    }
    if said.contains("unmet dependencies") || said.contains("held broken packages") {
        return ArtifactError::Unsatisfiable { packages: packages.to_owned(), detail };
    }
    ArtifactError::Apt { command: command.to_owned(), detail }
}

fn gone(name: Option<String>, version: Option<String>) -> ArtifactError {
    let name = name.map(|name| name.split(':').next().unwrap_or("").to_owned()).unwrap_or_default();
    ArtifactError::PinGone { name, version: version.unwrap_or_default() }
}

/// The lines that say what is wrong, short enough for one line on a screen.
fn complaint(said: &str) -> String {
    let wanted = |line: &&str| line.starts_with("E: ") || line.starts_with(' ') || line.starts_with("Err:");
    let lines: Vec<&str> =
        said.lines().filter(wanted).map(|line| line.trim_start_matches("E: ").trim()).collect();
    let text = if lines.is_empty() { said.trim().replace('\n', "; ") } else { lines.join("; ") };
    text.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(said: &str) -> String {
        format!("{:?}", classify("apt-get", "a b", said))
    }

    #[test]
    fn complaints_of_apt_become_errors_with_a_remedy() {
        for (said, expected) in [
            ("E: Unable to locate package nosuch\n", r#"UnknownPackage { name: "nosuch" }"#),
            ("E: Package 'x' has no installation candidate\n", r#"UnknownPackage { name: "x" }"#),
            (
                "E: Version '2.42.0+ds-5+b5' for 'prometheus' was not found\n",
                r#"PinGone { name: "prometheus", version: "2.42.0+ds-5+b5" }"#,
            ),
            (
                "E: Can't find a source to download version '1:1.35' of 'busybox-static:amd64'\n",
                r#"PinGone { name: "busybox-static", version: "1:1.35" }"#,
            ),
            (
                "W: x\nE: Failed to fetch http://a.test/b.deb  404  Not Found [IP: 127.0.0.1 80]\n",
                r#"StaleLists { detail: "Failed to fetch http://a.test/b.deb  404  Not Found [IP: 127.0.0.1 80]" }"#,
            ),
            (
                "E: Failed to fetch http://a.test/b.deb  Could not connect to 127.0.0.1:1 (127.0.0.1).\n",
                r#"Offline { detail: "Failed to fetch http://a.test/b.deb  Could not connect to 127.0.0.1:1 (127.0.0.1)." }"#,
            ),
            (
                "E: Some packages could not be authenticated\n",
                r#"Unauthenticated { detail: "Some packages could not be authenticated" }"#,
            ),
            (
                "The following packages have unmet dependencies:\n a : Conflicts: b but 1 is to be installed\n\
                 E: Unable to correct problems, you have held broken packages.\n",
                r#"Unsatisfiable { packages: "a b", detail: "a : Conflicts: b but 1 is to be installed; Unable to correct problems, you have held broken packages." }"#,
            ),
            ("E: Something else\n", r#"Apt { command: "apt-get", detail: "Something else" }"#),
        ] {
            assert_eq!(classified(said), expected);
        }
    }
}
