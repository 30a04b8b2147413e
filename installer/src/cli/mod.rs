//! The command line: arguments, exit codes, and each command.

mod args;
mod author;
mod context;
mod fault;
mod history;
mod hold;
mod interrupt;
mod look;
mod nobody;
mod node;
mod output;
mod places;
mod preferences;
mod provider;
mod recover;
mod run;
mod unlock;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use tokio::runtime::{Builder, Runtime};

use args::{Cli, Command};
use context::Context;
use fault::Fault;
pub use fault::code;

/// The command line, for completions, and for tests of what the documentation says.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
pub fn main() -> ExitCode {
    let parsed =
        command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (mut cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { code::USAGE } else { code::DONE });
        }
    };
    logging(cli.global.verbose);
    let ended =
        preferences::apply(&mut cli.global, &matches).and_then(|()| run(&cli)).unwrap_or_else(|fault| {
            output::fault(&fault, &cli.global);
            fault.code
        });
    ExitCode::from(output::ended(ended, &cli.global))
}

fn run(cli: &Cli) -> Result<u8, Fault> {
    let global = &cli.global;
    match &cli.command {
        Command::Init(args) => author::init(args),
        Command::Validate(args) => author::validate(args, global),
        Command::Fmt(args) => author::fmt(args),
        Command::Explain(args) if args.path.as_deref() == Some("wait") => {
            waiting(&args.blueprint.file, look::explain_waits(args, global))
        }
        Command::Explain(args) => author::explain(args, global),
        Command::Graph(args) => waiting(&args.blueprint.file, look::graph(args, global)),
        Command::Timeline(args) => history::show_timeline(args, global),
        Command::Completion { shell } => {
            // It panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command(), "castrum", &mut script);
            output::print(&String::from_utf8_lossy(&script));
            Ok(code::DONE)
        }
        Command::Plan(args) => waiting(&args.blueprint.file, run::plan(args, global)),
        Command::Apply(args) => {
            let (blueprint, digest) = run::saved_plan(&args.file)?;
            waiting(&blueprint, run::apply(args, (&blueprint, digest), global))
        }
        Command::Destroy(args) => waiting(&args.blueprint.file, run::destroy(args, global)),
        Command::Unlock(args) => unlock::unlock(args),
        Command::Recover(args) => waiting(&args.blueprint.file, recover::recover(args, global)),
        Command::Status(args) => waiting(&args.blueprint.file, look::status(args, global)),
        Command::Get(args) => waiting(&args.blueprint.file, look::get(args, global)),
        Command::WaitFor(args) => waiting(&args.blueprint.file, look::wait_for(args, global)),
        Command::Events(args) => waiting(&args.blueprint.file, history::events(args, global)),
        Command::Node(args) => waiting(args.file(), node::node(args)),
        Command::Provider(args::Provider::List) => in_time(false, provider::list(global)),
        Command::Provider(args::Provider::Check(args)) => {
            in_time(args.name == places::SIM, provider::check(args, global))
        }
    }
}

/// Runs what waits for something, in the time of the blueprint's places.
fn waiting(file: &Path, work: impl Future<Output = Result<u8, Fault>>) -> Result<u8, Fault> {
    // A blueprint that cannot be read is the command's own to complain about.
    let simulated = Context::load(file).is_ok_and(|context| context.is_simulated());
    in_time(simulated, work)
}

/// Runs what waits for something, in virtual time where it is for a simulated place.
fn in_time(simulated: bool, work: impl Future<Output = Result<u8, Fault>>) -> Result<u8, Fault> {
    let runtime = runtime(simulated).map_err(|error| Fault::of(code::ERROR, &error))?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}

fn runtime(simulated: bool) -> io::Result<Runtime> {
    if simulated {
        return castrum_provider_sim::runtime();
    }
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = ["warn", "castrum=info,warn", "castrum=debug,info", "trace"][usize::from(verbose.min(3))];
    let filter = EnvFilter::try_from_env("CASTRUM_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
}
