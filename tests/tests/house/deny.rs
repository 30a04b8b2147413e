//! `deny.toml`, as far as these tests hold the dependencies to it even where cargo-deny is not installed.

use std::collections::{BTreeMap, BTreeSet};

use super::cargo::Package;

/// What `deny.toml` says.
#[derive(Debug, Default)]
pub struct Deny {
    /// The licences that any crate may have.
    pub licences: BTreeSet<String>,
    /// Further licences of single crates.
    pub exceptions: BTreeMap<String, BTreeSet<String>>,
    /// Crates that may be there in more than one version, as `name@version`: these are left out of the count.
    pub skipped: BTreeSet<String>,
    /// Registries that crates may come from.
    pub registries: BTreeSet<String>,
    /// Exceptions that do not say why.
    pub without_reason: Vec<String>,
}

/// Reads the few keys that are looked at here.
pub fn read(text: &str) -> Deny {
    let (mut deny, mut section, mut list, mut comment) = (Deny::default(), "", "", false);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (section, list) = (name, "");
        } else if let Some((key, rest)) = line.split_once(" = [").filter(|_| !line.starts_with(['{', '#'])) {
            list = if rest.contains(']') { "" } else { key };
            take(&mut deny, (section, key), rest, comment);
        } else if line == "]" {
            list = "";
        } else if !line.starts_with('#') {
            take(&mut deny, (section, list), line, comment);
        }
        comment = line.starts_with('#');
    }
    deny
}

fn take(deny: &mut Deny, place: (&str, &str), line: &str, comment: bool) {
    let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    if quoted.is_empty() {
        return;
    }
    let all = || quoted.iter().map(|text| (*text).to_owned());
    match place {
        ("licenses", "allow") => deny.licences.extend(all()),
        ("licenses", "exceptions") => {
            deny.exceptions.entry(quoted[0].to_owned()).or_default().extend(all().skip(1));
            if !comment {
                deny.without_reason.push(quoted[0].to_owned());
            }
        }
        ("bans", "skip" | "deny") => {
            if place.1 == "skip" {
                deny.skipped.insert(quoted[0].to_owned());
            }
            if !line.contains("reason = \"") {
                deny.without_reason.push(quoted[0].to_owned());
            }
        }
        ("sources", "allow-registry") => deny.registries.extend(all()),
        _ => {}
    }
}

/// Packages without a licence that is allowed to them, and exceptions that nobody needs.
pub fn licences(deny: &Deny, packages: &BTreeSet<Package>) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let own = deny.exceptions.get(&package.name);
        let allowed =
            |licence: &str| deny.licences.contains(licence) || own.is_some_and(|own| own.contains(licence));
        if !holds(&package.licence, &allowed) {
            found.push(format!("{} {}: `{}` is not allowed", package.name, package.version, package.licence));
        }
        if own.is_some() && holds(&package.licence, &|licence| deny.licences.contains(licence)) {
            found.push(format!("{}: needs no exception", package.name));
        }
    }
    let gone = |name: &&String| !packages.iter().any(|package| package.name == **name);
    found.extend(deny.exceptions.keys().filter(gone).map(|name| format!("{name}: is not there any more")));
    found
}

/// Crates in more than one version that are not listed, and versions listed that are not there any more.
pub fn duplicates(deny: &Deny, packages: &BTreeSet<Package>) -> Vec<String> {
    let there: BTreeSet<String> = packages.iter().map(|p| format!("{}@{}", p.name, p.version)).collect();
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for package in packages {
        if !deny.skipped.contains(&format!("{}@{}", package.name, package.version)) {
            *counted.entry(&package.name).or_default() += 1;
        }
    }
    let twice = counted.iter().filter(|(_, count)| **count > 1);
    let mut found: Vec<String> = twice.map(|(name, count)| format!("{name}: {count} versions")).collect();
    found.extend(deny.skipped.difference(&there).map(|name| format!("{name}: is not there any more")));
    found
}

/// Packages from elsewhere than the registries that are allowed.
pub fn sources(deny: &Deny, packages: &BTreeSet<Package>) -> Vec<String> {
    let known = |source: &str| {
        source.strip_prefix("registry+").is_some_and(|registry| deny.registries.contains(registry))
    };
    let foreign =
        packages.iter().filter(|package| package.source.as_deref().is_some_and(|source| !known(source)));
    foreign.map(|package| format!("{} comes from {:?}", package.name, package.source)).collect()
}

/// Whether a licence expression (SPDX) can be met with what is allowed. `/` is an old spelling of `OR`.
pub fn holds(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allowed);
    met && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, allowed);
        *at += 1;
        return met && words.get(*at - 1) == Some(&")");
    }
    if words.get(*at) == Some(&"WITH") && words.len() > *at + 1 {
        let with = format!("{word} WITH {}", words[*at + 1]);
        *at += 2;
        return allowed(&with);
    }
    allowed(word)
}
