//! What a field of a blueprint can be: the words in which [`fields`](super::fields) describes all of them.

use super::words::Word;

/// The shape of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Text of a certain form.
    Text(Word),
    /// A whole number, with its bounds.
    Integer(u32, u32),
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A map with known keys.
    Record(&'static Record),
    /// A map whose keys are the author's.
    Map(Map),
    /// A list.
    List(&'static Shape),
    /// Whatever it is, somebody else knows.
    Free,
}

/// A map whose keys are the author's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map {
    /// What stands for a key in paths, as in `groups.NAME`.
    pub(crate) key: &'static str,
    /// The form of the keys.
    pub(crate) form: Word,
    /// The values.
    pub(crate) value: &'static Shape,
    /// How many entries there must be.
    pub(crate) least: usize,
}

/// A map with known keys.
#[derive(Debug)]
pub(crate) struct Record {
    /// What it is, with its article, as in `a group`.
    pub(crate) title: &'static str,
    /// Its fields, in the order in which they are written.
    pub(crate) fields: &'static [Field],
}

/// One field of a record.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its key.
    pub(crate) key: &'static str,
    /// What it can be.
    pub(crate) shape: Shape,
    /// Whether it must be there.
    pub(crate) need: Need,
    /// What it means.
    pub(crate) about: &'static str,
    /// How it can look: the value as YAML, on one line.
    pub(crate) example: &'static str,
}

/// Whether a field must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It must be there.
    Required,
    /// If it is left out, it has this value.
    Default(&'static str),
    /// If it is left out, this is the case.
    Optional(&'static str),
}

impl Shape {
    /// What is wanted, for messages.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Text(word) => word.title().to_owned(),
            Self::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Self::Choice([only]) => format!("`{only}`"),
            Self::Choice(words) => format!("one of {}", listed(words)),
            Self::Record(_) | Self::Map(_) => "a map of keys and values".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Free => "any value".to_owned(),
        }
    }

    /// The type in a few words, for `explain`.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Text(word) => {
                let title = word.title();
                ["a ", "an ", "the "]
                    .iter()
                    .find_map(|article| title.strip_prefix(article))
                    .unwrap_or(title)
                    .to_owned()
            }
            Self::Integer(..) => "whole number".to_owned(),
            Self::Choice(_) => "word".to_owned(),
            Self::Record(_) => "map".to_owned(),
            Self::Map(map) => format!("map of {} to {}", map.key, map.value.kind()),
            Self::List(item) => format!("list of {}", item.kind()),
            Self::Free => "anything".to_owned(),
        }
    }

    /// The values that are allowed, if that can be said in a line.
    pub(crate) fn allowed(&self) -> Option<String> {
        match self {
            Self::Text(word) => Some(word.rule().to_owned()),
            Self::Integer(least, most) => Some(format!("{least} to {most}")),
            Self::Choice(words) => Some(listed(words)),
            Self::List(item) => item.allowed(),
            Self::Map(map) => Some(format!("{}: {}", map.key, map.form.rule())),
            Self::Record(_) | Self::Free => None,
        }
    }

    /// The record that keys lead into from here, through lists and maps, and the path to it.
    pub(crate) fn inner(&self) -> (String, Option<&'static Record>) {
        match self {
            Self::Record(record) => (String::new(), Some(record)),
            Self::Map(map) => {
                let (path, record) = map.value.inner();
                (format!(".{}{path}", map.key), record)
            }
            Self::List(item) => {
                let (path, record) = item.inner();
                (format!("[]{path}"), record)
            }
            _ => (String::new(), None),
        }
    }
}

impl Record {
    /// The field of `key`.
    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}

/// Words in backticks.
pub(crate) fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
