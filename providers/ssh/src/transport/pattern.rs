//! Host patterns as `ssh_config` and `known_hosts` share them: `*`, `?`, and `!` for "but not".

/// Whether `text` matches `pattern`, where `*` is any run of characters and `?` is one.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on if the run after the last star has to be longer: no recursion, so no explosion.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Whether `text` matches one of `patterns` and none of those that begin with `!`.
pub(crate) fn list_matches<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let mut matched = false;
    for pattern in patterns {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(excluded) if matches(excluded, &text) => return false,
            Some(_) => {}
            None => matched |= matches(&pattern, &text),
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_questions_and_exclusions() {
        assert!(matches("*.example.org", "a.b.example.org"));
        assert!(matches("192.168.?.*", "192.168.7.22"));
        assert!(!matches("web?", "web"));
        assert!(matches("a*b*c", "aXbXbXc"));
        assert!(!matches("a*b*c", "aXbX"));
        assert!(list_matches(["*", "!db*"], "Web1"));
        assert!(!list_matches(["*", "!db*"], "db1"));
        assert!(!list_matches(["!db*"], "web"));
        let hostile = "*a".repeat(50);
        assert!(!matches(&hostile, &"a".repeat(49)));
    }
}
