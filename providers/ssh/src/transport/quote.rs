//! Arguments for a remote shell: SSH carries one string, which the login shell of the user splits again.

use std::borrow::Cow;

use super::error::SshError;

/// `argument` so that a POSIX shell reads it back as one word, unchanged.
///
/// A NUL byte cannot be part of an argument, so it is refused. Secrets do not belong in arguments at all: everybody
/// on the machine can read them; hand them over on standard input.
pub fn quote(argument: &str) -> Result<Cow<'_, str>, SshError> {
    if argument.contains('\0') {
        return Err(SshError::Argument);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return Ok(Cow::Borrowed(argument));
    }
    Ok(Cow::Owned(format!("'{}'", argument.replace('\'', r"'\''"))))
}

/// The words of a command, each quoted, as one line for a remote shell.
pub fn command_line<S: AsRef<str>>(words: &[S]) -> Result<String, SshError> {
    let quoted: Result<Vec<_>, _> = words.iter().map(|word| quote(word.as_ref())).collect();
    Ok(quoted?.join(" "))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn read_back_by_sh(words: &[String]) -> Vec<u8> {
        let line = command_line(words).unwrap();
        let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
        Command::new("sh").args(["-c", &script]).output().unwrap().stdout
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(words in proptest::collection::vec("[^\0]{0,24}", 1..5)) {
            let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            prop_assert_eq!(read_back_by_sh(&words), expected);
        }

        #[test]
        fn hostile_characters_stay_characters(word in "[$`\"'\\\\!*?~#&|;<>(){}\n\t -]{0,32}") {
            let expected = [word.as_bytes(), b"\0"].concat();
            prop_assert_eq!(read_back_by_sh(&[word]), expected);
        }
    }

    #[test]
    fn plain_words_stay_readable_and_nul_is_refused() {
        assert_eq!(command_line(&["ls", "-l", "/opt/a b"]).unwrap(), "ls -l '/opt/a b'");
        assert_eq!(quote("").unwrap(), "''");
        assert!(matches!(quote("a\0b"), Err(SshError::Argument)));
    }
}
