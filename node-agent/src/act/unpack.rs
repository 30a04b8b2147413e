//! Unpacks a bundle (tar, zstd) into the store: all of it, only inside its folder, and whole before it has its name.
//!
//! Bundles are verified before they come here. They are still not trusted with the machine: a path or link that leads
//! out, a device, a set-uid bit would be a mistake of the one who made it, and is refused or dropped.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use tar::{Entry, EntryType};

use super::files::{FileError, beside, inside, make_dir, remove, sync_dir};

/// Archives made with a larger window would take too much memory of a small machine (2^27 = 128 MiB).
const LARGEST_WINDOW_LOG: u32 = 27;

/// Why a bundle was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A file could not be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// The archive ends early or is not one.
    #[error("read the bundle `{}`", path.display())]
    Archive {
        /// The bundle.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Something in it has no place in a component's folder.
    #[error("`{}` in the bundle {reason}", entry.display())]
    Refused {
        /// The path in the bundle.
        entry: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Unpacks `bundle` to the folder `target`, in one step. It blocks.
pub fn unpack(bundle: &Path, target: &Path) -> Result<(), UnpackError> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    make_dir(parent)?;
    let temporary = beside(target);
    remove(&temporary)?;
    let done = unpack_into(bundle, &temporary).and_then(|()| Ok(settle(&temporary, target, parent)?));
    if done.is_err() {
        remove(&temporary)?;
    }
    done
}

fn settle(temporary: &Path, target: &Path, parent: &Path) -> Result<(), FileError> {
    let dir = File::open(temporary).map_err(FileError::of("open", temporary))?;
    // One call for all files: a bundle has hundreds, and each would wait for the disk on its own.
    rustix::fs::syncfs(&dir).map_err(|error| FileError::of("sync", temporary)(error.into()))?;
    remove(target)?;
    fs::rename(temporary, target).map_err(FileError::of("name", target))?;
    sync_dir(parent)
}

fn unpack_into(bundle: &Path, dir: &Path) -> Result<(), UnpackError> {
    let broken = |source| UnpackError::Archive { path: bundle.to_owned(), source };
    fs::create_dir(dir).map_err(FileError::of("create the folder", dir))?;
    let file = File::open(bundle).map_err(FileError::of("open", bundle))?;
    let mut decoder = zstd::Decoder::new(file).map_err(broken)?;
    decoder.window_log_max(LARGEST_WINDOW_LOG).map_err(broken)?;
    let mut archive = tar::Archive::new(decoder);
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let refuse = |reason| UnpackError::Refused { entry: path.clone(), reason };
        let clean = inside(&path).ok_or_else(|| refuse("leads out of its folder"))?;
        let mode = entry.header().mode().map_err(broken)? & 0o777;
        let place = dir.join(&clean);
        real_parents(dir, &clean).map_err(refuse)?;
        match entry.header().entry_type() {
            EntryType::Directory => {
                make_dir(&place)?;
                folders.push((place, mode));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                lay_down(&mut entry, &place, mode).map_err(FileError::of("write", &place))?;
            }
            EntryType::Symlink => {
                let to = link_of(&entry).map_err(broken)?;
                if !stays_inside(&clean, &to) {
                    return Err(refuse("is a link that leads out of its folder"));
                }
                remove(&place)?;
                symlink(&to, &place).map_err(FileError::of("link", &place))?;
            }
            EntryType::Link => {
                let to = link_of(&entry).map_err(broken)?;
                let to = inside(&to).ok_or_else(|| refuse("is a link that leads out of its folder"))?;
                real_parents(dir, &to).map_err(refuse)?;
                remove(&place)?;
                fs::hard_link(dir.join(to), &place).map_err(FileError::of("link", &place))?;
            }
            EntryType::XGlobalHeader => {}
            _ => return Err(refuse("is neither a file, a folder nor a link")),
        }
    }
    // Last, because a folder may be without the right to write into it.
    for (folder, mode) in folders.into_iter().rev() {
        let permissions = Permissions::from_mode(mode);
        fs::set_permissions(&folder, permissions).map_err(FileError::of("set the mode of", &folder))?;
    }
    Ok(())
}

fn lay_down<R: Read>(entry: &mut Entry<'_, R>, place: &Path, mode: u32) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(place)?;
    io::copy(entry, &mut file)?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn link_of<R: Read>(entry: &Entry<'_, R>) -> io::Result<PathBuf> {
    let name = entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
    Ok(name.into_owned())
}

/// Makes the folders above `path`, none of which may be a link: so whatever is written lands where its name says.
fn real_parents(dir: &Path, path: &Path) -> Result<(), &'static str> {
    let mut place = dir.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err("lies below something that is not a folder"),
            Err(_) => fs::create_dir(&place).map_err(|_| "lies in a folder that cannot be made")?,
        }
    }
    Ok(())
}

/// Whether a link at `path` to `target` stays inside. `..` may stand only at the beginning: behind a name, which may be
/// a link itself, nobody could tell where it leads.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    let mut named = false;
    for part in target.components() {
        match part {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir if !named && depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;
    use tar::{Builder, Header};

    fn header(kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header
    }

    /// Writes a path or link target that the builder would refuse.
    fn raw(field: &mut [u8], text: &str) {
        field[..text.len()].copy_from_slice(text.as_bytes());
    }

    fn bundle(dir: &Path, entries: &[(&str, EntryType, u32, &str)]) -> PathBuf {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, mode, text) in entries {
            let content = if kind.is_file() { text.as_bytes() } else { b"" };
            let mut header = header(*kind, *mode, content.len() as u64);
            raw(&mut header.as_old_mut().name, path);
            if !kind.is_file() {
                raw(&mut header.as_old_mut().linkname, text);
            }
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        let path = dir.join("bundle");
        fs::write(&path, zstd::encode_all(builder.into_inner().unwrap().as_slice(), 3).unwrap()).unwrap();
        path
    }

    #[test]
    fn a_bundle_is_unpacked_with_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [
            ("./usr/bin", EntryType::Directory, 0o555, ""),
            ("./usr/bin/run", EntryType::Regular, 0o4755, "program"),
            ("usr/lib/deep/x", EntryType::Regular, 0o640, "x"),
            ("usr/bin/alias", EntryType::Symlink, 0o777, "../lib/deep/x"),
            ("usr/bin/again", EntryType::Link, 0o755, "usr/bin/run"),
        ];
        let target = dir.path().join("store/etcd-1");
        unpack(&bundle(dir.path(), &entries), &target).unwrap();
        let run = fs::metadata(target.join("usr/bin/run")).unwrap();
        assert_eq!(run.permissions().mode() & 0o7777, 0o755, "set-uid is dropped");
        assert_eq!(run.nlink(), 2);
        assert_eq!(fs::read_to_string(target.join("usr/bin/alias")).unwrap(), "x");
        assert_eq!(fs::metadata(target.join("usr/bin")).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(fs::read_dir(dir.path().join("store")).unwrap().count(), 1);
    }

    #[test]
    fn nothing_leads_out_and_nothing_is_left() {
        let file = EntryType::Regular;
        let link = EntryType::Symlink;
        let cases: [&[(&str, EntryType, u32, &str)]; 10] = [
            &[("../evil", file, 0o644, "x")],
            &[("/evil", file, 0o644, "x")],
            &[("a/../../evil", file, 0o644, "x")],
            &[("a", link, 0o777, "/etc")],
            &[("a", link, 0o777, "..")],
            &[("a/b/c", link, 0o777, "../../.."), ("x", file, 0o644, "x")],
            &[("a/b", link, 0o777, "../c"), ("a/b/evil", file, 0o644, "x")],
            &[("d/l", link, 0o777, ".."), ("e", link, 0o777, "d/l/../..")],
            &[("a", EntryType::Link, 0o644, "../../etc/passwd")],
            &[("null", EntryType::Char, 0o666, "")],
        ];
        for case in cases {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("in/store/etcd-1");
            let result = unpack(&bundle(dir.path(), case), &target);
            assert!(matches!(result, Err(UnpackError::Refused { .. })), "{case:?}: {result:?}");
            assert_eq!(fs::read_dir(dir.path().join("in/store")).unwrap().count(), 0, "{case:?}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{case:?}");
        }
    }

    #[test]
    fn a_torn_bundle_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let text = "x".repeat(100_000);
        let path = bundle(dir.path(), &[("a", EntryType::Regular, 0o644, &text)]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let target = dir.path().join("store/etcd-1");
        assert!(matches!(unpack(&path, &target), Err(UnpackError::File(_) | UnpackError::Archive { .. })));
        assert_eq!(fs::read_dir(dir.path().join("store")).unwrap().count(), 0);
    }
}
