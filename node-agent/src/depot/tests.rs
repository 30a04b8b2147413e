//! What the depot keeps on disk.

use std::io;

use super::*;

fn depot() -> (tempfile::TempDir, Depot) {
    let root = tempfile::tempdir().unwrap();
    let depot = Depot::open(root.path()).unwrap();
    (root, depot)
}

fn files(depot: &Depot) -> usize {
    fs::read_dir(&depot.dir).unwrap().count()
}

#[test]
fn what_is_put_is_there_whole() {
    let (root, depot) = depot();
    let bytes = vec![7; 700_000];
    let digest = Digest::of(&bytes);
    assert!(!depot.has(&digest));
    put_command(root.path(), digest.as_str(), &mut bytes.as_slice()).unwrap();
    assert_eq!(fs::read(depot.path(&digest)).unwrap(), bytes);
    assert_eq!(depot.held(), BTreeSet::from([digest.clone()]));
    let mut missing = Vec::new();
    let other = Digest::of(b"other");
    has_command(root.path(), &[digest.to_string(), other.to_string()], &mut missing).unwrap();
    assert_eq!(String::from_utf8(missing).unwrap(), format!("{other}\n"));
}

#[test]
fn wrong_bytes_leave_nothing() {
    let (_root, depot) = depot();
    let error = depot.put(&Digest::of(b"right"), &mut b"wrong".as_slice()).unwrap_err();
    assert!(matches!(error, DepotError::Digest { .. }), "{error}");
    assert_eq!(files(&depot), 0);
}

#[test]
fn a_stream_that_breaks_leaves_nothing() {
    struct Breaks(bool);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.0 = true;
            buffer[0] = 1;
            Ok(1)
        }
    }
    let (_root, depot) = depot();
    let error = depot.put(&Digest::of(&[1]), &mut Breaks(false)).unwrap_err();
    assert!(matches!(error, DepotError::Stream { .. }), "{error}");
    assert_eq!(files(&depot), 0);
}

#[test]
fn a_size_is_held_to() {
    let (_root, depot) = depot();
    let mut intake = depot.take_in(&Digest::of(b"abc"), Some(2)).unwrap();
    assert!(matches!(intake.write(b"abc"), Err(DepotError::Size { came: 3, size: 2, .. })));
    drop(intake);
    let mut intake = depot.take_in(&Digest::of(b"abc"), Some(4)).unwrap();
    intake.write(b"abc").unwrap();
    assert!(matches!(intake.finish(), Err(DepotError::Size { came: 3, size: 4, .. })));
    assert_eq!(files(&depot), 0);
}

#[test]
fn only_what_died_half_way_is_swept() {
    let (_root, depot) = depot();
    fs::write(depot.dir.join("abandoned.1-1.part"), b"half").unwrap();
    let mut living = depot.take_in(&Digest::of(b"abc"), None).unwrap();
    living.write(b"ab").unwrap();
    depot.sweep().unwrap();
    assert_eq!(files(&depot), 1, "the abandoned one is gone, the living one is not");
    living.write(b"c").unwrap();
    living.finish().unwrap();
    assert!(depot.has(&Digest::of(b"abc")));
}

#[test]
fn what_nobody_names_is_collected_once_it_is_old() {
    let (_root, depot) = depot();
    let (kept, dropped) = (Digest::of(b"kept"), Digest::of(b"dropped"));
    depot.put(&kept, &mut b"kept".as_slice()).unwrap();
    depot.put(&dropped, &mut b"dropped".as_slice()).unwrap();
    let keep = BTreeSet::from([kept.clone()]);
    depot.collect(&keep, Duration::from_hours(1)).unwrap();
    assert_eq!(depot.held().len(), 2, "both have just come");
    depot.collect(&keep, Duration::ZERO).unwrap();
    assert_eq!(depot.held(), keep);
}
