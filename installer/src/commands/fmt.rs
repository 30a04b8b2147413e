//! `castrum fmt`: a blueprint in its canonical layout.

use castrum_blueprints::document::fmt::format;
use castrum_blueprints::document::{Findings, read};

/// A blueprint in its canonical layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatted {
    /// The text.
    pub text: String,
    /// Whether it differs from what was given.
    pub changed: bool,
}

/// Formats the blueprint that the file named `file` holds.
pub fn fmt(file: &str, bytes: &[u8]) -> Result<Formatted, Findings> {
    let text = format(&read(file, bytes))?;
    let changed = text.as_bytes() != bytes;
    Ok(Formatted { text, changed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_from_none() {
        let first = fmt("a.yaml", b"name: a # why\napiVersion: castrum/v1\n").expect("a layout");
        assert_eq!(first.text, "apiVersion: castrum/v1\nname: a  # why\n");
        assert!(first.changed);
        assert!(!fmt("a.yaml", first.text.as_bytes()).expect("a layout").changed);
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        let findings = fmt("a.yaml", b"name: [\n").expect_err("not YAML");
        assert!(findings.render().starts_with("a.yaml:"), "{}", findings.render());
    }
}
