//! Rust source with everything blanked out that is not code, so that rules look at code and not at words about it.

/// The text with comments and the insides of strings and characters blanked; every line stays where it is.
pub fn code_of(text: &str) -> String {
    let mut scanner = Scanner { bytes: text.as_bytes(), out: text.as_bytes().to_vec(), at: 0 };
    while scanner.at < scanner.bytes.len() {
        scanner.step();
    }
    String::from_utf8(scanner.out).expect("whole characters are blanked")
}

/// Items of code that begin with `keyword NAME`: the name, the byte where it begins, and its body if it has one.
pub fn items<'a>(code: &'a str, keyword: &'a str) -> impl Iterator<Item = Item<'a>> {
    let starts = code.match_indices(keyword).map(|(at, _)| at);
    starts.filter_map(move |at| {
        let before = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let rest = code[at + keyword.len()..].strip_prefix(' ')?;
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        (before && end > 0).then(|| Item { name: &rest[..end], at, body: body(code, at) })
    })
}

/// A function or a trait.
pub struct Item<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Where it begins.
    pub at: usize,
    /// What stands between its braces.
    pub body: Option<&'a str>,
}

/// The attributes of code: where each begins, and what stands between its brackets.
pub fn attributes(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices('#').filter_map(move |(at, _)| {
        let open = at + 1 + usize::from(code[at + 1..].starts_with('!'));
        let inside = code[open..].strip_prefix('[')?;
        Some((at, &inside[..closing(inside, '[', ']')?]))
    })
}

/// The line, counted from 1, that a byte is in.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn body(code: &str, at: usize) -> Option<&str> {
    let mut depth = 0;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => {
                let inside = &code[at + offset + 1..];
                return Some(&inside[..closing(inside, '{', '}')?]);
            }
            _ => {}
        }
    }
    None
}

/// Where the bracket closes that was opened just before `inside`.
fn closing(inside: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 1;
    for (at, c) in inside.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

struct Scanner<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    at: usize,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        match rest[0] {
            b'/' if rest.starts_with(b"//") => {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                self.blank(end);
            }
            b'/' if rest.starts_with(b"/*") => self.blank(comment(rest)),
            b'"' => self.quoted(string(rest)),
            b'r' if !self.follows_word() && raw_string(rest).is_some() => {
                let length = raw_string(rest).unwrap_or(1);
                self.quoted(length);
            }
            b'\'' => match character(rest) {
                Some(length) => self.quoted(length),
                None => self.at += 1,
            },
            _ => self.at += 1,
        }
    }

    /// Whether a word ends here, as in `for"` or `br"`; a byte string's `b` is no such word.
    fn follows_word(&self) -> bool {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let before = self.bytes[..self.at].iter().rev().take_while(|byte| word(byte)).count();
        before > 1 || before == 1 && !matches!(self.bytes[self.at - 1], b'b' | b'c')
    }

    fn quoted(&mut self, length: usize) {
        self.out[self.at] = b'"';
        self.at += 1;
        self.blank(length - 1);
    }

    fn blank(&mut self, length: usize) {
        for byte in &mut self.out[self.at..self.at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        self.at += length;
    }
}

/// The length of a comment, with those inside it.
fn comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += 1 + usize::from(rest[at] == b'\\');
    }
    (at + 1).min(rest.len())
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(())?;
    let end: Vec<u8> = [b'"'].into_iter().chain(std::iter::repeat_n(b'#', hashes)).collect();
    let inside = &rest[hashes + 2..];
    let length = inside.windows(end.len()).position(|window| window == end);
    Some(length.map_or(rest.len(), |length| hashes + 2 + length + end.len()))
}

/// The length of a character literal; a lifetime is none.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest[3..].iter().position(|byte| *byte == b'\'')?;
        return Some(end + 4);
    }
    let width = match rest.get(1)? {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

#[test]
fn code_is_told_from_words_about_it() {
    let text = r##"fn a<'x>(s: &'x str) { // fn b() {
        let t = ("fn c() { \" }", r#"fn d() "}"#, b"{", '{', '\'', 'ü', br"fn e");
    } /* fn f() { /* fn g */ */ fn h() -> [u8; 2];"##;
    let code = code_of(text);
    assert_eq!(code.len(), text.len());
    let found: Vec<_> = items(&code, "fn").map(|item| (item.name, item.body.is_some())).collect();
    assert_eq!(found, [("a", true), ("h", false)]);
    assert!(
        items(&code, "fn").next().is_some_and(|item| item.body.is_some_and(|body| body.ends_with("    ")))
    );
}
