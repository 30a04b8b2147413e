//! What is asked for: one component's source with everything around it that decides what its bundle holds.

use std::collections::{BTreeMap, BTreeSet};

use castrum_blueprints::names::{ComponentName, Digest};
use castrum_blueprints::stack::{Source, Stack, StackFiles};

use super::ArtifactError;

/// A source, complete in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The source as the stack declares it.
    pub source: Source,
    /// Packages that a node's operating system brings; they and what only they need stay out.
    pub provided: BTreeSet<String>,
    /// The text of a file source; empty for the others.
    pub content: String,
}

impl Order {
    /// What this is pinned by: another digest means that the component is resolved anew.
    pub fn digest(&self) -> Digest {
        // What the whole stack provides only matters to packages.
        let provided = matches!(self.source, Source::Deb(_)).then_some(&self.provided);
        let all = (&self.source, provided, &self.content);
        Digest::of(&serde_json::to_vec(&all).expect("an order is plain data"))
    }
}

/// The orders of all components of `stack` that have files; `files` is the stack's folder.
pub fn orders(stack: &Stack, files: &StackFiles) -> Result<BTreeMap<ComponentName, Order>, ArtifactError> {
    let mut orders = BTreeMap::new();
    for (name, component) in &stack.components {
        let Some(source) = &component.source else { continue };
        let (mut provided, mut content) = (stack.provided.clone(), String::new());
        match source {
            Source::Deb(deb) => provided.extend(deb.without.iter().cloned()),
            Source::Tarball(_) => {}
            Source::File(file) => {
                let missing = || ArtifactError::NoFile { component: name.clone(), path: file.path.clone() };
                files.get(&file.path).ok_or_else(missing)?.clone_into(&mut content);
            }
        }
        orders.insert(name.clone(), Order { source: source.clone(), provided, content });
    }
    Ok(orders)
}
