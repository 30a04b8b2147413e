//! `init`, `validate`, `fmt`, `explain`: writing a blueprint.

use std::path::Path;

use castrum_blueprints::names::ClusterName;

use super::args::{Blueprint, Explain, Fmt, Format, Global, Init};
use super::context::Context;
use super::fault::{Fault, code};
use super::output::{note, print, print_json};
use crate::commands;
use crate::project::{Project, write_whole};

/// `castrum init`.
pub(super) fn init(args: &Init) -> Result<u8, Fault> {
    let name: ClusterName = args.name.parse().map_err(|error| Fault::of(code::USAGE, &error))?;
    let text = commands::init::init(&name, &args.provider).map_err(|error| Fault::of(code::USAGE, &error))?;
    if args.file == Path::new("-") {
        print(&text);
        return Ok(code::DONE);
    }
    let path = args.file.display();
    if args.file.exists() {
        return Err(Fault::new(code::ERROR, format!("`{path}` exists already")).hint("name another file"));
    }
    write(&args.file, &text)?;
    note(&format!("wrote `{path}`; look through it, then `castrum plan {path}`\n"));
    Ok(code::DONE)
}

fn write(path: &Path, text: &str) -> Result<(), Fault> {
    write_whole(path, text.as_bytes(), 0o644)
        .map_err(|error| Fault::new(code::ERROR, format!("cannot write `{}`: {error}", path.display())))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Fault> {
    Project::of(path).read_blueprint().map_err(|error| Fault::of(code::BLUEPRINT, &error))
}

/// `castrum validate`.
pub(super) fn validate(args: &Blueprint, global: &Global) -> Result<u8, Fault> {
    let verdict = commands::validate::validate(&args.file.display().to_string(), &bytes(&args.file)?);
    if verdict.is_valid() {
        // The stack and its settings are part of what a blueprint says.
        Context::load(&args.file)?;
    }
    match global.output {
        Format::Table => note(&verdict.render()),
        format => print_json(&verdict.to_json(), format),
    }
    Ok(if verdict.is_valid() { code::DONE } else { code::BLUEPRINT })
}

/// `castrum fmt`.
pub(super) fn fmt(args: &Fmt) -> Result<u8, Fault> {
    let path = &args.blueprint.file;
    let formatted = commands::fmt::fmt(&path.display().to_string(), &bytes(path)?).map_err(Fault::invalid)?;
    if !formatted.changed {
        return Ok(code::DONE);
    }
    if args.check {
        note(&format!("{} would change\n", path.display()));
        return Ok(code::DIFFERENCES);
    }
    write(path, &formatted.text)?;
    note(&format!("{} is in its usual form now\n", path.display()));
    Ok(code::DONE)
}

/// `castrum explain`.
pub(super) fn explain(args: &Explain, global: &Global) -> Result<u8, Fault> {
    if let Some(about) = &args.about {
        let fault = Fault::new(code::USAGE, format!("`{about}` is one field too many"));
        return Err(fault.hint("`castrum explain wait NODE` shows what waits on a node"));
    }
    let explanation = commands::explain::explain(args.path.as_deref()).map_err(|error| {
        let fault = Fault::of(code::USAGE, &error);
        if error.hint.is_empty() { fault } else { fault.hint(error.hint.clone()) }
    })?;
    match global.output {
        Format::Table => print(&explanation.render()),
        format => print_json(&commands::explain::to_json(&explanation), format),
    }
    Ok(code::DONE)
}
