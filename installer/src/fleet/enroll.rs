//! Enrolling over SSH: bring the agent, have it prove its token, hand it its certificate, start it.
//!
//! ```text
//! survey ──▶ program missing or other? upload ──▶ boot.json, unit, token ──▶ certificate missing? prepare, admit, accept ──▶ start
//! ```
//!
//! Every step finds what an earlier try left. Secrets travel on standard input only.

use std::time::Duration;

use castrum_blueprints::boot::{AGENT_FILE, AGENT_UNIT, AGENT_UNIT_FILE, BOOT_FILE, TOKEN_FILE};
use castrum_blueprints::manifest::PKI_DIR;
use castrum_blueprints::trust::JoinRequest;
use castrum_provider::{Enrollment, Failure, FailureClass, News};
use castrum_provider_ssh::transport::{Limits, Session, Stdin};

use super::Shared;
use super::login::classify;
use crate::trust::{Boot, denied};

pub(super) const COMMAND: Duration = Duration::from_mins(1);
const UPLOAD: Duration = Duration::from_mins(10);

pub(super) async fn enroll(shared: &Shared, enrollment: &Enrollment) -> Result<(), Failure> {
    let session = shared.session(&enrollment.reach).await?;
    let node = Node { shared, enrollment, session };
    let survey = node.survey().await?;
    if survey.agent != enrollment.agent.digest.as_str() {
        node.upload_agent().await?;
    }
    node.configure(&survey).await?;
    if !survey.certificate {
        node.admit("").await?;
    }
    node.start().await
}

/// A machine that is worked on.
pub(super) struct Node<'a> {
    pub(super) shared: &'a Shared,
    pub(super) enrollment: &'a Enrollment,
    pub(super) session: Session,
}

/// What is on the machine already.
pub(super) struct Survey {
    pub(super) agent: String,
    certificate: bool,
    token: bool,
}

impl Node<'_> {
    pub(super) async fn root(
        &self,
        script: &str,
        stdin: impl Into<Stdin>,
        deadline: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let booting = self.enrollment.reach.existing.is_none();
        let failed = |error| classify(&error, booting);
        let command = self.session.as_root(script).map_err(failed)?;
        let output = self.session.check(&command, stdin, &Limits::within(deadline)).await.map_err(failed)?;
        Ok(output.stdout.to_vec())
    }

    pub(super) async fn survey(&self) -> Result<Survey, Failure> {
        let script = format!(
            "sha256sum {AGENT_FILE} 2>/dev/null | cut -c1-64; echo; \
             test -s {PKI_DIR}/node.crt && echo certificate; test -s {TOKEN_FILE} && echo token; true"
        );
        let answer = self.root(&script, "", COMMAND).await?;
        let text = String::from_utf8_lossy(&answer);
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
        let agent = lines.next_if(|line| line.len() == 64).unwrap_or_default().to_owned();
        let rest: Vec<&str> = lines.collect();
        Ok(Survey { agent, certificate: rest.contains(&"certificate"), token: rest.contains(&"token") })
    }

    pub(super) async fn upload_agent(&self) -> Result<(), Failure> {
        let digest = &self.enrollment.agent.digest;
        let path = self.shared.blobs.blob_path(digest);
        let file = tokio::fs::File::open(&path).await.map_err(|error| {
            Failure::new(FailureClass::Invalid, format!("cannot read `{}`: {error}", path.display()))
        })?;
        let script = format!(
            "set -e; umask 022; mkdir -p {dir}; cat > {AGENT_FILE}.new; \
             echo '{digest}  {AGENT_FILE}.new' | sha256sum -c --status; \
             chmod 755 {AGENT_FILE}.new; mv -f {AGENT_FILE}.new {AGENT_FILE}",
            dir = AGENT_FILE.rsplit_once('/').map_or("/", |(dir, _)| dir),
        );
        self.root(&script, Stdin::reader(file), UPLOAD).await.map(drop)
    }

    /// Writes what the agent must know. A machine that had no boot data is given its token here.
    async fn configure(&self, survey: &Survey) -> Result<(), Failure> {
        let Enrollment { reach, masters, agent } = self.enrollment;
        let node = &reach.peer.name;
        let trust = &self.shared.trust;
        if !survey.certificate && !survey.token {
            if reach.existing.is_none() {
                let message =
                    format!("{node} has lost its join token, and no certificate has been issued to it");
                return Err(Failure::new(FailureClass::Denied, message).with_hint(
                    "remove its machine at the place that it is in; the next apply makes it anew",
                ));
            }
            let offered = trust.offer(std::slice::from_ref(node)).map_err(|error| denied(&error))?;
            if let Some((token, _)) = offered.get(node) {
                self.write_file(TOKEN_FILE, 600, token.expose().as_str()).await?;
            }
        }
        let enrolment = trust.enrolment(node).map_err(|error| denied(&error))?;
        let enrolment = enrolment.ok_or_else(|| {
            Failure::new(FailureClass::Denied, format!("the keyring knows nothing of {node}"))
                .with_hint("if it joined with a keyring that was lost, run `castrum recover`")
        })?;
        let boot = trust.boot_config(Boot {
            cluster: &self.shared.cluster,
            node,
            role: reach.role,
            enrolment: &enrolment,
            masters: masters.clone(),
            agent: &agent.digest,
        });
        self.write_file(BOOT_FILE, 600, &boot.to_text()).await?;
        self.write_file(AGENT_UNIT_FILE, 644, AGENT_UNIT).await
    }

    pub(super) async fn write_file(&self, path: &str, mode: u32, text: &str) -> Result<(), Failure> {
        let dir = path.rsplit_once('/').map_or("/", |(dir, _)| dir);
        let script = format!(
            "set -e; umask 077; mkdir -p {dir}; cat > {path}.new; chmod {mode} {path}.new; mv -f {path}.new {path}"
        );
        self.root(&script, text, COMMAND).await.map(drop)
    }

    /// Admits what the agent has prepared; `under` are words for the agent that say where.
    pub(super) async fn admit(&self, under: &str) -> Result<(), Failure> {
        let Enrollment { reach, .. } = self.enrollment;
        let answer = self.root(&format!("{AGENT_FILE} {under}join prepare"), "", COMMAND).await?;
        let request: JoinRequest = serde_json::from_slice(&answer).map_err(|error| {
            Failure::new(FailureClass::Invalid, format!("the agent's join request cannot be read: {error}"))
        })?;
        if request.statement.node != reach.peer.name {
            let message =
                format!("the machine of {} says that it is {}", reach.peer.name, request.statement.node);
            return Err(Failure::new(FailureClass::NotOurs, message));
        }
        let admitted = self.shared.trust.admit(&request, reach.role, reach.peer.address);
        let certificate = admitted.map_err(|error| denied(&error))?;
        self.root(&format!("{AGENT_FILE} {under}join accept"), certificate, COMMAND).await?;
        let _ = self.shared.tell.send(News::Admitted(reach.peer.name.clone()));
        Ok(())
    }

    async fn start(&self) -> Result<(), Failure> {
        let script = "systemctl daemon-reload && systemctl enable --quiet castrum-agent.service && \
                      systemctl restart --no-block castrum-agent.service";
        self.root(script, "", COMMAND).await.map(drop)
    }
}
