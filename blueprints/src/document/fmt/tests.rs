//! Formatting changes the layout and nothing else: meaning and comments stay.

use proptest::prelude::*;

use super::format;
use crate::document::{Code, read};

fn formatted(text: &str) -> String {
    let document = read("test.yaml", text.as_bytes());
    format(&document).map_err(|findings| findings.render()).expect("a layout")
}

#[test]
fn the_examples_are_canonical() {
    let examples = [
        include_str!("../../../examples/local.yaml"),
        include_str!("../../../examples/aws.yaml"),
        include_str!("../../../examples/sim.yaml"),
        include_str!("../../../examples/ssh.yaml"),
    ];
    for example in examples {
        assert_eq!(formatted(example), example);
    }
}

const UNTIDY: &str = "# yaml-language-server: $schema=x
# A cluster.

# Its name.
name:   demo   # beside the name
apiVersion:     'castrum/v1'
groups:   # beside groups


    # Above workers.
    workers: {count: 2,role: agent , labels: {tier: gold,b: \"q: {x}\"}}   # beside workers
    # Above masters.

    # Close above masters.
    masters:
        count: 3
        # Above role.
        role: master
        zones: [a, # first
          b,
          # closes the list
          ]
        disks:
        -   mount: /data   # beside mount

            # Above size.
            size: 10GiB
        # Above the second disk.
        - {size: 20GiB, mount: /more}
        # Closes masters.
    # Closes groups.
sites: {here: {provider: local,
   settings: {text: \"two
     lines\", empty: , list: []}}}
stack:
  settings:
    web:
      page: |   # beside the block
        # not a comment
          indented

        last
      folded: >-
        one
        two
# The end.
";

#[test]
fn an_untidy_blueprint_becomes_tidy_and_keeps_its_comments() {
    let tidy = formatted(UNTIDY);
    insta::assert_snapshot!("untidy", tidy);
    assert_eq!(formatted(&tidy), tidy);
}

#[test]
fn what_means_nothing_is_not_formatted() {
    for text in ["", "a: [", "a: *b\n", "a: 1\na: 2\n", "a: 1\n---\nb: 2\n", "a: \u{0}\n"] {
        assert!(format(&read("test.yaml", text.as_bytes())).is_err(), "{text:?}");
    }
}

#[test]
fn a_comment_behind_a_dash_moves_above_it() {
    let text = "a:\n- |\n  x\n- # one\n  - |  # two\n    y\n-   # three\n  b: c\n";
    let tidy = "a:\n  - |\n    x\n  # one\n  - - |  # two\n      y\n  # three\n  - b: c\n";
    assert_eq!(formatted(text), tidy);
    assert_eq!(formatted(tidy), tidy);
}

#[test]
fn lines_may_end_as_on_any_system() {
    assert_eq!(formatted("name: a # b\r\n# c\r\napiVersion: x\r\n"), "# c\napiVersion: x\nname: a  # b\n");
}

/// YAML of all kinds of layout, with comments and blank lines anywhere.
fn layouts() -> impl Strategy<Value = String> {
    let comment = || prop_oneof![4 => Just(String::new()), 1 => "  # [a-z]{1,4}"];
    let scalar = || {
        prop_oneof![
            "[a-z]{1,6}",
            "[0-9]{1,3}",
            "\"[a-z #:,]{0,6}\"",
            "'[a-z \\[]{0,5}'",
            Just("~".to_owned()),
            Just("[]".to_owned()),
            Just("{}".to_owned()),
        ]
    };
    let flow = scalar().prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::btree_map("[a-z]{1,3}", inner, 0..3).prop_map(|entries| {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(" ,  "))
            }),
        ]
    });
    // A block is made as lines without their indentation.
    let leaf = (flow, comment()).prop_map(|(value, comment)| vec![format!(" {value}{comment}")]);
    let text = ("[a-z ]{0,8}", "[a-z#]{1,8}")
        .prop_map(|(one, two)| vec![" |".to_owned(), format!("  x{one}"), String::new(), format!("  {two}")]);
    prop_oneof![6 => leaf, 1 => text]
        .prop_recursive(4, 40, 5, move |inner| {
            let above = proptest::option::weighted(0.2, prop_oneof!["# [a-z]{1,5}", Just(String::new())]);
            let key = prop_oneof![
                "[a-z]{1,4}",
                Just("name".to_owned()),
                Just("groups".to_owned()),
                Just("sites".to_owned())
            ];
            let map = proptest::collection::btree_map(key, (above.clone(), inner.clone(), 1usize..5), 1..4);
            let list = proptest::collection::vec((above, inner), 1..4);
            let map = (map, comment()).prop_map(|(entries, beside)| {
                let mut lines = vec![beside];
                for (key, (above, value, _)) in entries {
                    lines.extend(above.map(|line| if line.is_empty() { line } else { format!("  {line}") }));
                    lines.push(format!("  {key}:{}", value[0]));
                    lines.extend(value[1..].iter().map(|line| format!("  {line}")));
                }
                lines
            });
            let list = (list, comment()).prop_map(|(items, beside)| {
                let mut lines = vec![beside];
                for (above, value) in items {
                    lines.extend(above.map(|line| if line.is_empty() { line } else { format!("   {line}") }));
                    lines.push(format!("   -{}", value[0]));
                    lines.extend(value[1..].iter().map(|line| format!("   {line}")));
                }
                lines
            });
            prop_oneof![map, list]
        })
        .prop_map(|lines| format!("top:{}\n", lines.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn formatting_keeps_the_meaning_and_has_an_end(text in layouts()) {
        let document = read("test.yaml", text.as_bytes());
        prop_assume!(document.is_yaml() && document.data().is_some());
        match format(&document) {
            Ok(tidy) => {
                let again = read("test.yaml", tidy.as_bytes());
                prop_assert_eq!(document.data(), again.data());
                prop_assert_eq!(text.matches("# ").count(), tidy.matches("# ").count());
                let twice = format(&again).map_err(|findings| TestCaseError::fail(findings.render()))?;
                prop_assert_eq!(twice, tidy);
            }
            Err(findings) => {
                let layout = findings.list.iter().any(|finding| finding.code == Code::Layout);
                prop_assert!(!layout, "fmt gave up on\n{}", text);
            }
        }
    }
}
