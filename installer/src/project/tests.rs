//! The real code over a store in memory: two commands, one lease, and what each of them may write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;

use super::lease::Pinned;
use super::*;

const LENGTH_MS: u64 = 1_200;

/// A place that can be cut off, and that then says nothing about what it did.
struct Cut {
    inner: Bucket,
    off: AtomicBool,
}

impl Cut {
    fn new(store: &Arc<InMemory>) -> Arc<Self> {
        let store = Arc::clone(store);
        Arc::new(Self {
            inner: Bucket::over(store, "mem://state".into(), "a/b"),
            off: AtomicBool::new(false),
        })
    }

    fn answer<T>(&self, answer: Result<T, PlaceError>) -> Result<T, PlaceError> {
        let cut = PlaceError::Unreachable { place: self.inner.name(), cause: "cut off".to_owned() };
        if self.off.load(Ordering::Relaxed) { Err(cut) } else { answer }
    }
}

#[async_trait]
impl Place for Cut {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn read(&self, name: &str) -> Result<Option<Kept>, PlaceError> {
        self.answer(self.inner.read(name).await)
    }

    async fn write(&self, name: &str, bytes: Bytes, when: When) -> Result<Version, PlaceError> {
        if self.off.load(Ordering::Relaxed) {
            return self.answer(Ok(Version::default()));
        }
        self.inner.write(name, bytes, when).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, PlaceError> {
        self.answer(self.inner.list(folder).await)
    }

    async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        self.answer(self.inner.remove(name).await)
    }
}

fn shared(place: &Arc<Cut>) -> Shared {
    Shared::new(Arc::clone(place) as Arc<dyn Place>, LENGTH_MS).expect("a thread")
}

fn holder(run: &str) -> Holder {
    Holder { run: run.to_owned(), pid: 7, verb: "apply".to_owned() }
}

#[test]
fn a_lease_is_kept_by_whoever_is_at_work_and_free_when_it_has_ended() {
    let store = Arc::new(InMemory::new());
    let (first, second) = (shared(&Cut::new(&store)), shared(&Cut::new(&store)));
    first.take(&holder("one"), &|_| panic!("nobody has it")).expect("free");
    let refused =
        second.take(&holder("two"), &|lease| assert_eq!(lease.holder.run, "one")).expect_err("held");
    assert!(matches!(&refused, TakeError::Held(lease) if lease.holder.run == "one"), "{refused}");
    std::thread::sleep(Duration::from_millis(LENGTH_MS * 2));
    assert!(first.tenure().expect("taken").holds(), "it renews");
    first.pin(Pinned::Lock, b"one").expect("held");
    first.release();
    second.take(&holder("two"), &|_| panic!("nobody has it")).expect("free");
    assert_eq!(second.pinned(Pinned::Lock).expect("read").expect("pinned"), "one");
}

#[test]
fn without_the_lease_nothing_is_written() {
    let store = Arc::new(InMemory::new());
    let shared = shared(&Cut::new(&store));
    let refused = shared.pin(Pinned::Lock, b"text").expect_err("no lease");
    assert!(matches!(refused, StateError::NoLease { .. }), "{refused}");
    assert_eq!(shared.pinned(Pinned::Lock).expect("read"), None);
}

#[test]
fn whoever_is_cut_off_stops_in_time_is_passed_over_and_writes_nothing_more() {
    let store = Arc::new(InMemory::new());
    let place = Cut::new(&store);
    let (first, second) = (shared(&place), shared(&Cut::new(&store)));
    first.take(&holder("one"), &|_| {}).expect("free");
    first.pin(Pinned::Lock, b"one").expect("held");
    let tenure = first.tenure().expect("taken");
    place.off.store(true, Ordering::Relaxed);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| second.take(&holder("two"), &|_| {}).expect("over"));
        while tenure.holds() {
            assert!(second.tenure().is_none(), "both hold");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(began.elapsed() >= Duration::from_millis(LENGTH_MS), "{:?}", began.elapsed());
    second.pin(Pinned::Lock, b"two").expect("held");

    place.off.store(false, Ordering::Relaxed);
    let refused = first.pin(Pinned::Lock, b"three").expect_err("passed over");
    assert!(matches!(refused, StateError::Gone(_)), "{refused}");
    assert_eq!(second.pinned(Pinned::Lock).expect("read").expect("pinned"), "two");
    assert!(!second.was_pinned(Pinned::Lock, &Digest::of(b"three")).expect("read"), "not even its bytes");
}

#[test]
fn what_was_altered_in_the_place_is_refused() {
    let store = Arc::new(InMemory::new());
    let place = Cut::new(&store);
    let first = shared(&place);
    first.take(&holder("one"), &|_| {}).expect("free");
    first.pin(Pinned::Keyring, b"sealed").expect("held");
    first.release();
    let name = Pinned::Keyring.object(&Digest::of(b"sealed"));
    let alter = async {
        let kept = place.read(&name).await.expect("read").expect("there");
        place.write(&name, Bytes::from_static(b"other"), When::Is(kept.version)).await.expect("written");
    };
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(alter);
    let refused = shared(&place).pinned(Pinned::Keyring).expect_err("altered");
    assert!(refused.to_string().contains("it was altered"), "{refused}");
}
