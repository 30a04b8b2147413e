//! What a scalar of YAML means by the core schema (YAML 1.2.2, section 10.3): one reading, whoever asks.

/// A scalar, read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning {
    /// Nothing: `null`, `~` or no text at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A whole number that only fits without a sign.
    Unsigned(u64),
    /// Any other number, infinity and not-a-number included.
    Float(f64),
    /// Text.
    Text,
}

impl Meaning {
    /// The meaning of an unquoted scalar.
    pub(crate) fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let may_be_number = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
        if !text.bytes().next().is_some_and(may_be_number) || text.len() > 400 {
            return Self::Text;
        }
        integer(text).or_else(|| float(text)).unwrap_or(Self::Text)
    }

    /// What people call it, for messages.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Unsigned(_) | Self::Float(_) => "a number",
            Self::Text => "text",
        }
    }
}

fn integer(text: &str) -> Option<Meaning> {
    let digits_of = |prefix: &str, radix: u32| {
        let digits = text.strip_prefix(prefix)?;
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        all.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(value) = digits_of("0x", 16).or_else(|| digits_of("0o", 8)) {
        return Some(i64::try_from(value).map_or(Meaning::Unsigned(value), Meaning::Integer));
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let signed = text.parse().ok().map(Meaning::Integer);
    signed.or_else(|| text.parse().ok().map(Meaning::Unsigned))
}

fn float(text: &str) -> Option<Meaning> {
    let (sign, body) = match text.as_bytes()[0] {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    match body {
        ".inf" | ".Inf" | ".INF" => return Some(Meaning::Float(sign * f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if body == text => return Some(Meaning::Float(f64::NAN)),
        _ => {}
    }
    let ours = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    let begins = body.bytes().next().is_some_and(|b| b.is_ascii_digit())
        || (body.len() > 1 && body.starts_with('.') && body.as_bytes()[1].is_ascii_digit());
    if !begins || !body.bytes().all(ours) {
        return None;
    }
    body.parse::<f64>().ok().map(|value| Meaning::Float(sign * value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_the_core_schema_says() {
        let cases = [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("True", Meaning::Bool(true)),
            ("yes", Meaning::Text),
            ("12", Meaning::Integer(12)),
            ("-12", Meaning::Integer(-12)),
            ("+7", Meaning::Integer(7)),
            ("0x1F", Meaning::Integer(31)),
            ("0o17", Meaning::Integer(15)),
            ("18446744073709551615", Meaning::Unsigned(u64::MAX)),
            ("1.5e3", Meaning::Float(1500.0)),
            (".5", Meaning::Float(0.5)),
            ("-.inf", Meaning::Float(f64::NEG_INFINITY)),
            ("1_000", Meaning::Text),
            ("4GiB", Meaning::Text),
            ("10.0.0.1", Meaning::Text),
            ("-", Meaning::Text),
            (".", Meaning::Text),
            ("1e", Meaning::Text),
        ];
        for (text, meaning) in cases {
            assert_eq!(Meaning::of_plain(text), meaning, "{text}");
        }
        assert!(matches!(Meaning::of_plain(".nan"), Meaning::Float(value) if value.is_nan()));
    }
}
