//! What the checks share: the providers under test, what they are asked for, and what was made and has to go again.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use castrum_blueprints::names::{ClusterId, Digest, ResourceKind, ResourcePath};
use tokio::time::{Instant, sleep, timeout};

use super::{Candidate, Check, Checked, Ground, Miss, Opened, Outcome, Verdict, failed, must};
use crate::veil::HIDDEN;
use crate::{BootData, Change, Ensured, Failure, Removed, ResourceSeen, ResourceSpec, Wanted};

/// Between two calls where the first asked to come again.
const AGAIN: Duration = Duration::from_millis(200);

/// One provider being held to the contract.
pub struct Suite<'a> {
    pub(super) candidate: &'a dyn Candidate,
    pub(super) ground: &'a Ground,
    /// What may have been made, by cluster, and is to be removed in the end.
    made: Mutex<BTreeSet<(usize, ResourcePath)>>,
    /// Everything that was answered, to look for boot data in.
    heard: Mutex<Vec<String>>,
    /// Whether a provider's process said boot data anywhere.
    told: Mutex<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Suite<'a> {
    /// Gets ready; asks nobody yet.
    pub fn new(candidate: &'a dyn Candidate, ground: &'a Ground) -> Self {
        Self { candidate, ground, made: Mutex::default(), heard: Mutex::default(), told: Mutex::default() }
    }

    /// Makes all checks, one after the other, and tells each. It can be dropped at any time; [`Suite::sweep`] comes after
    /// it in any case.
    pub async fn run(&self, tell: &mut (dyn FnMut(&Outcome) + Send)) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut stop: Option<String> = None;
        for check in Check::ALL.iter().copied() {
            let began = Instant::now();
            let verdict = match &stop {
                Some(reason) => Verdict::Skipped(reason.clone()),
                None => self.hold(check).await,
            };
            if check == Check::Preflight && matches!(verdict, Verdict::Failed(_)) {
                stop = Some("the place is not ready: see `preflight`".to_owned());
            }
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let outcome = Outcome { check, verdict, took_ms };
            tell(&outcome);
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn hold(&self, check: Check) -> Verdict {
        let done = timeout(self.ground.patience, self.perform(check)).await;
        let late = || Err(failed(format!("it is not done after {:?}", self.ground.patience)));
        let mut verdict = Verdict::from(done.unwrap_or_else(|_| late()));
        // Each check begins with none of the machines that the one before may have left.
        if let Err(left) = self.remove_all(|path| path.kind == ResourceKind::Machine).await
            && verdict == Verdict::Ok
        {
            verdict = Verdict::Failed(left);
        }
        verdict
    }

    async fn perform(&self, check: Check) -> Checked {
        match check {
            Check::Preflight => self.preflight().await,
            Check::PowerTold => self.power_told().await,
            Check::Unsupported => self.unsupported().await,
            Check::MakeOnce => self.make_once().await,
            Check::MakeAtOnce => self.make_at_once().await,
            Check::InterruptedMake => self.interrupted_make().await,
            Check::InterruptedRemove => self.interrupted_remove().await,
            Check::ChangeKeeps => self.change_keeps().await,
            Check::BootDataOnce => self.boot_data_once().await,
            Check::RemoveAbsent => self.remove_absent().await,
            Check::RemoveWhole => self.remove_whole().await,
            Check::NotOurs => self.not_ours().await,
            Check::Labels => self.labels().await,
            Check::Blind => self.blind().await,
            Check::NotAbsent => self.not_absent().await,
            Check::Classes => self.classes().await,
            Check::NotReady => self.not_ready().await,
            Check::PowerAgain => self.power_again().await,
            Check::PowerSet => self.power_set().await,
            Check::Discreet => self.discreet(),
        }
    }

    /// Removes everything that the checks may have left. What could not be removed is the error.
    pub async fn sweep(&self) -> Result<(), String> {
        self.remove_all(|_| true).await
    }

    pub(super) async fn remove_all(&self, of: impl Fn(&ResourcePath) -> bool) -> Result<(), String> {
        let mut left: Vec<_> = lock(&self.made).iter().filter(|(_, path)| of(path)).cloned().collect();
        // Machines first, then what they stand on.
        left.sort_by_key(|(_, path)| std::cmp::Reverse(path.kind));
        let mut kept = Vec::new();
        for (cluster, path) in left {
            let removed = async {
                let opened = self.candidate.open(&self.ground.clusters[cluster]).await?;
                self.remove(&opened, cluster, &path).await
            };
            match timeout(self.ground.patience, removed).await {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => kept.push(format!("`{path}` is left over: {failure}")),
                Err(_) => kept.push(format!("`{path}` is left over: removing it does not end")),
            }
        }
        if kept.is_empty() { Ok(()) } else { Err(kept.join("; ")) }
    }

    pub(super) fn cluster(&self, number: usize) -> &ClusterId {
        &self.ground.clusters[number]
    }

    pub(super) async fn open(&self) -> Result<Opened, Miss> {
        self.open_for(0).await
    }

    pub(super) async fn open_for(&self, cluster: usize) -> Result<Opened, Miss> {
        let opened = self.candidate.open(self.cluster(cluster)).await;
        opened.map_err(|failure| failed(format!("it cannot be opened: {failure}")))
    }

    pub(super) fn path(&self, kind: ResourceKind, name: &str) -> ResourcePath {
        ResourcePath { site: self.ground.site.clone(), kind, name: name.to_owned() }
    }

    pub(super) fn wanted(&self, name: &str, spec: ResourceSpec) -> Wanted {
        Wanted { path: self.path(spec.kind(), name), spec, generation: 0, boot_data: None }
    }

    fn secret(&self, of: &str) -> Digest {
        Digest::of(format!("{} {of}", self.cluster(0)).as_bytes())
    }

    pub(super) fn boot_data(&self, of: &str) -> BootData {
        let secret = self.secret(of);
        BootData::new(format!(
            "#cloud-config\nwrite_files: [{{path: /var/lib/castrum-check, content: {secret}}}]\n"
        ))
    }

    /// The first machine, made on what it stands on.
    pub(super) async fn made_machine(&self, opened: &Opened) -> Result<(Wanted, ResourceSeen), Miss> {
        let wanted = self.machine(opened, 0, false)?;
        let made = self.make(opened, &wanted).await?;
        Ok((wanted, made.seen))
    }

    /// Makes a resource of the first cluster, on what it stands on; it must succeed.
    pub(super) async fn make(&self, opened: &Opened, wanted: &Wanted) -> Result<Ensured, Miss> {
        if wanted.path.kind == ResourceKind::Machine {
            for base in self.base(opened) {
                self.must_ensure(opened, 0, &base).await?;
            }
        }
        self.must_ensure(opened, 0, wanted).await
    }

    pub(super) async fn must_ensure(
        &self,
        opened: &Opened,
        cluster: usize,
        wanted: &Wanted,
    ) -> Result<Ensured, Miss> {
        let ensured = self.ensure(opened, cluster, wanted).await;
        let ensured =
            ensured.map_err(|failure| failed(format!("`{}` cannot be made: {failure}", wanted.path)))?;
        must(ensured.seen.path == wanted.path, || {
            format!("`{}` came as `{}`", wanted.path, ensured.seen.path)
        })?;
        Ok(ensured)
    }

    /// Makes a resource, as the one place that decides about trying again would.
    pub(super) async fn ensure(
        &self,
        opened: &Opened,
        cluster: usize,
        wanted: &Wanted,
    ) -> Result<Ensured, Failure> {
        lock(&self.made).insert((cluster, wanted.path.clone()));
        self.again(opened, || opened.provider.ensure(wanted)).await
    }

    pub(super) async fn must_remove(&self, opened: &Opened, path: &ResourcePath) -> Result<Removed, Miss> {
        let removed = self.remove(opened, 0, path).await;
        removed.map_err(|failure| failed(format!("`{path}` cannot be removed: {failure}")))
    }

    pub(super) async fn remove(
        &self,
        opened: &Opened,
        cluster: usize,
        path: &ResourcePath,
    ) -> Result<Removed, Failure> {
        let removed = self.again(opened, || opened.provider.remove(path)).await?;
        lock(&self.made).remove(&(cluster, path.clone()));
        Ok(removed)
    }

    /// Calls until the answer is final, or patience ends with the check's.
    async fn again<T: Debug, F: Future<Output = Result<T, Failure>>>(
        &self,
        opened: &Opened,
        call: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        loop {
            let answer = self.hear(opened, call().await);
            match &answer {
                Err(failure)
                    if failure.class.is_retryable() && began.elapsed() < self.ground.patience / 4 =>
                {
                    sleep(failure.retry_after_ms.map_or(AGAIN, Duration::from_millis).max(AGAIN)).await;
                }
                _ => return answer,
            }
        }
    }

    /// Remembers an answer, to look for boot data in it later.
    pub(super) fn hear<T: Debug>(&self, opened: &Opened, answer: T) -> T {
        lock(&self.heard).push(format!("{answer:?}"));
        if opened.process.as_ref().is_some_and(|process| process.told_boot_data()) {
            *lock(&self.told) = true;
        }
        answer
    }

    /// The resource as a look finds it; a look that is blind is made again.
    pub(super) async fn look(
        &self,
        opened: &Opened,
        path: &ResourcePath,
    ) -> Result<Option<ResourceSeen>, Miss> {
        let looked = self.look_all(opened).await?;
        Ok(looked.into_iter().find(|seen| seen.path == *path))
    }

    pub(super) async fn look_all(&self, opened: &Opened) -> Result<Vec<ResourceSeen>, Miss> {
        // Until then a look may tell of the time before.
        sleep(Duration::from_millis(opened.provider.abilities().stale_ms)).await;
        let began = Instant::now();
        loop {
            let look = self.hear(opened, opened.provider.observe().await);
            match look.blind.first() {
                None => return Ok(look.seen.into_values().collect()),
                Some(blind) if began.elapsed() > self.ground.patience / 4 => {
                    return Err(failed(format!("it cannot look: {}", blind.reason)));
                }
                Some(_) => sleep(AGAIN).await,
            }
        }
    }

    pub(super) async fn must_be_gone(&self, opened: &Opened, path: &ResourcePath) -> Checked {
        let seen = self.look(opened, path).await?;
        must(seen.is_none(), || format!("`{path}` was removed, and is seen all the same: {seen:?}"))
    }

    pub(super) async fn must_be_unchanged(&self, opened: &Opened, wanted: &Wanted, id: &str) -> Checked {
        let found = self.must_ensure(opened, 0, wanted).await?;
        must(found.change == Change::Unchanged, || {
            format!("`{}` was as wanted, and `ensure` answers {:?}", wanted.path, found.change)
        })?;
        must(found.seen.id == id, || format!("`{}` is {} now, and was {id}", wanted.path, found.seen.id))
    }

    async fn preflight(&self) -> Checked {
        let opened = self.open().await?;
        let found = self.hear(&opened, opened.provider.preflight().await);
        let Some(first) = found.first() else { return Ok(()) };
        must(found.iter().all(|failure| failure.hint.is_some()), || format!("it names no remedy: {first}"))?;
        let hint = first.hint.as_deref().unwrap_or_default();
        Err(failed(format!("the place is not ready: {first} (hint: {hint})")))
    }

    fn discreet(&self) -> Checked {
        let secrets = [self.secret("first"), self.secret("second")];
        let told = |text: &String| {
            text.contains(HIDDEN) || secrets.iter().any(|secret| text.contains(secret.as_str()))
        };
        must(!*lock(&self.told), || "its log or its failures repeat boot data".to_owned())?;
        must(!lock(&self.heard).iter().any(told), || "its answers repeat boot data".to_owned())
    }
}
