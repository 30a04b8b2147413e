//! Texts with a form of their own: names, durations, sizes, ports and the like.
//!
//! Each has one reader in code and one pattern for the schema; a property test holds the two together.

use std::net::IpAddr;

use crate::blueprint::{Port, Protocol, Store};
use crate::names::{LABEL_PATTERN, LABEL_RULE, is_label};

/// The form of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A name by the DNS label rule.
    Name,
    /// Minutes and the like.
    Duration,
    /// An amount of memory.
    Memory,
    /// An amount of disk.
    Disk,
    /// A port with its protocol.
    Port,
    /// A zone of a site.
    Zone,
    /// The key of a label.
    LabelKey,
    /// The value of a label.
    LabelValue,
    /// A host name, address or SSH alias.
    Host,
    /// A user of a machine.
    User,
    /// The path of a file on the installer's machine.
    File,
    /// A folder of a node.
    Folder,
    /// The path of a script beside the blueprint.
    Script,
    /// A sentence for people.
    Sentence,
    /// A public key of SSH.
    PublicKey,
    /// An IP address.
    Address,
    /// A stack that comes along, or the folder of one.
    Stack,
    /// The key of a setting.
    Setting,
    /// Where working state lies.
    StatePlace,
    /// Where a store answers.
    Endpoint,
}

struct Form {
    title: &'static str,
    pattern: &'static str,
    rule: &'static str,
}

const FILE: Form = Form {
    title: "the path of a file",
    pattern: "^[^\\u0000-\\u001f\\u007f]{1,1024}$",
    rule: "write a path; `~/` is your home folder",
};

const FOLDER: Form = Form {
    title: "an absolute path",
    pattern: "^(/[A-Za-z0-9_][A-Za-z0-9._-]{0,62}){1,8}$",
    rule: "write a path from `/` on, without `.`, `..` and a `/` at the end, as in `/data`",
};

const SETTING: Form = Form {
    title: "the key of a setting",
    pattern: "^[A-Za-z][A-Za-z0-9._-]{0,62}$",
    rule: "use 1 to 63 letters, digits, `.`, `_` and `-`, beginning with a letter",
};

const STACK: Form = Form {
    title: "a stack",
    pattern: "^([a-z]([a-z0-9-]{0,38}[a-z0-9])?|[^\\u0000-\\u001f\\u007f/]{0,255}/[^\\u0000-\\u001f\\u007f]{0,768})$",
    rule: "write the name of a stack, or the path (with a `/`) of a folder that holds `stack.yaml`",
};

const SCRIPT: Form = Form {
    title: "the path of a script beside the blueprint",
    pattern: "^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,62}){0,7}$",
    rule: "write a path below the blueprint's folder, without `.` and `..`, as in `checks/disk.sh`",
};

const SENTENCE: Form = Form {
    title: "a sentence",
    pattern: "^[^\\u0000-\\u001f\\u007f]{1,200}$",
    rule: "write what holds, in one line of at most 200 characters",
};

const STATE_PLACE: Form = Form {
    title: "a place for state",
    pattern: "^(s3|gs|az)://[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?(/[A-Za-z0-9_][A-Za-z0-9._-]{0,62}){0,8}$",
    rule: "write `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`; there are no others",
};

const ENDPOINT: Form = Form {
    title: "an endpoint",
    pattern: "^https?://[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[1-9][0-9]{0,4})?$",
    rule: "write `https://HOST` or `https://HOST:PORT`, without a user, a path or a `/` at the end",
};

impl Word {
    /// Every form.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 20] = [
        Self::Name,
        Self::Duration,
        Self::Memory,
        Self::Disk,
        Self::Port,
        Self::Zone,
        Self::LabelKey,
        Self::LabelValue,
        Self::Host,
        Self::User,
        Self::File,
        Self::Folder,
        Self::Script,
        Self::Sentence,
        Self::PublicKey,
        Self::Address,
        Self::Stack,
        Self::Setting,
        Self::StatePlace,
        Self::Endpoint,
    ];

    /// What it is called, with its article.
    pub(crate) fn title(self) -> &'static str {
        self.form().title
    }

    /// The regular expression for the schema.
    pub(crate) fn pattern(self) -> &'static str {
        self.form().pattern
    }

    /// How to write one.
    pub(crate) fn rule(self) -> &'static str {
        self.form().rule
    }

    fn form(self) -> Form {
        let (title, pattern, rule) = match self {
            Self::Name => ("a name", LABEL_PATTERN, LABEL_RULE),
            Self::Duration => (
                "a duration",
                "^[1-9][0-9]{0,4}[smh]$",
                "write a whole number and `s`, `m` or `h`, as in `5m`; at most `24h`",
            ),
            Self::Memory => (
                "an amount of memory",
                "^[1-9][0-9]{0,6}(MiB|GiB|TiB)$",
                "write a whole number and `MiB`, `GiB` or `TiB`, as in `4GiB`",
            ),
            Self::Disk => (
                "an amount of disk",
                "^[1-9][0-9]{0,5}(GiB|TiB)$",
                "write a whole number and `GiB` or `TiB`, as in `20GiB`",
            ),
            Self::Port => (
                "a port",
                "^[1-9][0-9]{0,4}/(tcp|udp)$",
                "write the number, a slash and the protocol, as in `8080/tcp`",
            ),
            Self::Zone => (
                "a zone",
                "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
                "use 1 to 63 letters, digits, `.`, `_` and `-`",
            ),
            Self::LabelKey => (
                "the key of a label",
                "^[a-z]([a-z0-9._-]{0,61}[a-z0-9])?$",
                "use 1 to 63 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter",
            ),
            Self::LabelValue => (
                "the value of a label",
                "^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$",
                "use up to 63 letters, digits, `.`, `_` and `-`",
            ),
            Self::Host => (
                "a host name or address",
                "^[A-Za-z0-9_:]([A-Za-z0-9_.:%-]{0,251}[A-Za-z0-9_])?$",
                "write a host name, an IP address or an alias of `~/.ssh/config`",
            ),
            Self::User => (
                "a user name",
                "^[a-z_][a-z0-9_-]{0,31}$",
                "use 1 to 32 of a-z, 0-9, `_` and `-`, beginning with a letter or `_`",
            ),
            Self::PublicKey => (
                "a public key of SSH",
                "^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\\.com|sk-ecdsa-sha2-nistp256@openssh\\.com) [A-Za-z0-9+/]+={0,2}( [^\\u0000-\\u001f\\u007f]*)?$",
                "write the line of a `.pub` file, as in `ssh-ed25519 AAAA... name`",
            ),
            Self::Address => {
                ("an IP address", "^[0-9A-Fa-f.:]{2,45}$", "write an IPv4 or IPv6 address, as in `10.0.0.5`")
            }
            Self::File => return FILE,
            Self::Folder => return FOLDER,
            Self::Setting => return SETTING,
            Self::Stack => return STACK,
            Self::Script => return SCRIPT,
            Self::Sentence => return SENTENCE,
            Self::StatePlace => return STATE_PLACE,
            Self::Endpoint => return ENDPOINT,
        };
        Form { title, pattern, rule }
    }

    /// Whether `text` has this form.
    pub(crate) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Name => is_label(text),
            Self::Duration => seconds(text).is_some(),
            Self::Memory => mebibytes(text).is_some(),
            Self::Disk => gibibytes(text).is_some(),
            Self::Port => port(text).is_some(),
            Self::Zone => framed(text, 63, alphanumeric, dotted),
            Self::LabelKey => {
                let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
                lower
                    && text.starts_with(|c: char| c.is_ascii_lowercase())
                    && framed(text, 63, alphanumeric, dotted)
            }
            Self::LabelValue => text.is_empty() || framed(text, 63, alphanumeric, dotted),
            Self::Host => host(text),
            Self::User => {
                let first = |c: char| c.is_ascii_lowercase() || c == '_';
                let rest = |c: char| first(c) || c.is_ascii_digit() || c == '-';
                text.len() <= 32 && text.starts_with(first) && text.chars().all(rest)
            }
            Self::File => printable(text) && (1..=1024).contains(&text.chars().count()),
            Self::Folder => text.strip_prefix('/').is_some_and(below),
            Self::Script => below(text),
            Self::Sentence => printable(text) && (1..=200).contains(&text.chars().count()),
            Self::PublicKey => public_key(text),
            Self::Address => text.parse::<IpAddr>().is_ok(),
            Self::Stack => is_label(text) || folder_of_stack(text),
            Self::Setting => {
                let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                text.len() <= 63
                    && text.starts_with(|c: char| c.is_ascii_alphabetic())
                    && text.chars().all(inner)
            }
            Self::StatePlace => state_place(text).is_some(),
            Self::Endpoint => endpoint(text),
        }
    }
}

/// The parts of `s3://bucket/prefix`.
pub(crate) fn state_place(text: &str) -> Option<(Store, &str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let store = Store::ALL.into_iter().find(|store| store.scheme() == scheme)?;
    let (bucket, prefix) =
        rest.split_once('/').map_or((rest, None), |(bucket, prefix)| (bucket, Some(prefix)));
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bucket_inner =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let good = framed(bucket, 63, lower, bucket_inner) && prefix.is_none_or(below);
    good.then_some((store, bucket, prefix.unwrap_or_default()))
}

fn endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let inner = |b: u8| alphanumeric(b) || matches!(b, b'.' | b'-');
    framed(host, 253, alphanumeric, inner) && port.is_none_or(|port| whole(port, 5).is_some())
}

/// The seconds of a duration, up to a day.
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let seconds = u32::try_from(whole(number, 5)?).ok()?.checked_mul(factor)?;
    (seconds <= 86_400).then_some(seconds)
}

/// The MiB of an amount of memory.
pub(crate) fn mebibytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(3)?)?;
    let factor = match unit {
        "MiB" => 1,
        "GiB" => 1024,
        "TiB" => 1024 * 1024,
        _ => return None,
    };
    Some(whole(number, 7)? * factor)
}

/// The GiB of an amount of disk.
pub(crate) fn gibibytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(3)?)?;
    let factor = match unit {
        "GiB" => 1,
        "TiB" => 1024,
        _ => return None,
    };
    Some(whole(number, 6)? * factor)
}

/// The port of `8080/tcp`.
pub(crate) fn port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let number = u16::try_from(whole(number, 5)?).ok()?;
    Some(Port { number, protocol })
}

/// A number of at most `digits` digits, without a sign or a leading zero.
fn whole(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() <= digits && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn dotted(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether `text` has 1 to `most` bytes, of `edge` at both ends and of `inner` between.
fn framed(text: &str, most: usize, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= most && edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b))
}

fn printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_ascii_control())
}

/// A leading `-` would be an option to `ssh`.
fn host(text: &str) -> bool {
    let last = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let inner = |b: u8| last(b) || matches!(b, b'.' | b':' | b'%' | b'-');
    let bytes = text.as_bytes();
    let (Some(first), Some(end)) = (bytes.first(), bytes.last()) else { return false };
    let ends = (last(*first) || *first == b':') && (last(*end) || bytes.len() == 1);
    bytes.len() <= 253 && ends && bytes.iter().all(|b| inner(*b))
}

/// A path of plain names, which cannot climb.
fn below(parts: &str) -> bool {
    let part = |part: &str| {
        let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        part.len() <= 63 && part.starts_with(first) && part.bytes().all(dotted)
    };
    parts.split('/').count() <= 8 && parts.split('/').all(part)
}

fn folder_of_stack(text: &str) -> bool {
    let Some((before, after)) = text.split_once('/') else { return false };
    printable(text) && before.chars().count() <= 255 && after.chars().count() <= 768
}

fn public_key(text: &str) -> bool {
    const KINDS: [&str; 7] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    let mut parts = text.splitn(3, ' ');
    let (kind, key) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let body = key.trim_end_matches('=');
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    KINDS.contains(&kind)
        && !body.is_empty()
        && key.len() - body.len() <= 2
        && body.bytes().all(base64)
        && printable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("24h"), Some(86_400));
        assert_eq!(mebibytes("4GiB"), Some(4096));
        assert_eq!(gibibytes("2TiB"), Some(2048));
        for bad in ["", "m", "0m", "25h", "5", "5 m", "5M", "-5m", "05m", "1.5h", "ä", "99999h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        for bad in ["4GB", "4G", "4", "GiB", "0GiB", "4gib", "99999999GiB", "é"] {
            assert_eq!(mebibytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_port_has_a_protocol() {
        assert_eq!(port("53/udp"), Some(Port { number: 53, protocol: Protocol::Udp }));
        for bad in ["80", "0/tcp", "65536/tcp", "80/sctp", "/tcp", "80/", "080/tcp"] {
            assert_eq!(port(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_cannot_be_an_option_of_ssh() {
        assert!(
            Word::Host.accepts("10.0.0.5") && Word::Host.accepts("fe80::1") && Word::Host.accepts("rack_1")
        );
        for bad in ["-oProxyCommand=x", "a b", "", "host;x", "a\n"] {
            assert!(!Word::Host.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn a_place_for_state_names_a_store_that_there_is() {
        assert_eq!(state_place("s3://b-1/a/b"), Some((Store::S3, "b-1", "a/b")));
        assert_eq!(state_place("az://box"), Some((Store::Azure, "box", "")));
        for bad in [
            "ftp://b/a",
            "s3:/b",
            "s3://",
            "s3://b/",
            "s3://b/../a",
            "s3://B/a",
            "s3://u:p@b/a",
            "gs://b?x=1",
        ] {
            assert_eq!(state_place(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_endpoint_holds_no_credentials() {
        assert!(
            Word::Endpoint.accepts("http://127.0.0.1:9000")
                && Word::Endpoint.accepts("https://s3.example.org")
        );
        for bad in
            ["https://user:pass@host", "https://host/", "host:9000", "https://host:0", "https://host?key=1"]
        {
            assert!(!Word::Endpoint.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn a_script_lies_below_the_blueprint() {
        assert!(Word::Script.accepts("checks/disk-1.sh") && Word::Script.accepts("disk"));
        for bad in ["/etc/passwd", "../x", "a/../b", "", "a//b", "./a", "~/a", "a/"] {
            assert!(!Word::Script.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn a_folder_cannot_climb() {
        assert!(Word::Folder.accepts("/var/lib/data"));
        for bad in ["/", "", "data", "/a/../b", "/a//b", "/a/", "/.", "/a b"] {
            assert!(!Word::Folder.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn a_private_key_is_not_a_public_one() {
        assert!(Word::PublicKey.accepts("ssh-ed25519 AAAAC3Nza me@here"));
        assert!(!Word::PublicKey.accepts("-----BEGIN OPENSSH PRIVATE KEY-----"));
    }
}
