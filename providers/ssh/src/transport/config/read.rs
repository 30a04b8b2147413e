//! The lines of `ssh_config` files: words, quotes, blocks, and files that include others.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Block, Setting, When};
use crate::transport::error::SshError;
use crate::transport::pattern;

/// How deep `Include` may nest, as in OpenSSH.
const MOST_INCLUDES: usize = 16;

/// Reads files into lines.
pub(super) struct Reader {
    pub(super) home: PathBuf,
    pub(super) lines: Vec<Setting>,
}

impl Reader {
    pub(super) fn file(&mut self, path: &Path, outer: &Arc<Block>, depth: usize) -> Result<(), SshError> {
        match std::fs::read_to_string(path) {
            Ok(text) => self.text(&text, path, outer, depth),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(SshError::File { path: path.to_owned(), source }),
        }
    }

    pub(super) fn text(
        &mut self,
        text: &str,
        path: &Path,
        outer: &Arc<Block>,
        depth: usize,
    ) -> Result<(), SshError> {
        let mut block = outer.clone();
        for (number, line) in text.lines().enumerate() {
            let refuse = |reason: String| SshError::Config {
                place: format!("{}:{}", path.display(), number + 1),
                reason,
            };
            let Some((keyword, words)) = split(line).map_err(refuse)? else { continue };
            match keyword.as_str() {
                "host" => block = Arc::new(Block { when: When::Host(words), outer: Some(outer.clone()) }),
                "match" => block = Arc::new(Block { when: criteria(&words), outer: Some(outer.clone()) }),
                "include" if depth >= MOST_INCLUDES => {
                    return Err(refuse("`Include` is nested too deep".to_owned()));
                }
                "include" => self.include(&words, path, &block, depth)?,
                "port" if words.first().is_none_or(|w| w.parse::<u16>().is_err()) => {
                    return Err(refuse("`Port` is not a port number".to_owned()));
                }
                _ => self.lines.push(Setting { block: block.clone(), keyword, words }),
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        words: &[String],
        from: &Path,
        block: &Arc<Block>,
        depth: usize,
    ) -> Result<(), SshError> {
        for word in words {
            let path = in_home(word, &self.home);
            // Relative to the folder of the user or of the system, not to the file, as in OpenSSH.
            let ssh = self.home.join(".ssh");
            let base = if from.starts_with(&self.home) { ssh.as_path() } else { Path::new("/etc/ssh") };
            let path = if path.is_absolute() { path } else { base.join(path) };
            for file in expand_names(&path) {
                self.file(&file, block, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// The files that a path with wildcards in its last part names, in the order of their names.
fn expand_names(path: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|n| !n.starts_with('.') && pattern::matches(name, n))
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

pub(super) fn in_home(text: &str, home: &Path) -> PathBuf {
    text.strip_prefix("~/").map_or_else(|| PathBuf::from(text), |rest| home.join(rest))
}

/// The criteria of a `Match` line.
fn criteria(words: &[String]) -> When {
    let mut list = Vec::new();
    let mut words = words.iter();
    while let Some(what) = words.next() {
        let what = what.to_ascii_lowercase();
        match what.as_str() {
            "all" => {}
            "host" | "originalhost" | "user" | "localuser" => {
                let patterns = words.next().map(|w| w.split(',').map(str::to_owned).collect());
                list.push((what, patterns.unwrap_or_default()));
            }
            _ => return When::Never,
        }
    }
    if list.is_empty() { When::Always } else { When::Match(list) }
}

/// Keyword and words of a line; `None` for one that says nothing.
fn split(line: &str) -> Result<Option<(String, Vec<String>)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let words = split_words(rest)?;
    if words.is_empty() {
        return Err(format!("`{keyword}` has no value"));
    }
    Ok(Some((keyword.to_ascii_lowercase(), words)))
}

fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' if !quoted && word.is_none() => break,
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err("a quotation mark is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}
