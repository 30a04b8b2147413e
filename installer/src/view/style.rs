//! The few means by which all views look alike: tones, lengths of time, sizes, and text that is safe to show.

use std::fmt::Write as _;

use castrum_blueprints::names::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// How a piece of text is meant; without colour the text alone says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Warn,
    Change,
    Dim,
    Bold,
}

/// `text` in its tone.
pub(crate) fn paint(color: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        _ if !color || text.is_empty() => return text.to_owned(),
        Tone::Plain => return text.to_owned(),
        Tone::Good => 32,
        Tone::Bad => 31,
        Tone::Warn => 33,
        Tone::Change => 36,
        Tone::Dim => 2,
        Tone::Bold => 1,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// What somebody else said is cut after this many characters.
const LONGEST: usize = 2000;

/// `text` on one line, without anything that a terminal would obey or that would hide or turn round what it says.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for (count, char) in text.chars().enumerate() {
        if count >= LONGEST {
            out.push('…');
            break;
        }
        match char {
            '\n' | '\r' | '\t' => out.push(' '),
            _ if is_hostile(char) => out.push('\u{fffd}'),
            _ => out.push(char),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Control characters, direction marks, and what takes no room.
fn is_hostile(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// How many columns a character takes.
fn columns(char: char) -> usize {
    match char {
        '\u{300}'..='\u{36f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// How many columns a text without colour takes.
pub(crate) fn width_of(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// `text` cut to `width` columns; what is cut is marked. 0: not cut.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if width == 0 || width_of(text) <= width {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for char in text.chars() {
        used += columns(char);
        if used > width - 1 {
            break;
        }
        out.push(char);
    }
    out.push('…');
    out
}

/// `text` in lines of at most `width` columns; all but the first begin with `indent` spaces.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let room = width.max(indent + 20);
    if width == 0 || width_of(text) <= width {
        return text.to_owned();
    }
    let trimmed = text.trim_start();
    let lead = text.len() - trimmed.len();
    let (mut out, mut used) = (" ".repeat(lead), lead);
    for (at, word) in trimmed.split(' ').enumerate() {
        let word = fit(word, room - indent);
        let size = width_of(&word);
        if at > 0 && used + 1 + size > room {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent;
        } else if at > 0 {
            out.push(' ');
            used += 1;
        }
        used += size;
        out.push_str(&word);
    }
    out
}

/// A length of time for people: `0.4s`, `12s`, `1m 23s`, `2h 05m`, `3d 4h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// How long ago something was, in whole seconds; nothing if it is not known.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> Option<String> {
    let ms = now.since(since);
    (since != Timestamp(0)).then(|| if ms < 10_000 { format!("{}s", ms / 1000) } else { duration(ms) })
}

/// A size for people: `512 B`, `1.4 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut rest = count;
    while rest >= 1024 * 1024 && unit + 1 < UNITS.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", rest / 1024, rest % 1024 * 10 / 1024, UNITS[unit])
}

/// `3 nodes`, `1 node`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    match (count, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {one}s"),
    }
}

/// A point in time as UTC, to the second.
pub(crate) fn utc(at: Timestamp) -> String {
    let millis = i64::try_from(at.0 / 1000 * 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

/// A word as a shell would need it.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:@%+=,".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", clean(word).replace('\'', "'\\''"))
    }
}

/// A value with every text cleaned, so that it is safe however it is written out.
pub(crate) fn safe(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(&text)),
        Value::Array(items) => items.into_iter().map(safe).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (clean(&key), safe(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

/// JSON for people and programs, indented. No character in it is obeyed by a terminal.
pub fn json_text(value: &Value) -> String {
    let mut text = escaped(&serde_json::to_string_pretty(value).unwrap_or_default());
    text.push('\n');
    text
}

/// JSON on one line. No character in it is obeyed by a terminal.
pub fn json_line(value: &impl Serialize) -> String {
    let mut text = escaped(&serde_json::to_string(value).unwrap_or_default());
    text.push('\n');
    text
}

/// In JSON such characters stand in strings only, so that their escape means the same.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char != '\n' && is_hostile(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(char);
        }
    }
    out
}

/// YAML. No character in it is obeyed by a terminal.
pub fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(&safe(value.clone())).unwrap_or_else(|_| json_text(value))
}

/// Text that grows line by line.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Adds a heading, with an empty line before it unless it is the first thing said.
    pub(crate) fn heading(&mut self, color: bool, text: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(&paint(color, Tone::Bold, text));
    }
}
