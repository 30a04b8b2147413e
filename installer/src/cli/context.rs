//! From a blueprint's path to everything a command needs: blueprint, stack, lock, places, fleet.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use castrum_blueprints::blueprint::Blueprint;
use castrum_blueprints::desired::{
    Desired, RELEASE, ResolveError, existing_machines, listening_ports, resolve,
};
use castrum_blueprints::document::{Document, Problem, read};
use castrum_blueprints::lock::{Lock, LockedImage};
use castrum_blueprints::manifest::Blob;
use castrum_blueprints::names::{ClusterId, Digest, SiteName};
use castrum_blueprints::stack::{Stack, StackFiles, own_check_file};
use castrum_blueprints::{check, stacks};
use castrum_provider::{Clock, Fleet};
use castrum_provider_sim::World;
use castrum_provider_ssh::SshOptions;

use super::fault::{Fault, code};
use super::places::{self, OpenError, Place};
use crate::artifacts::{Cache, orders};
use crate::clock::SystemClock;
use crate::commands::validate::ReadBlueprintError;
use crate::engine::Sites;
use crate::fleet::{FleetOptions, RealFleet};
use crate::keyring::{KeyringFile, Unlock};
use crate::link::ClientTls;
use crate::project::Project;
use crate::trust::Trust;

/// A blueprint that was read and checked, with its stack.
pub struct Context {
    /// The project folder.
    pub project: Arc<Project>,
    /// The blueprint.
    pub blueprint: Blueprint,
    /// The text of the stack's folder.
    pub files: StackFiles,
    /// The stack.
    pub stack: Stack,
    /// What should be known though it is no error, rendered.
    pub warnings: String,
    document: Document,
}

impl Context {
    /// Reads and checks a blueprint and the stack that it names.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let project = Project::of(path);
        let bytes = project.read_blueprint().map_err(|error| missing(&error, path))?;
        let document = read(&path.display().to_string(), &bytes);
        let checked = check::check(&document).map_err(Fault::invalid)?;
        let (blueprint, warnings) = (checked.blueprint, checked.warnings.render());
        let mut files = stack_files(&document, &blueprint, &project)?;
        let stack = Stack::read(&files).and_then(|stack| stack.with_checks(&blueprint.checks));
        let stack = stack.map_err(|error| Fault::of(code::BLUEPRINT, &error))?;
        files.append(&mut own_checks(&document, &blueprint, project.folder())?);
        let project = Arc::new(project.with_state(blueprint.state.as_ref())?);
        let context = Self { project, blueprint, files, stack, warnings, document };
        context.try_render()?;
        Ok(context)
    }

    /// The lock file; `None` if nothing was ever applied.
    pub fn lock(&self) -> Result<Option<Lock>, Fault> {
        Ok(self.project.read_lock()?)
    }

    /// The lock file of a cluster that must exist.
    pub fn existing_lock(&self) -> Result<Lock, Fault> {
        self.lock()?.ok_or_else(|| {
            let path = self.project.blueprint_path().display().to_string();
            Fault::new(code::ERROR, format!("there is no cluster of `{path}` yet: it has no lock file"))
                .hint(format!("make it with `castrum apply {path}`"))
        })
    }

    /// The places, each with its provider.
    pub async fn sites(&self, cluster: &ClusterId) -> Result<Sites, Fault> {
        let world = World::new(cluster.clone());
        let mut sites = BTreeMap::new();
        for (name, site) in &self.blueprint.sites {
            let mut settings = site.settings.clone();
            if site.provider == places::SIM {
                // Each command is a process of its own, so the world has to be kept between them.
                let kept = self.project.work_dir().join("world.json").display().to_string();
                settings.entry("state".to_owned()).or_insert_with(|| kept.into());
            } else if self.is_simulated() && !places::is_built_in(&site.provider) {
                let text = format!("sites.{name}: `{}` lives in real time", site.provider);
                return Err(Fault::new(code::BLUEPRINT, text)
                    .hint("a blueprint with a simulated site has no sites with executables"));
            }
            let place = Place {
                cluster,
                site: name,
                settings: &settings,
                machines: existing_machines(&self.blueprint, name),
                listening: listening_ports(&self.blueprint, &self.stack, name),
                world: &world,
            };
            let opened = places::open(&site.provider, place).await;
            let opened = opened.map_err(|error| self.unopened(name, error))?;
            sites.insert(name.clone(), opened.provider);
        }
        Ok(Sites(sites))
    }

    /// Why a site has no provider, at its place in the blueprint.
    fn unopened(&self, site: &SiteName, error: OpenError) -> Fault {
        let OpenError::Missing(missing) = error else { return error.into_fault(&format!("site `{site}`: ")) };
        let problem = Problem {
            keys: ["sites", site.as_str(), "provider"].map(str::to_owned).into(),
            message: missing.to_string(),
            code: castrum_blueprints::document::Code::UnknownReference,
            hint: Some(places::missing_hint()),
        };
        Fault::invalid(self.document.findings_with(&[problem]))
    }

    /// Whether some place is simulated: then time is virtual.
    pub fn is_simulated(&self) -> bool {
        self.blueprint.sites.values().any(|site| site.provider == places::SIM)
    }

    /// The desired cluster.
    pub fn desired(&self, lock: &Lock, sites: &Sites) -> Result<Desired, Fault> {
        let desired = resolve(&self.blueprint, &self.stack, lock, &sites.abilities());
        desired.map_err(|error| match error {
            ResolveError::OtherCluster { .. } => Fault::of(code::BLUEPRINT, &error).hint(
                "a cluster keeps its name; to make another one, use another folder or another blueprint file",
            ),
            _ => Fault::of(code::BLUEPRINT, &error),
        })
    }

    /// The keyring file of the cluster.
    pub fn keyring(&self, cluster: &ClusterId) -> Result<KeyringFile, Fault> {
        let unlock = Unlock::from_env(cluster, &|name| std::env::var_os(name))
            .map_err(|error| Fault::of(code::ERROR, &error).hint(error.remedy()))?;
        Ok(KeyringFile::at(self.project.keyring()?, cluster.clone(), unlock))
    }

    /// The keyring in use; it must exist.
    pub fn trust(&self, cluster: &ClusterId) -> Result<Arc<Trust>, Fault> {
        let file = self.keyring(cluster)?;
        let trust = Trust::open(file, self.blueprint.access.authorized_keys.clone());
        trust.map(Arc::new).map_err(|error| Fault::of(code::ERROR, &error).hint(error.remedy()))
    }

    /// Renders every component once, so that a wrong setting is found before anything is made.
    fn try_render(&self) -> Result<(), Fault> {
        use castrum_blueprints::render::{RenderError, Renderer};
        let lock = assumed_lock(self, None);
        match Renderer::new(&self.blueprint, &self.stack, &lock) {
            Ok(_) => Ok(()),
            Err(RenderError::Setting { path, message }) => {
                let keys = ["stack", "settings"].into_iter().chain(path.split('.')).map(str::to_owned);
                let problem = Problem {
                    keys: keys.collect(),
                    message,
                    code: castrum_blueprints::document::Code::BadValue,
                    hint: None,
                };
                Err(Fault::invalid(self.document.findings_with(&[problem])))
            }
            Err(error) => Err(Fault::of(code::BLUEPRINT, &error)),
        }
    }
}

/// The nodes: those of a simulated place, or the real ones.
pub fn fleet(cluster: &ClusterId, sites: &Sites, trust: &Arc<Trust>) -> Result<Arc<dyn Fleet>, Fault> {
    match sites.0.values().find_map(|provider| provider.within()) {
        Some(within) => Ok(within.fleet),
        None => Ok(Arc::new(real_fleet(cluster, trust)?)),
    }
}

/// The real nodes.
pub fn real_fleet(cluster: &ClusterId, trust: &Arc<Trust>) -> Result<RealFleet, Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of(code::ERROR, error);
    let identity = trust.identity().map_err(|error| fault(&error))?;
    let key = identity.private_key_pem();
    let tls = ClientTls::from_pem(&identity.certificate.pem, &key, trust.ca_pem());
    Ok(RealFleet::new(FleetOptions {
        cluster: cluster.clone(),
        trust: Arc::clone(trust),
        blobs: cache()?,
        ssh: ssh_options()?,
        tls: tls.map_err(|error| fault(&error))?,
    }))
}

/// The cache of packages and bundles.
pub fn cache() -> Result<Cache, Fault> {
    Cache::open(Cache::default_root()).map_err(|error| Fault::of(code::ERROR, &error))
}

pub(super) fn ssh_options() -> Result<SshOptions, Fault> {
    SshOptions::from_environment().map_err(|error| Fault::of(code::ERROR, &error))
}

/// The clock of a simulated place, or the system's.
pub fn clock(sites: &Sites) -> Arc<dyn Clock> {
    let own = sites.0.values().find_map(|provider| provider.within());
    own.map_or_else(|| Arc::new(SystemClock) as Arc<dyn Clock>, |within| within.clock)
}

/// The lock with what is not pinned yet, or comes from another source by now, filled in by stand-ins, for previews: `apply`
/// pins the real ones.
pub fn assumed_lock(context: &Context, lock: Option<Lock>) -> Lock {
    let stand_in =
        |what: &str| Blob { digest: Digest::of(format!("not pinned yet: {what}").as_bytes()), size: 0 };
    let mut lock =
        lock.unwrap_or_else(|| Lock::new(ClusterId::from_bytes([0; 6]), context.blueprint.name.clone()));
    lock.agent.get_or_insert_with(|| stand_in("agent"));
    for site in context.blueprint.sites.keys() {
        let image = LockedImage { release: RELEASE.to_owned(), id: "not-pinned-yet".to_owned() };
        lock.images.entry(site.clone()).or_insert(image);
    }
    // A file that the stack lacks is for `apply` to complain about.
    for (name, order) in orders(&context.stack, &context.files).unwrap_or_default() {
        let (source, locked) = (order.digest(), lock.components.entry(name.clone()).or_default());
        if locked.bundle.is_none() || locked.source.as_ref() != Some(&source) {
            locked.bundle = Some(stand_in(&format!("{name} of {source}")));
        }
    }
    lock
}

fn missing(error: &ReadBlueprintError, path: &Path) -> Fault {
    let fault = Fault::of(code::BLUEPRINT, error);
    if path.exists() { fault } else { fault.hint("write one with `castrum init`, or name another file") }
}

fn stack_files(document: &Document, blueprint: &Blueprint, project: &Project) -> Result<StackFiles, Fault> {
    let name = &blueprint.stack.name;
    let (read, hint) = if name.contains('/') {
        let root = project.folder().join(name);
        let mut files = StackFiles::new();
        let gathered = gather(&root, &root, &mut files).map(|()| files);
        (gathered.map_err(|error| format!("cannot read the folder `{}`: {error}", root.display())), None)
    } else {
        let known = stacks::NAMES.join(", ");
        let hint = format!("use one of {known}, or the path of a folder with `stack.yaml`");
        (stacks::files(name).ok_or_else(|| format!("there is no stack `{name}`")), Some(hint))
    };
    read.map_err(|message| {
        let keys = ["stack", "name"].map(str::to_owned).into();
        let code = castrum_blueprints::document::Code::UnknownReference;
        Fault::invalid(document.findings_with(&[Problem { keys, message, code, hint }]))
    })
}

/// The scripts of the blueprint's own checks, as files of the stack.
fn own_checks(document: &Document, blueprint: &Blueprint, folder: &Path) -> Result<StackFiles, Fault> {
    let (mut files, mut problems) = (StackFiles::new(), Vec::new());
    for (name, check) in &blueprint.checks {
        match read_script(folder, &check.run) {
            Ok(text) => {
                files.insert(own_check_file(name), text);
            }
            Err(message) => problems.push(Problem {
                keys: ["checks", name, "run"].map(str::to_owned).into(),
                message,
                code: castrum_blueprints::document::Code::UnknownReference,
                hint: Some("name a script of the blueprint's folder that begins with `#!`".to_owned()),
            }),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(Fault::invalid(document.findings_with(&problems))) }
}

/// How many bytes a script may have: it is part of what is planned with.
const SCRIPT_LIMIT: u64 = 256 * 1024;

fn read_script(folder: &Path, run: &str) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read the script `{run}`: {error}");
    let (root, path) = (folder.canonicalize().map_err(cannot)?, folder.join(run));
    let path = path.canonicalize().map_err(cannot)?;
    if !path.starts_with(&root) {
        return Err(format!("the script `{run}` leads out of the blueprint's folder"));
    }
    let size = path.metadata().map_err(cannot)?;
    if !size.is_file() || size.len() > SCRIPT_LIMIT {
        return Err(format!("`{run}` is no file of at most {} KiB", SCRIPT_LIMIT >> 10));
    }
    let text = std::fs::read_to_string(&path).map_err(cannot)?;
    if text.starts_with("#!") { Ok(text) } else { Err(format!("`{run}` does not begin with `#!`")) }
}

fn gather(root: &Path, folder: &Path, files: &mut StackFiles) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(root, &path, files)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            files.insert(relative.to_string_lossy().into_owned(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}
