//! The command line of the agent: one service, and the few words that boot scripts and the installer say over SSH.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use castrum_agent::paths::Paths;
use castrum_agent::{depot, identity, service};

const USAGE: &str = "\
The Castrum node agent.

Usage: castrum-agent [--root DIR] COMMAND

Commands:
  run                   Converge this machine and serve its API, until ended
  status                Print what the node last said of itself, as JSON
  history               Print the last changes of each check, as JSON
  join prepare          Make a key if there is none, and print the request for a certificate
  join accept           Read the certificate on stdin, check it, and keep it
  join anew             Change over to the identity prepared in `/var/lib/castrum/anew`
  depot put DIGEST      Read a blob on stdin, and keep it if it is what it should be
  depot has DIGEST...   Print those digests that are missing
  --version             Print the version
";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = match std::env::args_os().skip(1).map(OsString::into_string).collect() {
        Ok(arguments) => arguments,
        Err(_) => return complain("an argument is not valid UTF-8"),
    };
    let mut root = PathBuf::from("/");
    if arguments.len() >= 2 && arguments[0] == "--root" {
        root = PathBuf::from(&arguments[1]);
        arguments.drain(..2);
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let paths = Paths::new(root);
    let done: Result<(), Failure> = match words.as_slice() {
        ["run"] => service::run(&paths).map_err(Into::into),
        ["status"] => print_file(&paths, "status.json"),
        ["history"] => print_file(&paths, "history.json"),
        ["join", "prepare"] => {
            identity::join::prepare_command(paths.root(), &mut io::stdout().lock()).map_err(Into::into)
        }
        ["join", "accept"] => {
            identity::join::accept_command(paths.root(), &mut io::stdin().lock()).map_err(Into::into)
        }
        ["join", "anew"] => {
            identity::anew::anew_command(paths.root(), &mut io::stdin().lock()).map_err(Into::into)
        }
        ["depot", "put", digest] => {
            depot::put_command(paths.root(), digest, &mut io::stdin().lock()).map_err(Into::into)
        }
        ["depot", "has", _, ..] => {
            depot::has_command(paths.root(), &arguments[2..], &mut io::stdout().lock()).map_err(Into::into)
        }
        ["--version"] => print(concat!("castrum-agent ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()),
        ["--help" | "help"] => print(USAGE.as_bytes()),
        _ => return complain("this is not a command"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("castrum-agent: {}", castrum_agent::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn complain(what: &str) -> ExitCode {
    eprint!("castrum-agent: {what}\n\n{USAGE}");
    ExitCode::from(2)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    Ok(io::stdout().lock().write_all(text)?)
}

fn print_file(paths: &Paths, name: &str) -> Result<(), Failure> {
    let path = paths.status().with_file_name(name);
    let text = std::fs::read(&path).map_err(|error| format!("read `{}`: {error}", path.display()))?;
    print(&text)?;
    print(b"\n")
}
