//! The live screen, seen through a terminal that does what terminals do.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use castrum_blueprints::event::What;
use castrum_blueprints::names::Timestamp;
use insta::assert_snapshot;

use super::timelines::{apply_events, at, waiting};
use super::world::{T, node};
use crate::events::Listener as _;
use crate::view::screen::{HumanScreen, JsonScreen, ScreenOpts, fixed};

#[derive(Clone, Default)]
pub(super) struct Out(Arc<Mutex<Vec<u8>>>);

impl Out {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn screen(terminal: bool, width: usize) -> (Out, HumanScreen) {
    let out = Out::default();
    let opts = ScreenOpts { terminal, color: false, width: fixed(width), nodes: 6 };
    (out.clone(), HumanScreen::new(Box::new(out), opts))
}

/// What a terminal of some width shows: rows, the cursor, and folding at the edge. Only what the screen uses is known.
struct Terminal {
    width: usize,
    rows: Vec<String>,
    at: usize,
}

impl Terminal {
    fn new(width: usize) -> Self {
        Self { width, rows: vec![String::new()], at: 0 }
    }

    fn take(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '\n' => {
                    self.at += 1;
                    if self.at == self.rows.len() {
                        self.rows.push(String::new());
                    }
                }
                '\r' => assert!(self.rows[self.at].is_empty(), "the cursor stands behind text"),
                '\u{1b}' => self.obey(&mut chars),
                char => {
                    if self.rows[self.at].chars().count() == self.width {
                        self.take("\n");
                    }
                    self.rows[self.at].push(char);
                }
            }
        }
    }

    fn obey(&mut self, chars: &mut std::str::Chars<'_>) {
        assert_eq!(chars.next(), Some('['));
        let mut count = String::new();
        for char in chars {
            match char {
                '0'..='9' => count.push(char),
                'A' => {
                    let count: usize = count.parse().unwrap();
                    assert!(count <= self.at, "up {count} rows from row {}", self.at);
                    self.at -= count;
                    return;
                }
                'J' => {
                    self.rows.truncate(self.at);
                    self.rows.push(String::new());
                    return;
                }
                other => panic!("unknown control {other}"),
            }
        }
    }

    /// As a window does that becomes narrower: rows are folded anew.
    fn narrow(&mut self, width: usize) {
        let old = std::mem::take(&mut self.rows);
        *self = Self::new(width);
        let last = old.len() - 1;
        for (at, row) in old.iter().enumerate() {
            self.take(row);
            if at < last {
                self.take("\n");
            }
        }
    }

    fn shown(&self) -> String {
        self.rows.join("\n")
    }
}

/// What a terminal shows after each event.
fn frames(width: usize) -> Vec<String> {
    let (out, mut screen) = screen(true, width);
    let (mut terminal, mut seen, mut frames) = (Terminal::new(width), 0, Vec::new());
    for event in apply_events() {
        screen.hear(&event);
        let text = out.text();
        terminal.take(&text[seen..]);
        seen = text.len();
        frames.push(terminal.shown());
    }
    frames
}

#[test]
fn a_run_on_a_terminal() {
    let frames = frames(100);
    let during =
        apply_events().iter().position(|event| matches!(event.what, What::StepProgress { .. })).unwrap();
    assert_snapshot!("screen_while_filling", frames[during]);
    let waits = apply_events().iter().position(|event| matches!(event.what, What::Waiting { .. })).unwrap();
    assert_snapshot!("screen_while_waiting", frames[waits]);
    assert_snapshot!("screen_at_the_end", frames.last().unwrap());
}

#[test]
fn nothing_of_the_area_is_left_behind_at_any_width() {
    for width in [1, 5, 20, 33, 60, 200] {
        let end = frames(width).pop().unwrap();
        assert!(!end.contains("heard |") && !end.contains("under way"), "width {width}:\n{end}");
    }
}

#[test]
fn a_window_that_becomes_narrower_leaves_nothing_behind() {
    let width = Arc::new(AtomicUsize::new(120));
    let asked = Arc::clone(&width);
    let out = Out::default();
    let opts = ScreenOpts {
        terminal: true,
        color: false,
        width: Arc::new(move || asked.load(Ordering::Relaxed)),
        nodes: 6,
    };
    let mut screen = HumanScreen::new(Box::new(out.clone()), opts);
    let (mut terminal, mut seen) = (Terminal::new(120), 0);
    let events = apply_events();
    let half = events.len() / 2;
    for (count, event) in events.iter().enumerate() {
        if count == half {
            width.store(30, Ordering::Relaxed);
            terminal.narrow(30);
        }
        screen.hear(event);
        let text = out.text();
        terminal.take(&text[seen..]);
        seen = text.len();
    }
    assert!(!terminal.shown().contains(" under way"), "{}", terminal.shown());
}

#[test]
fn what_is_dropped_in_the_middle_leaves_a_clean_terminal() {
    let (out, mut screen) = screen(true, 80);
    for event in &apply_events()[..20] {
        screen.hear(event);
    }
    screen.line("a warning\u{1b}[2J");
    screen.tick(Timestamp(T + 60_000));
    drop(screen);
    let mut terminal = Terminal::new(80);
    terminal.take(&out.text());
    let shown = terminal.shown();
    assert!(shown.contains("a warning") && !shown.contains(" heard |") && shown.ends_with('\n'), "{shown}");
    assert!(!out.text().contains("\u{1b}[?25"), "the cursor is never hidden");
}

#[test]
fn a_log_has_plain_lines_and_heartbeats() {
    let (out, mut screen) = screen(false, 80);
    for event in apply_events() {
        screen.hear(&event);
    }
    screen.tick(Timestamp(T));
    drop(screen);
    assert_snapshot!("screen_as_a_log", out.text());
}

#[test]
fn programs_get_every_event() {
    let out = Out::default();
    let mut screen = JsonScreen::new(Box::new(out.clone()));
    let events = apply_events();
    for event in &events {
        screen.hear(event);
    }
    let back: Vec<castrum_blueprints::event::Event> =
        out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, events);
}

#[test]
fn many_nodes_do_not_flood_the_screen() {
    let out = Out::default();
    let opts = ScreenOpts { terminal: false, color: false, width: fixed(80), nodes: 10_000 };
    let mut screen = HumanScreen::new(Box::new(out.clone()), opts);
    for number in 1..=10_000 {
        screen.hear(&at(number, What::NodeHeard { node: node(&format!("agents-{number}")) }));
    }
    screen.hear(&waiting(20_000));
    assert!(out.text().lines().count() < 10, "{}", out.text());
    assert!(out.text().contains("10000/10000 heard"), "{}", out.text());
}

#[test]
fn what_is_tried_again_is_told_when_it_does_not_work_for_long() {
    let (out, mut screen) = screen(false, 80);
    let mut failed = |ms: u64, again: bool| {
        let retry_at = again.then_some(Timestamp(T + ms + 500));
        let (id, message) = ("enroll masters-1".to_owned(), "connection refused".to_owned());
        screen.hear(&at(ms, What::StepFailed { id, message, hint: None, retry_at }));
        out.text().lines().count()
    };
    assert_eq!([failed(0, true), failed(1_000, true), failed(14_000, true)], [0, 0, 0]);
    assert_eq!([failed(16_000, true), failed(17_000, true), failed(18_000, false)], [1, 1, 2]);
}
