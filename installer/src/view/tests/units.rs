//! The small means: lengths of time, sizes, names, folding.

use castrum_blueprints::names::Timestamp;

use crate::view::names::{natural, node_in, ranges};
use crate::view::style::{age, bytes, clean, duration, fit, shell_word, utc, width_of, wrap};

#[test]
fn lengths_of_time() {
    let cases = [
        (0, "0.0s"),
        (450, "0.4s"),
        (9_999, "9.9s"),
        (12_345, "12s"),
        (83_000, "1m 23s"),
        (7_500_000, "2h 05m"),
        (273_600_000, "3d 4h"),
    ];
    for (ms, text) in cases {
        assert_eq!(duration(ms), text);
    }
    assert_eq!(duration(u64::MAX), "213503982334d 14h");
    assert_eq!(age(Timestamp(0), Timestamp(5)), None);
    assert_eq!(age(Timestamp(9_000), Timestamp(5_000)).as_deref(), Some("0s"));
}

#[test]
fn sizes() {
    let cases =
        [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_500_000, "1.4 MiB"), (u64::MAX, "16383.9 PiB")];
    for (count, text) in cases {
        assert_eq!(bytes(count), text);
    }
}

#[test]
fn names_in_few_words() {
    let names = |names: &[&'static str]| ranges(names.iter().copied(), 3);
    assert_eq!(names(&[]), "");
    assert_eq!(names(&["a-10", "a-9", "a-8"]), "a-8..a-10");
    assert_eq!(names(&["a-1", "a-2", "b-1"]), "a-1, a-2, b-1");
    assert_eq!(names(&["a-1", "a-3", "a-5", "a-7", "a-8"]), "a-1, a-3, a-5, and 2 more");
    assert!(natural("agents-2") < natural("agents-10"));
}

#[test]
fn the_node_of_a_step() {
    let cases = [
        ("enroll masters-1", Some("masters-1")),
        ("publish big-agents-12@7", Some("big-agents-12")),
        ("ensure here/machine/agents-2", Some("agents-2")),
        ("etcd on agents-2", Some("agents-2")),
        ("agents-2", Some("agents-2")),
        ("ensure here/image/debian-12", None),
        ("found swarm", None),
        ("resolve packages", None),
        ("", None),
    ];
    for (subject, node) in cases {
        assert_eq!(node_in(subject), node, "{subject}");
    }
}

#[test]
fn text_keeps_to_its_width() {
    let text = "  + one two three four five six seven eight nine ten eleven 日本語日本語 twelve";
    for width in [24, 30, 50] {
        let folded = wrap(text, width, 4);
        assert!(folded.lines().all(|line| width_of(line) <= width), "{folded}");
        assert_eq!(
            folded.split_whitespace().collect::<Vec<_>>(),
            text.split_whitespace().collect::<Vec<_>>()
        );
    }
    assert_eq!(wrap(text, 0, 4), text);
    assert_eq!(fit("日本語", 5), "日本…");
    assert_eq!(fit("abc", 1), "…");
}

#[test]
fn text_of_others_is_cut_and_cleaned() {
    assert_eq!(clean("a\u{1b}[1mb\nc\td\u{85}"), "a\u{fffd}[1mb c d\u{fffd}");
    assert!(clean(&"x".repeat(1_000_000)).len() < 3_000);
    assert_eq!(shell_word("a b'c"), "'a b'\\''c'");
    assert_eq!(shell_word("a/b-1.yaml"), "a/b-1.yaml");
    assert_eq!(utc(Timestamp(1_767_323_045_678)), "2026-01-02T03:04:05Z");
    assert_eq!(utc(Timestamp(u64::MAX)), u64::MAX.to_string());
}
