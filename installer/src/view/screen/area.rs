//! The lines at the bottom of a terminal that are redrawn.

use std::fmt::Write as _;

use crate::view::style::{Tone, fit, paint, width_of};

/// A line of the area and how it is meant.
pub(super) type AreaLine = (Tone, String);

/// What stands at the bottom now.
#[derive(Debug, Default)]
pub(super) struct Area {
    /// How many columns each line takes.
    drawn: Vec<usize>,
}

impl Area {
    /// Takes away what stands there. The cursor is where it began.
    pub(super) fn wipe(&mut self, width: usize) -> String {
        if self.drawn.is_empty() {
            return String::new();
        }
        // Where the window has become narrower, the terminal has folded lines since they were drawn.
        let rows: usize = self.drawn.iter().map(|columns| columns.div_ceil(width.max(1)).max(1)).sum();
        self.drawn.clear();
        format!("\r\u{1b}[{rows}A\u{1b}[J")
    }

    /// Draws lines, each on one row.
    pub(super) fn draw(&mut self, lines: &[(AreaLine, bool)], width: usize) -> String {
        let mut text = String::new();
        for ((tone, line), color) in lines {
            // One column stays free: some terminals fold a line that fills the last one.
            let line = fit(line, width.max(2) - 1);
            self.drawn.push(width_of(&line));
            let _ = writeln!(text, "{}", paint(*color, *tone, &line));
        }
        text
    }
}
