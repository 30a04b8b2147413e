//! The files of one bundle while it is put together: an index in memory, the bytes in one nameless file on disk.
//!
//! Packages come in their own order and a bundle is written in order of path, so the bytes have to wait somewhere; the
//! nameless file costs no memory and leaves nothing behind, however the process ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;

use super::paths;

/// More than this in one bundle is no bundle but an attack, or a mistake.
const MAX_BYTES: u64 = 8 << 30;
const MAX_NODES: usize = 1_000_000;
const SET_ID: u32 = 0o6000;

/// What one path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder { mode: u32 },
    File { mode: u32, content: Content },
    Link { destination: String },
}

/// Bytes in the spool. Two paths with the same id are hard links of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) id: u64,
    offset: u64,
    pub(crate) size: u64,
}

/// Which paths a bundle is to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) keep: Vec<String>,
    pub(crate) drop: Vec<String>,
}

impl Filter {
    fn wants(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| paths::under(pattern, path));
        (self.keep.is_empty() || any(&self.keep)) && !any(&self.drop)
    }
}

/// Why something cannot become part of a tree.
#[derive(Debug)]
pub(crate) enum Objection {
    /// It breaks a rule.
    Rule(&'static str),
    /// Another package has brought something else; this is its name.
    Conflict(String),
    /// Its bytes cannot be read.
    Read(io::Error),
    /// Its bytes cannot be kept.
    Spool(io::Error),
}

/// The merged files of several packages.
pub(crate) struct Tree {
    filter: Filter,
    packages: Vec<String>,
    nodes: BTreeMap<String, (Node, usize)>,
    /// All files of the package at hand, also those that the filter leaves out: a hard link may name any of them.
    current: HashMap<String, (u32, Content)>,
    /// Folders that hold something in some package, whether or not the filter leaves it in.
    parents: HashSet<String>,
    spool: Spool,
}

impl Tree {
    pub(crate) fn new(filter: Filter, spool: File) -> Self {
        let spool = Spool { file: spool, end: 0, next: 0, buffer: vec![0; 1 << 18] };
        Self {
            filter,
            packages: Vec::new(),
            nodes: BTreeMap::new(),
            current: HashMap::new(),
            parents: HashSet::new(),
            spool,
        }
    }

    /// What is added from now on comes from `package`.
    pub(crate) fn begin(&mut self, package: &str) {
        self.packages.push(package.to_owned());
        self.current.clear();
    }

    pub(crate) fn add_folder(&mut self, path: String, mode: u32) -> Result<(), Objection> {
        self.place(path, Node::Folder { mode: mode & 0o1777 })
    }

    /// Adds a file with what `bytes` gives, and says how much that was.
    pub(crate) fn add_file(&mut self, path: String, mode: u32, bytes: impl Read) -> Result<u64, Objection> {
        let content = self.spool.take(bytes)?;
        self.current.insert(path.clone(), (mode, content));
        self.place(path, Node::File { mode: mode & 0o7777, content })?;
        Ok(content.size)
    }

    pub(crate) fn add_hard_link(&mut self, path: String, target: &str) -> Result<(), Objection> {
        let found = self.current.get(target).copied();
        let (mode, content) = found.ok_or(Objection::Rule("is a hard link to nothing before it"))?;
        self.current.insert(path.clone(), (mode, content));
        self.place(path, Node::File { mode: mode & 0o7777, content })
    }

    pub(crate) fn add_link(&mut self, path: String, destination: String) -> Result<(), Objection> {
        self.place(path, Node::Link { destination })
    }

    fn place(&mut self, path: String, node: Node) -> Result<(), Objection> {
        let parent = paths::parent(&path);
        if !self.parents.contains(parent) {
            self.parents.insert(parent.to_owned());
        }
        if !self.filter.wants(&path) {
            return Ok(());
        }
        if let Node::File { mode, .. } = node
            && mode & SET_ID != 0
        {
            return Err(Objection::Rule("has a setuid or setgid bit"));
        }
        let origin = self.packages.len().saturating_sub(1);
        let Some((there, first)) = self.nodes.get(&path) else {
            self.nodes.insert(path, (node, origin));
            return if self.nodes.len() > MAX_NODES { Err(Objection::Rule(TOO_MUCH)) } else { Ok(()) };
        };
        if self.same(there, &node).map_err(Objection::Spool)? {
            return Ok(());
        }
        Err(Objection::Conflict(self.packages[*first].clone()))
    }

    fn same(&self, one: &Node, other: &Node) -> io::Result<bool> {
        match (one, other) {
            (Node::Folder { .. }, Node::Folder { .. }) => Ok(true),
            (Node::File { mode: one_mode, content: one }, Node::File { mode, content }) => {
                Ok(one_mode == mode && self.spool.same(*one, *content)?)
            }
            _ => Ok(one == other),
        }
    }

    /// The first path that lies below something that is not a folder, with the packages of both.
    pub(crate) fn misplaced(&self) -> Option<(&str, &str, &str)> {
        self.nodes.iter().find_map(|(path, (_, below))| {
            let (_, above) = paths::ancestors(path)
                .filter_map(|above| self.nodes.get(above))
                .find(|(node, _)| !matches!(node, Node::Folder { .. }))?;
            Some((path.as_str(), self.packages[*above].as_str(), self.packages[*below].as_str()))
        })
    }

    /// Adds a link that the stack declares; its target is relative to the folder of the link.
    pub(crate) fn declare(&mut self, path: &str, target: &str) -> Result<(), &'static str> {
        let path = paths::member(path.as_bytes(), 0)?.ok_or("is the bundle itself")?;
        let destination = paths::destination(&path, target)?;
        if self.nodes.contains_key(&path) {
            return Err("stands in the way of what a package brings");
        }
        if paths::ancestors(&path)
            .any(|above| self.nodes.get(above).is_some_and(|(node, _)| !is_folder(node)))
        {
            return Err("lies below something that is not a folder");
        }
        self.nodes.insert(path, (Node::Link { destination: destination.clone() }, 0));
        if self.exists(&destination, 0) { Ok(()) } else { Err("leads to nothing in the bundle") }
    }

    /// The nodes to write, in order of path: links that lead nowhere left out, folders where they are needed.
    pub(crate) fn finish(mut self) -> (BTreeMap<String, Node>, Spool) {
        self.leave_out_lost_links();
        let Self { nodes, parents, spool, .. } = self;
        let (folders, mut kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            nodes.into_iter().map(|(path, (node, _))| (path, node)).partition(|(_, node)| is_folder(node));
        // A folder that its package brings empty is wanted for itself, any other for what is in it.
        let bare = folders.keys().filter(|path| !parents.contains(*path));
        let mut needed: BTreeSet<String> = bare.cloned().collect();
        for path in kept.keys().chain(&needed.clone()) {
            needed.extend(paths::ancestors(path).map(str::to_owned));
        }
        for path in needed {
            let folder = folders.get(&path).cloned().unwrap_or(Node::Folder { mode: 0o755 });
            kept.insert(path, folder);
        }
        (kept, spool)
    }

    /// Leaving one out may take another one's target, so it goes on until none is lost.
    fn leave_out_lost_links(&mut self) {
        loop {
            let lost: Vec<String> = self
                .nodes
                .iter()
                .filter(|(_, (node, _))| self.is_lost(node))
                .map(|(path, _)| path.clone())
                .collect();
            if lost.is_empty() {
                return;
            }
            for path in &lost {
                tracing::debug!(path, "left out of the bundle: the link leads out of it or to nothing");
                self.nodes.remove(path);
            }
        }
    }

    fn is_lost(&self, node: &Node) -> bool {
        matches!(node, Node::Link { destination } if !self.exists(destination, 0))
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.nodes.range(prefix.clone()..).next().is_some_and(|(next, _)| next.starts_with(&prefix))
    }

    /// Whether `path` leads to something, links followed as the kernel would with the bundle as its root.
    fn exists(&self, path: &str, depth: u32) -> bool {
        self.real(path, depth)
            .is_some_and(|real| real.is_empty() || self.nodes.contains_key(&real) || self.has_children(&real))
    }

    fn real(&self, path: &str, depth: u32) -> Option<String> {
        // The kernel's own limit (path_resolution(7)).
        if depth > 40 {
            return None;
        }
        let mut real = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let next = if real.is_empty() { part.to_owned() } else { format!("{real}/{part}") };
            real = match self.nodes.get(&next) {
                Some((Node::Link { destination }, _)) => self.real(destination, depth + 1)?,
                _ => next,
            };
        }
        Some(real)
    }
}

const TOO_MUCH: &str = "makes the bundle larger than any component should be";

fn is_folder(node: &Node) -> bool {
    matches!(node, Node::Folder { .. })
}

/// The bytes of all files, one after the other.
pub(crate) struct Spool {
    file: File,
    end: u64,
    next: u64,
    buffer: Vec<u8>,
}

impl Spool {
    fn take(&mut self, mut bytes: impl Read) -> Result<Content, Objection> {
        let (id, offset) = (self.next, self.end);
        self.next += 1;
        loop {
            let count = match bytes.read(&mut self.buffer) {
                Ok(0) => return Ok(Content { id, offset, size: self.end - offset }),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Objection::Read(error)),
            };
            self.file.write_all(&self.buffer[..count]).map_err(Objection::Spool)?;
            self.end += count as u64;
            if self.end > MAX_BYTES {
                return Err(Objection::Rule(TOO_MUCH));
            }
        }
    }

    fn same(&self, one: Content, other: Content) -> io::Result<bool> {
        if one.size != other.size {
            return Ok(false);
        }
        let (mut one, mut other) = (self.reader(one), self.reader(other));
        let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            let count = one.read(&mut left)?;
            other.read_exact(&mut right[..count])?;
            if left[..count] != right[..count] {
                return Ok(false);
            }
            if count == 0 {
                return Ok(true);
            }
        }
    }

    pub(crate) fn reader(&self, content: Content) -> SpoolReader<'_> {
        SpoolReader { file: &self.file, offset: content.offset, left: content.size }
    }
}

/// Reads one file's bytes out of the spool.
pub(crate) struct SpoolReader<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
