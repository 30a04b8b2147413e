//! Input that exists to exhaust its reader is refused, or read, within 100 ms and 64 MiB.
//!
//! One test, so that the process holds nothing else while its memory is looked at.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test looks at the clock and at its own memory, and says what it saw"
)]

use std::fs;
use std::time::{Duration, Instant};

use castrum_blueprints::check::check;
use castrum_blueprints::document::{BYTES_LIMIT, Findings, fmt, read};

const HEAD: &str = "apiVersion: castrum/v1\nname: demo\nsites: { here: { provider: sim } }\n";

/// `piece`, made again and again up to the size limit, between `before` and `after`.
fn filled(before: &str, piece: impl Fn(usize) -> String, after: &str) -> Vec<u8> {
    times(usize::MAX, before, piece, after)
}

/// `piece`, made up to `most` times within the size limit: for what would be refused at once for its many values.
fn times(most: usize, before: &str, piece: impl Fn(usize) -> String, after: &str) -> Vec<u8> {
    let mut text = before.to_owned();
    for at in 0..most {
        let piece = piece(at);
        if text.len() + piece.len() + after.len() > BYTES_LIMIT {
            break;
        }
        text.push_str(&piece);
    }
    text.push_str(after);
    text.into_bytes()
}

fn again(piece: &str) -> impl Fn(usize) -> String + '_ {
    move |_| piece.to_owned()
}

fn alias_bomb() -> Vec<u8> {
    let level = |at: usize| {
        let uses = vec![format!("*a{}", at.saturating_sub(1)); 9].join(", ");
        format!("a{at}: &a{at} [{uses}]\n")
    };
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    (1..30).for_each(|at| text.push_str(&level(at)));
    text.into_bytes()
}

fn groups() -> String {
    format!("{HEAD}groups:\n")
}

fn settings() -> String {
    format!("{HEAD}stack: {{ settings: {{ etcd: {{ x: ")
}

fn rack() -> String {
    format!("{HEAD}groups:\n  rack:\n    role: agent\n    machines:\n")
}

type Case = (&'static str, fn() -> Vec<u8>);

fn cases() -> Vec<Case> {
    vec![
        ("larger than allowed", || vec![b'#'; BYTES_LIMIT + 1]),
        ("alias bomb", alias_bomb),
        ("many anchors", || filled("a: [", |at| format!("&a{at} b,"), "]")),
        ("many aliases", || filled("a: &a b\nc: [", again("*a,"), "]")),
        ("flow depth", || filled("a: ", again("["), "")),
        ("flow map depth", || filled("", again("{a: "), "")),
        ("block depth", || filled("", again("- "), "a")),
        ("key depth", || filled("", again("? "), "a")),
        ("brackets side by side", || filled("a: [", again("[],"), "]")),
        ("braces side by side", || filled("a: [", again("{},"), "]")),
        ("empty entries", || filled("a: [", again("a,"), "]")),
        ("unknown keys", || filled("", |at| format!("k{at}: 1\n"), "")),
        ("unknown keys in a flow", || filled("{", |at| format!("k{at}: 1,"), "}")),
        ("equal keys", || filled("", again("a: 1\n"), "")),
        ("equal keys in a flow", || filled("{", again("a: 1,"), "}")),
        ("small groups", || filled(&groups(), |at| format!("  g{at}: {{}}\n"), "")),
        ("groups of unknown sites", || {
            filled(&groups(), |at| format!("  g{at}: {{role: agent, site: s{at}}}\n"), "")
        }),
        ("sites", || {
            filled(
                "sites:\n",
                |at| format!("  s{at}: {{provider: a}}\n"),
                "groups: {m: {role: master, site: x}}",
            )
        }),
        ("equal machines", || filled(&rack(), again("    - {address: a}\n"), "")),
        ("wrong machines", || filled(&rack(), again("    - {adress: -a}\n"), "")),
        ("long scalar", || filled("name: ", again("x"), "")),
        ("long quoted scalar", || filled("name: \"", again("\\x41"), "\"")),
        ("long block scalar", || filled("name: |\n", again("  x\n"), "")),
        ("long plain scalar of many lines", || filled("name: x\n", again("  x\n"), "")),
        ("long key", || filled("", again("x"), ": 1")),
        ("long number", || filled(&settings(), again("9"), " } } }")),
        ("many numbers", || filled(&format!("{}[", settings()), again("1e9,"), "] } } }")),
        ("comments", || filled("", again("#\n"), "name: a")),
        ("comments behind", || filled("", |at| format!("k{at}: 1 # c\n"), "")),
        ("blank lines", || filled("", again("\n"), "name: a")),
        ("spaces", || filled("name: a", again(" "), "b")),
        ("tabs", || filled("name:", again("\t"), "b")),
        ("documents", || filled("", again("---\n"), "")),
        ("directives", || filled("", again("%A b\n"), "---\n")),
        ("tags", || filled("a: [", again("!a b,"), "]")),
        ("quotes that never end", || filled("", again("\"a\n"), "")),
        ("colons", || filled("", again(":"), "")),
        ("question marks", || filled("", again("?\n"), "")),
        ("carriage returns", || filled("", again("\r"), "a: b")),
        ("one long line of errors", || filled(&format!("{HEAD}groups: {{"), |at| format!("G{at}: 1,"), "}")),
        ("wide characters", || filled("{", |at| format!("ä{at}: 1,"), "}")),
        ("bytes that are not UTF-8", || vec![0xff; BYTES_LIMIT]),
        ("NUL bytes", || vec![0; BYTES_LIMIT]),
        ("byte order marks", || filled("", again("\u{feff}"), "")),
        ("machines, all of them good", || filled(&rack(), |at| format!("    - {{address: h{at}}}\n"), "")),
        ("unknown keys, fewer", || times(29_000, "", |at| format!("k{at}: 1\n"), "")),
        ("equal keys, fewer", || times(29_000, "", again("a: 1\n"), "")),
        ("small groups, fewer", || times(29_000, &groups(), |at| format!("  g{at}: {{}}\n"), "")),
        ("groups of unknown sites, fewer", || {
            times(9_900, &groups(), |at| format!("  g{at}: {{role: agent, site: s{at}}}\n"), "")
        }),
        ("sites, fewer", || {
            times(
                14_900,
                "sites:\n",
                |at| format!("  s{at}: {{provider: a}}\n"),
                "groups: {m: {role: master, site: x}}",
            )
        }),
        ("equal machines, fewer", || times(19_900, &rack(), again("    - {address: a}\n"), "")),
        ("wrong machines, fewer", || times(19_900, &rack(), again("    - {adress: -a}\n"), "")),
        ("many numbers, fewer", || times(59_000, &format!("{}[", settings()), again("1e9,"), "] } } }")),
        ("comments behind, fewer", || times(29_000, "", |at| format!("k{at}: 1 # c\n"), "")),
        ("one long line of errors, fewer", || {
            times(29_000, &format!("{HEAD}groups: {{"), |at| format!("G{at}: 1,"), "}")
        }),
        ("wide characters, fewer", || times(29_000, "{", |at| format!("ä{at}: 1,"), "}")),
    ]
}

fn findings(bytes: &[u8]) -> Findings {
    let document = read("hostile.yaml", bytes);
    check(&document).map_or_else(|findings| findings, |checked| checked.warnings)
}

/// The quickest of a few runs, because other processes can only make it slower, and what was found.
fn quickest(bytes: &[u8], runs: usize) -> (Duration, Findings) {
    let run = |_| {
        let start = Instant::now();
        let findings = findings(bytes);
        let text = findings.render().len() + findings.to_json().to_string().len();
        assert!(text < 512 * 1024, "{text} bytes of findings");
        (start.elapsed(), findings)
    };
    (0..runs).map(run).min_by_key(|(took, _)| *took).expect("a run")
}

fn most_memory_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn hostile_input_costs_little() {
    // Code of ours that is not optimised is slower by about this factor.
    let (limit, runs) = if cfg!(debug_assertions) { (3000, 1) } else { (100, 3) };
    let limit = Duration::from_millis(limit);
    let mut slow = Vec::new();
    for (name, make) in cases() {
        let bytes = make();
        let (took, found) = quickest(&bytes, runs);
        println!(
            "{name:36} {:>8} KiB {took:>12.1?} {:>4} findings",
            bytes.len() / 1024,
            found.list.len() + found.left_out
        );
        if took > limit {
            slow.push((name, took));
        }
        assert!(found.has_errors(), "{name} is refused");
    }
    assert_eq!(slow, [], "these took more than {limit:?}");
    if let Some(most) = most_memory_kib() {
        println!("at most {most} KiB resident");
        assert!(most < 64 * 1024, "{most} KiB");
    }
    // `fmt` may take its time on a megabyte, but must not fail otherwise than by refusing.
    for (_, make) in cases().into_iter().filter(|_| cfg!(not(debug_assertions))) {
        if let Ok(text) = fmt::format(&read("hostile.yaml", &make())) {
            assert!(!text.is_empty());
        }
    }
}
