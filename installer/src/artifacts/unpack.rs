//! Reads packages and archives into a [`Tree`]: files only, scripts never, and nothing that could reach out of it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tar::{Archive, Entry, EntryType};

use super::ArtifactError;
use super::paths;
use super::tree::{Objection, Tree};

/// How the members of an archive are named.
#[derive(Clone, Copy)]
pub(crate) enum Naming {
    /// From the root of a Debian system.
    Debian,
    /// With so many leading folders to take off.
    Strip(u32),
}

/// Adds the files of the Debian package at `path`.
pub(crate) fn add_deb(tree: &mut Tree, package: &str, path: &Path) -> Result<(), ArtifactError> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--fsys-tarfile").arg(path).stdin(Stdio::null());
    let stream = Stream::from_program(command)?;
    add_stream(tree, package, stream, Naming::Debian)
}

/// Adds the files of the archive at `path`: a tar, plain or compressed with gzip, xz, bzip2 or zstd.
pub(crate) fn add_archive(
    tree: &mut Tree,
    package: &str,
    path: &Path,
    strip: u32,
) -> Result<(), ArtifactError> {
    let unreadable = |source| ArtifactError::File { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let unpacker = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    };
    let stream = if let Some(unpacker) = unpacker {
        let mut command = Command::new(unpacker);
        command.arg("-dc").stdin(file);
        Stream::from_program(command)?
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Stream { reader: Box::new(zstd::Decoder::new(file).map_err(unreadable)?), child: None }
    } else {
        Stream { reader: Box::new(file), child: None }
    };
    add_stream(tree, package, stream, Naming::Strip(strip))
}

/// Bytes of a tar, and the program that they come from.
struct Stream {
    reader: Box<dyn Read>,
    child: Option<Running>,
}

impl Stream {
    fn from_program(mut command: Command) -> Result<Self, ArtifactError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| ArtifactError::Program { program: program.clone(), source };
        let spawned = command.env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(failed)?;
        let output = child.stdout.take();
        let child = Running(child);
        let output = output.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { reader: Box::new(output), child: Some(child) })
    }

    /// Reads what is left, so that the program can end by itself, and returns its complaint if it has one.
    fn finish(mut self) -> Option<String> {
        let drained = io::copy(&mut self.reader, &mut io::sink());
        let Some(mut child) = self.child.take() else { return drained.err().map(|error| error.to_string()) };
        child.complaint()
    }
}

/// A program that does not outlive its reader.
struct Running(Child);

impl Running {
    fn complaint(&mut self) -> Option<String> {
        let mut said = String::new();
        if let Some(pipe) = self.0.stderr.take() {
            // What cannot be read is not reported; the exit status still is.
            let _ = pipe.take(4096).read_to_string(&mut said);
        }
        match self.0.wait() {
            Ok(status) if status.success() => None,
            Ok(status) if said.trim().is_empty() => Some(status.to_string()),
            Ok(_) => Some(said.trim().replace('\n', "; ")),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn add_stream(
    tree: &mut Tree,
    package: &str,
    mut stream: Stream,
    naming: Naming,
) -> Result<(), ArtifactError> {
    tree.begin(package);
    match add_members(tree, package, &mut stream.reader, naming) {
        Err(ArtifactError::Corrupt { package, detail }) => {
            // The program's own words say more than the tar reader's about a stream that broke off.
            let complaint = stream.child.take().and_then(|mut child| {
                drop(stream.reader);
                child.complaint()
            });
            Err(ArtifactError::Corrupt { package, detail: complaint.unwrap_or(detail) })
        }
        Err(error) => Err(error),
        Ok(()) => match stream.finish() {
            Some(detail) => Err(ArtifactError::Corrupt { package: package.to_owned(), detail }),
            None => Ok(()),
        },
    }
}

fn add_members(
    tree: &mut Tree,
    package: &str,
    reader: &mut dyn Read,
    naming: Naming,
) -> Result<(), ArtifactError> {
    let corrupt =
        |error: io::Error| ArtifactError::Corrupt { package: package.to_owned(), detail: error.to_string() };
    let mut archive = Archive::new(reader);
    let mut members = 0_u64;
    for entry in archive.entries().map_err(corrupt)? {
        let mut entry = entry.map_err(corrupt)?;
        members += 1;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        add_member(tree, &mut entry, naming).map_err(|objection| match objection {
            Objection::Read(error) => corrupt(error),
            Objection::Spool(source) => ArtifactError::Spool { source },
            Objection::Rule(why) => ArtifactError::Refused { package: package.to_owned(), path: shown, why },
            Objection::Conflict(first) => {
                ArtifactError::Conflict { path: shown, first, second: package.to_owned() }
            }
        })?;
    }
    if members == 0 {
        let detail = "there is no archive in it".to_owned();
        return Err(ArtifactError::Corrupt { package: package.to_owned(), detail });
    }
    Ok(())
}

fn add_member(tree: &mut Tree, entry: &mut Entry<'_, impl Read>, naming: Naming) -> Result<(), Objection> {
    let Some(original) = naming.path(&entry.path_bytes())? else { return Ok(()) };
    let path = naming.place(&original);
    let mode = entry.header().mode().map_err(Objection::Read)?;
    match entry.header().entry_type() {
        // The root's own folders, which a merged `/usr` turns into links.
        EntryType::Symlink if path != original && !original.contains('/') => Ok(()),
        EntryType::Directory => tree.add_folder(path, mode),
        EntryType::Symlink => {
            let target = link_target(entry)?;
            let target = std::str::from_utf8(&target).map_err(|_| Objection::Rule("is not UTF-8"))?;
            let destination = paths::destination(&original, target).map_err(Objection::Rule)?;
            tree.add_link(path, naming.place(&destination))
        }
        EntryType::Link => {
            let target = naming.path(&link_target(entry)?)?;
            let target = target.ok_or(Objection::Rule("is a hard link to nothing"))?;
            tree.add_hard_link(path, &naming.place(&target))
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let size = entry.size();
            if tree.add_file(path, mode, entry)? == size {
                Ok(())
            } else {
                Err(Objection::Read(io::ErrorKind::UnexpectedEof.into()))
            }
        }
        _ => Err(Objection::Rule("is a device, a pipe or of an unknown kind")),
    }
}

impl Naming {
    fn path(self, name: &[u8]) -> Result<Option<String>, Objection> {
        let strip = match self {
            Self::Debian => 0,
            Self::Strip(count) => count,
        };
        paths::member(name, strip).map_err(Objection::Rule)
    }

    fn place(self, path: &str) -> String {
        match self {
            Self::Debian => paths::merged_usr(path),
            Self::Strip(_) => path.to_owned(),
        }
    }
}

fn link_target(entry: &Entry<'_, impl Read>) -> Result<Vec<u8>, Objection> {
    entry.link_name_bytes().map(Cow::into_owned).ok_or(Objection::Rule("is a link without a target"))
}
