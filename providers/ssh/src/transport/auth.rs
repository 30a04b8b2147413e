//! Who we are: keys in memory, keys in ssh-agent, key files; in this order, and never a password.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::key::PrivateKeyWithHashAlg;
use russh::keys::{HashAlg, PrivateKey, PublicKey};
use tokio::net::UnixStream;

use super::connect::Client;
use super::error::{SshError, fingerprint};

/// The identities that are offered to a host.
#[derive(Clone, Default)]
pub struct Auth {
    keys: Vec<Arc<PrivateKey>>,
    agent: Option<PathBuf>,
    files: Vec<PathBuf>,
    /// Somebody named the files; else they are those that are looked for by custom.
    files_named: bool,
    only_listed: bool,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("keys", &self.keys.iter().map(|key| fingerprint(key.public_key())).collect::<Vec<_>>())
            .field("agent", &self.agent)
            .field("files", &self.files)
            .field("only_listed", &self.only_listed)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// The agent on `socket`, if there is one, and the key files that OpenSSH looks for in `home/.ssh`.
    pub fn for_user(home: &Path, socket: Option<PathBuf>) -> Self {
        let files = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| home.join(".ssh").join(name));
        Self { agent: socket, files: files.to_vec(), ..Self::default() }
    }

    /// As [`Self::for_user`], for the user that runs this process (`HOME`, `SSH_AUTH_SOCK`).
    pub fn from_environment() -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        Self::for_user(&home, std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from))
    }

    /// Offers `key` before all others.
    #[must_use]
    pub fn with_key(mut self, key: PrivateKey) -> Self {
        self.keys.push(Arc::new(key));
        self
    }

    /// Asks the agent on `socket`.
    #[must_use]
    pub fn with_agent(mut self, socket: impl Into<PathBuf>) -> Self {
        self.agent = Some(socket.into());
        self
    }

    /// Asks no agent.
    #[must_use]
    pub fn without_agent(mut self) -> Self {
        self.agent = None;
        self
    }

    /// Offers exactly these files, in this order, in place of those listed before.
    #[must_use]
    pub fn with_files(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.files = files.into_iter().collect();
        self.files_named = true;
        self
    }

    /// Adds the files of a configuration: behind those that were named, or in place of the customary ones.
    #[must_use]
    pub(crate) fn with_configured_files(self, files: &[PathBuf]) -> Self {
        let named = if self.files_named { self.files.clone() } else { Vec::new() };
        self.with_files(named.into_iter().chain(files.iter().cloned()))
    }

    /// Offers of the agent's keys only those whose file is listed (`IdentitiesOnly`).
    #[must_use]
    pub fn only_listed(mut self) -> Self {
        self.only_listed = true;
        self
    }

    /// The same identities but for the keys in memory, which are meant for one host and not for those before it.
    pub(crate) fn without_keys(&self) -> Self {
        Self { keys: Vec::new(), ..self.clone() }
    }
}

/// Reads an unencrypted private key (OpenSSH or PKCS#8 text).
pub fn parse_private_key(text: &str) -> Result<PrivateKey, SshError> {
    russh::keys::decode_secret_key(text, None)
        .map_err(|error| SshError::Key { name: "in memory".to_owned(), reason: error.to_string() })
}

/// Authenticates `user` with the first identity that the server takes.
pub(crate) async fn authenticate(
    handle: &mut Handle<Client>,
    address: &str,
    user: &str,
    auth: &Auth,
) -> Result<(), SshError> {
    let mut login = Login { handle, user, tried: Vec::new(), over: false };
    let done = login.with_memory(auth).await || login.with_agent_and_files(auth).await;
    if done {
        return Ok(());
    }
    let mut tried = login.tried;
    if tried.is_empty() {
        tried.push("there is none to offer".to_owned());
    }
    Err(SshError::AuthRefused { address: address.to_owned(), user: user.to_owned(), tried })
}

/// A key file, as far as it could be read.
enum FileKey {
    Usable(Arc<PrivateKey>),
    /// Only the public half is of use: the agent may hold the other.
    PublicOnly(PublicKey, &'static str),
}

impl FileKey {
    fn public(&self) -> &PublicKey {
        match self {
            Self::Usable(key) => key.public_key(),
            Self::PublicOnly(key, _) => key,
        }
    }
}

struct Login<'a> {
    handle: &'a mut Handle<Client>,
    user: &'a str,
    tried: Vec<String>,
    /// The server ended it; more offers are of no use.
    over: bool,
}

impl Login<'_> {
    async fn with_memory(&mut self, auth: &Auth) -> bool {
        for key in &auth.keys {
            let name = format!("key {}", fingerprint(key.public_key()));
            if self.offer_key(&name, key.clone()).await {
                return true;
            }
        }
        false
    }

    /// Agent keys whose file is listed come first, then the agent's others, then files that the agent does not hold.
    async fn with_agent_and_files(&mut self, auth: &Auth) -> bool {
        let files = self.read_files(&auth.files);
        let mut agent = self.open_agent(auth.agent.as_deref()).await;
        let listed = |id: &AgentIdentity| {
            files.iter().position(|(_, file)| file.public().key_data() == public_of(id).key_data())
        };
        if let Some((client, identities)) = &mut agent {
            identities.retain(|id| !auth.only_listed || listed(id).is_some());
            identities.sort_by_key(|id| listed(id).unwrap_or(usize::MAX));
            for identity in &*identities {
                if self.offer_agent(client, identity).await {
                    return true;
                }
            }
        }
        let held = |key: &PublicKey| {
            let ids = agent.iter().flat_map(|(_, ids)| ids);
            ids.into_iter().any(|id| public_of(id).key_data() == key.key_data())
        };
        for (path, file) in files.iter().filter(|(_, file)| !held(file.public())) {
            let name = path.display().to_string();
            match file {
                FileKey::Usable(key) if self.offer_key(&name, key.clone()).await => return true,
                FileKey::Usable(_) => {}
                FileKey::PublicOnly(_, why) => self.tried.push(format!("{name}: {why}")),
            }
        }
        false
    }

    async fn offer_key(&mut self, name: &str, key: Arc<PrivateKey>) -> bool {
        if self.over {
            return false;
        }
        let key = PrivateKeyWithHashAlg::new(key, None);
        let result = self.handle.authenticate_publickey(self.user, key).await;
        self.judge(name, result.map_err(|error| error.to_string()))
    }

    async fn offer_agent(&mut self, agent: &mut AgentClient<UnixStream>, identity: &AgentIdentity) -> bool {
        if self.over {
            return false;
        }
        let public = public_of(identity);
        let hash = if public.algorithm().is_rsa() { Some(HashAlg::Sha512) } else { None };
        let result = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                self.handle.authenticate_publickey_with(self.user, key.clone(), hash, agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                self.handle.authenticate_certificate_with(self.user, certificate.clone(), hash, agent).await
            }
        };
        let name = format!("{} in the agent", fingerprint(&public));
        self.judge(&name, result.map_err(|error| error.to_string()))
    }

    fn judge(&mut self, name: &str, result: Result<AuthResult, String>) -> bool {
        let why = match result {
            Ok(AuthResult::Success) => return true,
            Ok(AuthResult::Failure { partial_success: true, remaining_methods }) => {
                self.over = true;
                format!("accepted, but the server wants more: {remaining_methods:?}")
            }
            Ok(AuthResult::Failure { .. }) if self.handle.is_closed() => {
                self.over = true;
                "refused, and the server ended the session (too many identities?)".to_owned()
            }
            Ok(AuthResult::Failure { .. }) => "refused".to_owned(),
            Err(error) => error,
        };
        self.tried.push(format!("{name}: {why}"));
        false
    }

    async fn open_agent(
        &mut self,
        socket: Option<&Path>,
    ) -> Option<(AgentClient<UnixStream>, Vec<AgentIdentity>)> {
        let socket = socket?;
        let mut agent = match AgentClient::connect_uds(socket).await {
            Ok(agent) => agent,
            Err(error) => {
                self.tried.push(format!("agent on {}: {error}", socket.display()));
                return None;
            }
        };
        if let Some(binding) = self.handle.agent_session_binding() {
            // Agents older than OpenSSH 8.9 do not know the request; they have no constrained keys either.
            let _ = agent.bind_session(binding, false).await;
        }
        match agent.request_identities().await {
            Ok(identities) => Some((agent, identities)),
            Err(error) => {
                self.tried.push(format!("agent on {}: {error}", socket.display()));
                None
            }
        }
    }

    fn read_files(&mut self, paths: &[PathBuf]) -> Vec<(PathBuf, FileKey)> {
        let mut keys = Vec::new();
        for path in paths {
            match read_file(path) {
                Ok(Some(key)) => keys.push((path.clone(), key)),
                Ok(None) => {}
                Err(why) => self.tried.push(format!("{}: {why}", path.display())),
            }
        }
        keys
    }
}

fn public_of(identity: &AgentIdentity) -> PublicKey {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.clone(),
        AgentIdentity::Certificate { certificate, .. } => {
            PublicKey::new(certificate.public_key().clone(), "")
        }
    }
}

/// A key file; `None` if there is neither it nor its `.pub`.
fn read_file(path: &Path) -> Result<Option<FileKey>, String> {
    let Ok(text) = std::fs::read_to_string(path) else {
        let public = read_public(path).or_else(|| PublicKey::read_openssh_file(path).ok());
        return Ok(public.map(|key| FileKey::PublicOnly(key, "not in the agent")));
    };
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("others may read it (mode {:o})", mode & 0o777));
    }
    if let Ok(key) = PrivateKey::from_openssh(&text) {
        let public = key.public_key().clone();
        return Ok(Some(match (key.is_encrypted(), public.algorithm().is_rsa()) {
            (true, _) => FileKey::PublicOnly(public, "encrypted, and not in the agent"),
            (_, true) => FileKey::PublicOnly(public, "an RSA key, which only the agent can use"),
            _ => FileKey::Usable(Arc::new(key)),
        }));
    }
    match (russh::keys::decode_secret_key(&text, None), read_public(path)) {
        (Ok(key), _) => Ok(Some(FileKey::Usable(Arc::new(key)))),
        (Err(_), Some(public)) => {
            Ok(Some(FileKey::PublicOnly(public, "encrypted or of another format, and not in the agent")))
        }
        (Err(error), None) => Err(error.to_string()),
    }
}

fn read_public(path: &Path) -> Option<PublicKey> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PublicKey::read_openssh_file(Path::new(&name)).ok()
}
