//! Names of nodes as people say them: `agents-1..agents-48`, and which node a step or a debt is about.

/// A name as its group and its number, so that `agents-2` comes before `agents-10`.
pub(crate) fn natural(name: &str) -> (&str, u64) {
    match name.rsplit_once('-') {
        Some((group, number)) => number.parse().map_or((name, 0), |number| (group, number)),
        None => (name, 0),
    }
}

/// Names in as few words as it takes; runs of numbers become one word, and more than `most` words are counted.
pub(crate) fn ranges<'a>(names: impl IntoIterator<Item = &'a str>, most: usize) -> String {
    let mut sorted: Vec<_> = names.into_iter().collect();
    sorted.sort_unstable_by_key(|name| natural(name));
    sorted.dedup();
    let mut runs: Vec<(&str, &str, usize)> = Vec::new();
    for name in sorted {
        let (group, number) = natural(name);
        match runs.last_mut() {
            Some((_, last, count)) if number > 0 && natural(last) == (group, number - 1) => {
                *last = name;
                *count += 1;
            }
            _ => runs.push((name, name, 1)),
        }
    }
    let words = runs.iter().take(most).map(|(first, last, count)| match count {
        1 => (*first).to_owned(),
        2 => format!("{first}, {last}"),
        _ => format!("{first}..{last}"),
    });
    let mut words: Vec<String> = words.collect();
    let rest: usize = runs.iter().skip(most).map(|(_, _, count)| count).sum();
    if rest > 0 {
        words.push(format!("and {rest} more"));
    }
    words.join(", ")
}

/// The node that a step's id, a debt's subject or a wait's subject is about, if it looks like one:
/// `enroll NODE`, `publish NODE@7`, `etcd on NODE`, `ensure SITE/machine/NODE`, `NODE`.
pub(crate) fn node_in(subject: &str) -> Option<&str> {
    let (head, last) = subject.rsplit_once(' ').unwrap_or(("", subject));
    let node = match last.rsplit_once('/') {
        Some((place, name)) => place.ends_with("/machine").then_some(name)?,
        None => last.split('@').next().unwrap_or(last),
    };
    // Every node is named by its group and a number; nothing else that steps are about is.
    (head != "found" && natural(node).1 > 0).then_some(node)
}
