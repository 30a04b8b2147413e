//! What a user prefers, in `$XDG_CONFIG_HOME/castrum/config.yaml`: it stands in for flags that are not given.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Deserialize;

use super::args::{Format, Global};
use super::fault::{Fault, code};

/// The file's contents; all of it is optional.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Preferences {
    /// How results are written, where neither `--output` nor `CASTRUM_OUTPUT` says.
    output: Option<Format>,
    /// No colour, no redrawing.
    no_color: bool,
}

/// Lets what the user prefers stand in for what neither the command line nor the environment says.
pub(super) fn apply(global: &mut Global, matches: &ArgMatches) -> Result<(), Fault> {
    let Some(preferences) = read()? else { return Ok(()) };
    if let Some(output) = preferences.output
        && matches.value_source("output") == Some(ValueSource::DefaultValue)
    {
        global.output = output;
    }
    global.no_color |= preferences.no_color;
    Ok(())
}

fn read() -> Result<Option<Preferences>, Fault> {
    let Some(path) = place() else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound) => return Ok(None),
        Err(error) => {
            let line = format!("cannot read `{}`: {error}", path.display());
            return Err(Fault::new(code::ERROR, line).hint("make it readable, or remove it"));
        }
    };
    let read = serde_saphyr::from_str::<Option<Preferences>>(&text);
    read.map(Option::unwrap_or_default).map(Some).map_err(|error| {
        let line = format!("`{}` is not understood", path.display());
        let mut fault =
            Fault::new(code::ERROR, line).hint("it may say `output: table|json|yaml` and `noColor: true`");
        fault.lines.push(error.to_string());
        fault
    })
}

/// Only an absolute path counts (XDG Base Directory Specification 0.8).
fn place() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("castrum/config.yaml"))
}
