//! Where results go: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};

use castrum_blueprints::names::Timestamp;
use rustix::termios::tcgetwinsize;
use serde_json::Value;

use super::args::{Format, Global};
use super::fault::{Fault, code};
use crate::events::Listener;
use crate::view::Opts;
use crate::view::screen::{HumanScreen, JsonScreen, ScreenOpts};
use crate::view::style;

/// The width where there is no terminal.
const WIDTH: usize = 100;

/// Why data could not be written, the first time.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Writes data.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        let _ = UNWRITTEN.set(error);
    }
}

/// Whether nobody can read what is written any more.
pub(super) fn is_closed() -> bool {
    UNWRITTEN.get().is_some()
}

/// The exit code of a command that ended with `code`: data that is missing is a failure, unless its reader went away.
pub(super) fn ended(code: u8, global: &Global) -> u8 {
    match UNWRITTEN.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        Some(error) if code == code::DONE || code == code::DIFFERENCES => {
            let unwritten = Fault::new(code::ERROR, format!("cannot write the result: {error}"));
            fault(&unwritten, global);
            unwritten.code
        }
        _ => code,
    }
}

/// Writes data as JSON or YAML.
pub(super) fn print_json(value: &Value, format: Format) {
    match format {
        Format::Yaml => print(&style::yaml(value)),
        Format::Table | Format::Json => print(&style::json_text(value)),
    }
}

/// Writes something for people.
pub(super) fn note(text: &str) {
    if !text.is_empty() {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

/// Says why a command did not succeed.
pub(super) fn fault(fault: &Fault, global: &Global) {
    note(&fault.render());
    if global.output == Format::Json {
        note(&style::json_line(&fault.to_json()));
    }
}

/// How text for people is laid out on standard output.
pub(super) fn opts(global: &Global, now: Timestamp) -> Opts {
    let terminal = std::io::stdout().is_terminal();
    Opts {
        width: if terminal { width(std::io::stdout()) } else { WIDTH },
        color: color(global, terminal),
        now,
    }
}

/// The same for standard error.
pub(super) fn note_opts(global: &Global, now: Timestamp) -> Opts {
    let terminal = std::io::stderr().is_terminal();
    Opts {
        width: if terminal { width(std::io::stderr()) } else { WIDTH },
        color: color(global, terminal),
        now,
    }
}

fn color(global: &Global, terminal: bool) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    terminal && !global.no_color && !no_color
}

fn width(fd: impl std::os::fd::AsFd) -> usize {
    tcgetwinsize(fd).map_or(WIDTH, |size| usize::from(size.ws_col).max(40))
}

/// Whoever shows a run as it goes on.
pub(super) fn screen(global: &Global, nodes: usize) -> (Box<dyn Listener>, Option<HumanScreen>) {
    if global.output != Format::Table {
        return (Box::new(JsonScreen::new(Box::new(std::io::stdout()))), None);
    }
    let terminal = std::io::stderr().is_terminal() && !global.no_color;
    let width = Arc::new(|| width(std::io::stderr()));
    let opts = ScreenOpts { terminal, color: color(global, terminal), width, nodes };
    let screen = HumanScreen::new(Box::new(std::io::stderr()), opts);
    (Box::new(screen.clone()), Some(screen))
}
