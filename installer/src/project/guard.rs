//! One command at a time changes a cluster: an advisory file lock that ends with its process, however that ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ProjectError;

/// Held while a command changes the cluster.
#[derive(Debug)]
pub struct Guard {
    _file: File,
}

/// Who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The run's id.
    pub run: String,
    /// The process.
    pub pid: u32,
    /// The command.
    pub verb: String,
}

impl Guard {
    /// Takes the guard below `work_dir`, or says who has it.
    pub fn take(work_dir: &Path, holder: &Holder) -> Result<Self, ProjectError> {
        let path = work_dir.join("guard");
        let write = |source| ProjectError::Write { path: path.clone(), source };
        fs::create_dir_all(work_dir).map_err(write)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(write)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let holder = serde_json::from_str::<Holder>(&text).map_or_else(
                    |_| "its process is not known".to_owned(),
                    |held| format!("`castrum {}`, process {}, run {}", held.verb, held.pid, held.run),
                );
                return Err(ProjectError::Held { holder });
            }
            Err(TryLockError::Error(source)) => return Err(write(source)),
        }
        let text = serde_json::to_vec(holder).unwrap_or_default();
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).map_err(write)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is_and_may_come_after_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let holder = |run: &str| Holder { run: run.into(), pid: 42, verb: "apply".into() };
        let first = Guard::take(dir.path(), &holder("one")).expect("free");
        let refused = Guard::take(dir.path(), &holder("two")).expect_err("held");
        assert!(refused.to_string().contains("process 42, run one"), "{refused}");
        drop(first);
        Guard::take(dir.path(), &holder("two")).expect("free again");
    }
}
