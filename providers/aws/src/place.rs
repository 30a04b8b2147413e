//! One site of one cluster in a region: who is asked, what was learnt, and what all kinds of resources share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use castrum_blueprints::names::{ClusterId, Digest, ResourceKind, ResourcePath, SiteName};
use castrum_provider::{Change, Failure, FailureClass, ResourceSeen, Wanted, idempotency_key};
use tokio::time::sleep;

use crate::failure::fault;
use crate::labels::{self, Label, Tags};
use crate::list::{Part, ec2_tags};
use crate::settings::Settings;

/// How often a token of a creation is taken anew, after what was made under the one before is gone.
pub(crate) const LIVES: u32 = 16;

/// The site.
pub(crate) struct Place {
    pub(crate) cluster: ClusterId,
    pub(crate) site: SiteName,
    pub(crate) settings: Settings,
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) elb: aws_sdk_elasticloadbalancingv2::Client,
    /// The ids of resources by their path and part.
    known: Mutex<BTreeMap<(ResourcePath, &'static str), String>>,
    /// What this process made, and when: a listing may not show it yet.
    fresh: Mutex<BTreeMap<(ResourcePath, &'static str), Instant>>,
    /// What this process removed: a listing may show it for a while yet.
    buried: Mutex<BTreeSet<String>>,
    /// The instances that it saw terminated.
    pub(crate) terminated: Mutex<BTreeSet<String>>,
    /// Since when tokens are known to be taken by something that cannot be seen.
    taken: Mutex<BTreeMap<String, Instant>>,
    /// The image that machines start from where none is named.
    pub(crate) default_image: Mutex<Option<String>>,
    /// The root disks of images.
    pub(crate) roots: Mutex<BTreeMap<String, crate::images::Root>>,
    locks: Mutex<BTreeMap<ResourcePath, Arc<tokio::sync::Mutex<()>>>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// A place that nothing is known of yet.
    pub(crate) fn new(
        (cluster, site): (ClusterId, SiteName),
        settings: Settings,
        ec2: aws_sdk_ec2::Client,
        elb: aws_sdk_elasticloadbalancingv2::Client,
    ) -> Self {
        Self {
            cluster,
            site,
            settings,
            ec2,
            elb,
            known: Mutex::default(),
            fresh: Mutex::default(),
            buried: Mutex::default(),
            terminated: Mutex::default(),
            taken: Mutex::default(),
            default_image: Mutex::default(),
            roots: Mutex::default(),
            locks: Mutex::default(),
        }
    }

    /// Changes of one resource come one after the other.
    pub(crate) fn lock_of(&self, path: &ResourcePath) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.locks).entry(path.clone()).or_default())
    }

    /// The path of a resource of this site.
    pub(crate) fn path(&self, kind: ResourceKind, name: &str) -> ResourcePath {
        ResourcePath { site: self.site.clone(), kind, name: name.to_owned() }
    }

    /// The tags of a part of what is wanted.
    pub(crate) fn tags(&self, wanted: &Wanted, part: &str) -> Tags {
        labels::tags(&self.cluster, &wanted.path, &wanted.spec.digest(), part)
    }

    /// The token of a creation: the same part, generation and life have the same.
    pub(crate) fn token(&self, wanted: &Wanted, part: &str, life: u32) -> String {
        format!("{}-{part}-{life}", idempotency_key(&self.cluster, &wanted.path, wanted.generation))
    }

    /// A name for what has to have one that is unique in the account.
    pub(crate) fn name(&self, path: &ResourcePath) -> String {
        format!("castrum-{}-{}-{}", self.cluster, path.site, path.name)
    }

    pub(crate) fn learn(&self, path: &ResourcePath, part: &'static str, id: &str) {
        lock(&self.known).insert((path.clone(), part), id.to_owned());
    }

    pub(crate) fn known(&self, path: &ResourcePath, part: &'static str) -> Option<String> {
        lock(&self.known).get(&(path.clone(), part)).cloned()
    }

    /// What is known of a resource is not so any more, or may not be.
    pub(crate) fn forget(&self, path: &ResourcePath) {
        lock(&self.known).retain(|(known, _), _| known != path);
    }

    /// Notes that something was made just now.
    pub(crate) fn made(&self, path: &ResourcePath, part: &'static str, id: &str) {
        lock(&self.fresh).insert((path.clone(), part), Instant::now());
        self.learn(path, part, id);
    }

    /// Notes that a resource was removed.
    pub(crate) fn removed(&self, path: &ResourcePath) {
        lock(&self.fresh).retain(|(fresh, _), _| fresh != path);
        self.forget(path);
    }

    /// Notes that a thing is gone for ever: its id will not come again.
    pub(crate) fn bury(&self, id: &str) {
        lock(&self.buried).insert(id.to_owned());
    }

    /// Whether this process removed it.
    pub(crate) fn is_buried(&self, id: &str) -> bool {
        lock(&self.buried).contains(id)
    }

    /// How long a listing may show the time before.
    pub(crate) fn stale(&self) -> Duration {
        Duration::from_millis(self.settings.stale_ms)
    }

    /// Refuses to make again what was made just now and is not listed yet.
    pub(crate) fn not_just_made(&self, path: &ResourcePath, part: &'static str) -> Result<(), Failure> {
        let made = lock(&self.fresh).get(&(path.clone(), part)).copied();
        match made {
            Some(made) if made.elapsed() < self.stale() => Err(not_ready(format!(
                "the {part} of `{path}` was made just now, and is not in the listing yet"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a token is known to be taken for so long that what took it would be listed if it were alive.
    pub(crate) fn taken_long_ago(&self, token: &str) -> bool {
        let since = *lock(&self.taken).entry(token.to_owned()).or_insert_with(Instant::now);
        since.elapsed() >= self.stale() * 6
    }

    /// Gives a thing the tags that it shall have. Whether it had others.
    pub(crate) async fn retag(&self, id: &str, label: &Label, tags: &Tags) -> Result<bool, Failure> {
        if label.carries(tags) {
            return Ok(false);
        }
        let call = self.ec2.create_tags().resources(id).set_tags(Some(ec2_tags(tags)));
        call.send().await.map_err(fault("CreateTags"))?;
        Ok(true)
    }
}

/// Pauses between looks at something that is awaited: growing, up to some seconds.
pub(crate) struct Pauses {
    next: Duration,
    spent: Duration,
}

/// The longest that one call waits for one thing, beside the caller's deadline: balancers take some minutes.
const PATIENCE: Duration = Duration::from_mins(10);

impl Pauses {
    /// The first pause is short.
    pub(crate) fn new() -> Self {
        Self { next: Duration::from_millis(100), spent: Duration::ZERO }
    }

    /// Waits, longer each time, until patience ends: then it says what is awaited.
    pub(crate) async fn pause(&mut self, awaited: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.spent >= PATIENCE {
            return Err(not_ready(awaited()));
        }
        sleep(self.next).await;
        self.spent += self.next;
        self.next = (self.next * 3 / 2).min(Duration::from_secs(5));
        Ok(())
    }

    /// Waits for a listing to show what was made, for as long as one may be stale. Whether it may show it yet.
    pub(crate) async fn listing(&mut self, place: &Place) -> bool {
        let may = self.spent < place.stale();
        if may {
            sleep(self.next).await;
            self.spent += self.next;
            self.next = (self.next * 3 / 2).min(Duration::from_secs(2));
        }
        may
    }
}

/// What was done, in the words of the contract.
pub(crate) fn change_of(created: bool, touched: bool) -> Change {
    match (created, touched) {
        (true, _) => Change::Created,
        (false, true) => Change::Changed,
        (false, false) => Change::Unchanged,
    }
}

/// What is said of a resource that is not as it shall be yet.
pub(crate) fn awaited(path: &ResourcePath, seen: Option<&ResourceSeen>) -> String {
    let note = seen.and_then(|seen| seen.note.as_deref());
    format!("`{path}` is not ready: {}", note.unwrap_or("it is not in the listing yet"))
}

/// Of several under one label the one that stays: one that is used, then the first by its id. The others come after it.
pub(crate) fn settle<T>(
    mut parts: Vec<Part<T>>,
    used: impl Fn(&T) -> bool,
) -> (Option<Part<T>>, Vec<Part<T>>) {
    parts.sort_by(|one, other| (!used(&one.it), &one.id).cmp(&(!used(&other.it), &other.id)));
    let mut parts = parts.into_iter();
    (parts.next(), parts.collect())
}

/// A resource as it was found, while its state is judged.
#[derive(Debug)]
pub(crate) struct Found {
    path: ResourcePath,
    id: String,
    spec: Option<Digest>,
    lacks: Vec<String>,
}

impl Found {
    /// What a part that was found tells; the main part comes first.
    pub(crate) fn new<T>(place: &Place, part: &Part<T>) -> Self {
        let lacks = part.label.drift(&place.cluster).map(str::to_owned).into_iter().collect();
        Self { path: part.label.path.clone(), id: part.id.clone(), spec: part.label.spec.clone(), lacks }
    }

    /// The main part is gone, and this is left.
    pub(crate) fn remnant(path: &ResourcePath, id: &str, what: &str) -> Self {
        Self {
            path: path.clone(),
            id: id.to_owned(),
            spec: None,
            lacks: vec![format!("only its {what} is left")],
        }
    }

    /// Notes what is wrong or awaited.
    pub(crate) fn lacks(&mut self, what: impl Into<String>) {
        self.lacks.push(what.into());
    }

    /// Notes it unless `held`.
    pub(crate) fn must(&mut self, held: bool, what: &str) {
        if !held {
            self.lacks(what);
        }
    }

    /// The same without what somebody else changed, where the tags were just written.
    pub(crate) fn seen(self) -> ResourceSeen {
        let note = (!self.lacks.is_empty()).then(|| self.lacks.join("; "));
        ResourceSeen {
            path: self.path,
            id: self.id,
            spec: self.spec,
            ready: self.lacks.is_empty(),
            note,
            machine: None,
        }
    }
}

pub(crate) fn not_ready(message: String) -> Failure {
    Failure::new(FailureClass::NotReady, message)
}

pub(crate) fn invalid(message: String) -> Failure {
    Failure::new(FailureClass::Invalid, message)
}

pub(crate) fn not_ours(message: String) -> Failure {
    Failure::new(FailureClass::NotOurs, message)
}

/// A name that exists already without our label on it.
pub(crate) fn taken_name(what: &str, name: &str) -> Failure {
    not_ours(format!("the {what} `{name}` exists already, and is not this cluster's"))
        .with_hint("remove it if nobody needs it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &str, it: bool) -> Part<bool> {
        let path: ResourcePath = "here/network/nodes".parse().expect("a path");
        let cluster = ClusterId::from_bytes([7; 6]);
        let tags = labels::tags(&cluster, &path, &Digest::of(b"spec"), "vpc");
        let label = Label::read(&cluster, tags.iter().map(|(key, value)| (*key, value.as_str())));
        Part { label: label.expect("ours"), id: id.to_owned(), it }
    }

    fn kept(parts: &[(&str, bool)]) -> Vec<String> {
        let (kept, rest) = settle(parts.iter().map(|(id, used)| part(id, *used)).collect(), |used| *used);
        kept.into_iter().chain(rest).map(|part| part.id).collect()
    }

    #[test]
    fn of_several_the_used_one_stays_and_then_the_first() {
        assert_eq!(kept(&[("vpc-2", false), ("vpc-1", false)]), ["vpc-1", "vpc-2"]);
        assert_eq!(kept(&[("vpc-1", false), ("vpc-2", true), ("vpc-0", false)]), ["vpc-2", "vpc-0", "vpc-1"]);
        assert!(kept(&[]).is_empty());
    }
}
