//! The node image: a root folder built once per recipe by mmdebstrap, and named by the recipe's digest.
//!
//! A build happens in a folder of its own that is renamed when it is whole, under a lock, so that builders beside each
//! other build once, and a killed builder leaves only a folder that the next one clears.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use castrum_blueprints::names::{Digest, ResourcePath};
use castrum_provider::{Change, ImageSpec, Removed, Wanted};
use serde::Serialize;

use crate::LocalOptions;
use crate::error::LocalError;
use crate::sources::{self, Sources};
use crate::store::{DirLock, Made, Record, Store};

/// Run inside the new root; part of the recipe, so that another script makes another image.
const SETUP: &str = include_str!("image-setup.sh");

const PACKAGES: [&str; 11] = [
    "ca-certificates",
    "cloud-init",
    "dbus",
    "iproute2",
    "iputils-ping",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "sudo",
    "systemd-sysv",
];

/// Without these in it, a root folder is not a node.
const NEEDED: [&str; 4] = ["sbin/init", "usr/bin/cloud-init", "usr/sbin/sshd", "usr/sbin/ip"];

/// How the documentation and translations of packages are left out.
const LEFT_OUT: [&str; 4] =
    ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Everything that decides what an image holds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Recipe {
    suite: String,
    architecture: &'static str,
    packages: &'static [&'static str],
    left_out: &'static [&'static str],
    setup: &'static str,
}

impl Recipe {
    /// The recipe of an image resource.
    pub(crate) fn of(spec: &ImageSpec) -> Result<Self, LocalError> {
        let suite = match spec.release.as_str() {
            "debian-12" => "bookworm".to_owned(),
            "debian-13" => "trixie".to_owned(),
            "host" => sources::own_suite()?,
            other => {
                let what = format!("provider `local` makes no image of release `{other}`");
                return Err(LocalError::Invalid {
                    what,
                    hint: "use `debian-12`, `debian-13` or `host`".to_owned(),
                });
            }
        };
        let architecture = std::env::consts::ARCH;
        Ok(Self { suite, architecture, packages: &PACKAGES, left_out: &LEFT_OUT, setup: SETUP })
    }

    /// The name of the image.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a recipe is plain data"))
    }
}

/// The root folder of the image `digest`, whether it exists or not.
pub(crate) fn rootfs(cache: &Path, digest: &Digest) -> PathBuf {
    cache.join(digest.as_str()).join("rootfs")
}

/// Builds the image unless it is there already; whether it had to.
pub(crate) fn ensure(cache: &Path, recipe: &Recipe) -> Result<bool, LocalError> {
    let digest = recipe.digest();
    let done = cache.join(digest.as_str());
    if done.is_dir() {
        return Ok(false);
    }
    let work = cache.join(format!(".build-{digest}"));
    let lock = DirLock::acquire(&work)?;
    if done.is_dir() {
        lock.remove_dir()?;
        return Ok(false);
    }
    let tree = work.join("image");
    if tree.exists() {
        fs::remove_dir_all(&tree).map_err(LocalError::file("clear", &tree))?;
    }
    fs::create_dir_all(&tree).map_err(LocalError::file("create", &tree))?;
    tracing::info!(suite = recipe.suite, %digest, "building the node image");
    build(&work, &tree.join("rootfs"), recipe)?;
    write_contents(&tree)?;
    let folder = File::open(&tree).map_err(LocalError::file("open", &tree))?;
    rustix::fs::syncfs(&folder).map_err(|errno| LocalError::file("write out", &tree)(errno.into()))?;
    fs::rename(&tree, &done).map_err(LocalError::file("rename", &tree))?;
    for file in ["setup.sh", "options"] {
        let _ = fs::remove_file(work.join(file));
    }
    lock.remove_dir()?;
    Ok(true)
}

/// Makes the image resource: the shared image itself, and the record that this cluster uses it.
pub(crate) fn ensure_resource(
    store: &Store,
    options: &LocalOptions,
    wanted: &Wanted,
    spec: &ImageSpec,
) -> Result<(Change, Record), LocalError> {
    let recipe = Recipe::of(spec)?;
    let _lock = DirLock::acquire(&store.dir(&wanted.path)?)?;
    let old = store.read(&wanted.path)?;
    let record = Record {
        cluster: store.cluster.clone(),
        path: wanted.path.clone(),
        spec: wanted.spec.clone(),
        generation: wanted.generation,
        created_at: old.as_ref().map_or_else(castrum_provider::now, |old| old.created_at),
        complete: true,
        made: Made::Image { digest: recipe.digest() },
    };
    let built = ensure(&options.image_cache, &recipe)?;
    let change = match &old {
        Some(old) if *old == record && !built => return Ok((Change::Unchanged, record)),
        Some(_) => Change::Changed,
        None => Change::Created,
    };
    store.write(&record)?;
    Ok((change, record))
}

/// Forgets that this cluster uses the image; the image itself stays for other clusters.
pub(crate) fn remove_resource(store: &Store, path: &ResourcePath) -> Result<Removed, LocalError> {
    let Some(lock) = DirLock::existing(&store.dir(path)?)? else { return Ok(Removed::Absent) };
    store.read(path)?;
    store.erase(path, lock)?;
    Ok(Removed::Removed)
}

fn build(work: &Path, root: &Path, recipe: &Recipe) -> Result<(), LocalError> {
    let sources = sources::of_this_machine(&recipe.suite)?;
    let setup = work.join("setup.sh");
    let options = work.join("options");
    fs::write(&setup, recipe.setup).map_err(LocalError::file("write", &setup))?;
    fs::set_permissions(&setup, fs::Permissions::from_mode(0o755))
        .map_err(LocalError::file("change", &setup))?;
    write_private(&options, &sources.options)?;
    run(command(recipe, &setup, &options, root), &sources)?;
    match NEEDED.iter().find(|file| fs::symlink_metadata(root.join(file)).is_err()) {
        None => Ok(()),
        Some(file) => Err(LocalError::Command {
            program: "mmdebstrap".to_owned(),
            output: format!("made no `/{file}`"),
        }),
    }
}

/// mmdebstrap in a pid namespace that ends with us, so that a killed builder leaves no process and no mount.
fn command(recipe: &Recipe, setup: &Path, options: &Path, root: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ]);
    command.args(["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory"]);
    command.arg(format!("--include={}", recipe.packages.join(",")));
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\""]);
    command.arg(format!("--aptopt={}", options.display()));
    command.args(recipe.left_out.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg("--dpkgopt=force-unsafe-io");
    command.arg(format!("--customize-hook={}", setup.display()));
    command.arg(&recipe.suite).arg(root).arg("-");
    command.env("LC_ALL", "C").env_remove("APT_CONFIG");
    command
}

fn run(mut command: Command, sources: &Sources) -> Result<(), LocalError> {
    let spawn_failed = |source| LocalError::Spawn { program: "mmdebstrap".to_owned(), source };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawn_failed)?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(sources.lines.as_bytes()));
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut said).map_err(spawn_failed)?;
    }
    let status = child.wait().map_err(spawn_failed)?;
    if status.success() && matches!(written, Some(Ok(()))) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let output = lines[lines.len().saturating_sub(6)..].join("; ");
    Err(LocalError::Command { program: "mmdebstrap".to_owned(), output })
}

/// Notes beside the root folder which packages it holds in which version.
fn write_contents(tree: &Path) -> Result<(), LocalError> {
    let root = tree.join("rootfs");
    let output = Command::new("dpkg-query")
        .arg(format!("--admindir={}", root.join("var/lib/dpkg").display()))
        .args(["--show", "--showformat=${Package} ${Version}\n"])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LocalError::Spawn { program: "dpkg-query".to_owned(), source })?;
    let list = tree.join("packages");
    fs::write(&list, output.stdout).map_err(LocalError::file("write", &list))
}

/// Options may hold a proxy's password.
fn write_private(path: &Path, text: &str) -> Result<(), LocalError> {
    let _ = fs::remove_file(path);
    let mut file = File::create_new(path).map_err(LocalError::file("create", path))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(LocalError::file("change", path))?;
    file.write_all(text.as_bytes()).map_err(LocalError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_is_another_image() {
        let digest = |release: &str| Recipe::of(&ImageSpec { release: release.to_owned() }).unwrap().digest();
        assert_eq!(digest("debian-12"), digest("debian-12"));
        assert_ne!(digest("debian-12"), digest("debian-13"));
        assert!(Recipe::of(&ImageSpec { release: "windows-95".to_owned() }).is_err());
    }
}
