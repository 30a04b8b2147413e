//! What every source file has to keep to. Each rule takes one file and returns what it finds wrong.

use super::code::{attributes, code_of, items, line_of};

/// Lines in a file of Rust.
pub const FILE_LINES: usize = 600;
/// Lines in a function.
pub const FUNCTION_LINES: usize = 80;
/// Methods of a trait.
pub const TRAIT_METHODS: usize = 8;

/// Files of Rust that may be longer, each with its reason: tables that are written as code.
pub const LONG_FILES: [(&str, &str); 0] = [];

/// Hosts that hand out software, in halves, so that this file has none. The machine's own configuration says where
/// software comes from, never a file here.
const HOSTS: [(&str, &str); 12] = [
    ("debian", "org"),
    ("ubuntu", "com"),
    ("kernel", "org"),
    ("docker", "com"),
    ("ghcr", "io"),
    ("quay", "io"),
    ("gcr", "io"),
    ("k8s", "io"),
    ("crates", "io"),
    ("pypi", "org"),
    ("npmjs", "org"),
    ("proxy.golang", "org"),
];
/// Files that must name where crates come from.
const NAME_THE_REGISTRY: [&str; 2] = ["Cargo.lock", "deny.toml"];
/// Folders of one person's or one builder's machine.
const MACHINE_PATHS: [&str; 3] = ["/root/.cargo", "/usr/local/cargo", "/Users/"];
/// Marks of unfinished work, in halves, so that this file has none.
const MARKS: [(&str, &str); 4] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("HA", "CK:")];

/// Every module says why it exists, before anything else.
pub fn module_docs(path: &str, text: &str) -> Vec<String> {
    let opens =
        text.lines().next().is_some_and(|line| line.strip_prefix("//! ").is_some_and(|why| !why.is_empty()));
    if opens {
        Vec::new()
    } else {
        vec![format!("{path}:1: the module does not open with `//!` and why it exists")]
    }
}

/// Files are short.
pub fn file_length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let listed = LONG_FILES.iter().any(|(long, reason)| *long == path && !reason.is_empty());
    if lines <= FILE_LINES || listed {
        return Vec::new();
    }
    vec![format!("{path}: {lines} lines, and {FILE_LINES} are the most")]
}

/// Functions are short.
pub fn function_length(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let long =
        items(&code, "fn").filter_map(|item| Some((item.at, item.name, item.body?.matches('\n').count())));
    long.filter(|(.., lines)| *lines > FUNCTION_LINES + 1)
        .map(|(at, name, lines)| format!("{path}:{}: `{name}` has {lines} lines", line_of(text, at)))
        .collect()
}

/// Traits are narrow.
pub fn trait_width(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let widths = items(&code, "trait").filter_map(|item| Some((item.at, item.name, methods(item.body?))));
    widths
        .filter(|(.., methods)| *methods > TRAIT_METHODS)
        .map(|(at, name, methods)| format!("{path}:{}: `{name}` has {methods} methods", line_of(text, at)))
        .collect()
}

fn methods(body: &str) -> usize {
    let depth = |at: usize| body[..at].matches('{').count() - body[..at].matches('}').count();
    items(body, "fn").filter(|method| depth(method.at) == 0).count()
}

/// A lint is expected with a reason, never allowed; nothing is left to be done later.
pub fn finished(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut found = Vec::new();
    for (at, attribute) in attributes(&code) {
        let words = |name: &str| items_of_attribute(attribute).any(|word| word == name);
        if words("allow") {
            found.push(format!("{path}:{}: a lint is allowed; expect it, with a reason", line_of(text, at)));
        }
        if words("expect") && !words("reason") {
            found.push(format!("{path}:{}: a lint is expected without a reason", line_of(text, at)));
        }
    }
    for call in ["todo!", "unimplemented!", "dbg!", "cfg!(test)"] {
        found.extend(
            code.match_indices(call).map(|(at, _)| format!("{path}:{}: `{call}`", line_of(text, at))),
        );
    }
    found
}

fn items_of_attribute(attribute: &str) -> impl Iterator<Item = &str> {
    attribute.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// No marks of unfinished work, no hosts that hand out software, no folders of somebody's machine.
pub fn words(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut say = |what: &str| found.push(format!("{path}:{}: `{what}`", number + 1));
        for mark in MARKS.map(|(one, two)| format!("{one}{two}")) {
            if line.contains(&mark) {
                say(&mark);
            }
        }
        let own = path.ends_with("house/rules.rs");
        for (name, end) in HOSTS.iter().filter(|_| !NAME_THE_REGISTRY.contains(&path)) {
            let host = format!("{name}.{end}");
            if line.contains(&host) {
                say(&host);
            }
        }
        for folder in MACHINE_PATHS.iter().filter(|_| !own) {
            if line.contains(folder) {
                say(folder);
            }
        }
    }
    found
}
