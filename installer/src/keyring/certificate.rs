//! Certificates: what we say about a key, and nothing of what was asked for.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use castrum_blueprints::names::{ClusterId, Digest, NodeName, Role};
use castrum_blueprints::trust::{INSTALLER_DNS, node_dns, role_dns};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKey, PublicKeyData,
    SanType, SerialNumber,
};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::secret::Secret;
use super::{IssueError, Keyring};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;
/// Clocks of fresh machines are late by a little.
const BACKDATED: u64 = 10 * MINUTE;
const NODE_LIFE: u64 = 365 * DAY;
const INSTALLER_LIFE: u64 = DAY;
const AUTHORITY_LIFE: u64 = 3653 * DAY;
/// The years 2020 to 2200: a clock that says anything else is wrong, and X.509 dates would not hold it.
const CREDIBLE: std::ops::Range<u64> = 1_577_836_800..7_258_118_400;
const MAX_REQUEST: usize = 16 * 1024;

/// What a node's certificate says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Its name.
    pub node: NodeName,
    /// What it is for.
    pub role: Role,
    /// The addresses that others reach it at.
    pub addresses: Vec<IpAddr>,
}

/// A certificate, fresh from the CA. Not a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// As TLS libraries take it.
    pub der: Vec<u8>,
    /// As files hold it.
    pub pem: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// The unix second in which it ends.
    pub not_after: u64,
}

/// The installer's own client certificate, for one day.
pub struct InstallerIdentity {
    /// The certificate.
    pub certificate: IssuedCertificate,
    key: Secret,
}

impl InstallerIdentity {
    /// The chain for a TLS client.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from(self.certificate.der.clone())]
    }

    /// The private key for a TLS client.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.bytes().to_vec()))
    }

    /// The private key in PEM, for a program that a person starts.
    pub fn private_key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", self.key.bytes()))
    }
}

impl fmt::Debug for InstallerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstallerIdentity").field("serial", &self.certificate.serial).finish_non_exhaustive()
    }
}

impl Keyring {
    /// A client certificate for this run of the installer, with a key of its own.
    pub fn issue_installer(&self, now: u64, rng: &dyn SecureRandom) -> Result<InstallerIdentity, IssueError> {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, rng)
            .map_err(|_| IssueError::Random)?;
        let key = Secret::from_slice(key.as_ref());
        let pair = p256(&key).map_err(IssueError::Sign)?;
        let mut params = leaf_params("castrum installer");
        params.subject_alt_names = vec![dns(INSTALLER_DNS)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = self.issue(params, &*pair, Term { now, life: INSTALLER_LIFE }, rng)?;
        Ok(InstallerIdentity { certificate, key })
    }

    /// A certificate that says `identity` about `key`. Whether it may, the caller has checked.
    pub(super) fn issue_leaf(
        &self,
        key: &NodeKey,
        identity: &NodeIdentity,
        now: u64,
        rng: &dyn SecureRandom,
    ) -> Result<IssuedCertificate, IssueError> {
        let mut params = leaf_params(identity.node.as_str());
        let names = [
            node_dns(&identity.node),
            role_dns(identity.role),
            identity.node.to_string(),
            "localhost".into(),
        ];
        params.subject_alt_names = names.iter().map(|name| dns(name)).collect::<Result<_, _>>()?;
        let addresses: BTreeSet<IpAddr> =
            identity.addresses.iter().copied().chain([IpAddr::V4(Ipv4Addr::LOCALHOST)]).collect();
        params.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, &key.0, Term { now, life: NODE_LIFE }, rng)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        term: Term,
        rng: &dyn SecureRandom,
    ) -> Result<IssuedCertificate, IssueError> {
        if term.now >= self.contents.ca_not_after {
            return Err(IssueError::AuthorityExpired(self.contents.ca_not_after));
        }
        // What outlives its CA is refused by some verifiers, and only after years.
        let not_after = (term.now + term.life).min(self.contents.ca_not_after);
        let serial = date_and_number(&mut params, term.now, not_after, rng)?;
        let ca_key = p256(&self.contents.ca_key).map_err(IssueError::Authority)?;
        let issuer = Issuer::from_ca_cert_der(&self.ca_der(), &*ca_key).map_err(IssueError::Authority)?;
        let certificate = params.signed_by(key, &issuer).map_err(IssueError::Sign)?;
        let der = certificate.der().to_vec();
        Ok(IssuedCertificate { pem: pem("CERTIFICATE", &der), der, serial, not_after })
    }
}

/// From when, and for how long.
#[derive(Clone, Copy)]
struct Term {
    now: u64,
    life: u64,
}

/// The public key of a certificate signing request whose signature was checked; all else in the request is dropped.
pub(super) struct NodeKey(PublicKey);

impl NodeKey {
    pub(super) fn from_der(request: &[u8]) -> Result<Self, IssueError> {
        if request.len() > MAX_REQUEST {
            return Err(IssueError::RequestTooLarge(request.len()));
        }
        let request = CertificateSigningRequestDer::from(request);
        Self::checked(CertificateSigningRequestParams::from_der(&request).map_err(IssueError::Request)?)
    }

    pub(super) fn from_pem(request: &str) -> Result<Self, IssueError> {
        if request.len() > MAX_REQUEST {
            return Err(IssueError::RequestTooLarge(request.len()));
        }
        Self::checked(CertificateSigningRequestParams::from_pem(request).map_err(IssueError::Request)?)
    }

    fn checked(request: CertificateSigningRequestParams) -> Result<Self, IssueError> {
        let key = request.public_key;
        let (algorithm, bytes) = (key.algorithm(), key.der_bytes());
        // The signature algorithm does not name the curve; the length of the point does.
        let p256 = *algorithm == PKCS_ECDSA_P256_SHA256 && bytes.len() == 65 && bytes[0] == 4;
        let ed25519 = *algorithm == PKCS_ED25519 && bytes.len() == 32;
        if p256 || ed25519 { Ok(Self(key)) } else { Err(IssueError::RequestKey) }
    }

    /// The sha256 of the key with its algorithm (SPKI), which is how the record names it.
    pub(super) fn fingerprint(&self) -> Digest {
        Digest::of(&self.0.subject_public_key_info())
    }
}

/// The CA's own certificate.
pub(super) struct Authority {
    pub(super) der: Vec<u8>,
    pub(super) not_after: u64,
}

pub(super) fn make_authority(
    cluster: &ClusterId,
    key: &Secret,
    now: u64,
    rng: &dyn SecureRandom,
) -> Result<Authority, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("castrum {cluster} CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let not_after = now.saturating_add(AUTHORITY_LIFE);
    date_and_number(&mut params, now, not_after, rng)?;
    let pair = p256(key).map_err(IssueError::Authority)?;
    let certificate = params.self_signed(&*pair).map_err(IssueError::Authority)?;
    Ok(Authority { der: certificate.der().to_vec(), not_after })
}

fn leaf_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Sets the dates and a random serial number, which it returns in hexadecimal.
fn date_and_number(
    params: &mut CertificateParams,
    now: u64,
    not_after: u64,
    rng: &dyn SecureRandom,
) -> Result<String, IssueError> {
    if !CREDIBLE.contains(&now) {
        return Err(IssueError::Clock(now));
    }
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now - BACKDATED);
    params.not_after = epoch + Duration::from_secs(not_after);
    let mut serial = [0; 16];
    rng.fill(&mut serial).map_err(|_| IssueError::Random)?;
    // Positive and of full length (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(format!("{:032x}", u128::from_be_bytes(serial)))
}

fn dns(name: &str) -> Result<SanType, IssueError> {
    name.try_into().map(SanType::DnsName).map_err(IssueError::Sign)
}

fn p256(key: &Secret) -> Result<Zeroizing<KeyPair>, rcgen::Error> {
    let der = PrivatePkcs8KeyDer::from(key.bytes());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map(Zeroizing::new)
}

/// RFC 7468.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut out = format!("-----BEGIN {label}-----\n");
    // All at once: growing would leave copies of a private key behind.
    out.reserve(text.len() + text.len() / 64 + label.len() + 32);
    for start in (0..text.len()).step_by(64) {
        out.push_str(&text[start..text.len().min(start + 64)]);
        out.push('\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        out.push_str(part);
    }
    out
}
