//! How a node gets its certificate: it makes a key that never leaves it, proves its join token, and asks until the
//! installer has decided. Over SSH the installer does the asking: [`prepare_command`] and [`accept_command`].
//!
//! ```text
//! no certificate ──ask a master──▶ pending ──▶ admitted: accept, forget the token
//!        ▲                           │  └────▶ refused: say so, ask again slowly
//!        └── the next master ◀─ failed      (a certificate that `join accept` stored ends the loop as well)
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use castrum_blueprints::manifest::Peer;
use castrum_blueprints::trust::{JoinRequest, JoinStatement, JoinToken, Nonce, host_key, node_dns, role_dns};
use castrum_blueprints::wire::{HOLD_SECONDS, JoinAnswer};
use hyper::Method;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::{Identity, IdentityError, Tls};
use crate::api::masters::Masters;
use crate::api::pace::Backoff;
use crate::http::{HttpError, Link, within};

const ANSWER_CAP: usize = 64 * 1024;
/// What a refused node waits: a person has to do something first.
const AFTER_REFUSAL: Duration = Duration::from_secs(15);
/// How soon a certificate that came another way is seen.
const GLANCE: Duration = Duration::from_millis(200);
const CERTIFICATE_CAP: u64 = 64 * 1024;

/// Makes the node's key and request where there are none yet, and proves the request with the join token.
///
/// Asked again it is the same key and the same request, so that a decision that is under way still fits.
pub fn prepare(identity: &Identity) -> Result<JoinRequest, IdentityError> {
    let dir = identity.pki_dir();
    fs::create_dir_all(&dir).map_err(|source| IdentityError::Write { path: dir.clone(), source })?;
    write_whole(&dir.join("ca.crt"), identity.trusted.concat().as_bytes(), 0o644)?;
    let key = made_once(&dir.join("node.key"), || {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
        Ok(Zeroizing::new(key.serialize_pem().into_bytes()))
    })?;
    let csr = made_once(&dir.join("node.csr"), || make_request(identity, &key))?;
    let token_path = identity.state_dir().join("token");
    let token = fs::read_to_string(&token_path).map(Zeroizing::new);
    let token = token.map_err(|source| IdentityError::Read { path: token_path, source })?;
    let token = JoinToken::parse(&token).map_err(IdentityError::Token)?;
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_| IdentityError::Random)?;
    let statement = JoinStatement {
        node: identity.node.clone(),
        incarnation: identity.incarnation,
        csr: csr.to_vec(),
        host_keys: host_keys(&identity.root),
        nonce: Nonce::from_bytes(nonce),
    };
    Ok(statement.prove(&token))
}

/// Stores the node's certificate, if it is one of this cluster for this node, its role and its key; then the token and
/// the request are done with.
pub fn accept(identity: &Identity, pem: &str) -> Result<(), IdentityError> {
    check(identity, pem)?;
    let key_path = identity.pki_dir().join("node.key");
    let key = fs::read(&key_path).map(Zeroizing::new);
    let key = key.map_err(|source| IdentityError::Read { path: key_path, source })?;
    identity.tls_from(pem.as_bytes(), &key)?;
    write_whole(&identity.pki_dir().join("node.crt"), pem.as_bytes(), 0o644)?;
    forget_token(identity)
}

/// Asks the masters in turn until the node has a certificate. It ends with an error only when a certificate that is
/// there cannot be used.
pub async fn until_admitted(identity: &Identity) -> Result<Tls, IdentityError> {
    let masters = Masters::new(&identity.node, &identity.masters);
    let mut backoff = Backoff::default();
    loop {
        if let Some(tls) = identity.tls()? {
            forget_token(identity)?;
            return Ok(tls);
        }
        let wait = tokio::select! {
            biased;
            () = certificate_appears(identity) => continue,
            wait = ask_once(identity, &masters, &mut backoff) => wait,
        };
        tokio::select! {
            () = certificate_appears(identity) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// `join prepare`: writes the request as JSON.
pub fn prepare_command(root: &Path, out: &mut impl Write) -> Result<(), IdentityError> {
    let request = prepare(&*Identity::load(root)?)?;
    let failed = |source| IdentityError::Stream { what: "write the join request", source };
    let text = serde_json::to_string(&request).map_err(|error| failed(error.into()))?;
    writeln!(out, "{text}").map_err(failed)
}

/// `join accept`: reads the certificate in PEM.
pub fn accept_command(root: &Path, input: &mut impl Read) -> Result<(), IdentityError> {
    let mut pem = String::new();
    let read = input.take(CERTIFICATE_CAP).read_to_string(&mut pem);
    read.map_err(|source| IdentityError::Stream { what: "read the certificate", source })?;
    accept(&*Identity::load(root)?, &pem)
}

async fn certificate_appears(identity: &Identity) {
    let path = identity.pki_dir().join("node.crt");
    while !path.exists() {
        tokio::time::sleep(GLANCE).await;
    }
}

/// One question to one master; gives what to wait before the next.
async fn ask_once(identity: &Identity, masters: &Masters, backoff: &mut Backoff) -> Duration {
    let request = match prepare(identity) {
        Ok(request) => request,
        Err(error) => {
            error!(error = crate::api::chain(&error), "cannot ask to join");
            return AFTER_REFUSAL;
        }
    };
    let Some(master) = masters.current() else { return backoff.next() };
    match ask(identity, &master, &request).await {
        Ok(JoinAnswer::Admitted { certificate }) => match accept(identity, &certificate) {
            Ok(()) => {
                info!(master = %master.name, "admitted");
                return Duration::ZERO;
            }
            Err(error) => {
                error!(master = %master.name, error = crate::api::chain(&error), "got a wrong certificate");
            }
        },
        Ok(JoinAnswer::Refused { reason }) => {
            error!(master = %master.name, reason, "not admitted to the cluster");
            return AFTER_REFUSAL;
        }
        Ok(JoinAnswer::Pending) => {
            backoff.reset();
            return backoff.next();
        }
        Err(error) => warn!(master = %master.name, error = crate::api::chain(&error), "cannot ask to join"),
    }
    masters.failed(&master);
    backoff.next()
}

async fn ask(identity: &Identity, master: &Peer, request: &JoinRequest) -> Result<JoinAnswer, HttpError> {
    let tls = identity
        .stranger()
        .map_err(|error| HttpError::Tls { to: master.name.to_string(), source: io::Error::other(error) })?;
    let endpoint = crate::api::client::agent(&tls, master, identity.api_port)?;
    let to = endpoint.name().to_owned();
    let body = serde_json::to_vec(request).map_err(|source| HttpError::Answer { to: to.clone(), source })?;
    let answer = within(Duration::from_secs(HOLD_SECONDS + 5), &to, async {
        let mut link = Link::open(&endpoint).await?;
        link.ask(Method::POST, "/v1/join", Some(Bytes::from(body)), ANSWER_CAP).await
    });
    crate::api::client::understood(&to, &answer.await?)
}

fn make_request(identity: &Identity, key: &[u8]) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let text =
        std::str::from_utf8(key).map_err(|_| IdentityError::Key(rcgen::Error::CouldNotParseKeyPair))?;
    let key = rcgen::KeyPair::from_pem(text).map_err(IdentityError::Key)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, identity.node.as_str());
    let request = params.serialize_request(&key).map_err(IdentityError::Key)?;
    Ok(Zeroizing::new(request.der().to_vec()))
}

/// The machine's SSH host keys; a machine without SSH has none.
pub(crate) fn host_keys(root: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(root.join("etc/ssh")) else { return BTreeSet::new() };
    let is_ours = |name: &str| name.starts_with("ssh_host_") && name.ends_with("_key.pub");
    let files = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
    files.filter_map(|entry| host_key(&fs::read_to_string(entry.path()).ok()?).ok()).collect()
}

pub(super) fn check(identity: &Identity, pem: &str) -> Result<(), IdentityError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|source| IdentityError::Pem { what: "node's certificate", source })?;
    let own = node_dns(&identity.node);
    let wrong = |name: &str, source| IdentityError::Certificate { name: name.to_owned(), source };
    let certificate = webpki::EndEntityCert::try_from(&der).map_err(|source| wrong(&own, source))?;
    let anchor = webpki::anchor_from_trusted_cert(&identity.ca).map_err(|source| wrong("its CA", source))?;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    for usage in [webpki::KeyUsage::client_auth(), webpki::KeyUsage::server_auth()] {
        certificate
            .verify_for_usage(
                algorithms,
                std::slice::from_ref(&anchor),
                &[],
                UnixTime::now(),
                usage,
                None,
                None,
            )
            .map_err(|source| wrong(&own, source))?;
    }
    for name in [own.clone(), role_dns(identity.role)] {
        let server = ServerName::try_from(name.clone())
            .map_err(|_| wrong(&name, webpki::Error::MalformedDnsIdentifier))?;
        certificate.verify_is_valid_for_subject_name(&server).map_err(|source| wrong(&name, source))?;
    }
    Ok(())
}

fn forget_token(identity: &Identity) -> Result<(), IdentityError> {
    for path in [identity.state_dir().join("token"), identity.pki_dir().join("node.csr")] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(|source| IdentityError::Write { path, source })?,
        }
    }
    Ok(())
}

/// The content of `path`, which is made at most once, also when two processes want it at a time.
fn made_once(
    path: &Path,
    make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, IdentityError>,
) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    if !path.exists() {
        let temp = write_temp(path, &make()?, 0o600)?;
        let linked = fs::hard_link(&temp, path);
        drop(fs::remove_file(&temp));
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked.map_err(|source| IdentityError::Write { path: path.to_owned(), source })?,
        }
    }
    let content = fs::read(path).map(Zeroizing::new);
    content.map_err(|source| IdentityError::Read { path: path.to_owned(), source })
}

/// Writes `path` whole or not at all.
fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), IdentityError> {
    let temp = write_temp(path, content, mode)?;
    let renamed = fs::rename(&temp, path).and_then(|()| match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    });
    renamed.map_err(|source| IdentityError::Write { path: path.to_owned(), source })
}

fn write_temp(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf, IdentityError> {
    let temp = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&temp)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|source| IdentityError::Write { path: temp.clone(), source })?;
    Ok(temp)
}
