//! `init`, `validate`, `fmt`, `explain`: writing a blueprint.

use std::path::Path;

use castrum_blueprints::check::check;
use castrum_blueprints::document::{Document, explain as explanation, fmt as format_document, read};

use super::args::{Blueprint, Fmt, Format, Global, Init};
use super::context::Context;
use super::fault::{Fault, code};
use super::output::{note, print, print_json};
use crate::project::{Project, write_whole};

/// `castrum init`.
pub(super) fn init(args: &Init) -> Result<u8, Fault> {
    let text = castrum_blueprints::document::starter(&args.provider).ok_or_else(|| {
        Fault::new(code::USAGE, format!("there is nothing to begin with for the provider `{}`", args.provider))
            .hint("use `local`, `ssh` or `sim`")
    })?;
    if args.file == Path::new("-") {
        print(&text);
        return Ok(code::DONE);
    }
    let path = args.file.display();
    if args.file.exists() {
        return Err(Fault::new(code::ERROR, format!("`{path}` exists already")).hint("name another file"));
    }
    write_whole(&args.file, text.as_bytes(), 0o644)
        .map_err(|error| Fault::new(code::ERROR, format!("cannot write `{path}`: {error}")))?;
    note(&format!("wrote `{path}`; look through it, then `castrum plan {path}`\n"));
    Ok(code::DONE)
}

fn document(file: &Path) -> Result<Document, Fault> {
    let bytes = Project::of(file).read_blueprint().map_err(|error| Fault::of(code::BLUEPRINT, &error))?;
    Ok(read(&file.display().to_string(), &bytes))
}

/// `castrum validate`.
pub(super) fn validate(args: &Blueprint, global: &Global) -> Result<u8, Fault> {
    let document = document(&args.file)?;
    let (findings, valid) = match check(&document) {
        Ok(checked) => (checked.warnings, true),
        Err(findings) => (findings, false),
    };
    if valid {
        // The stack and its settings are part of what a blueprint says.
        Context::load(&args.file)?;
    }
    match global.output {
        Format::Table => {
            note(&findings.render());
            if valid {
                print(&format!("{} is valid\n", args.file.display()));
            }
        }
        format => print_json(&findings.to_json(), format),
    }
    Ok(if valid { code::DONE } else { code::BLUEPRINT })
}

/// `castrum fmt`.
pub(super) fn fmt(args: &Fmt) -> Result<u8, Fault> {
    let file = &args.blueprint.file;
    let bytes = Project::of(file).read_blueprint().map_err(|error| Fault::of(code::BLUEPRINT, &error))?;
    let document = read(&file.display().to_string(), &bytes);
    let text = format_document::format(&document).map_err(|findings| Fault::new(code::BLUEPRINT, findings.render()))?;
    if text.as_bytes() == bytes {
        return Ok(code::DONE);
    }
    if args.check {
        note(&format!("{} would change\n", file.display()));
        return Ok(code::DIFFERENCES);
    }
    write_whole(file, text.as_bytes(), 0o644)
        .map_err(|error| Fault::new(code::ERROR, format!("cannot write `{}`: {error}", file.display())))?;
    note(&format!("{} is in its usual form now\n", file.display()));
    Ok(code::DONE)
}

/// `castrum explain`.
pub(super) fn explain(path: Option<&str>, global: &Global) -> Result<u8, Fault> {
    let explained =
        explanation::explain(path.unwrap_or_default()).map_err(|error| Fault::of(code::USAGE, &error))?;
    match global.output {
        Format::Table => print(&explained.render()),
        format => {
            let mut value = serde_json::to_value(&explained).map_err(|error| Fault::of(code::ERROR, &error))?;
            if let Some(map) = value.as_object_mut() {
                map.insert("format_version".to_owned(), 1.into());
            }
            print_json(&value, format);
        }
    }
    Ok(code::DONE)
}
