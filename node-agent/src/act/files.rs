//! Files that are there whole or not at all, and survive the next power cut.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

/// What could not be done with a file.
#[derive(Debug, thiserror::Error)]
#[error("{what} `{}`", path.display())]
pub struct FileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// For use with `map_err`.
    pub fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { what, path, source }
    }
}

/// The content of a file; `None` if it is not there.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", path)(error)),
    }
}

/// Replaces a file in one step; after a crash it is the old or the new one, whole.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_dir(parent)?;
    let temporary = beside(path);
    write_synced(&temporary, content, mode)?;
    fs::rename(&temporary, path).map_err(FileError::of("replace", path))?;
    sync_dir(parent)
}

/// Writes a new file through to the disk.
pub fn write_synced(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut file = File::create(path).map_err(FileError::of("create", path))?;
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all());
    written.map_err(FileError::of("write", path))
}

/// Points a link somewhere else in one step. True if it pointed there already.
pub fn swap_link(link: &Path, target: &Path) -> Result<bool, FileError> {
    if fs::read_link(link).is_ok_and(|now| now == target) {
        return Ok(true);
    }
    let parent = link.parent().unwrap_or(Path::new("/"));
    make_dir(parent)?;
    let temporary = beside(link);
    remove(&temporary)?;
    symlink(target, &temporary).map_err(FileError::of("link", &temporary))?;
    fs::rename(&temporary, link).map_err(FileError::of("switch", link))?;
    sync_dir(parent)?;
    Ok(false)
}

/// Makes a folder with its parents.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::of("create the folder", path))
}

/// Writes a folder's entries through to the disk.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(FileError::of("sync", path))
}

/// Removes a file, link or folder. One that is not there is removed.
pub fn remove(path: &Path) -> Result<(), FileError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder so that at no moment a part of it has its name.
pub fn remove_whole(path: &Path) -> Result<(), FileError> {
    let gone = beside(path);
    remove(&gone)?;
    match fs::rename(path, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::of("remove", path)(error)),
        Ok(()) => remove(&gone),
    }
}

/// Removes what an agent that died left half done in `dir`.
pub fn sweep(dir: &Path) -> Result<(), FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::of("list", dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(FileError::of("list", dir))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

const TEMPORARY: &str = ".castrum-";

/// A name beside `path` for what is not finished yet. [`sweep`] knows it.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{TEMPORARY}{name}"))
}

/// `path` as one that stays below where it is joined to; `None` if it does not.
pub fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        for content in ["one", "two, longer"] {
            write_whole(&path, content.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_switched_and_a_folder_removed_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("active");
        assert!(!swap_link(&link, Path::new("one")).unwrap());
        assert!(swap_link(&link, Path::new("one")).unwrap());
        assert!(!swap_link(&link, Path::new("two")).unwrap());
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("two"));
        let folder = dir.path().join("store/etcd-1");
        fs::create_dir_all(folder.join("bin")).unwrap();
        remove_whole(&folder).unwrap();
        remove_whole(&folder).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("store")).unwrap().count(), 0);
    }

    #[test]
    fn half_done_things_are_swept_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(beside(&dir.path().join("etcd-1")).join("bin")).unwrap();
        fs::create_dir_all(dir.path().join("etcd-2")).unwrap();
        sweep(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["etcd-2"]);
        sweep(&dir.path().join("not there")).unwrap();
    }

    #[test]
    fn paths_that_lead_out_are_none() {
        assert_eq!(inside(Path::new("./a/./b")), Some(PathBuf::from("a/b")));
        for bad in ["/a", "../a", "a/../../b", "a/.."] {
            assert_eq!(inside(Path::new(bad)), None, "{bad}");
        }
    }
}
