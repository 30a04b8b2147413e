//! "Did you mean": the word that somebody who wrote another one may have had in mind.

use super::fields;
use super::path::quote;

/// Among more words than these nobody looks for one: a hostile file could declare very many.
const LOOKED_AT: usize = 200;

/// The closest of `known` to `written`, if one is close.
pub(crate) fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 60 {
        return None;
    }
    let written = folded(written);
    let allowed = (written.chars().count() / 3).max(1);
    let scored = known.into_iter().take(LOOKED_AT).map(|word| {
        let word_folded = folded(word);
        let begins =
            written.len() >= 3 && (word_folded.starts_with(&written) || written.starts_with(&word_folded));
        let distance = strsim::damerau_levenshtein(&written, &word_folded);
        (if begins { distance.min(allowed) } else { distance }, word)
    });
    scored
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// A hint that names the closest of `known`.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(written, known).map(|word| format!("did you mean {}?", quote(word)))
}

/// A hint that says where the key `written` would have a meaning.
pub(crate) fn belongs_elsewhere(written: &str) -> Option<String> {
    let places: Vec<String> = fields::all()
        .into_iter()
        .filter(|(_, field)| field.key == written)
        .filter_map(|(path, _)| path.rsplit_once('.').map(|(parent, _)| format!("`{parent}`")))
        .collect();
    (!places.is_empty()).then(|| format!("`{written}` belongs in {}", places.join(" or ")))
}

/// Spelling aside: `open_ports` and `openports` are meant as `openPorts`.
fn folded(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_offered_and_no_far_one() {
        let known = ["openPorts", "count", "role", "zones"];
        assert_eq!(closest("open_ports", known), Some("openPorts"));
        assert_eq!(closest("cuont", known), Some("count"));
        assert_eq!(closest("zone", known), Some("zones"));
        assert_eq!(closest("replicas", known), None);
        assert_eq!(closest(&"x".repeat(10_000), known), None);
    }

    #[test]
    fn a_key_of_another_place_is_recognised() {
        assert_eq!(belongs_elsewhere("cpus").as_deref(), Some("`cpus` belongs in `groups.NAME.size`"));
        assert_eq!(belongs_elsewhere("nothing"), None);
    }
}
