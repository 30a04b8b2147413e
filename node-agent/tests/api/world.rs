//! A cluster on the loopback interface: a CA and a signing key, masters and nodes with their own folders and addresses,
//! and the installer's side of the API.
//!
//! Every node has an address of its own out of 127.0.0.0/8 and all have the same port, as in a real cluster.

#[path = "calls.rs"]
mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use castrum_agent::api::{self, Context, FactReader, Limits};
use castrum_agent::identity::{Identity, Tls};
use castrum_blueprints::boot::BootConfig;
use castrum_blueprints::manifest::{Blob, ComponentManifest, Manifest, Peer, SignedManifest};
use castrum_blueprints::names::{ClusterId, ComponentName, Digest, NodeName, Role, Timestamp};
use castrum_blueprints::status::NodeStatus;
use castrum_blueprints::trust::{
    INSTALLER_DNS, JoinRequest, JoinTerms, JoinToken, node_dns, role_dns, signing_input,
};
use castrum_blueprints::wire::{PublishAnswer, WatchAnswer};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, PublicKeyData, SanType,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use calls::{Ask, ask, ask_from, dial, plant};

pub const TIME: Duration = Duration::from_secs(20);
pub const JOIN_KEY: [u8; 32] = [9; 32];
pub const EXPIRES: u64 = 4_000_000_000;

/// Ends with a failed test rather than never.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME, future).await.unwrap_or_else(|_| panic!("{what}: not within {TIME:?}"))
}

/// Until `holds`.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub cluster: ClusterId,
    pub port: u16,
    pub masters: Vec<Peer>,
    pub agent: Digest,
    net: [u8; 2],
    ca_pem: String,
    ca: Issuer<'static, KeyPair>,
    signer: Ed25519KeyPair,
}

impl World {
    /// With so many masters, none of which runs yet.
    pub fn new(masters: u8) -> Self {
        let mut random = [0; 2];
        SystemRandom::new().fill(&mut random).unwrap();
        let net = [random[0] | 1, random[1]];
        let probe = std::net::TcpListener::bind((Ipv4Addr::new(127, net[0], net[1], 1), 0)).unwrap();
        let masters = (1..=masters).map(|number| Peer {
            name: format!("masters-{number}").parse().unwrap(),
            address: IpAddr::from([127, net[0], net[1], number]),
        });
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&ca_key).unwrap().pem();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            cluster: "0123456789ab".parse().unwrap(),
            port: probe.local_addr().unwrap().port(),
            masters: masters.collect(),
            agent: Digest::of(b"the agent"),
            net,
            ca_pem,
            ca: Issuer::new(params, ca_key),
            signer: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(),
        }
    }

    pub fn address(&self, last: u8) -> IpAddr {
        IpAddr::from([127, self.net[0], self.net[1], last])
    }

    /// A node's folder with boot data and join token, and no certificate.
    pub fn fresh(&self, name: &str, role: Role, incarnation: u64) -> PathBuf {
        let root = self.dir.path().join(format!("{name}-{incarnation}"));
        let state = root.join("var/lib/castrum");
        std::fs::create_dir_all(&state).unwrap();
        let boot = BootConfig {
            format_version: BootConfig::FORMAT,
            cluster: self.cluster.clone(),
            node: name.parse().unwrap(),
            role,
            incarnation,
            expires: EXPIRES,
            masters: self.masters.clone(),
            ca: self.ca_pem.clone(),
            verify_key: STANDARD.encode(self.signer.public_key().as_ref()),
            agent: Some(self.agent.clone()),
            api_port: self.port,
            former_cas: Vec::new(),
        };
        std::fs::write(state.join("boot.json"), boot.to_text()).unwrap();
        std::fs::write(state.join("token"), self.token(name, incarnation).expose().as_bytes()).unwrap();
        root
    }

    pub fn token(&self, name: &str, incarnation: u64) -> JoinToken {
        let node: NodeName = name.parse().unwrap();
        let terms = JoinTerms { cluster: &self.cluster, node: &node, incarnation, expires: EXPIRES };
        JoinToken::derive(&JOIN_KEY, &terms)
    }

    /// A certificate for somebody's key.
    pub fn certify(&self, key: &impl PublicKeyData, name: &str, role: Role, address: IpAddr) -> String {
        let node: NodeName = name.parse().unwrap();
        self.sign(key, &[node_dns(&node), role_dns(role)], Some(address))
    }

    /// A certificate for the key that asks to join.
    pub fn certify_request(&self, request: &JoinRequest, name: &str, role: Role, address: IpAddr) -> String {
        let der = CertificateSigningRequestDer::from(request.statement.csr.as_slice());
        let asked = CertificateSigningRequestParams::from_der(&der).unwrap();
        self.certify(&asked.public_key, name, role, address)
    }

    fn sign(&self, key: &impl PublicKeyData, names: &[String], address: Option<IpAddr>) -> String {
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params.subject_alt_names.extend(address.map(SanType::IpAddress));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.ca).unwrap().pem()
    }

    /// A node's folder with everything, and who it is.
    pub fn enrolled(&self, name: &str, role: Role, last: u8) -> (Arc<Identity>, Tls) {
        let root = self.fresh(name, role, 1);
        let pki = root.join("var/lib/castrum/pki");
        std::fs::create_dir_all(&pki).unwrap();
        let key = KeyPair::generate().unwrap();
        std::fs::write(pki.join("node.key"), key.serialize_pem()).unwrap();
        std::fs::write(pki.join("node.crt"), self.certify(&key, name, role, self.address(last))).unwrap();
        let identity = Identity::load(&root).unwrap();
        let tls = identity.tls().unwrap().unwrap();
        (identity, tls)
    }

    /// A TLS client with a certificate of these names, or none.
    pub fn client(&self, names: &[String]) -> Arc<ClientConfig> {
        if names.is_empty() {
            return Arc::new(self.builder().with_no_client_auth());
        }
        self.client_showing(&self.pem(names))
    }

    /// A TLS client that trusts this cluster and shows a certificate with its key, whoever's.
    pub fn client_showing(&self, (pem, key): &(String, String)) -> Arc<ClientConfig> {
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        Arc::new(self.builder().with_client_auth_cert(chain, key).unwrap())
    }

    fn builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
    }

    /// A certificate of these names and its key.
    pub fn pem(&self, names: &[String]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (self.sign(&key, names, None), key.serialize_pem())
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub fn installer(&self) -> Arc<ClientConfig> {
        self.client(&[INSTALLER_DNS.to_owned()])
    }

    /// A running master, `number` from 1.
    pub async fn master(&self, number: u8) -> Node {
        self.master_with(number, Limits::default()).await
    }

    pub async fn master_with(&self, number: u8, limits: Limits) -> Node {
        let name = format!("masters-{number}");
        let (identity, tls) = self.enrolled(&name, Role::Master, number);
        Node::start(identity, tls, self.address(number), limits).await
    }

    /// A running private agent at the address that ends with `last`.
    pub async fn agent(&self, last: u8) -> Node {
        let (identity, tls) = self.enrolled(&format!("agents-{last}"), Role::Agent, last);
        Node::start(identity, tls, self.address(last), Limits::default()).await
    }

    pub fn manifest(&self, node: &str, generation: u64, bundle: Option<Blob>) -> SignedManifest {
        let component = bundle.map(|blob| ComponentManifest { bundle: Some(blob), ..nothing() });
        self.manifest_of(node, generation, component)
    }

    /// With so many bytes of config.
    pub fn large_manifest(&self, node: &str, generation: u64, bytes: usize) -> SignedManifest {
        let config = BTreeMap::from([("large".to_owned(), "x".repeat(bytes))]);
        self.manifest_of(node, generation, Some(ComponentManifest { config, ..nothing() }))
    }

    fn manifest_of(
        &self,
        node: &str,
        generation: u64,
        component: Option<ComponentManifest>,
    ) -> SignedManifest {
        self.seal(&Manifest {
            format_version: 1,
            cluster: self.cluster.clone(),
            cluster_name: "test".parse().unwrap(),
            node: node.parse().unwrap(),
            role: Role::Agent,
            generation,
            masters: self.masters.clone(),
            components: component.map(Arc::new).into_iter().collect(),
        })
    }

    pub fn seal(&self, manifest: &Manifest) -> SignedManifest {
        let text = serde_json::to_string(manifest).unwrap();
        let signature = self.signer.sign(&signing_input("manifest", text.as_bytes()));
        SignedManifest {
            node: manifest.node.clone(),
            generation: manifest.generation,
            content: manifest.content(),
            manifest: text,
            signature: STANDARD.encode(signature.as_ref()),
        }
    }

    pub fn status(&self, node: &str, sequence: u64, blobs: &[Digest]) -> NodeStatus {
        NodeStatus {
            format_version: 1,
            cluster: self.cluster.clone(),
            node: node.parse().unwrap(),
            incarnation: "1".to_owned(),
            agent_version: "0".to_owned(),
            boot_id: "boot".to_owned(),
            sequence,
            started_at: Timestamp(1),
            at: Timestamp(sequence),
            generation: 0,
            content: None,
            components: BTreeMap::new(),
            blobs: blobs.iter().cloned().collect(),
            problem: None,
        }
    }

    /// What the installer sees at a master.
    pub async fn watch(&self, master: &Node, after: u64) -> WatchAnswer {
        let (status, body) = self.get(&self.installer(), master, &format!("/v1/watch?after={after}")).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    pub async fn publish(&self, master: &Node, manifests: &[SignedManifest]) -> BTreeMap<String, String> {
        let body = serde_json::to_vec(manifests).unwrap();
        let call = Ask { method: "PUT", path: "/v1/manifests", body: body.into() };
        let (status, body) = ask(&self.installer(), master.address, call).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: PublishAnswer = serde_json::from_slice(&body).unwrap();
        answer.refused.into_iter().map(|(node, why)| (node.to_string(), why)).collect()
    }

    pub async fn get(&self, tls: &Arc<ClientConfig>, node: &Node, path: &str) -> (u16, Bytes) {
        ask(tls, node.address, Ask { method: "GET", path, body: Bytes::new() }).await
    }
}

/// A node that runs; it ends when dropped.
pub struct Node {
    pub ctx: Arc<Context>,
    pub tls: Tls,
    pub name: String,
    pub address: SocketAddr,
    pub status: watch::Sender<NodeStatus>,
    pub manifest: watch::Receiver<Option<SignedManifest>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    pub async fn start(identity: Arc<Identity>, tls: Tls, ip: IpAddr, limits: Limits) -> Self {
        let address = SocketAddr::new(ip, identity.api_port);
        let listener = soon("bind", bind(address)).await;
        let name = identity.node.to_string();
        let own = NodeStatus {
            format_version: 1,
            cluster: identity.cluster.clone(),
            node: identity.node.clone(),
            incarnation: identity.incarnation.to_string(),
            agent_version: "0".to_owned(),
            boot_id: "boot".to_owned(),
            sequence: 1,
            started_at: Timestamp(1),
            at: Timestamp(1),
            generation: 0,
            content: None,
            components: BTreeMap::new(),
            blobs: BTreeSet::new(),
            problem: None,
        };
        let (status, heard) = watch::channel(own);
        let (newer, manifest) = watch::channel(None);
        let ctx = Context::with_limits(identity, tls.clone(), Arc::new(Facts), heard, limits).unwrap();
        let tasks = vec![
            tokio::spawn(api::serve(Arc::clone(&ctx), listener)),
            tokio::spawn(api::follow(Arc::clone(&ctx), newer)),
            tokio::spawn(api::report(Arc::clone(&ctx))),
        ];
        Self { ctx, tls, name, address, status, manifest, tasks }
    }

    pub fn say(&self, change: impl FnOnce(&mut NodeStatus)) {
        self.status.send_modify(|status| {
            status.sequence += 1;
            change(status);
        });
    }

    /// Dies as a process does: all connections break.
    pub async fn kill(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            drop(task.await);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn nothing() -> ComponentManifest {
    ComponentManifest {
        name: "thing".parse().unwrap(),
        wave: 0,
        requires: BTreeSet::new(),
        bundle: None,
        account: None,
        folders: Vec::new(),
        config: BTreeMap::new(),
        unit: None,
        membership: None,
        facts: BTreeMap::new(),
        checks: Vec::new(),
        digests: castrum_blueprints::manifest::Digests::default(),
    }
}

/// A port that was just left may take a moment.
pub async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// `etcd/token` is a fact for masters, `etcd/broken` one that cannot be read.
pub struct Facts;

impl FactReader for Facts {
    fn roles(&self, component: &ComponentName, name: &str) -> Option<BTreeSet<Role>> {
        let known = component.as_str() == "etcd" && ["token", "broken"].contains(&name);
        known.then(|| BTreeSet::from([Role::Master]))
    }

    fn read(
        &self,
        _: ComponentName,
        name: String,
    ) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send + '_>> {
        Box::pin(async move { if name == "token" { Ok(json!("sesame")) } else { Err("not yet".to_owned()) } })
    }
}
