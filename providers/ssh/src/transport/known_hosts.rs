//! `known_hosts` files, read as OpenSSH reads them: patterns, ports, hashed names, revoked keys.

use std::io;
use std::path::{Path, PathBuf};

use russh::keys::PublicKey;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};

use super::error::SshError;
use super::pattern;

/// The keys on record for one host.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) trusted: Vec<PublicKey>,
    pub(crate) revoked: Vec<PublicKey>,
}

/// What `files` say about `host` on `port`. A file that does not exist says nothing.
pub(crate) fn look_up(files: &[PathBuf], host: &str, port: u16) -> Result<Known, SshError> {
    let mut known = Known::default();
    let bracketed = format!("[{host}]:{port}");
    let name = if port == 22 { host } else { bracketed.as_str() };
    for file in files {
        read_into(file, name, &mut known)?;
    }
    // OpenSSH falls back to the entry without a port in the same way.
    if known.trusted.is_empty() && port != 22 {
        for file in files {
            read_into(file, host, &mut known)?;
        }
    }
    Ok(known)
}

fn read_into(path: &Path, name: &str, known: &mut Known) -> Result<(), SshError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SshError::File { path: path.to_owned(), source }),
    };
    // A line that cannot be read vouches for nobody; the others still do.
    let entries = text.lines().filter_map(|line| normal(line).parse::<Entry>().ok());
    for entry in entries.filter(|entry| names_host(entry.host_patterns(), name)) {
        match entry.marker() {
            None => known.trusted.push(entry.public_key().clone()),
            Some(Marker::Revoked) => known.revoked.push(entry.public_key().clone()),
            // Certificates are not asked for, so an authority vouches for no plain key.
            Some(Marker::CertAuthority) => {}
        }
    }
    Ok(())
}

/// One space between fields, no tabs, as the parser wants it.
fn normal(line: &str) -> String {
    line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn names_host(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => pattern::list_matches(patterns.iter().map(String::as_str), name),
        HostPatterns::HashedName { salt, hash } => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            ring::hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn known(text: &str, host: &str, port: u16) -> (usize, usize) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        std::fs::write(&file, text).unwrap();
        let known = look_up(&[file, dir.path().join("absent")], host, port).unwrap();
        (known.trusted.len(), known.revoked.len())
    }

    #[test]
    fn names_ports_patterns_and_revocations() {
        let text = format!(
            "# comment\nweb,10.0.0.1 {A} me@there\n[web]:2222\t{B}\n*.example.org,!bad.example.org {A}\n\
             @revoked * {B}\n@cert-authority * {A}\nnonsense\n"
        );
        assert_eq!(known(&text, "web", 22), (1, 1));
        assert_eq!(known(&text, "WEB", 22), (1, 1));
        assert_eq!(known(&text, "web", 2222).0, 1);
        assert_eq!(known(&text, "10.0.0.1", 2022).0, 1, "falls back to the entry without a port");
        assert_eq!(known(&text, "x.example.org", 22).0, 1);
        assert_eq!(known(&text, "bad.example.org", 22).0, 0);
        assert_eq!(known(&text, "other", 22), (0, 1));
    }

    #[test]
    fn names_hashed_by_ssh_keygen_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        std::fs::write(&file, format!("web {A}\n[db]:2200 {B}\n")).unwrap();
        let hashed = Command::new("ssh-keygen").arg("-H").arg("-f").arg(&file).output().unwrap();
        assert!(hashed.status.success());
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("|1|"));
        let files = [file];
        assert_eq!(look_up(&files, "web", 22).unwrap().trusted.len(), 1);
        assert_eq!(look_up(&files, "db", 2200).unwrap().trusted.len(), 1);
        assert_eq!(look_up(&files, "other", 22).unwrap().trusted.len(), 0);
    }
}
