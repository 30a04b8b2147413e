//! Tables with aligned columns, which shrink to the width that there is.

use super::Opts;
use super::style::{Text, Tone, clean, fit, paint, width_of};

/// One field of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// A plain field.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    toned(Tone::Plain, text)
}

/// A field with a tone.
pub(crate) fn toned(tone: Tone, text: impl AsRef<str>) -> Cell {
    let text = clean(text.as_ref());
    Cell { text: if text.is_empty() { "-".to_owned() } else { text }, tone }
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    /// Columns that are left out, in this order, where there is no room to read all of them.
    spare: Vec<&'static str>,
}

/// The space between two columns.
const GAP: usize = 2;

impl Table {
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new(), spare: Vec::new() }
    }

    /// Names columns that can be left out, the first of them first.
    pub(crate) fn spare(mut self, heads: &[&'static str]) -> Self {
        self.spare = heads.to_vec();
        self
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn render(&self, opts: &Opts) -> String {
        let natural = self.natural();
        let mut shown: Vec<usize> = (0..self.heads.len()).collect();
        let mut widths = fitted(&natural, &shown, opts.width);
        let mut spare = self.spare.iter();
        // What is short by nature and is cut all the same cannot be read.
        while shown.iter().zip(&widths).any(|(at, width)| *width < natural[*at].min(READABLE)) {
            let Some(head) = spare.next() else { break };
            shown.retain(|at| self.heads[*at] != *head);
            widths = fitted(&natural, &shown, opts.width);
        }
        let mut text = Text::default();
        let heads: Vec<Cell> = self.heads.iter().map(|head| toned(Tone::Dim, head)).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let cells: Vec<&Cell> = shown.iter().filter_map(|at| row.get(*at)).collect();
            text.line(&line(&cells, &widths, opts.color));
        }
        text.0
    }

    /// How wide each column would be.
    fn natural(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.heads.iter().map(|head| width_of(head)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(width_of(&cell.text));
            }
        }
        widths
    }
}

/// A column that is as wide as this can be read though it is cut.
const READABLE: usize = 10;

/// The widest column gives way first; names in the first column give way last.
fn fitted(natural: &[usize], shown: &[usize], room: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = shown.iter().map(|at| natural[*at]).collect();
    let gaps = GAP * widths.len().saturating_sub(1);
    while room > 0 && widths.iter().sum::<usize>() + gaps > room {
        let rank = |(at, width): &(usize, usize)| if *at == 0 && *width <= 16 { *width / 4 } else { *width };
        let widest = widths.iter().copied().enumerate().max_by_key(rank);
        match widest {
            Some((at, width)) if width > 1 => widths[at] = width - 1,
            _ => break,
        }
    }
    widths
}

fn line(row: &[&Cell], widths: &[usize], color: bool) -> String {
    let mut out = String::new();
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        let text = fit(&cell.text, *width);
        out.push_str(&paint(color, cell.tone, &text));
        if at + 1 < row.len() {
            out.push_str(&" ".repeat(width.saturating_sub(width_of(&text)) + GAP));
        }
    }
    out
}
