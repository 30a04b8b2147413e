//! Writes a bundle: the same tree gives the same bytes, with the same version of the compressor.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use super::paths;
use super::tree::{Node, Spool};

/// Of the cheap levels the one after which size falls slowly.
pub(crate) const LEVEL: i32 = 3;

/// Writes `nodes` as a compressed tar. `pulse` hears how many bytes of files are done, and may end the work.
pub(crate) fn write<W: Write>(
    nodes: &BTreeMap<String, Node>,
    spool: &Spool,
    out: W,
    pulse: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<W> {
    let mut builder = Builder::new(zstd::Encoder::new(out, LEVEL)?);
    let mut written: HashMap<u64, &str> = HashMap::new();
    let mut done = 0;
    for (path, node) in nodes {
        match node {
            Node::Folder { mode } => {
                let mut header = header(EntryType::Directory, *mode, 0)?;
                builder.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Node::Link { destination } => {
                let mut header = header(EntryType::Symlink, 0o777, 0)?;
                builder.append_link(&mut header, path, paths::relative(path, destination))?;
            }
            Node::File { mode, content } => {
                if let Some(first) = written.get(&content.id) {
                    let mut header = header(EntryType::Link, *mode, 0)?;
                    builder.append_link(&mut header, path, first)?;
                    continue;
                }
                let mut header = header(EntryType::Regular, *mode, content.size)?;
                let counted = Counted { inner: spool.reader(*content), done, pulse: &mut *pulse };
                builder.append_data(&mut header, path, counted)?;
                done += content.size;
                written.insert(content.id, path);
            }
        }
    }
    builder.into_inner()?.finish()
}

/// The bytes of files that [`write`] will report.
pub(crate) fn bytes(nodes: &BTreeMap<String, Node>) -> u64 {
    let each: HashMap<u64, u64> = nodes
        .values()
        .filter_map(|node| match node {
            Node::File { content, .. } => Some((content.id, content.size)),
            Node::Folder { .. } | Node::Link { .. } => None,
        })
        .collect();
    each.values().sum()
}

fn header(kind: EntryType, mode: u32, size: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    Ok(header)
}

struct Counted<'a, R> {
    inner: R,
    done: u64,
    pulse: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        (self.pulse)(self.done)?;
        Ok(count)
    }
}
