//! The provider `aws`: machines of Amazon EC2 and what they stand on, for one site of one cluster, as an executable that
//! speaks the provider protocol.

mod address;
mod attach;
mod balancer;
mod balancers;
mod client;
mod failure;
mod firewall;
mod images;
mod key;
mod labels;
mod launch;
mod list;
mod look;
mod machine;
mod nat;
mod network;
mod place;
mod placement;
mod power;
mod preflight;
mod provider;
mod range;
mod resolve;
mod rules;
mod settings;
mod subnet;
mod types;
mod volume;

use std::process::ExitCode;

use castrum_provider::About;

fn main() -> ExitCode {
    castrum_provider::run(About { name: "aws", version: env!("CARGO_PKG_VERSION") }, provider::open)
}
