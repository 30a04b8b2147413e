//! Paths inside a bundle, as text relative to its root: no leading slash, no `.`, no `..`, the root itself empty.

/// The path that an archive member is called by, or the rule that its name breaks.
pub(crate) fn member(name: &[u8], strip: u32) -> Result<Option<String>, &'static str> {
    let name = std::str::from_utf8(name).map_err(|_| "is not UTF-8")?;
    if name.starts_with('/') {
        return Err("is an absolute path");
    }
    if name.contains('\0') {
        return Err("has a NUL in it");
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("goes up with `..`");
    }
    let strip = usize::try_from(strip).unwrap_or(usize::MAX);
    Ok((parts.len() > strip).then(|| parts[strip..].join("/")))
}

/// Debian's `/bin`, `/lib` and the like are links into `/usr` on every node; so both spellings become one here.
pub(crate) fn merged_usr(path: &str) -> String {
    let first = path.split('/').next().unwrap_or(path);
    if ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].contains(&first) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Where a symbolic link at `path` leads: an absolute target counts from the root of the bundle, and a relative one must
/// not climb above it.
pub(crate) fn destination(path: &str, target: &str) -> Result<String, &'static str> {
    let mut parts: Vec<&str> = if target.starts_with('/') {
        Vec::new()
    } else {
        parent(path).split('/').filter(|part| !part.is_empty()).collect()
    };
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() && !target.starts_with('/') {
            return Err("is a link that leads out of the bundle");
        }
    }
    Ok(parts.join("/"))
}

/// The text of a symbolic link at `path` that leads to `destination`.
pub(crate) fn relative(path: &str, destination: &str) -> String {
    let split = |text| str::split(text, '/').filter(|part| !part.is_empty()).collect::<Vec<&str>>();
    let (from, to) = (split(parent(path)), split(destination));
    let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = from[shared..].iter().map(|_| "..");
    let parts: Vec<&str> = up.chain(to[shared..].iter().copied()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// The folder that holds `path`.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The folders above `path`, nearest first, without the root.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(parent(path)), |path| Some(parent(path))).take_while(|path| !path.is_empty())
}

/// Whether `path` is, or lies under, what `pattern` names. `*` in a part of the pattern stands for any text.
pub(crate) fn under(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let mut wanted = pattern.split('/').filter(|part| !part.is_empty());
    wanted.all(|wanted| parts.next().is_some_and(|part| like(wanted, part)))
}

fn like(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or("");
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_a_plain_path_or_none() {
        assert_eq!(member(b"./usr//bin/./x", 0), Ok(Some("usr/bin/x".to_owned())));
        assert_eq!(member(b"./", 0), Ok(None));
        assert_eq!(member(b"top/bin/x", 1), Ok(Some("bin/x".to_owned())));
        assert_eq!(member(b"top/", 1), Ok(None));
        for hostile in [&b"/etc/passwd"[..], b"../x", b"a/../../x", b"a/..", b"\xff"] {
            assert!(member(hostile, 0).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn links_lead_to_places_in_the_bundle() {
        assert_eq!(destination("usr/lib/a", "b"), Ok("usr/lib/b".to_owned()));
        assert_eq!(destination("usr/lib/a", "../../etc/b"), Ok("etc/b".to_owned()));
        assert_eq!(destination("usr/lib/a", "/etc/b"), Ok("etc/b".to_owned()));
        assert_eq!(destination("a", "/../../b"), Ok("b".to_owned()));
        assert!(destination("usr/a", "../../etc/shadow").is_err());
        assert_eq!(relative("usr/lib/a", "usr/lib/b"), "b");
        assert_eq!(relative("usr/lib/x/a", "usr/share/b"), "../../share/b");
        assert_eq!(relative("usr/lib/a", "usr/lib"), ".");
        assert_eq!(relative("a", "etc/b"), "etc/b");
    }

    #[test]
    fn folders_of_both_spellings_become_one() {
        assert_eq!(merged_usr("lib/x86_64-linux-gnu/libz.so.1"), "usr/lib/x86_64-linux-gnu/libz.so.1");
        assert_eq!(merged_usr("bin"), "usr/bin");
        assert_eq!(merged_usr("library/x"), "library/x");
    }

    #[test]
    fn patterns_match_whole_parts() {
        assert!(under("usr/bin", "usr/bin/x"));
        assert!(under("/usr/bin/", "usr/bin"));
        assert!(!under("usr/bin", "usr/binary"));
        assert!(!under("usr/bin/x", "usr/bin"));
        assert!(under("usr/lib/*/libz.so*", "usr/lib/x86_64-linux-gnu/libz.so.1.2"));
        assert!(!under("usr/*", "usr"));
        assert!(under("*a*b", "xaxxb/y"));
        assert!(!under("a*a", "a"));
    }
}
