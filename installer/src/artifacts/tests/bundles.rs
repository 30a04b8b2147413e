//! What a bundle holds, and that the same input gives the same bytes.

use std::collections::BTreeMap;
use std::process::Command;

use castrum_blueprints::names::Digest;
use castrum_blueprints::stack::{FileSource, Source, TarballSource};

use super::super::{bundle, fetch};
use super::*;

fn library() -> Vec<Member> {
    vec![
        folder("./"),
        folder("./lib/"),
        folder("./lib/x86/"),
        file("./lib/x86/libz.so.1.2", "library"),
        link("./lib/x86/libz.so.1", "libz.so.1.2"),
        folder("./usr/"),
        folder("./usr/share/"),
        folder("./usr/share/doc/"),
        file("./usr/share/doc/copyright", "long"),
    ]
}

fn program() -> Vec<Member> {
    vec![
        folder("./usr"),
        folder("./usr/lib/x86"),
        link("./usr/lib/x86/libz.so", "/lib/x86/libz.so.1"),
        link("./usr/lib/x86/masked.service", "/dev/null"),
        link("./usr/lib/x86/lost.so", "nothing.so"),
        Member { mode: 0o755, ..file("./usr/sbin/multi", "program") },
        hard("./usr/sbin/again", "./usr/sbin/multi"),
        member(tar::EntryType::Directory, "./var/lib/app", 0o700),
        file("./etc/app.conf", "a = 1\n"),
    ]
}

#[tokio::test]
async fn a_bundle_holds_the_files_of_all_packages_in_order() {
    let bench = Bench::new();
    let mut order = order(&["app"], &[]);
    if let Source::Deb(deb) = &mut order.source {
        deb.links.insert("usr/sbin/app".into(), "multi".into());
    }
    let blob = bench.bundle_debs(&order, &[("app", program()), ("libz", library())]).await.unwrap();
    let expected = "\
0755 etc/
0644 etc/app.conf: a = 1

0755 usr/
0755 usr/lib/
0755 usr/lib/x86/
usr/lib/x86/libz.so -> libz.so.1
usr/lib/x86/libz.so.1 -> libz.so.1.2
0644 usr/lib/x86/libz.so.1.2: library
0755 usr/sbin/
0755 usr/sbin/again: program
usr/sbin/app -> multi
usr/sbin/multi = usr/sbin/again
0755 var/
0755 var/lib/
0700 var/lib/app/";
    assert_eq!(bench.listing(&blob).join("\n"), expected);
    assert!(bench.leftovers().is_empty());
}

#[tokio::test]
async fn the_same_files_give_the_same_bytes_and_are_packed_once() {
    let (one, other) = (Bench::new(), Bench::new());
    let order = order(&["app"], &[]);
    let mut shuffled: Vec<_> = program().into_iter().map(|member| Member { mtime: 5, ..member }).collect();
    shuffled.swap(2, 8);
    let first = one.bundle_debs(&order, &[("app", program())]).await.unwrap();
    let second = other.bundle_debs(&order, &[("app", shuffled)]).await.unwrap();
    assert_eq!(first, second);
    let text = std::fs::read(one.cache.blob_path(&first.digest)).unwrap();
    assert_eq!((Digest::of(&text), text.len() as u64), (first.digest.clone(), first.size));

    // With the package gone, only the memory of the recipe can answer.
    let package = one.fetched("app", &deb_of(&program()));
    std::fs::remove_file(one.cache.blob_path(&package.sha256)).unwrap();
    let again = bundle(&one.cache, &component("app"), &order, std::slice::from_ref(&package), &|_| ()).await;
    assert_eq!(again.unwrap(), first);
    std::fs::remove_file(one.cache.blob_path(&first.digest)).unwrap();
    let gone = bundle(&one.cache, &component("app"), &order, &[package], &|_| ()).await;
    assert!(matches!(gone, Err(ArtifactError::NotFetched { name }) if name == "app"));
}

#[tokio::test]
async fn keep_and_drop_make_a_bundle_small() {
    let bench = Bench::new();
    let mut order = order(&["app"], &[]);
    if let Source::Deb(deb) = &mut order.source {
        deb.keep = names(&["usr/sbin", "usr/lib/*/libz*"]);
        deb.drop = names(&["usr/sbin/again"]);
    }
    let blob = bench.bundle_debs(&order, &[("app", program()), ("libz", library())]).await.unwrap();
    let expected = "\
0755 usr/
0755 usr/lib/
0755 usr/lib/x86/
usr/lib/x86/libz.so -> libz.so.1
usr/lib/x86/libz.so.1 -> libz.so.1.2
0644 usr/lib/x86/libz.so.1.2: library
0755 usr/sbin/
0755 usr/sbin/multi: program";
    assert_eq!(bench.listing(&blob).join("\n"), expected);
    if let Source::Deb(deb) = &mut order.source {
        deb.keep = names(&["opt"]);
    }
    let empty = bench.bundle_debs(&order, &[("app", program())]).await;
    assert!(matches!(empty, Err(ArtifactError::Empty { component }) if component == "app"));
}

#[tokio::test]
async fn declared_links_must_lead_somewhere() {
    for (path, target, why) in [
        ("usr/sbin/app", "nothing", "leads to nothing"),
        ("usr/sbin/multi", "again", "stands in the way"),
        ("../x", "multi", "goes up"),
        ("usr/sbin/app", "../../../etc/shadow", "leads out"),
        ("usr/sbin/multi/x", "../again", "not a folder"),
    ] {
        let bench = Bench::new();
        let mut order = order(&["app"], &[]);
        if let Source::Deb(deb) = &mut order.source {
            deb.links.insert(path.into(), target.into());
        }
        let error = bench.bundle_debs(&order, &[("app", program())]).await.unwrap_err().to_string();
        assert!(error.contains(why), "{path} -> {target}: {error}");
    }
}

async fn unpacked(archive: &[u8], strip: u32) -> Vec<String> {
    let bench = Bench::new();
    let path = bench.dir.path().join("tool-1.2.tar");
    std::fs::write(&path, archive).unwrap();
    let url = format!("file://{}", path.display());
    let source = Source::Tarball(TarballSource { url, sha256: Digest::of(archive), strip });
    let order = Order { source, provided: names(&[]), content: String::new() };
    let orders = BTreeMap::from([(component("tool"), order)]);
    let apt = crate::artifacts::Apt::default();
    fetch(&apt, &bench.cache, &orders, &BTreeMap::new(), &|_| ()).await.unwrap();
    let blob =
        bundle(&bench.cache, &component("tool"), &orders[&component("tool")], &[], &|_| ()).await.unwrap();
    bench.listing(&blob)
}

fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("in");
    std::fs::write(&path, bytes).unwrap();
    Command::new(program).arg("-c").arg(path).output().unwrap().stdout
}

#[tokio::test]
async fn archives_are_unpacked_whatever_compressed_them() {
    let plain = tar_of(&[folder("top/"), file("top/bin/tool", "x"), link("top/lib", "bin")]);
    let expected = ["0755 bin/", "0644 bin/tool: x", "lib -> bin"];
    assert_eq!(unpacked(&plain, 1).await, expected);
    assert_eq!(unpacked(&compressed("gzip", &plain), 1).await, expected);
    assert_eq!(unpacked(&compressed("xz", &plain), 1).await, expected);
    assert_eq!(unpacked(&zstd::encode_all(plain.as_slice(), 1).unwrap(), 1).await, expected);
}

#[tokio::test]
async fn a_file_of_the_stack_becomes_a_bundle() {
    let bench = Bench::new();
    let file = FileSource { path: "hello.sh".into(), target: "bin/hello".into(), executable: true };
    let content = "#!/bin/sh\n".to_owned();
    let order = Order { source: Source::File(file), provided: names(&[]), content };
    let blob = bundle(&bench.cache, &component("hello"), &order, &[], &|_| ()).await.unwrap();
    assert_eq!(bench.listing(&blob), ["0755 bin/", "0755 bin/hello: #!/bin/sh\n"]);
}
