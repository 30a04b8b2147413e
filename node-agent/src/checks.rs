//! Runs the checks of what runs: often until they hold, then at their interval, each in its own time.
//!
//! A check belongs to one start of one process: results never outlive what they are about.

pub(crate) mod assertion;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use castrum_blueprints::manifest::Check;
use castrum_blueprints::names::{ComponentName, Timestamp};
use castrum_blueprints::status::{CheckResult, Verdict};
use rustls::ClientConfig;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The first pause after a check that did not hold; it doubles.
const QUICK: Duration = Duration::from_millis(200);
/// The longest pause before a check has held once.
const EAGER: Duration = Duration::from_secs(2);
/// How many changes of verdict are remembered of each check.
const HISTORY: usize = 16;

/// A check that is due for one start of one process.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The check.
    pub check: Check,
    /// Which start of the process; `None` for a component without one.
    pub invocation: Option<String>,
}

/// What a check found.
#[derive(Debug)]
pub struct Found {
    key: Key,
    number: u64,
    verdict: Verdict,
    seen: String,
}

/// A change of verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When it changed.
    pub at: Timestamp,
    /// To what.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
}

type Key = (ComponentName, String);

/// The checks that run.
#[derive(Debug)]
pub struct Checks {
    tls: Arc<ClientConfig>,
    running: BTreeMap<Key, Running>,
    history: BTreeMap<Key, VecDeque<Change>>,
    started: u64,
    tell: mpsc::UnboundedSender<Found>,
    told: mpsc::UnboundedReceiver<Found>,
}

#[derive(Debug)]
struct Running {
    due: Due,
    number: u64,
    task: AbortHandle,
    result: Option<CheckResult>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    /// None runs yet. With `https`, `tls` is what is shown and trusted.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { tls, running: BTreeMap::new(), history: BTreeMap::new(), started: 0, tell, told }
    }

    /// Runs exactly what is due: what runs already goes on, the rest is ended, and its results are forgotten.
    pub fn sync(&mut self, due: Vec<(ComponentName, Due)>) {
        let mut before = std::mem::take(&mut self.running);
        for (component, due) in due {
            let key = (component, due.check.name.clone());
            let same = before.remove(&key).filter(|running| running.due == due);
            let running = same.unwrap_or_else(|| self.start(key.clone(), due));
            self.running.insert(key, running);
        }
    }

    /// Waits until a check found something.
    pub async fn found(&mut self) -> Found {
        match self.told.recv().await {
            Some(found) => found,
            // Cannot be: this end holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Takes note of what a check found.
    pub fn note(&mut self, found: Found) {
        let now = wall_clock();
        let Some(running) = self.running.get_mut(&found.key).filter(|r| r.number == found.number) else {
            return;
        };
        let before = running.result.as_ref();
        let changed = before.is_none_or(|result| result.verdict != found.verdict);
        let since = before.filter(|_| !changed).map_or(now, |result| result.since);
        if changed {
            let (component, check) = &found.key;
            tracing::info!(%component, check, verdict = %found.verdict, seen = found.seen, "check");
            let history = self.history.entry(found.key.clone()).or_default();
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(Change { at: now, verdict: found.verdict, seen: found.seen.clone() });
        }
        running.result = Some(CheckResult { verdict: found.verdict, since, at: now, seen: found.seen });
    }

    /// The last results of a component's checks.
    pub fn results(&self, component: &ComponentName) -> BTreeMap<String, CheckResult> {
        let own = self.running.iter().filter(|((name, _), _)| name == component);
        own.filter_map(|((_, check), running)| Some((check.clone(), running.result.clone()?))).collect()
    }

    /// Whether some check that runs has not found anything yet.
    pub fn is_pending(&self) -> bool {
        self.running.values().any(|running| running.result.is_none())
    }

    /// The last changes of all checks, by component and check.
    pub fn history(&self) -> BTreeMap<String, &VecDeque<Change>> {
        self.history
            .iter()
            .map(|((component, check), changes)| (format!("{component}/{check}"), changes))
            .collect()
    }

    fn start(&mut self, key: Key, due: Due) -> Running {
        self.started += 1;
        let number = self.started;
        let run = keep_checking(key, number, due.check.clone(), Arc::clone(&self.tls), self.tell.clone());
        Running { due, number, task: tokio::spawn(run).abort_handle(), result: None }
    }
}

async fn keep_checking(
    key: Key,
    number: u64,
    check: Check,
    tls: Arc<ClientConfig>,
    tell: mpsc::UnboundedSender<Found>,
) {
    let patience = Duration::from_secs(check.timeout.into());
    let mut pace = Pace::new(Duration::from_secs(check.every.into()));
    loop {
        let (verdict, seen) = assertion::check(Some(&tls), &check.assert, patience).await;
        let pause = pace.after(verdict == Verdict::Ok);
        if tell.send(Found { key: key.clone(), number, verdict, seen }).is_err() {
            return;
        }
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// How long to wait before a check is run again.
#[derive(Debug)]
struct Pace {
    every: Duration,
    held_once: bool,
    next: Duration,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Self { every, held_once: false, next: QUICK }
    }

    fn after(&mut self, ok: bool) -> Duration {
        if ok {
            self.held_once = true;
            self.next = QUICK;
            return self.every;
        }
        let most = if self.held_once { self.every } else { EAGER.min(self.every) };
        let pause = self.next.min(most);
        self.next = self.next.saturating_mul(2).min(most);
        pause
    }
}

/// A tenth more or less, so that a thousand nodes do not ask the same thing in the same instant.
fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % 200;
    let permille = 900 + u32::try_from(chance).unwrap_or(100);
    pause * permille / 1000
}

/// The node's clock.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use castrum_blueprints::manifest::Assertion;
    use std::fs;
    use std::path::Path;

    fn check(path: &Path, every: u32) -> Check {
        Check {
            name: "file".to_owned(),
            description: "the file is there".to_owned(),
            assert: Assertion::Exec(vec!["test".to_owned(), "-e".to_owned(), path.display().to_string()]),
            every,
            timeout: 5,
        }
    }

    fn due(path: &Path, invocation: &str) -> Vec<(ComponentName, Due)> {
        let due = Due { check: check(path, 30), invocation: Some(invocation.to_owned()) };
        vec![("etcd".parse().unwrap(), due)]
    }

    fn checks() -> Checks {
        let roots = rustls::RootCertStore::empty();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Checks::new(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    #[test]
    fn the_pace_is_quick_until_it_holds_and_calm_then() {
        let mut pace = Pace::new(Duration::from_secs(10));
        let millis = |pace: &mut Pace, ok| pace.after(ok).as_millis();
        let eager: Vec<_> = (0..6).map(|_| millis(&mut pace, false)).collect();
        assert_eq!(eager, [200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(millis(&mut pace, true), 10_000);
        let failing: Vec<_> = (0..7).map(|_| millis(&mut pace, false)).collect();
        assert_eq!(failing, [200, 400, 800, 1600, 3200, 6400, 10_000]);
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&pause), "{pause:?}");
        }
    }

    #[tokio::test]
    async fn results_come_change_and_end_with_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("there");
        let etcd: ComponentName = "etcd".parse().unwrap();
        let mut checks = checks();
        checks.sync(due(&path, "one"));
        assert!(checks.is_pending());
        let found = checks.found().await;
        checks.note(found);
        assert!(!checks.is_pending());
        let first = checks.results(&etcd)["file"].clone();
        assert_eq!(first.verdict, Verdict::Warning);
        fs::write(&path, "").unwrap();
        checks.sync(due(&path, "one"));
        while checks.results(&etcd)["file"].verdict != Verdict::Ok {
            let found = checks.found().await;
            checks.note(found);
        }
        assert!(checks.results(&etcd)["file"].since >= first.since);
        assert_eq!(checks.history()["etcd/file"].len(), 2);
        let stale = Found {
            key: (etcd.clone(), "file".to_owned()),
            number: 1,
            verdict: Verdict::Critical,
            seen: String::new(),
        };
        checks.sync(due(&path, "two"));
        assert!(checks.results(&etcd).is_empty(), "another start has no results yet");
        checks.note(stale);
        assert!(checks.results(&etcd).is_empty(), "what an ended check found is not taken");
        checks.sync(Vec::new());
        assert!(checks.running.is_empty());
    }
}
