//! What the service answers when it refuses, in the classes of the contract. Of an error only its code and its message are
//! told, never the request: that may hold boot data.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use castrum_provider::{Failure, FailureClass};

use FailureClass::{Denied, Exhausted, Invalid, NotReady, Throttled, Transient, Unsupported};

/// A refusal with its code, for those who know what to do about some of them.
#[derive(Debug)]
pub(crate) struct Fault {
    code: Option<String>,
    failure: Failure,
}

impl Fault {
    /// Whether the code is one of these.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.iter().any(|pattern| matches(pattern, code)))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        fault.failure
    }
}

/// What is said of a call that found nothing of the kind.
pub(crate) const NOT_FOUND: &[&str] = &["*.NotFound*", "*NotFound", "*.Unknown", "*NotFoundException"];

const CREDENTIALS: &str =
    "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and see `aws sts get-caller-identity`";
const RIGHTS: &str = "give the user or the role the right to make this call, or ask who runs the account";
const ROOM: &str = "set `instanceType` or `zones` of the site to others, or try again later";
const QUOTA: &str = "see Service Quotas in the console of the account, and ask for more";
const VCPUS: &str =
    "ask for more of the quota `Running On-Demand Standard instances` (L-1216C47A) in Service Quotas";
const SPOTS: &str =
    "ask for more of the quota `All Standard Spot Instance Requests` (L-34B43A08) in Service Quotas";
const ADDRESSES: &str = "ask for more of the quota `EC2-VPC Elastic IPs` (L-0263D0A3) in Service Quotas";
const NETWORKS: &str = "ask for more of the quota `VPCs per Region` (L-F678F1CE) in Service Quotas";

/// The codes by class, the first that matches counts; `*` stands for any text.
const TABLE: &[(&str, FailureClass, Option<&str>)] = &[
    ("RequestLimitExceeded", Throttled, None),
    ("Throttl*", Throttled, None),
    ("*RequestThrottled*", Throttled, None),
    ("TooManyRequests*", Throttled, None),
    ("EC2ThrottledException", Throttled, None),
    ("InsufficientFreeAddressesInSubnet", Exhausted, Some("set a larger `cidr` for the network of the site")),
    ("Insufficient*Capacity*", Exhausted, Some(ROOM)),
    ("VcpuLimitExceeded", Exhausted, Some(VCPUS)),
    ("InstanceLimitExceeded", Exhausted, Some(VCPUS)),
    ("MaxSpotInstanceCountExceeded", Exhausted, Some(SPOTS)),
    ("AddressLimitExceeded", Exhausted, Some(ADDRESSES)),
    ("VpcLimitExceeded", Exhausted, Some(NETWORKS)),
    ("*LimitExceeded*", Exhausted, Some(QUOTA)),
    ("*Quota*", Exhausted, Some(QUOTA)),
    ("TooMany*", Exhausted, Some(QUOTA)),
    ("AuthFailure", Denied, Some(CREDENTIALS)),
    ("UnauthorizedOperation", Denied, Some(RIGHTS)),
    ("AccessDenied*", Denied, Some(RIGHTS)),
    ("*ExpiredToken*", Denied, Some(CREDENTIALS)),
    ("RequestExpired", Denied, Some("set the clock of this machine")),
    ("InvalidClientTokenId", Denied, Some(CREDENTIALS)),
    ("SignatureDoesNotMatch", Denied, Some(CREDENTIALS)),
    ("UnrecognizedClient*", Denied, Some(CREDENTIALS)),
    ("IncompleteSignature", Denied, Some(CREDENTIALS)),
    ("MissingAuthenticationToken", Denied, Some(CREDENTIALS)),
    ("InvalidAccessKeyId", Denied, Some(CREDENTIALS)),
    ("OptInRequired", Denied, Some("opt in to the service or the region in the console of the account")),
    ("PendingVerification", Denied, Some("the account is being verified: wait, or ask the support")),
    ("Blocked", Denied, Some("the account is blocked: ask the support")),
    ("OperationNotPermitted", Denied, Some("see whether something protects it, like termination protection")),
    ("DependencyViolation", NotReady, None),
    ("*InUse*", NotReady, None),
    ("*IncorrectState*", NotReady, None),
    ("*IncorrectInstanceState*", NotReady, None),
    ("IncorrectModificationState", NotReady, None),
    ("VolumeModificationRateExceeded", NotReady, None),
    ("*.NotFound*", NotReady, None),
    ("*NotFound", NotReady, None),
    ("*NotFoundException", NotReady, None),
    ("*.Unknown", NotReady, None),
    ("*Conflict*", NotReady, None),
    ("Resource.AlreadyAssociated", NotReady, None),
    ("IdempotentParameterMismatch", NotReady, None),
    ("ConcurrentTagAccess", NotReady, None),
    ("InternalError", Transient, None),
    ("InternalFailure", Transient, None),
    ("ServiceUnavailable", Transient, None),
    ("Unavailable", Transient, None),
    ("RequestTimeout*", Transient, None),
    ("UnsupportedOperation", Unsupported, None),
    ("Unsupported", Unsupported, Some(ROOM)),
    ("Invalid*", Invalid, None),
    ("Malformed*", Invalid, None),
    ("Missing*", Invalid, None),
    ("Validation*", Invalid, None),
    ("Unknown*", Invalid, None),
];

/// How long to wait after a throttled call: the time in which its bucket of tokens gets one more, in milliseconds. From
/// "Request throttling for the Amazon EC2 API" (docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html) and the page
/// of the same name for load balancers, whose actions share a further bucket that gets ten a second.
const REFILL: &[(&str, u64)] = &[
    ("DescribeInstances", 100),
    ("DescribeNetworkInterfaces", 100),
    ("DescribeSecurityGroups", 100),
    ("DescribeVolumes", 100),
    ("DescribeTags", 100),
    ("DescribeL*", 100),
    ("DescribeTarget*", 100),
    ("Describe*", 50),
    ("RunInstances", 500),
    ("StartInstances", 500),
    ("CreateNatGateway", 1000),
    ("DeleteNatGateway", 1000),
    ("CreateTags", 100),
    ("DeleteTags", 100),
    ("CreateLoadBalancer", 5000),
    ("SetSubnets", 5000),
    ("RegisterTargets", 250),
    ("DeregisterTargets", 250),
    ("*Listener*", 334),
    ("*LoadBalancer*", 334),
    ("*TargetGroup*", 334),
    ("AddTags", 334),
    ("RemoveTags", 334),
    ("*", 200),
];

/// Whether the code is what the pattern says.
fn matches(pattern: &str, code: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| code.strip_prefix(start)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// The class of a code, with its remedy.
fn classify(code: &str, status: u16) -> (FailureClass, Option<&'static str>) {
    match TABLE.iter().find(|(pattern, ..)| matches(pattern, code)) {
        Some((_, class, hint)) => (*class, *hint),
        None if status == 429 => (Throttled, None),
        None if status >= 500 => (Transient, None),
        None => (Invalid, None),
    }
}

/// Whether it is the credentials that are refused, and not one call.
pub(crate) fn is_about_credentials(failure: &Failure) -> bool {
    failure.hint.as_deref() == Some(CREDENTIALS)
}

/// What the service said, without the part of it that only the service can read.
fn message(operation: &str, code: &str, text: &str) -> String {
    let text = text.split("Encoded authorization failure").next().unwrap_or_default().trim();
    format!("{operation} was refused: {code}: {text}").trim_end_matches([':', ' ']).to_owned()
}

fn refused(operation: &str, code: Option<&str>, text: Option<&str>, status: u16) -> Failure {
    let Some(code) = code else {
        let class = if status >= 500 { Transient } else { Invalid };
        return Failure::new(class, format!("{operation} failed: the service answered {status}"));
    };
    let (class, hint) = classify(code, status);
    let mut failure = Failure::new(class, message(operation, code, text.unwrap_or_default()));
    failure.hint = match code {
        "UnauthorizedOperation" => {
            Some(format!("give the right `ec2:{operation}`, or ask who runs the account"))
        }
        _ => hint.map(str::to_owned),
    };
    if class == Throttled {
        failure.retry_after_ms =
            REFILL.iter().find(|(pattern, _)| matches(pattern, operation)).map(|(_, wait)| *wait);
    }
    failure
}

/// A call that never came to an answer.
fn unanswered(operation: &str, error: &(dyn Error + 'static)) -> Failure {
    let mut last = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<CredentialsError>() {
            Some(CredentialsError::ProviderTimedOut(_)) | None => {}
            Some(_) => {
                let text = format!("{operation} was not sent: there are no credentials for it");
                return Failure::new(Denied, text).with_hint(CREDENTIALS);
            }
        }
        last = error.to_string();
        cause = error.source();
    }
    Failure::new(Transient, format!("{operation} got no answer: {last}"))
}

/// Turns the error of a call into what the contract says about it.
pub(crate) fn fault<E, R>(operation: &'static str) -> impl FnOnce(SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
    R: AsStatus + std::fmt::Debug + 'static,
{
    move |error| {
        let status = error.raw_response().map_or(0, AsStatus::status);
        let (code, mut failure) = match &error {
            SdkError::ServiceError(service) => {
                let meta = service.err();
                (meta.code().map(str::to_owned), refused(operation, meta.code(), meta.message(), status))
            }
            // An answer that cannot be read, from something in between or a service in trouble.
            SdkError::ResponseError(_) => {
                let text = format!("{operation} got an answer that cannot be read ({status})");
                (None, Failure::new(Transient, text))
            }
            _ => (None, unanswered(operation, &error)),
        };
        failure.at = Some(operation.to_owned());
        Fault { code, failure }
    }
}

/// The status of an answer.
pub(crate) trait AsStatus {
    /// The number of the status.
    fn status(&self) -> u16;
}

impl AsStatus for aws_sdk_ec2::config::http::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, code, matched) in [
            ("A", "A", true),
            ("A", "AB", false),
            ("A*", "AB", true),
            ("*B", "AB", true),
            ("*B", "BA", false),
            ("*B*", "ABA", true),
            ("A*C*", "ABCD", true),
            ("A*C", "ABCD", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, code), matched, "{pattern} and {code}");
        }
    }

    #[test]
    fn codes_have_their_class() {
        for (code, class) in [
            ("RequestLimitExceeded", Throttled),
            ("Throttling", Throttled),
            ("ThrottlingException", Throttled),
            ("InsufficientInstanceCapacity", Exhausted),
            ("InsufficientHostCapacity", Exhausted),
            ("VcpuLimitExceeded", Exhausted),
            ("RulesPerSecurityGroupLimitExceeded", Exhausted),
            ("TooManyLoadBalancers", Exhausted),
            ("AuthFailure", Denied),
            ("InvalidClientTokenId", Denied),
            ("UnauthorizedOperation", Denied),
            ("ExpiredTokenException", Denied),
            ("DependencyViolation", NotReady),
            ("InvalidGroup.InUse", NotReady),
            ("ResourceInUse", NotReady),
            ("VolumeInUse", NotReady),
            ("IncorrectInstanceState", NotReady),
            ("InvalidVpcID.NotFound", NotReady),
            ("InvalidSubnet.Conflict", NotReady),
            ("InvalidParameterValue", Invalid),
            ("MalformedQueryString", Invalid),
            ("SomethingNew", Invalid),
            ("InternalError", Transient),
            ("UnsupportedOperation", Unsupported),
        ] {
            assert_eq!(classify(code, 400).0, class, "{code}");
        }
        assert_eq!(classify("SomethingNew", 503).0, Transient);
    }

    #[test]
    fn what_is_short_comes_with_the_quota_and_what_is_throttled_with_the_wait() {
        for (code, quota) in [
            ("VcpuLimitExceeded", "L-1216C47A"),
            ("AddressLimitExceeded", "L-0263D0A3"),
            ("VpcLimitExceeded", "L-F678F1CE"),
        ] {
            let hint = refused("X", Some(code), None, 400).hint.unwrap_or_default();
            assert!(hint.contains(quota), "{code}: {hint}");
        }
        let wait = |operation| refused(operation, Some("RequestLimitExceeded"), None, 503).retry_after_ms;
        assert_eq!(
            [wait("DescribeVpcs"), wait("RunInstances"), wait("CreateVpc"), wait("CreateNatGateway")],
            [Some(50), Some(500), Some(200), Some(1000)]
        );
        assert_eq!(refused("CreateVpc", Some("InternalError"), None, 500).retry_after_ms, None);
    }

    #[test]
    fn only_code_and_message_are_told() {
        let text = "You are not authorized. Encoded authorization failure message: 0123456789abcdef";
        let failure = refused("CreateVpc", Some("UnauthorizedOperation"), Some(text), 403);
        assert_eq!(failure.message, "CreateVpc was refused: UnauthorizedOperation: You are not authorized.");
        assert_eq!(
            failure.hint.as_deref(),
            Some("give the right `ec2:CreateVpc`, or ask who runs the account")
        );
        assert_eq!(refused("A", Some("B"), None, 400).message, "A was refused: B");
        assert_eq!(refused("A", None, None, 502).class, Transient);
    }

    #[test]
    fn missing_credentials_are_told_apart_from_a_dead_line() {
        let missing = CredentialsError::not_loaded("none");
        let failure = unanswered("CreateVpc", &missing);
        assert_eq!((failure.class, failure.hint.as_deref()), (Denied, Some(CREDENTIALS)));
        let dead = std::io::Error::other("connection refused");
        assert_eq!(unanswered("CreateVpc", &dead).class, Transient);
    }
}
