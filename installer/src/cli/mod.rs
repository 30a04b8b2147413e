//! The command line: arguments, exit codes, and each command.

mod args;
mod context;
mod fault;
mod nobody;
mod node;
mod output;
mod run;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser as _;
use fault::{Fault, code};

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { code::USAGE } else { code::DONE });
        }
    };
    logging(cli.global.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&Fault::of(code::ERROR, &error).render());
            return ExitCode::from(code::ERROR);
        }
    };
    let ended = runtime.block_on(dispatch(&cli));
    runtime.shutdown_background();
    ExitCode::from(ended.unwrap_or_else(|fault| {
        output::note(&fault.render());
        fault.code
    }))
}

async fn dispatch(cli: &Cli) -> Result<u8, Fault> {
    let global = &cli.global;
    match &cli.command {
        Command::Plan(args) => run::plan(args, global).await,
        Command::Apply(args) => run::apply(args, global).await,
        Command::Destroy(args) => run::destroy(args, global).await,
        Command::Node(args) => node::node(args).await,
        _ => Err(Fault::new(code::ERROR, "not wired yet")),
    }
}

fn logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = ["warn", "castrum=info,warn", "castrum=debug,info", "trace"][usize::from(verbose.min(3))];
    let filter = EnvFilter::try_from_env("CASTRUM_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
