//! The folder of blobs, in which a name is a promise: a file is called by its sha256 only after its bytes were checked.
//!
//! ```text
//! blobs/<sha256>      packages, archives and bundles, whole and verified
//! recipes/<sha256>    digest and size of the bundle that a recipe made
//! staging/<random>/   work in progress; locked by its owner, swept by the next one when the owner is gone
//! apt/                apt's own scratch: an empty dpkg status file, its binary cache
//! ```

use std::env;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use castrum_blueprints::names::Digest;
use ring::digest::{Context, SHA256};
use tempfile::{NamedTempFile, TempDir};

use castrum_blueprints::manifest::Blob;

use super::ArtifactError;

/// A content-addressed folder on this machine.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache in `root`, makes it if need be, and sweeps what killed runs left behind.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ArtifactError> {
        let cache = Self { root: root.into() };
        for folder in ["blobs", "recipes", "staging", "apt"] {
            let path = cache.root.join(folder);
            fs::create_dir_all(&path).map_err(ArtifactError::file("made", &path))?;
        }
        cache.sweep().map_err(ArtifactError::file("swept", cache.root.join("staging")))?;
        Ok(cache)
    }

    /// Where the cache is when nobody says otherwise: `$XDG_CACHE_HOME/castrum`, or `~/.cache/castrum`.
    pub fn default_root() -> PathBuf {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| PathBuf::from("/var/cache"))
            .join("castrum")
    }

    /// The blob of this digest, if it is here.
    pub fn blob(&self, digest: &Digest) -> Option<Blob> {
        let size = fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file)?.len();
        Some(Blob { digest: digest.clone(), size })
    }

    /// The file that holds the blob of this digest, if it is here.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.as_str())
    }

    /// Takes a copy of the file at `path` into the cache, unless it is there already.
    pub fn adopt(&self, path: &Path) -> Result<Blob, ArtifactError> {
        let mut source = File::open(path).map_err(ArtifactError::file("read", path))?;
        let (digest, size) = digest_of(&mut source).map_err(ArtifactError::file("read", path))?;
        if self.blob(&digest).is_none() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let staging = self.staging()?;
            let copy = staging.path().join("adopted");
            fs::copy(path, &copy).map_err(ArtifactError::file("copied", path))?;
            self.admit(&name, &copy, &digest)?;
        }
        Ok(Blob { digest, size })
    }

    /// Apt's scratch folder, with an empty `status` in it: nothing counts as installed.
    pub(crate) fn apt_folder(&self) -> Result<PathBuf, ArtifactError> {
        let folder = self.root.join("apt");
        let archives = folder.join("archives").join("partial");
        fs::create_dir_all(&archives).map_err(ArtifactError::file("made", &archives))?;
        let status = folder.join("status");
        if fs::metadata(&status).map_or(true, |found| found.len() > 0) {
            File::create(&status).map_err(ArtifactError::file("made", &status))?;
        }
        Ok(folder)
    }

    /// A private folder that goes with its owner, be it by `drop` or by the next sweep.
    pub(crate) fn staging(&self) -> Result<Staging, ArtifactError> {
        let parent = self.root.join("staging");
        let make = || {
            let _sweepers_wait = locked(&parent)?;
            let dir = tempfile::Builder::new().prefix("").tempdir_in(&parent)?;
            let lock = locked(dir.path())?;
            Ok(Staging { dir, _lock: lock })
        };
        make().map_err(ArtifactError::file("used for work in progress", &parent))
    }

    /// Takes in the staged file at `path` under the name of its content, which must be `wanted`.
    pub(crate) fn admit(&self, name: &str, path: &Path, wanted: &Digest) -> Result<Blob, ArtifactError> {
        let mut file = File::open(path).map_err(ArtifactError::file("read", path))?;
        let (found, size) = digest_of(&mut file).map_err(ArtifactError::file("read", path))?;
        if found != *wanted {
            return Err(ArtifactError::WrongDigest { name: name.to_owned(), wanted: wanted.clone(), found });
        }
        self.name_it(&file, path, found, size)
    }

    /// Takes in a file that was hashed while it was written, and so has no other digest to be held against.
    pub(crate) fn keep(
        &self,
        staged: NamedTempFile,
        digest: Digest,
        size: u64,
    ) -> Result<Blob, ArtifactError> {
        let (file, path) = staged.into_parts();
        self.name_it(&file, &path, digest, size)
    }

    /// Data first, name second: a crash in between leaves a nameless file and never a half blob.
    fn name_it(&self, file: &File, from: &Path, digest: Digest, size: u64) -> Result<Blob, ArtifactError> {
        file.sync_data().map_err(ArtifactError::file("written", from))?;
        let path = self.blob_path(&digest);
        fs::rename(from, &path).map_err(ArtifactError::file("named", &path))?;
        Ok(Blob { digest, size })
    }

    /// The bundle that this recipe made before, if it is still here and of the same size.
    pub(crate) fn recall(&self, recipe: &Digest) -> Option<Blob> {
        let text = fs::read_to_string(self.root.join("recipes").join(recipe.as_str())).ok()?;
        let (digest, size) = text.trim_end().split_once(' ')?;
        let blob = self.blob(&digest.parse().ok()?)?;
        (size.parse() == Ok(blob.size)).then_some(blob)
    }

    /// Remembers which bundle a recipe made.
    pub(crate) fn remember(&self, recipe: &Digest, blob: &Blob) -> Result<(), ArtifactError> {
        let path = self.root.join("recipes").join(recipe.as_str());
        let staging = self.staging()?;
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(staging.path())?;
            writeln!(file, "{} {}", blob.digest, blob.size)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(ArtifactError::file("written", &path))
    }

    /// Removes staging folders whose owner is gone; the lock goes with the process, however it ended.
    fn sweep(&self) -> io::Result<()> {
        let parent = self.root.join("staging");
        let _nobody_makes_one = locked(&parent)?;
        for entry in fs::read_dir(&parent)? {
            let path = entry?.path();
            let Ok(folder) = File::open(&path) else { continue };
            if folder.try_lock().is_ok() {
                fs::remove_dir_all(&path).or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?;
            }
        }
        Ok(())
    }
}

/// A folder for work in progress.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: TempDir,
    _lock: File,
}

impl Staging {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self) -> Result<NamedTempFile, ArtifactError> {
        NamedTempFile::new_in(self.path())
            .map_err(ArtifactError::file("used for work in progress", self.path()))
    }
}

fn locked(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    file.lock()?;
    Ok(file)
}

/// The sha256 and the length of what is left in `file`.
pub(crate) fn digest_of(file: &mut File) -> io::Result<(Digest, u64)> {
    let (mut context, mut size) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((finished(context), size));
        }
        context.update(&buffer[..count]);
        size += count as u64;
    }
}

/// Counts and hashes what passes through.
pub(crate) struct Hashing<W> {
    inner: W,
    context: Context,
    size: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, context: Context::new(&SHA256), size: 0 }
    }

    pub(crate) fn finish(self) -> (W, Digest, u64) {
        (self.inner, finished(self.context), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.context.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn finished(context: Context) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Digest::from_bytes(bytes)
}
