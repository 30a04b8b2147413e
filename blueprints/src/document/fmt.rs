//! The canonical layout of a blueprint: keys in the table's order, two spaces a level, comments where they belong.
//!
//! Comments are attached to the entries that they stand at ([`notes`]), then the tree is written anew ([`emit`]).
//! The result is read again before anybody gets it: unless it means the same and holds the same comments, nothing is
//! formatted at all.

mod emit;
mod notes;

use super::finding::{Code, Findings, Remark};
use super::source::Span;
use super::{Document, read};

/// The blueprint in its canonical layout. Only YAML can be formatted; fields need not be right.
pub fn format(document: &Document) -> Result<String, Findings> {
    let Some(root) = document.root.as_ref().filter(|_| document.intact) else {
        return Err(document.findings());
    };
    let comments = notes::comments(&document.source);
    let text = (comments.len() <= notes::COMMENTS).then(|| {
        let outline = notes::outline(&document.source, root, &comments);
        emit::emit(&document.source, &outline)
    });
    if let Some(text) = text.filter(|text| keeps(document, &comments, text)) {
        return Ok(text);
    }
    let mut found = super::Found::default();
    found.add(&document.source, || {
        let message = "the layout of this file cannot be changed without risk to its meaning or its comments";
        Remark::error(Code::Layout, Span::at(0), message)
            .hint("lists and maps over several lines format best")
    });
    Err(found.into_findings(document.file()))
}

/// Whether `text` means what the document means and holds its comments.
fn keeps(document: &Document, comments: &[notes::Comment], text: &str) -> bool {
    let again = read(document.file(), text.as_bytes());
    let sorted = |comments: &[notes::Comment]| {
        let mut texts: Vec<String> = comments.iter().map(|comment| comment.text.clone()).collect();
        texts.sort();
        texts
    };
    let same_data = again.intact && again.data() == document.data();
    same_data && sorted(&notes::comments(&again.source)) == sorted(comments)
}

#[cfg(test)]
mod tests;
