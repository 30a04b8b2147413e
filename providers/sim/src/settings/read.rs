//! Reading settings key by key, with every finding at its place and the close word for a wrong one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::Value;

use super::Range;

/// Reads one map of settings and remembers which keys it knows.
pub(super) struct Reader<'a> {
    path: String,
    values: BTreeMap<&'a str, &'a Value>,
    known: Vec<&'static str>,
    findings: &'a RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn top(settings: &'a BTreeMap<String, Value>, findings: &'a RefCell<Vec<String>>) -> Self {
        let values = settings.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Self { path: "settings".to_owned(), values, known: Vec::new(), findings }
    }

    /// Says that something is wrong here.
    pub(super) fn say(&self, text: &str) {
        self.findings.borrow_mut().push(format!("{}: {text}", self.path));
    }

    fn say_of(&self, key: &str, text: &str) {
        self.findings.borrow_mut().push(format!("{}.{key}: {text}", self.path));
    }

    /// The value of a key, which is known from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.values.remove(key)
    }

    /// Says of every key left that it is not known.
    pub(super) fn rest(&mut self) {
        for key in std::mem::take(&mut self.values).into_keys() {
            let near = self.known.iter().map(|known| (strsim::osa_distance(key, known), known)).min();
            let hint = near.filter(|(distance, _)| *distance <= 3);
            let hint = hint.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"));
            self.say_of(key, &format!("there is no such setting{hint}"));
        }
    }

    fn read<T>(&mut self, key: &'static str, expected: &str, of: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.take(key)?;
        let read = of(value);
        if read.is_none() {
            self.say_of(key, &format!("{expected} is expected, not `{value}`"));
        }
        read
    }

    pub(super) fn whole(&mut self, key: &'static str) -> Option<u64> {
        self.read(key, "a whole number", Value::as_u64)
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "`true` or `false`", Value::as_bool)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn positive(&mut self, key: &'static str) -> Option<f64> {
        self.read(key, "a number larger than 0", |value| value.as_f64().filter(|n| *n > 0.0))
    }

    pub(super) fn probability(&mut self, key: &'static str) -> Option<f64> {
        self.read(key, "a number from 0 to 1", |v| v.as_f64().filter(|n| (0.0..=1.0).contains(n)))
    }

    pub(super) fn range(&mut self, key: &'static str) -> Option<Range> {
        self.read(key, "milliseconds, or `[shortest, longest]`,", range)
    }

    /// The range at a key that may also hold a map; `None` if it does.
    pub(super) fn range_if_flat(&mut self, key: &'static str) -> Option<Range> {
        if self.values.get(key).is_none_or(|value| value.is_object()) {
            return None;
        }
        self.range(key)
    }

    pub(super) fn list<T: FromStr + Ord>(&mut self, key: &'static str) -> BTreeSet<T> {
        let of = |value: &Value| {
            let items = value.as_array()?;
            items.iter().map(|item| item.as_str()?.parse().ok()).collect::<Option<BTreeSet<T>>>()
        };
        self.read(key, "a list of names", of).unwrap_or_default()
    }

    /// The map at a key.
    pub(super) fn within(&mut self, key: &'static str) -> Option<Self> {
        let value = self.take(key)?;
        let Some(map) = value.as_object() else {
            self.say_of(key, &format!("a map is expected, not `{value}`"));
            return None;
        };
        let values = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let path = format!("{}.{key}", self.path);
        Some(Self { path, values, known: Vec::new(), findings: self.findings })
    }

    /// The maps at a key, each below a name of its own.
    pub(super) fn named<T: FromStr + Ord>(&mut self, key: &'static str) -> Vec<(T, Self)> {
        let Some(within) = self.within(key) else { return Vec::new() };
        let mut all = Vec::new();
        for (name, value) in &within.values {
            match (name.parse(), value.as_object()) {
                (Ok(parsed), Some(map)) => {
                    let values = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
                    let path = format!("{}.{name}", within.path);
                    all.push((parsed, Self { path, values, known: Vec::new(), findings: self.findings }));
                }
                (Err(_), _) => within.say_of(name, "this is not a name"),
                (_, None) => within.say_of(name, &format!("a map is expected, not `{value}`")),
            }
        }
        all
    }
}

fn range(value: &Value) -> Option<Range> {
    if let Some(millis) = value.as_u64() {
        return Some(Range::exactly(millis));
    }
    match value.as_array()?.as_slice() {
        [low, high] => {
            let (low, high) = (low.as_u64()?, high.as_u64()?);
            (low <= high).then_some(Range { low, high })
        }
        _ => None,
    }
}
