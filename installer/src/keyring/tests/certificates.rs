//! Certificates as a verifier sees them.

use std::time::Duration;

use castrum_blueprints::trust::INSTALLER_DNS;
use rcgen::{BasicConstraints, IsCa, Issuer, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType};
use ring::signature::{ED25519, UnparsedPublicKey};
use rustls_pki_types::{ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::super::certificate::NodeKey;
use super::*;

/// Whether webpki takes `der` for `subject` at `at`, given the keyring's CA.
fn check(
    keyring: &Keyring,
    der: &[u8],
    subject: &str,
    usage: KeyUsage,
    at: u64,
) -> Result<(), webpki::Error> {
    check_chain(keyring, der, &[], usage, at)?;
    let der = CertificateDer::from(der);
    let subject = ServerName::try_from(subject).expect("a subject");
    EndEntityCert::try_from(&der)?.verify_is_valid_for_subject_name(&subject)
}

fn check_chain(
    keyring: &Keyring,
    der: &[u8],
    between: &[&[u8]],
    usage: KeyUsage,
    at: u64,
) -> Result<(), webpki::Error> {
    let (ca, der) = (keyring.ca_der(), CertificateDer::from(der));
    let between: Vec<_> = between.iter().map(|der| CertificateDer::from(*der)).collect();
    let anchor = webpki::anchor_from_trusted_cert(&ca)?;
    let algorithms = [webpki::ring::ECDSA_P256_SHA256, webpki::ring::ED25519];
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    EndEntityCert::try_from(&der)?.verify_for_usage(
        &algorithms,
        &[anchor],
        &between,
        time,
        usage,
        None,
        None,
    )?;
    Ok(())
}

fn issue(keyring: &Keyring, csr: &[u8], now: u64) -> IssuedCertificate {
    let key = NodeKey::from_der(csr).expect("a key");
    keyring.issue_leaf(&key, &identity("masters-1"), now, &rng()).expect("a certificate")
}

#[test]
fn a_node_certificate_says_who_the_node_is_and_nothing_else() {
    let keyring = keyring();
    let issued = issue(&keyring, &Applicant::new().csr(), NOW);
    let (server, client) = (KeyUsage::server_auth(), KeyUsage::client_auth());
    for subject in [
        "masters-1.node.castrum.internal",
        "master.role.castrum.internal",
        "masters-1",
        "localhost",
        "10.1.2.3",
        "127.0.0.1",
    ] {
        assert_eq!(check(&keyring, &issued.der, subject, server, NOW), Ok(()), "{subject}");
        assert_eq!(check(&keyring, &issued.der, subject, client, NOW), Ok(()), "{subject}");
    }
    for subject in [
        "masters-2.node.castrum.internal",
        "agent.role.castrum.internal",
        INSTALLER_DNS,
        "10.1.2.4",
        "castrum.internal",
    ] {
        assert!(check(&keyring, &issued.der, subject, client, NOW).is_err(), "{subject}");
    }
}

#[test]
fn what_a_request_asks_for_is_ignored() {
    let keyring = keyring();
    let mut greedy = CertificateParams::default();
    greedy.subject_alt_names =
        [INSTALLER_DNS, "masters-2.node.castrum.internal", "agent.role.castrum.internal"]
            .map(|name| SanType::DnsName(name.try_into().expect("a name")))
            .to_vec();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.distinguished_name.push(rcgen::DnType::CommonName, INSTALLER_DNS);
    let node = Applicant::new();
    let issued = issue(&keyring, &node.csr_for(&greedy), NOW);
    let client = KeyUsage::client_auth();
    assert_eq!(check(&keyring, &issued.der, "masters-1", client, NOW), Ok(()));
    for san in [INSTALLER_DNS, "masters-2.node.castrum.internal", "agent.role.castrum.internal"] {
        assert!(check(&keyring, &issued.der, san, client, NOW).is_err(), "{san}");
    }
    // Nor can the node make certificates with what it got.
    let node_as_ca = Issuer::from_params(&greedy, &node.key);
    let mut forged = CertificateParams::default();
    forged.subject_alt_names = greedy.subject_alt_names.clone();
    let forged = forged.signed_by(&Applicant::new().key, &node_as_ca).expect("a certificate");
    assert!(check_chain(&keyring, forged.der(), &[&issued.der], client, NOW).is_err());
}

#[test]
fn a_node_certificate_holds_for_a_year_with_room_for_slow_clocks() {
    let keyring = keyring();
    let issued = issue(&keyring, &Applicant::new().csr(), NOW);
    let at = |time| check(&keyring, &issued.der, "masters-1", KeyUsage::server_auth(), time);
    // A slow clock first: the CA itself is from this very moment, too.
    assert_eq!(at(NOW - 9 * 60), Ok(()));
    assert!(at(NOW - 11 * 60).is_err());
    assert_eq!(at(NOW + 364 * DAY), Ok(()));
    assert!(at(NOW + 366 * DAY).is_err());
    assert_eq!(issued.not_after, NOW + 365 * DAY);
}

#[test]
fn the_ca_says_that_it_makes_no_other_ca() {
    // webpki does not look at the limits of a trust anchor, OpenSSL does; so it is read from the certificate:
    // basicConstraints (2.5.29.19), critical, a CA, with a path length of 0.
    let limit = [6, 3, 0x55, 0x1d, 19, 1, 1, 0xff, 4, 8, 0x30, 6, 1, 1, 0xff, 2, 1, 0];
    assert!(keyring().ca_der().windows(limit.len()).any(|window| window == limit));
}

#[test]
fn a_certificate_of_another_cluster_is_worth_nothing() {
    let (ours, theirs) = (keyring(), keyring());
    let issued = issue(&theirs, &Applicant::new().csr(), NOW);
    assert!(check(&ours, &issued.der, "masters-1", KeyUsage::client_auth(), NOW).is_err());
}

#[test]
fn the_installer_gets_a_client_certificate_for_a_day() {
    let keyring = keyring();
    let installer = keyring.issue_installer(NOW, &rng()).expect("an identity");
    let der = &installer.certificate.der;
    let client = |at| check(&keyring, der, INSTALLER_DNS, KeyUsage::client_auth(), at);
    assert_eq!((client(NOW), client(NOW + 23 * HOUR)), (Ok(()), Ok(())));
    assert!(client(NOW + 25 * HOUR).is_err());
    assert!(check(&keyring, der, INSTALLER_DNS, KeyUsage::server_auth(), NOW).is_err());
    assert!(check(&keyring, der, "masters-1", KeyUsage::client_auth(), NOW).is_err());

    let provider = rustls::crypto::ring::default_provider();
    let loaded = rustls::sign::CertifiedKey::from_der(installer.chain(), installer.private_key(), &provider);
    assert!(loaded.is_ok(), "the key belongs to the certificate");
    let other = keyring.issue_installer(NOW, &rng()).expect("an identity");
    assert!(rustls::sign::CertifiedKey::from_der(installer.chain(), other.private_key(), &provider).is_err());
    let read_back = KeyPair::from_pem(&installer.private_key_pem()).expect("a key");
    assert_eq!(read_back.serialized_der(), installer.private_key().secret_der());
}

#[test]
fn serial_numbers_are_random_and_pem_reads_back() {
    let keyring = keyring();
    let csr = Applicant::new().csr();
    let serials: BTreeSet<String> = (0..20).map(|_| issue(&keyring, &csr, NOW).serial).collect();
    assert_eq!(serials.len(), 20);
    assert!(serials.iter().all(|serial| serial.len() == 32));
    let issued = issue(&keyring, &csr, NOW);
    for (pem, der) in [(&issued.pem, &issued.der), (&keyring.ca_pem(), &keyring.ca_der().to_vec())] {
        let read_back = <CertificateDer as rustls_pki_types::pem::PemObject>::from_pem_slice(pem.as_bytes());
        assert_eq!(&read_back.expect("pem").to_vec(), der);
    }
}

#[test]
fn a_request_whose_signature_does_not_fit_is_refused() {
    let good = Applicant::new().csr();
    assert!(NodeKey::from_der(&good).is_ok());
    let mut bent = good.clone();
    *bent.last_mut().expect("bytes") ^= 1;
    assert!(matches!(NodeKey::from_der(&bent), Err(IssueError::Request(_))));
    // The key of another inside a request that its owner never signed.
    let (mine, theirs) = (Applicant::new(), Applicant::new());
    let stolen = swap(&mine.csr(), mine.key.public_key_raw(), theirs.key.public_key_raw());
    assert!(matches!(NodeKey::from_der(&stolen), Err(IssueError::Request(_))));
    for garbage in [&b""[..], b"nonsense", &good[..good.len() / 2]] {
        assert!(matches!(NodeKey::from_der(garbage), Err(IssueError::Request(_))));
    }
    let huge = vec![0x30; 20 * 1024];
    assert!(matches!(NodeKey::from_der(&huge), Err(IssueError::RequestTooLarge(20480))));
    assert!(matches!(NodeKey::from_pem(&"x".repeat(20 * 1024)), Err(IssueError::RequestTooLarge(_))));
    assert!(matches!(NodeKey::from_pem("nonsense"), Err(IssueError::Request(_))));
}

fn swap(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("the key is in the request");
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

#[test]
fn only_keys_of_the_kinds_that_we_make_are_accepted() {
    let of = |algorithm| Applicant { key: KeyPair::generate_for(algorithm).expect("a key") };
    assert!(NodeKey::from_der(&of(&PKCS_ED25519).csr()).is_ok());
    assert!(matches!(NodeKey::from_der(&of(&PKCS_ECDSA_P384_SHA384).csr()), Err(IssueError::RequestKey)));
}

#[test]
fn nothing_outlives_the_ca() {
    let keyring = keyring();
    let end = keyring.contents.ca_not_after;
    assert!((NOW + 3650 * DAY..NOW + 3660 * DAY).contains(&end));
    let late = issue(&keyring, &Applicant::new().csr(), end - DAY);
    assert_eq!(late.not_after, end);
    assert!(
        matches!(keyring.issue_installer(end, &rng()), Err(IssueError::AuthorityExpired(at)) if at == end)
    );
}

#[test]
fn a_clock_that_is_wrong_by_decades_is_refused() {
    for now in [0, NOW - 20 * 365 * DAY, u64::MAX] {
        assert!(matches!(Keyring::generate(cluster(), now, &rng()), Err(IssueError::Clock(at)) if at == now));
    }
    assert!(matches!(keyring().issue_installer(5, &rng()), Err(IssueError::Clock(5))));
}

#[test]
fn a_signature_holds_for_its_kind_bytes_and_cluster() {
    let (keyring, other) = (keyring(), keyring());
    let signature = keyring.sign("manifest", b"generation 1");
    let holds = |key: &VerifyingKey, kind, bytes| {
        UnparsedPublicKey::new(&ED25519, key.as_bytes())
            .verify(&signing_input(kind, bytes), signature.as_bytes())
            .is_ok()
    };
    let key = keyring.verifying_key();
    assert!(holds(&key, "manifest", b"generation 1"));
    assert!(!holds(&key, "manifest", b"generation 2"));
    assert!(!holds(&key, "index", b"generation 1"));
    assert!(!holds(&other.verifying_key(), "manifest", b"generation 1"));
}

#[test]
fn the_ssh_key_is_stable_and_openssh_reads_it() {
    let keyring = keyring();
    let line = keyring.ssh_public_line().expect("a line");
    assert!(line.starts_with("ssh-ed25519 AAAA") && line.ends_with(" castrum-0123456789ab"), "{line}");
    let text = keyring.ssh_key_openssh().expect("a key");
    let read_back = russh::keys::decode_secret_key(&text, None).expect("a key");
    assert_eq!(read_back.public_key().to_openssh().expect("a line"), line);
    assert_ne!(line, super::keyring().ssh_public_line().expect("a line"));
}
