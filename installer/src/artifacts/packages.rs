//! Debian's control paragraphs and the closure over their dependencies (deb-control(5), Debian Policy chapter 7).
//!
//! Apt has already chosen which packages go together; the walk here only finds which of the chosen ones a component
//! needs, given what its node has already.

use std::collections::{BTreeMap, BTreeSet};

/// A package that apt chose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
    pub(crate) size: u64,
}

impl Choice {
    /// How apt's command line names exactly this package.
    pub(crate) fn spec(&self) -> String {
        format!("{}:{}={}", self.name, self.arch, self.version)
    }
}

/// What the package lists say about one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paragraph {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// Groups of alternatives, versions and architectures taken off.
    pub(crate) depends: Vec<Vec<String>>,
    pub(crate) provides: Vec<String>,
}

/// Reads one line of `apt-get --print-uris`: `'URI' NAME_VERSION_ARCH.deb SIZE [HASH]`.
///
/// The hash is not used: it is an MD5 for some archives and missing for others, whatever stronger ones the lists have.
pub(crate) fn parse_uri_line(line: &str) -> Option<Choice> {
    let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split_ascii_whitespace();
    let choice = parse_file_name(words.next()?)?;
    Some(Choice { size: words.next()?.parse().ok()?, ..choice })
}

/// Reads the name that apt gives to a downloaded package; what it escapes there is the `:` of an epoch.
pub(crate) fn parse_file_name(file: &str) -> Option<Choice> {
    let file = unescape(file.strip_suffix(".deb")?)?;
    let mut parts = file.split('_').map(str::to_owned);
    let (name, version, arch) = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && !name.is_empty()).then_some(Choice { name, version, arch, size: 0 })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// Reads the paragraphs that `apt-cache show` prints.
pub(crate) fn parse_paragraphs(text: &str) -> Vec<Paragraph> {
    text.split("\n\n").map(parse_paragraph).filter(|paragraph| !paragraph.name.is_empty()).collect()
}

fn parse_paragraph(text: &str) -> Paragraph {
    let mut paragraph = Paragraph::default();
    // A line that begins with a blank continues its field; none of the fields of interest is ever folded by apt.
    for (field, value) in
        text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(':'))
    {
        let value = value.trim();
        match field {
            "Package" => value.clone_into(&mut paragraph.name),
            "Version" => value.clone_into(&mut paragraph.version),
            "Architecture" => value.clone_into(&mut paragraph.arch),
            "SHA256" => value.clone_into(&mut paragraph.sha256),
            "Size" => paragraph.size = value.parse().unwrap_or(0),
            "Depends" | "Pre-Depends" => paragraph.depends.extend(parse_depends(value)),
            "Provides" => paragraph.provides = parse_depends(value).into_iter().flatten().collect(),
            _ => {}
        }
    }
    paragraph
}

fn parse_depends(text: &str) -> Vec<Vec<String>> {
    let name = |item: &str| item.trim().split([' ', '(', '[', ':']).next().unwrap_or("").to_owned();
    text.split(',')
        .map(|group| group.split('|').map(name).filter(|name| !name.is_empty()).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect()
}

/// The packages of `chosen` that `roots` need, themselves among them, when `provided` are there already.
///
/// `Err` names a dependency that nothing in `chosen` satisfies.
pub(crate) fn closure<'a>(
    chosen: &'a BTreeMap<String, Paragraph>,
    roots: &[String],
    provided: &BTreeSet<String>,
) -> Result<BTreeMap<&'a str, &'a Paragraph>, String> {
    let given: BTreeSet<&str> = provided
        .iter()
        .flat_map(|name| {
            let also = chosen.get(name).into_iter().flat_map(|found| found.provides.iter());
            also.chain([name]).map(String::as_str)
        })
        .collect();
    let mut found = BTreeMap::new();
    let mut waiting: Vec<&str> = Vec::new();
    for root in roots {
        waiting.push(provider(chosen, root).ok_or_else(|| root.clone())?);
    }
    while let Some(name) = waiting.pop() {
        let Some(paragraph) = chosen.get(name) else { continue };
        if found.insert(name, paragraph).is_some() {
            continue;
        }
        for group in &paragraph.depends {
            if group.iter().any(|name| given.contains(name.as_str())) {
                continue;
            }
            let one = group.iter().find_map(|name| provider(chosen, name));
            waiting.push(one.ok_or_else(|| format!("{name} needs {}", group.join(" or ")))?);
        }
    }
    Ok(found)
}

/// The chosen package that is `name`, or stands in for it.
fn provider<'a>(chosen: &'a BTreeMap<String, Paragraph>, name: &str) -> Option<&'a str> {
    if let Some((found, _)) = chosen.get_key_value(name) {
        return Some(found);
    }
    let stands_in = |paragraph: &Paragraph| paragraph.provides.iter().any(|provided| provided == name);
    chosen.iter().find(|(_, paragraph)| stands_in(paragraph)).map(|(found, _)| found.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_print_uris_gives_a_choice() {
        let line = "'http://archive.test/pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb' \
                    zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86684 MD5Sum:ec42cc09e926444a817ddd913057af67";
        let choice = parse_uri_line(line).unwrap();
        assert_eq!(choice.spec(), "zlib1g:amd64=1:1.2.13.dfsg-1");
        assert_eq!(choice.size, 86684);
        let without_hash = "'file:/r/libstdc%2b%2b6_12.2.0-14%2bdeb12u1_amd64.deb' libstdc++6_12.2.0-14+deb12u1_amd64.deb 612604 ";
        assert_eq!(parse_uri_line(without_hash).unwrap().spec(), "libstdc++6:amd64=12.2.0-14+deb12u1");
    }

    #[test]
    fn what_is_no_such_line_gives_nothing() {
        for line in [
            "",
            "E: Unable to locate package x",
            "'http://archive.test/a_1_all.deb'",
            "'http://archive.test/a_1_all.deb' a_1_all.deb many",
            "'http://archive.test/a.deb' a.deb 5",
            "'http://archive.test/a' a_1_%zz.deb 5",
            "'http://archive.test/a' a_1_%c3 5",
        ] {
            assert_eq!(parse_uri_line(line), None, "{line}");
        }
    }

    const SHOWN: &str = "\
Package: etcd-server
Source: etcd (3.4.23-4)
Version: 3.4.23-4+b4
Architecture: amd64
Depends: adduser, libc6 (>= 2.34)
Pre-Depends: init-system-helpers (>= 1.54~)
Description: highly-available key value store -- daemon
 Depends: not-a-field
Size: 8438488
SHA256: 3a9445d4560ad6de1c375756b2a17d97713df44cbd20a658c871fe108af7ef5d

Package: adduser
Version: 3.134
Architecture: all
Depends: passwd, debconf (>= 0.5) | debconf-2.0
Size: 183272

Package: debconf
Version: 1.5.82
Architecture: all
Provides: debconf-2.0 (= 2)
Depends: perl-base:any

";

    fn chosen(text: &str) -> BTreeMap<String, Paragraph> {
        parse_paragraphs(text).into_iter().map(|paragraph| (paragraph.name.clone(), paragraph)).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn paragraphs_are_read_as_apt_prints_them() {
        let all = parse_paragraphs(SHOWN);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].size, 8_438_488);
        assert_eq!(all[0].depends, [vec!["adduser"], vec!["libc6"], vec!["init-system-helpers"]]);
        assert_eq!(all[1].depends, [vec!["passwd".to_owned()], vec!["debconf".into(), "debconf-2.0".into()]]);
        assert_eq!(all[2].provides, ["debconf-2.0"]);
        assert_eq!(all[2].depends, [vec!["perl-base"]]);
    }

    #[test]
    fn what_is_provided_stays_out_with_what_only_it_needs() {
        let chosen = chosen(SHOWN);
        let roots = ["etcd-server".to_owned()];
        let names = |provided: &[&str]| {
            closure(&chosen, &roots, &set(provided)).map(|found| found.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(names(&["libc6", "init-system-helpers", "adduser"]).unwrap(), ["etcd-server"]);
        let most = ["libc6", "init-system-helpers", "passwd", "perl-base"];
        assert_eq!(names(&most).unwrap(), ["adduser", "debconf", "etcd-server"]);
        // A package that is provided also provides what it stands in for.
        let most = ["libc6", "init-system-helpers", "passwd", "debconf"];
        assert_eq!(names(&most).unwrap(), ["adduser", "etcd-server"]);
        assert_eq!(names(&["libc6"]).unwrap_err(), "etcd-server needs init-system-helpers");
    }

    #[test]
    fn a_virtual_name_is_found_by_its_provider() {
        let chosen = chosen("Package: b\nProvides: virtual\n\nPackage: a\nDepends: missing | virtual\n\n");
        let found = closure(&chosen, &["a".to_owned()], &set(&[])).unwrap();
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ["a", "b"]);
    }
}
