//! Having a cluster to oneself: the lock of the folder, and the lease where its state lies elsewhere.

use std::sync::Arc;

use super::fault::{Fault, code};
use super::output;
use crate::project::{Guard, Holder, Lease, Project, ProjectError, StateError, TakeError, Tenure, told};

/// Keeps every other command off the cluster: those of this folder by its lock, and everybody's by the lease.
pub(super) fn guard(project: &Arc<Project>, run: &str, verb: &str) -> Result<Held, Fault> {
    project.make_work_dir()?;
    let holder = Holder { run: run.to_owned(), pid: std::process::id(), verb: verb.to_owned() };
    let guard = Guard::take(&project.work_dir(), &holder).map_err(|error| match error {
        ProjectError::Held { .. } => Fault::of(code::LOCKED, &error)
            .hint("wait until it has ended; `castrum events --follow` shows what it does"),
        _ => error.into(),
    })?;
    let held = Held { project: Arc::clone(project), _guard: guard };
    if let Some(shared) = project.shared() {
        let wait = |lease: &Lease| {
            output::note(&format!(
                "{} may be at work; its lease is watched for {} s, and taken over if it is not renewed\n",
                told(lease),
                lease.length_ms / 1000
            ));
        };
        shared.take(&holder, &wait).map_err(|error| untaken(&error, project))?;
        project.meet()?;
    }
    Ok(held)
}

/// The cluster is this command's alone until this is dropped.
pub(super) struct Held {
    project: Arc<Project>,
    _guard: Guard,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(shared) = self.project.shared() {
            shared.release();
        }
    }
}

fn untaken(error: &TakeError, project: &Project) -> Fault {
    match error {
        TakeError::Held(lease) => Fault::of(code::LOCKED, error).hint(format!(
            "wait until it has ended; if it never will, `castrum unlock {} -f {}` breaks its lease",
            lease.id,
            project.blueprint_path().display()
        )),
        TakeError::Careless(_) => Fault::of(code::PREFLIGHT, error)
            .hint("use a store that knows `If-Match` and `If-None-Match` on writes, as S3 does"),
        TakeError::Place(place) => Fault::of(code::ERROR, error).hint(place.remedy()),
    }
}

/// The lease that this command holds.
pub(super) fn tenure(project: &Project) -> Option<Arc<Tenure>> {
    project.shared().and_then(|shared| shared.tenure())
}

/// Why the lease is gone, if it is.
pub(super) fn still_held(project: &Project) -> Result<(), Fault> {
    match (project.shared(), tenure(project)) {
        (Some(shared), Some(tenure)) if !tenure.holds() => Err(StateError::Gone(shared.gone(&tenure)).into()),
        _ => Ok(()),
    }
}
