//! Packages and archives that want to reach out of their bundle.

use castrum_blueprints::names::Digest;
use castrum_blueprints::stack::{Source, TarballSource};
use tar::EntryType;

use super::super::bundle;
use super::*;

async fn refused(members: &[Member]) -> String {
    let bench = Bench::new();
    let result = bench.bundle_debs(&order(&["app"], &[]), &[("app", members.to_vec())]).await;
    assert!(bench.leftovers().is_empty());
    let package = deb_of(members);
    let blobs = entries(&bench.dir.path().join("cache/blobs"));
    assert_eq!(blobs, [bench.cache.blob_path(&Digest::of(&package))], "only the package itself is there");
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn hostile_members_are_refused_by_path() {
    let fine = file("usr/bin/x", "x");
    let set_id = |mode| Member { mode, ..fine.clone() };
    for (member, expected) in [
        (file("../../etc/passwd", "x"), "`app` is refused: `../../etc/passwd` goes up with `..`"),
        (file("usr/../../x", "x"), "`app` is refused: `usr/../../x` goes up with `..`"),
        (file("/etc/passwd", "x"), "`app` is refused: `/etc/passwd` is an absolute path"),
        (
            link("usr/x", "../../etc/shadow"),
            "`app` is refused: `usr/x` is a link that leads out of the bundle",
        ),
        (hard("usr/x", "/etc/shadow"), "`app` is refused: `usr/x` is an absolute path"),
        (hard("usr/x", "etc/shadow"), "`app` is refused: `usr/x` is a hard link to nothing before it"),
        (set_id(0o4755), "`app` is refused: `usr/bin/x` has a setuid or setgid bit"),
        (set_id(0o2755), "`app` is refused: `usr/bin/x` has a setuid or setgid bit"),
        (
            member(EntryType::Block, "dev/sda", 0o600),
            "`app` is refused: `dev/sda` is a device, a pipe or of an unknown kind",
        ),
        (
            member(EntryType::Char, "dev/mem", 0o600),
            "`app` is refused: `dev/mem` is a device, a pipe or of an unknown kind",
        ),
        (
            member(EntryType::Fifo, "run/pipe", 0o600),
            "`app` is refused: `run/pipe` is a device, a pipe or of an unknown kind",
        ),
    ] {
        assert_eq!(refused(&[file("usr/ok", "x"), member]).await, expected);
    }
}

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let members =
        [link("usr/data", "/var/lib"), folder("var/lib"), file("var/lib/y", ""), file("usr/data/x", "")];
    assert_eq!(refused(&members).await, "`usr/data/x` is not the same in `app` and `app`");
}

#[tokio::test]
async fn links_in_a_circle_are_left_out() {
    let bench = Bench::new();
    let members = vec![file("usr/x", "x"), link("usr/a", "b"), link("usr/b", "a"), link("usr/c", "c/d")];
    let blob = bench.bundle_debs(&order(&["app"], &[]), &[("app", members)]).await.unwrap();
    assert_eq!(bench.listing(&blob), ["0755 usr/", "0644 usr/x: x"]);
}

#[tokio::test]
async fn packages_that_disagree_are_both_named() {
    let bench = Bench::new();
    let order = order(&["a"], &[]);
    let one = vec![file("etc/x", "one"), file("etc/same", "same")];
    let other = vec![file("etc/same", "same"), file("etc/x", "two")];
    let error = bench.bundle_debs(&order, &[("a", one.clone()), ("b", other)]).await.unwrap_err();
    assert_eq!(error.to_string(), "`etc/x` is not the same in `a` and `b`");
    assert!(error.remedy().unwrap().contains("`drop`"));
    let mode = vec![Member { mode: 0o600, ..file("etc/x", "one") }];
    assert!(bench.bundle_debs(&order, &[("a", one), ("b", mode)]).await.is_err());
}

async fn corrupt(bytes: &[u8]) -> String {
    let bench = Bench::new();
    let package = bench.fetched("app", bytes);
    let result = bundle(&bench.cache, &component("app"), &order(&["app"], &[]), &[package], &|_| ()).await;
    assert!(bench.leftovers().is_empty());
    match result.unwrap_err() {
        ArtifactError::Corrupt { package, detail } => format!("{package}: {detail}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn broken_packages_are_no_packages() {
    let whole = deb_of(&[file("usr/big", &"x".repeat(100_000)), file("usr/y", "y")]);
    assert!(corrupt(b"not a package").await.starts_with("app: dpkg-deb: error:"));
    assert!(corrupt(&whole[..60_000]).await.starts_with("app: "));
    assert!(corrupt(&whole[..100]).await.starts_with("app: "));
    assert!(corrupt(b"").await.starts_with("app: "));
}

#[tokio::test]
async fn broken_archives_are_no_archives() {
    let whole = tar_of(&[file("big", &"x".repeat(100_000))]);
    let squeezed = zstd::encode_all(whole.as_slice(), 1).unwrap();
    for bytes in [&whole[..5_000], &squeezed[..squeezed.len() / 2], b"", b"\x1f\x8bnot gzip", b"text"] {
        let bench = Bench::new();
        bench.fetched("tool", bytes);
        let url = "https://downloads.test/tool.tar".to_owned();
        let source = Source::Tarball(TarballSource { url, sha256: Digest::of(bytes), strip: 0 });
        let order = Order { source, provided: names(&[]), content: String::new() };
        let result = bundle(&bench.cache, &component("tool"), &order, &[], &|_| ()).await;
        assert!(
            matches!(&result, Err(ArtifactError::Corrupt { package, .. }) if package == "tool.tar"),
            "{result:?}"
        );
    }
}
