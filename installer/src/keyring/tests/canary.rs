//! Recognisable secrets are planted, and everything that can be printed, serialized or written is searched for them.

use std::error::Error;
use std::fmt::{Debug, Display};
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::super::contents::Contents;
use super::super::secret::Secret;
use super::resting::Place;
use super::*;

const JOIN_KEY: &[u8; 32] = b"CANARY-join-key-CANARY-join-key!";
const SSH_SEED: &[u8; 32] = b"CANARY-ssh-seed-CANARY-ssh-seed!";
const PASSPHRASE: &str = "CANARY-passphrase";

fn planted() -> Keyring {
    let contents = keyring().contents;
    let (join_key, ssh_seed) = (Secret::from_slice(JOIN_KEY), Secret::from_slice(SSH_SEED));
    Keyring::from_contents(Contents { join_key, ssh_seed, ..contents }).expect("a keyring")
}

/// What a secret looks like when it leaks.
fn spellings(secret: &[u8]) -> Vec<String> {
    let hex = secret.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let list = format!("{secret:?}");
    // Any run of sixteen bytes is a leak, wherever base64 happens to begin.
    let base64 = (0..3).map(|skip| STANDARD.encode(&secret[skip..skip + 15]));
    let mut all = vec![hex[..32].to_owned(), hex[..32].to_uppercase(), list[1..40].to_owned()];
    all.extend(base64);
    all.extend(std::str::from_utf8(secret).ok().map(|text| text[..15].to_owned()));
    all
}

fn secrets_of(keyring: &Keyring) -> Vec<String> {
    let contents = &keyring.contents;
    let (ca, signing) = (contents.ca_key.bytes(), contents.signing_key.bytes());
    // The parts of PKCS #8 that are secret: the scalar, and the seed.
    let parts = [&ca[36..68], &signing[16..48], contents.join_key.bytes(), contents.ssh_seed.bytes()];
    let mut all: Vec<String> = parts.into_iter().flat_map(spellings).collect();
    all.extend(spellings(PASSPHRASE.as_bytes()));
    all
}

fn find<'a>(text: &str, secrets: &'a [String]) -> Option<&'a String> {
    secrets.iter().find(|secret| text.contains(secret.as_str()))
}

/// Everything that an error can say, down to its first cause.
fn all_of(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text} {error} {error:?}");
        cause = error.source();
    }
    text
}

#[test]
fn the_search_finds_what_is_there() {
    let keyring = planted();
    let secrets = secrets_of(&keyring);
    let openly = serde_json::to_string(&keyring.contents).expect("json");
    assert!(find(&openly, &secrets).is_some());
    assert!(find(&format!("{JOIN_KEY:?}"), &secrets).is_some());
    assert!(find(&String::from_utf8_lossy(SSH_SEED), &secrets).is_some());
    assert!(
        find(&openly, &spellings(keyring.contents.ca_key.bytes().get(36..68).expect("a scalar"))).is_some()
    );
    assert!(find(&keyring.ssh_key_openssh().expect("a key").replace('\n', ""), &secrets).is_some());
}

#[test]
fn no_public_type_prints_a_secret() {
    let mut keyring = planted();
    let mut secrets = secrets_of(&keyring);
    let token = keyring.offer_token(&name("masters-1"), 1, NOW + HOUR, NOW).expect("a token");
    secrets.push(token.expose().to_string());
    let installer = keyring.issue_installer(NOW, &rng()).expect("an identity");
    secrets.extend(spellings(&installer.private_key().secret_der()[36..68]));
    let applicant = Applicant::new();
    let request = applicant.request("masters-1", &token);
    let issued = keyring.enrol(&request, &identity("masters-1"), NOW, &rng()).expect("a certificate");
    let place = Place::new();
    let unlock = Unlock::Passphrase(Passphrase::new(PASSPHRASE.into()).expect("a passphrase"));
    let file = KeyringFile::new(place.path(), cluster(), unlock);
    let passphrase = Passphrase::new(PASSPHRASE.into()).expect("a passphrase");
    let enrolment = keyring.enrolment(&name("masters-1")).expect("a record");
    let signature = keyring.sign("manifest", b"x");
    let verifying = keyring.verifying_key();
    let ssh = keyring.ssh_key().expect("a key");
    let debug: [&dyn Debug; 14] = [
        &keyring,
        &token,
        &installer,
        &request,
        &issued,
        &file,
        &passphrase,
        enrolment,
        &signature,
        &verifying,
        &ssh,
        &keyring.contents.ca_key,
        &identity("masters-1"),
        &keyring.ca_der(),
    ];
    for value in debug {
        let text = format!("{value:?} {value:#?}");
        assert_eq!(find(&text, &secrets), None, "{text}");
    }
    let display: [&dyn Display; 4] =
        [&signature, &verifying, &keyring.ca_pem(), &keyring.ssh_public_line().expect("a line")];
    for value in display {
        assert_eq!(find(&value.to_string(), &secrets), None, "{value}");
    }
    let json = serde_json::to_string(&(enrolment, &request, &signature, &verifying)).expect("json");
    assert_eq!(find(&json, &secrets), None, "{json}");
}

#[test]
fn no_error_prints_a_secret() {
    let mut keyring = planted();
    let mut secrets = secrets_of(&keyring);
    let token = keyring.offer_token(&name("masters-1"), 1, NOW + HOUR, NOW).expect("a token");
    secrets.push(token.expose().to_string());
    let mut errors: Vec<(String, String)> = Vec::new();
    let mut wrong = Applicant::new().request("masters-1", &token);
    wrong.statement.csr.push(0);
    for (request, node) in [(&wrong, "masters-1"), (&wrong, "masters-2")] {
        let error = keyring.enrol(request, &identity(node), NOW, &rng()).expect_err("a refusal");
        errors.push((all_of(&error), error.remedy()));
    }
    let place = Place::new();
    let file = place.file();
    file.create(NOW, &rng()).expect("a keyring");
    for contents in [
        // Contents that were sealed by the right key, but with a secret where none of ours would be.
        serde_json::json!({ "cluster": PASSPHRASE, "join_key": STANDARD.encode(JOIN_KEY) }),
        serde_json::json!({ String::from_utf8_lossy(JOIN_KEY): PASSPHRASE }),
    ] {
        resting::seal_instead(&place, contents.to_string().into_bytes());
        let error = place.file().open().expect_err("a refusal");
        assert!(matches!(error, KeyringError::Unreadable { .. }));
        errors.push((all_of(&error), error.remedy()));
    }
    let short = Contents { join_key: Secret::from_slice(&JOIN_KEY[..31]), ..self::keyring().contents };
    let error = KeyringError::from(Keyring::from_contents(short).expect_err("a refusal"));
    errors.push((all_of(&error), error.remedy()));
    let broken = Contents { signing_key: Secret::from_slice(JOIN_KEY), ..self::keyring().contents };
    let error = KeyringError::from(Keyring::from_contents(broken).expect_err("a refusal"));
    errors.push((all_of(&error), error.remedy()));
    for (text, remedy) in errors {
        assert_eq!(find(&text, &secrets), None, "{text}");
        assert_eq!(find(&remedy, &secrets), None, "{remedy}");
        assert!(!remedy.is_empty());
    }
}

#[test]
fn no_file_holds_a_secret_in_the_clear() {
    let place = Place::new();
    let file = place.file();
    file.create(NOW, &rng()).expect("a keyring");
    let token = file.update::<_, EnrolError>(&rng(), |keyring| {
        *keyring = planted();
        keyring.offer_token(&name("masters-1"), 1, NOW + HOUR, NOW)
    });
    let mut secrets = secrets_of(&file.open().expect("a keyring"));
    secrets.push(token.expect("a token").expose().to_string());
    let mut seen = 0;
    for entry in fs::read_dir(place.path().parent().expect("a folder")).expect("a folder") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
        assert_eq!(find(&String::from_utf8_lossy(&bytes), &secrets), None);
        let unpacked = bytes.split(|byte| *byte == b'\n').filter_map(|line| STANDARD.decode(line).ok());
        for line in unpacked {
            assert_eq!(find(&String::from_utf8_lossy(&line), &secrets), None);
        }
        seen += 1;
    }
    assert!(seen >= 2, "the keyring and its lock");
}

/// Compiles only while `$type` does not implement `$trait`: otherwise two candidates fit, and inference fails.
macro_rules! assert_not {
    ($type:ty: $trait:path) => {
        const _: fn() = || {
            trait Ambiguous<A> {
                fn some() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Invalid;
            impl<T: ?Sized + $trait> Ambiguous<Invalid> for T {}
            <$type as Ambiguous<_>>::some();
        };
    };
}

assert_not!(JoinToken: Display);
assert_not!(JoinToken: Serialize);
assert_not!(Keyring: Display);
assert_not!(Keyring: Serialize);
assert_not!(Keyring: Clone);
assert_not!(KeyringFile: Serialize);
assert_not!(Passphrase: Display);
assert_not!(Passphrase: Serialize);
assert_not!(Unlock: Serialize);
assert_not!(InstallerIdentity: Display);
assert_not!(InstallerIdentity: Serialize);
assert_not!(Contents: Debug);
