//! The files of the project: what would be in version control.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are made and not written: Cargo's, the version control's, and those of clusters.
const MADE: [&str; 3] = ["target", ".git", ".castrum"];

/// The folder of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in a folder of the project")
        .to_owned()
}

/// Every text file of the project with its path relative to the root, in order.
pub fn texts() -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    gather(&root, &root, &mut found);
    found.sort();
    found
}

fn gather(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the project").map(|entry| entry.expect("an entry"))
    {
        let (path, name) = (entry.path(), entry.file_name().into_string().expect("a name in UTF-8"));
        if entry.file_type().expect("a type").is_dir() {
            if !MADE.contains(&name.as_str()) {
                gather(root, &path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
            found.push((relative, text));
        }
    }
}
