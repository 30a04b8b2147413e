//! Who calls: what the certificate of the connection says, and nothing that the caller says itself.

use std::net::IpAddr;

use castrum_blueprints::names::{NodeName, Role};
use castrum_blueprints::trust::{INSTALLER_DNS, node_dns, role_dns};
use rustls_pki_types::{CertificateDer, ServerName};

/// The other end of a connection. Its certificate, if it has one, was checked against the cluster's CA.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) from: IpAddr,
    pub(super) certificate: Option<CertificateDer<'static>>,
}

impl Caller {
    pub(super) fn is_installer(&self) -> bool {
        self.is(INSTALLER_DNS)
    }

    pub(super) fn is_node(&self, node: &NodeName) -> bool {
        self.is(&node_dns(node))
    }

    pub(super) fn has_role(&self, role: Role) -> bool {
        self.is(&role_dns(role))
    }

    /// A node of the cluster, whichever, or the installer.
    pub(super) fn is_member(&self) -> bool {
        Role::ALL.into_iter().any(|role| self.has_role(role)) || self.is_installer()
    }

    fn is(&self, name: &str) -> bool {
        let Some(der) = &self.certificate else { return false };
        let (Ok(certificate), Ok(name)) = (webpki::EndEntityCert::try_from(der), ServerName::try_from(name))
        else {
            return false;
        };
        certificate.verify_is_valid_for_subject_name(&name).is_ok()
    }
}
