//! What another process says is cleaned before a person or a log sees it: one line, printable, without boot data.
//!
//! Boot data is given to the process that makes the machine. A provider that is careless may log it, or put it into an
//! error; whatever it told is known here and taken out again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::BootData;

/// Words of boot data that are at least this long are secret; shorter ones are words of any language.
const SECRET: usize = 16;
/// What is put in their place.
pub(crate) const HIDDEN: &str = "[boot data]";
/// The longest that is shown of one text.
const SHOWN: usize = 400;

/// The words that must not be shown.
#[derive(Default)]
pub(crate) struct Veil {
    secrets: Mutex<Secrets>,
}

#[derive(Default)]
struct Secrets {
    /// Whether one of them was said.
    told: bool,
    words: BTreeSet<String>,
    encoded: BTreeSet<String>,
}

impl Veil {
    /// Takes in what must not be shown from now on.
    pub(crate) fn learn(&self, boot_data: &BootData) {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.words.extend(long_words(boot_data.expose()).map(str::to_owned));
        secrets.encoded.insert(BASE64_STANDARD.encode(boot_data.expose()));
    }

    /// Whether anything that was cleaned had to be.
    pub(crate) fn told(&self) -> bool {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).told
    }

    /// The text as it may be shown.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if long_words(&text).next().is_some() {
            for word in &secrets.words {
                if text.contains(word.as_str()) {
                    text = text.replace(word, HIDDEN);
                }
            }
            let encoded = |word: &&str| secrets.encoded.iter().any(|known| known.contains(*word));
            let found: Vec<String> = long_words(&text).filter(encoded).map(str::to_owned).collect();
            for word in found {
                text = text.replace(&word, HIDDEN);
            }
        }
        secrets.told |= text.contains(HIDDEN);
        drop(secrets);
        let text = text.trim();
        match text.char_indices().nth(SHOWN) {
            Some((at, _)) => format!("{} ...", &text[..at]),
            None => text.to_owned(),
        }
    }
}

/// The long words of a text, of letters and digits.
fn long_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() >= SECRET)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn veil() -> Veil {
        let veil = Veil::default();
        veil.learn(&BootData::new(format!("#cloud-config\nwrite_files: [{{content: {TOKEN}}}]\n")));
        veil
    }

    #[test]
    fn boot_data_is_taken_out_in_every_spelling() {
        let encoded = BASE64_STANDARD.encode(format!("#cloud-config\nwrite_files: [{{content: {TOKEN}}}]\n"));
        let json = serde_json::to_string(&format!("a\n{TOKEN}\nb")).expect("JSON");
        for said in [TOKEN.to_owned(), format!("x{TOKEN}y"), json, encoded.clone(), encoded[8..64].to_owned()]
        {
            let shown = veil().clean(&format!("user data: {said}"));
            assert!(shown.contains(HIDDEN), "{shown}");
            assert!(!shown.contains(TOKEN) && !shown.contains(&encoded[8..64]), "{shown}");
        }
    }

    #[test]
    fn all_else_is_shown_in_one_line() {
        assert_eq!(veil().clean(" no such image:\n\u{1b}[31mdebian-12\n"), "no such image:  [31mdebian-12");
        assert_eq!(veil().clean(&"x".repeat(SHOWN + 1)).len(), SHOWN + 4);
        let digest = "f".repeat(64);
        assert_eq!(veil().clean(&digest), digest, "a digest that was never told is no secret");
    }
}
