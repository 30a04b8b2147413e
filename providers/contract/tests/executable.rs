//! A provider in Rust as an executable of its own. It is this very program, started again with another task.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use castrum_blueprints::names::{ClusterId, ResourceKind, ResourcePath};
use castrum_provider::{
    Abilities, About, Deadlines, Ensured, Executable, Failure, FailureClass, Hello, Observation,
    ProcessProvider, Provider, Removed, Wanted,
};

/// Set for the program that is to be the provider.
const TASK: &str = "CASTRUM_TEST_IS_PROVIDER";
const KEPT_BACK: &str = "CASTRUM_KEYRING_PASSPHRASE";

/// A place in which there is nothing.
struct Empty;

#[async_trait]
impl Provider for Empty {
    fn abilities(&self) -> Abilities {
        let kinds = vec![ResourceKind::Network];
        Abilities {
            provider: "empty".to_owned(),
            kinds,
            boot_data: false,
            power: false,
            ..Abilities::default()
        }
    }

    async fn observe(&self) -> Observation {
        Observation::default()
    }

    async fn ensure(&self, _: &Wanted) -> Result<Ensured, Failure> {
        tokio::time::sleep(Duration::from_mins(10)).await;
        Err(Failure::new(FailureClass::Exhausted, "there is no room"))
    }

    async fn remove(&self, path: &ResourcePath) -> Result<Removed, Failure> {
        // What a provider in this state may know of the installer's environment.
        let told = std::env::var_os(KEPT_BACK).is_some();
        assert!(path.name != "panic", "the provider has a fault");
        if told {
            Err(Failure::new(FailureClass::Denied, "it was told too much"))
        } else {
            Ok(Removed::Absent)
        }
    }
}

fn main() -> ExitCode {
    if std::env::var_os(TASK).is_some() {
        let about = About { name: "empty", version: "3" };
        return castrum_provider::run(about, async |_: Hello| Ok(Empty));
    }
    let tests: [(&str, fn()); 4] = [
        ("a_program_serves_and_ends", a_program_serves_and_ends),
        ("a_program_that_is_being_written_is_waited_for", a_program_that_is_being_written_is_waited_for),
        ("the_end_of_the_input_is_the_end_of_the_program", the_end_of_the_input_is_the_end_of_the_program),
        ("what_opens_the_keyring_is_kept_back", what_opens_the_keyring_is_kept_back),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

fn hello() -> Hello {
    Hello::new(ClusterId::from_bytes([7; 6]), "here".parse().expect("a name"), [].into())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// A script that starts this program as a provider, since an executable is given no arguments.
fn provider(folder: &tempfile::TempDir) -> Executable {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join("castrum-provider-empty");
    let program = std::env::current_exe().expect("this program");
    std::fs::write(&path, format!("#!/bin/sh\n{TASK}=1 exec '{}'\n", program.display())).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    Executable::all(&[folder.path().to_owned()]).remove("empty").expect("it is found")
}

fn a_program_serves_and_ends() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let provider = ProcessProvider::start(provider(&folder), hello(), Deadlines::default()).await;
        let provider = provider.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((provider.version(), provider.abilities()), ("3", Empty.abilities()));
        assert!(provider.observe().await.blind.is_empty());
        let path: ResourcePath = "here/network/nodes".parse().expect("a path");
        assert_eq!(provider.remove(&path).await, Ok(Removed::Absent));
        let faulty = ResourcePath { name: "panic".to_owned(), ..path.clone() };
        let failure = provider.remove(&faulty).await.expect_err("it panics");
        assert_eq!(failure.class, FailureClass::Invalid);
        assert_eq!(provider.remove(&path).await, Ok(Removed::Absent), "one panic is not the end");
        provider.shutdown().await;
    });
}

fn a_program_that_is_being_written_is_waited_for() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let executable = provider(&folder);
        let path = folder.path().join("castrum-provider-empty");
        let busy = std::fs::OpenOptions::new().append(true).open(path).expect("a program");
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(busy);
        });
        let began = Instant::now();
        let started = ProcessProvider::start(executable, hello(), Deadlines::default()).await;
        started.unwrap_or_else(|failure| panic!("{failure}")).shutdown().await;
        assert!(began.elapsed() >= Duration::from_millis(250), "it was not busy");
    });
}

fn the_end_of_the_input_is_the_end_of_the_program() {
    use std::io::Write as _;
    let program = std::env::current_exe().expect("this program");
    for (input, code) in [
        ("", 0),
        ("{\"say\":\"hello\",\"contract\":1,\"cluster\":\"070707070707\",\"site\":\"here\"}\n", 0),
        ("no greeting\n", 1),
        ("{\"say\":\"hello\",\"contract\":2,\"cluster\":\"070707070707\",\"site\":\"here\"}\n", 1),
    ] {
        let mut child = Command::new(&program)
            .env(TASK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        let began = Instant::now();
        let ended = loop {
            if let Some(ended) = child.try_wait().expect("a child") {
                break ended.code();
            }
            if began.elapsed() > Duration::from_secs(10) {
                child.kill().expect("killed");
                panic!("it does not end after {input:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(ended, Some(code), "{input:?}");
    }
}

fn what_opens_the_keyring_is_kept_back() {
    let program = std::env::current_exe().expect("this program");
    // With the passphrase in its environment this program serves as before.
    if std::env::var_os(KEPT_BACK).is_none() {
        let again = Command::new(program)
            .args(["what_opens_the_keyring_is_kept_back"])
            .env(KEPT_BACK, "secret")
            .status()
            .expect("started");
        assert!(again.success());
        return;
    }
    a_program_serves_and_ends();
}
