//! The clients of the services: whom they speak for, where, and how long they wait. They do not retry: one place of the
//! installer does.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_smithy_http_client::tls;
use castrum_provider::Failure;

use crate::place::invalid;
use crate::settings::Settings;

/// How long a connection may take, and one call.
const CONNECT: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(30);

/// The clients, by the settings of the site and what the environment and the profile of whoever runs this say.
pub(crate) async fn connect(
    settings: &Settings,
) -> Result<(aws_sdk_ec2::Client, aws_sdk_elasticloadbalancingv2::Client), Failure> {
    let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(ring).build_https();
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(CALL).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(invalid("no region is named for provider `aws`".to_owned())
            .with_hint("set `region: eu-central-1` or another one for the site, or AWS_REGION"));
    }
    Ok((aws_sdk_ec2::Client::new(&config), aws_sdk_elasticloadbalancingv2::Client::new(&config)))
}
