//! Reading finds everything that is wrong at once, each with its place.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::explain::explain;
use super::fields::{self, BLUEPRINT};
use super::shape::{Field, Need, Record, Shape};
use super::words::Word;
use super::*;
use crate::check::check;

/// A blueprint in which every field of the table is there, with its example.
fn full(record: &Record) -> Value {
    let entry = |field: &Field| (field.key.to_owned(), full_value(field));
    Value::Object(record.fields.iter().map(entry).collect())
}

fn full_value(field: &Field) -> Value {
    let (between, inner) = field.shape.inner();
    let Some(inner) = inner else { return example(field) };
    let value = full(inner);
    match between.as_str() {
        "" => value,
        "[]" => json!([value]),
        _ => json!({ "here": value }),
    }
}

fn example(field: &Field) -> Value {
    read("example", format!("x: {}\n", field.example).as_bytes()).data().expect("an example")["x"].clone()
}

/// JSON is YAML.
fn findings_of(data: &Value) -> Findings {
    read("test", format!("{data:#}").as_bytes()).findings()
}

/// `data` with what is at a path of the table changed by `change`, which gets the object and the key.
fn changed(data: &Value, path: &str, change: impl Fn(&mut Value, &str)) -> Value {
    let mut data = data.clone();
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = &mut data;
    for step in parents.split('.').filter(|step| !step.is_empty()) {
        let (step, is_list) = step.strip_suffix("[]").map_or((step, false), |step| (step, true));
        at = &mut at[if step == "NAME" { "here" } else { step }];
        if is_list {
            at = &mut at[0];
        }
    }
    change(at, key);
    data
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&schema::schema()).expect("a schema")
}

#[test]
fn every_example_of_the_table_is_right() {
    let data = full(&BLUEPRINT);
    assert_eq!(findings_of(&data).list, []);
    assert!(validator().is_valid(&data), "{:?}", validator().validate(&data));
    for (path, field) in fields::all() {
        let with_example = changed(&data, &path, |object, key| object[key] = example(field));
        assert_eq!(findings_of(&with_example).list, [], "{path}");
        assert!(validator().is_valid(&with_example), "{path}");
    }
}

#[test]
fn every_default_of_the_table_is_right() {
    for (path, field) in fields::all() {
        let Need::Default(default) = field.need else { continue };
        let value =
            read("default", format!("x: {default}\n").as_bytes()).data().expect("a default")["x"].clone();
        let data = changed(&full(&BLUEPRINT), &path, |object, key| object[key] = value.clone());
        assert_eq!(findings_of(&data).list, [], "{path}");
    }
}

#[test]
fn every_field_is_in_the_schema_and_explained() {
    let schema = schema::schema();
    for (path, field) in fields::all() {
        let mut at = &schema;
        for step in path.split('.') {
            let (step, is_list) = step.strip_suffix("[]").map_or((step, false), |step| (step, true));
            at = if step == "NAME" { &at["additionalProperties"] } else { &at["properties"][step] };
            at = if is_list { &at["items"] } else { at };
        }
        assert!(at["description"].as_str().is_some_and(|text| text.starts_with(field.about)), "{path}: {at}");
        let explained = explain(&path).expect("a field");
        assert_eq!((explained.path.as_str(), explained.about.as_str()), (path.as_str(), field.about));
        assert!(explained.render().contains(field.example), "{path}");
        assert!(explain("").expect("the blueprint").fields.iter().any(|inner| inner.path == path), "{path}");
    }
}

#[test]
fn every_field_misspelt_is_refused_with_a_hint_by_reader_and_schema() {
    for (path, field) in fields::all() {
        let misspelt = format!("{}s_", field.key);
        let data = changed(&full(&BLUEPRINT), &path, |object, key| {
            let value = object[key].take();
            object.as_object_mut().expect("an object").remove(key);
            object[&misspelt] = value;
        });
        let findings = findings_of(&data);
        let found = findings.list.iter().find(|finding| finding.code == Code::UnknownKey).expect("a finding");
        assert_eq!(found.hint.as_deref(), Some(format!("did you mean `{}`?", field.key).as_str()), "{path}");
        assert!(!validator().is_valid(&data), "{path}");
    }
}

#[test]
fn every_field_of_a_wrong_type_is_refused_by_reader_and_schema() {
    let wrong = [
        json!(null),
        json!(1.5),
        json!(true),
        json!([[1]]),
        json!({ "no-such-key": { "x": [] } }),
        json!("\n"),
    ];
    for (path, field) in fields::all() {
        for value in &wrong {
            let takes_maps =
                matches!(field.shape, Shape::Map(map) if matches!(map.value, Shape::Free | Shape::Map(_)));
            if value.is_object() && takes_maps {
                continue;
            }
            let data = changed(&full(&BLUEPRINT), &path, |object, key| object[key] = value.clone());
            assert!(findings_of(&data).has_errors(), "{path}: {value}");
            assert!(!validator().is_valid(&data), "{path}: {value}");
        }
    }
}

#[test]
fn every_required_field_is_missed_by_reader_and_schema() {
    for (path, _) in fields::all().iter().filter(|(_, field)| field.need == Need::Required) {
        let data = changed(&full(&BLUEPRINT), path, |object, key| {
            object.as_object_mut().expect("an object").remove(key);
        });
        let findings = findings_of(&data);
        assert!(findings.list.iter().any(|finding| finding.code == Code::MissingKey), "{path}");
        assert!(!validator().is_valid(&data), "{path}");
    }
}

/// Every field must reach the blueprint: a field that is read and dropped would be a lie.
#[test]
fn every_field_changes_the_blueprint() {
    let base = "
apiVersion: castrum/v1
name: base
sites: { here: { provider: sim }, rack: { provider: ssh }, there: { provider: sim } }
groups:
  masters: { role: master, count: 3, site: here }
  workers: { role: agent, site: here, disks: [{ size: 1GiB, mount: /a }] }
  old: { role: agent, site: rack, machines: [{ address: h }] }
checks: { c: { description: It holds., run: c.sh } }
state: { place: \"s3://b/p\" }
";
    let blueprint = |text: &str| check(&read("test", text.as_bytes())).expect("a blueprint").blueprint;
    let workers = "role: agent, site: here";
    let changes = [
        ("name", "name: base", "name: other"),
        ("sites.NAME.provider", "provider: sim", "provider: local"),
        ("sites.NAME.settings", "provider: sim", "provider: sim, settings: { a: 1 }"),
        ("groups.NAME.role", workers, "role: public-agent, site: here"),
        ("groups.NAME.site", workers, "role: agent, site: there"),
        ("groups.NAME.count", "count: 3", "count: 5"),
        ("groups.NAME.size.cpus", "count: 3", "count: 3, size: { cpus: 7 }"),
        ("groups.NAME.size.memory", "count: 3", "count: 3, size: { memory: 7GiB }"),
        ("groups.NAME.size.disk", "count: 3", "count: 3, size: { disk: 7GiB }"),
        ("groups.NAME.zones", "count: 3", "count: 3, zones: [a]"),
        ("groups.NAME.disks[].size", "size: 1GiB", "size: 2GiB"),
        ("groups.NAME.disks[].mount", "mount: /a", "mount: /b"),
        ("groups.NAME.openPorts", "count: 3", "count: 3, openPorts: [1/udp]"),
        ("groups.NAME.labels", "count: 3", "count: 3, labels: { a: b }"),
        ("groups.NAME.machines[].address", "address: h", "address: i"),
        ("groups.NAME.machines[].privateAddress", "address: h", "address: h, privateAddress: 10.0.0.1"),
        ("groups.NAME.machines[].port", "address: h", "address: h, port: 23"),
        ("groups.NAME.machines[].user", "address: h", "address: h, user: me"),
        ("groups.NAME.machines[].key", "address: h", "address: h, key: k"),
        ("groups.NAME.machines[].hostKey", "address: h", "address: h, hostKey: ssh-ed25519 AAAA"),
        ("stack.name", "groups:", "stack: { name: other }\ngroups:"),
        ("stack.settings", "groups:", "stack: { settings: { etcd: { a: 1 } } }\ngroups:"),
        ("checks.NAME.description", "It holds.", "It is so."),
        ("checks.NAME.run", "c.sh", "d.sh"),
        ("checks.NAME.roles", "c.sh", "c.sh, roles: [agent]"),
        ("checks.NAME.every", "c.sh", "c.sh, every: 7s"),
        ("checks.NAME.timeout", "c.sh", "c.sh, timeout: 7s"),
        ("limits.boot", "groups:", "limits: { boot: 1s }\ngroups:"),
        ("limits.settle", "groups:", "limits: { settle: 1s }\ngroups:"),
        ("limits.silence", "groups:", "limits: { silence: 1s }\ngroups:"),
        ("limits.agentsAtOnce", "groups:", "limits: { agentsAtOnce: 1 }\ngroups:"),
        ("limits.depotSeeds", "groups:", "limits: { depotSeeds: 2 }\ngroups:"),
        ("access.authorizedKeys", "groups:", "access: { authorizedKeys: [ssh-rsa AAAA] }\ngroups:"),
        ("state.place", "s3://b/p", "s3://b/q"),
        ("state.endpoint", "b/p\"", "b/p\", endpoint: \"https://h\""),
        ("state.region", "b/p\"", "b/p\", region: north"),
        ("state.lease", "b/p\"", "b/p\", lease: 9s"),
    ];
    for (path, from, to) in changes {
        assert!(base.contains(from), "{from}");
        assert_ne!(blueprint(&base.replacen(from, to, 1)), blueprint(base), "{path}");
    }
    let leaves = fields::all().into_iter().filter(|(_, field)| field.shape.inner().1.is_none());
    // `apiVersion` has only one value.
    let leaves: Vec<String> = leaves.map(|(path, _)| path).filter(|path| path != "apiVersion").collect();
    assert_eq!(changes.map(|(path, ..)| path).to_vec(), leaves);
}

#[test]
fn a_path_is_explained_however_it_is_written() {
    let path = |text: &str| explain(text).expect("a field").path;
    for text in
        ["groups.masters.size.cpus", "groups.size.cpus", "groups.NAME.size.cpus", "groups.*.size.cpus"]
    {
        assert_eq!(path(text), "groups.NAME.size.cpus");
    }
    assert_eq!(path("groups.rack.machines[2].hostKey"), "groups.NAME.machines[].hostKey");
    assert_eq!(path("groups.rack"), "groups");
    assert_eq!(path("stack.settings.prometheus.retention"), "stack.settings");
    assert_eq!(explain("groups.masters.sizes").expect_err("none").hint, "did you mean `size`?");
    assert_eq!(explain("groups.cuont").expect_err("none").hint, "did you mean `count`?");
    assert_eq!(explain("grops").expect_err("none").hint, "did you mean `groups`?");
    assert!(explain("name.first").expect_err("none").hint.contains("single value"));
}

#[test]
fn the_whole_explanation_is_a_tree() {
    insta::assert_snapshot!("explain-all", explain("").expect("the blueprint").render());
    insta::assert_snapshot!("explain-count", explain("groups.masters.count").expect("a field").render());
    insta::assert_snapshot!("explain-machines", explain("groups.machines").expect("a field").render());
}

fn bounded(bytes: &[u8]) -> Findings {
    let document = read("any", bytes);
    let findings = check(&document).map_or_else(|findings| findings, |checked| checked.warnings);
    assert!(findings.list.len() <= 100);
    assert!(findings.render().len() < 256 * 1024);
    findings
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        bounded(&bytes);
    }

    #[test]
    fn any_yaml_like_text_is_read_without_panic(text in "[a-z0-9:,{}\\[\\]&*!|>'\"%@#?~<. \n\t-]{0,400}") {
        bounded(text.as_bytes());
    }

    #[test]
    fn a_mangled_blueprint_is_read_without_panic(at in 0usize..700, cut in 0usize..40, put in "\\PC{0,12}|[\n\t :{}-]{0,6}") {
        let mut text = include_str!("../../examples/ssh.yaml").to_owned();
        let from = text.char_indices().map(|(at, _)| at).rfind(|start| *start <= at).unwrap_or(0);
        let end = text.char_indices().map(|(at, _)| at).find(|end| *end >= from + cut).unwrap_or(text.len());
        text.replace_range(from..end, &put);
        bounded(text.as_bytes());
    }

    /// The pattern of the schema never refuses what the reader takes; most refuse the very same.
    #[test]
    fn patterns_and_readers_agree(word in proptest::sample::select(&Word::ALL[..]), text in "[a-zA-Z0-9_./:@%=+ -]{0,45}|[0-9]{1,6}(s|m|h|GiB|MiB|/tcp|/udp)|(/[a-z._-]{1,4}){1,3}|ssh-rsa [A-Z=]{1,6}( a)?") {
        let schema = json!({ "type": "string", "pattern": word.pattern() });
        let by_schema = jsonschema::is_valid(&schema, &json!(text));
        let by_reader = word.accepts(&text);
        prop_assert!(by_schema || !by_reader, "{word:?} {text:?}: the schema refuses what is right");
        let looser = matches!(word, Word::Duration | Word::Port | Word::Address);
        prop_assert!(by_reader || !by_schema || looser, "{word:?} {text:?}: the schema takes what is wrong");
    }
}
