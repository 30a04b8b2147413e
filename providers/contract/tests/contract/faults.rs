//! Processes that are no providers, or bad ones: each of them ends in a failure that says what happened, and none hangs.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use castrum_blueprints::names::ClusterId;
use castrum_provider::{
    BootData, Deadlines, Executable, Failure, FailureClass, NetworkSpec, ProcessProvider, Provider, Removed,
    ResourceSpec, Wanted,
};
use tempfile::TempDir;

use crate::memory::hello;

/// What every provider here begins with.
const WELCOME: &str = r#"
import json, os, sys, time
def say(**message):
    print(json.dumps(message), flush=True)
hello = json.loads(sys.stdin.readline())
say(say="hello", contract=1, provider="bad", version="1", abilities={"kinds": ["network"], "boot_data": True, "power": False})
def calls():
    for line in sys.stdin:
        message = json.loads(line)
        if message["say"] == "call":
            yield message
"#;

const CANARY: &str = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e";

fn deadlines() -> Deadlines {
    Deadlines {
        greeting: Duration::from_secs(10),
        look: Duration::from_secs(5),
        make: Duration::from_millis(300),
    }
}

fn program(text: &str) -> (TempDir, Executable) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("castrum-provider-bad");
    std::fs::write(&path, format!("#!/usr/bin/env python3\n{text}")).expect("written");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("executable");
    let executable = Executable::find("bad", &[folder.path().to_owned()]).expect("it is there");
    (folder, executable)
}

async fn try_start(text: &str, deadlines: Deadlines) -> (TempDir, Result<ProcessProvider, Failure>) {
    let (folder, executable) = program(text);
    (folder, ProcessProvider::start(executable, hello(ClusterId::from_bytes([7; 6])), deadlines).await)
}

/// Starts a program that greets as it should, and then does `then`.
async fn start(then: &str) -> (TempDir, ProcessProvider) {
    let (folder, started) = try_start(&format!("{WELCOME}\n{then}"), deadlines()).await;
    (folder, started.unwrap_or_else(|failure| panic!("{failure}")))
}

async fn refused(text: &str) -> Failure {
    let (_folder, started) = try_start(text, deadlines()).await;
    started.err().expect("it is no provider")
}

fn network() -> Wanted {
    let spec = ResourceSpec::Network(NetworkSpec { nodes: 1, cidr: None });
    let boot_data = Some(BootData::new(format!("#cloud-config\ntoken: {CANARY}\n")));
    Wanted { path: "here/network/nodes".parse().expect("a path"), spec, generation: 0, boot_data }
}

#[tokio::test]
async fn what_is_no_provider_is_told_apart_from_what_dies_and_what_is_silent() {
    let rubbish = refused("print('Hello, world')").await;
    assert_eq!(rubbish.class, FailureClass::Invalid);
    assert!(rubbish.message.contains("Hello, world") && rubbish.hint.is_some(), "{rubbish:?}");
    let dead = refused("import sys; print('no such region', file=sys.stderr); sys.exit(3)").await;
    assert_eq!(dead.class, FailureClass::Transient);
    assert!(dead.message.contains("exit status: 3") && dead.message.contains("no such region"), "{dead:?}");
    let began = Instant::now();
    let short = Deadlines { greeting: Duration::from_millis(200), ..deadlines() };
    let (_folder, silent) = try_start("import time; time.sleep(600)", short).await;
    let silent = silent.err().expect("it does not answer");
    assert_eq!(silent.class, FailureClass::Transient);
    assert!(silent.message.contains("did not answer the greeting"), "{silent:?}");
    assert!(began.elapsed() < Duration::from_secs(8));
    let nothing = Executable::at("bad", "/nowhere/castrum-provider-bad");
    let nothing = ProcessProvider::start(nothing, hello(ClusterId::from_bytes([7; 6])), deadlines()).await;
    assert_eq!(nothing.err().expect("no program").class, FailureClass::Invalid);
}

#[tokio::test]
async fn another_contract_and_a_refusal_are_told_as_they_are() {
    let old = refused(&WELCOME.replace("contract=1", "contract=0")).await;
    assert_eq!(old.class, FailureClass::Unsupported);
    assert!(old.message.contains("version 0") && old.message.contains("version 1"), "{old:?}");
    let refuse = r#"
import json, sys
failure = {"class": "denied", "message": "no credentials", "hint": "log in", "later": 1}
print(json.dumps({"say": "refuse", "failure": failure}))
"#;
    let refused = refused(refuse).await;
    let denied = Failure::new(FailureClass::Denied, "no credentials").with_hint("log in");
    assert_eq!(refused, denied);
}

#[tokio::test]
async fn rubbish_in_the_middle_fails_what_was_asked_and_the_next_call_starts_anew() {
    let (_folder, provider) = start(
        r#"
once = sys.argv[0] + ".once"
for call in calls():
    if not os.path.exists(once):
        open(once, "w").close()
        print("debug: got a call", flush=True)
        time.sleep(600)
    say(say="answer", id=call["id"], result="absent")
"#,
    )
    .await;
    let path = network().path;
    let broken = provider.remove(&path).await.expect_err("rubbish");
    assert_eq!(broken.class, FailureClass::Invalid);
    assert!(broken.message.contains("debug: got a call"), "{broken:?}");
    assert_eq!(provider.remove(&path).await, Ok(Removed::Absent));
}

#[tokio::test]
async fn a_death_in_the_middle_is_transient_and_tells_the_last_words() {
    let (_folder, provider) = start(
        r#"
for call in calls():
    if call["verb"] == "observe":
        say(say="answer", id=call["id"], result={"seen": {}})
    else:
        for n in range(100):
            print(f"line {n}", file=sys.stderr)
        os._exit(9)
"#,
    )
    .await;
    for _ in 0..2 {
        let dead = provider.remove(&network().path).await.expect_err("it dies");
        assert_eq!(dead.class, FailureClass::Transient);
        assert!(dead.message.contains("exit status: 9") && dead.message.contains("line 99"), "{dead:?}");
        assert!(!dead.message.contains("line 80") && dead.message.len() < 600, "{dead:?}");
        assert!(provider.observe().await.blind.is_empty(), "it was started again");
    }
}

#[tokio::test]
async fn one_call_starts_it_again_once_at_the_most() {
    let (folder, provider) = start("os._exit(1)").await;
    std::fs::write(folder.path().join("castrum-provider-bad"), {
        "#!/bin/sh\necho x >> \"$0.starts\"\nexit 1\n"
    })
    .expect("written");
    // It has said that it is there, and is on its way out.
    while provider.remove(&network().path).await.is_ok() {}
    let starts = || {
        let text = std::fs::read_to_string(folder.path().join("castrum-provider-bad.starts"));
        text.unwrap_or_default().lines().count()
    };
    let before = starts();
    let failure = provider.remove(&network().path).await.expect_err("it does not come back");
    assert_eq!(failure.class, FailureClass::Transient);
    assert_eq!(starts(), before + 1);
    let blind = provider.observe().await.blind;
    assert_eq!(blind.len(), 1, "unseen is not absent");
}

#[tokio::test]
async fn a_second_answer_and_one_that_nobody_asked_for_are_left_out() {
    let (_folder, provider) = start(
        r#"
for call in calls():
    say(say="answer", id=call["id"] + 1000, result="removed")
    say(say="answer", id=call["id"], result="absent")
    say(say="answer", id=call["id"], result="removed")
    say(say="failure", id=call["id"], failure={"class": "denied", "message": "no"})
    say(say="song", id=call["id"])
"#,
    )
    .await;
    for _ in 0..3 {
        assert_eq!(provider.remove(&network().path).await, Ok(Removed::Absent));
    }
}

#[tokio::test]
async fn answers_that_do_not_fit_are_invalid_and_make_a_look_blind() {
    let (_folder, provider) = start(
        r#"
for call in calls():
    other = {"path": "elsewhere/network/nodes", "id": "1", "spec": None, "ready": True}
    if call["verb"] == "observe":
        say(say="answer", id=call["id"], result={"seen": {"elsewhere/network/nodes": other}})
    elif call["verb"] == "ensure":
        say(say="answer", id=call["id"], result={"change": "created", "seen": other})
    elif call["verb"] == "remove":
        say(say="answer", id=call["id"], result="perhaps")
    else:
        say(say="failure", id=call["id"], failure={"class": "cloudy", "message": "no"})
"#,
    )
    .await;
    let look = provider.observe().await;
    assert!(look.seen.is_empty() && look.blind.len() == 1, "{look:?}");
    assert_eq!(provider.ensure(&network()).await.expect_err("another's").class, FailureClass::Invalid);
    assert_eq!(provider.remove(&network().path).await.expect_err("perhaps").class, FailureClass::Invalid);
    assert_eq!(provider.preflight().await.first().expect("cloudy").class, FailureClass::Invalid);
}

#[tokio::test]
async fn what_never_answers_is_given_up_and_killed() {
    let (folder, provider) = start(
        r#"
open(sys.argv[0] + ".pids", "a").write(f"{os.getpid()}\n")
for call in calls():
    time.sleep(600)
"#,
    )
    .await;
    let began = Instant::now();
    let failure = provider.ensure(&network()).await.expect_err("no answer");
    assert_eq!(failure.class, FailureClass::Transient);
    assert!(failure.message.contains("did not answer within"), "{failure:?}");
    assert!(began.elapsed() < Duration::from_secs(6));
    let pids = std::fs::read_to_string(folder.path().join("castrum-provider-bad.pids")).expect("pids");
    gone(pids.trim()).await;
}

/// Waits until a process is no more, which must not take long.
async fn gone(pid: &str) {
    let began = Instant::now();
    while std::path::Path::new("/proc").join(pid).exists() {
        assert!(began.elapsed() < Duration::from_secs(5), "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nothing_is_left_when_the_provider_is_dropped() {
    let wait = "open(sys.argv[0] + '.pid', 'w').write(str(os.getpid()))\nfor call in calls(): say(say='answer', id=call['id'], result=[])\ntime.sleep(600)";
    let (folder, provider) = start(wait).await;
    assert!(provider.preflight().await.is_empty());
    let pid = std::fs::read_to_string(folder.path().join("castrum-provider-bad.pid")).expect("a pid");
    drop(provider);
    gone(pid.trim()).await;
}

#[tokio::test]
async fn a_line_without_end_is_no_message() {
    let (_folder, provider) = start(
        r#"
for call in calls():
    block = "x" * (1 << 20)
    try:
        while True:
            sys.stdout.write(block)
    except OSError:
        os._exit(0)
"#,
    )
    .await;
    let failure = provider.remove(&network().path).await.expect_err("no message");
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(failure.message.contains("longer than"), "{failure:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled() {
    let (folder, provider) = start(
        r#"
for line in sys.stdin:
    message = json.loads(line)
    open(sys.argv[0] + ".log", "a").write(f"{message['say']} {message.get('id')}\n")
"#,
    )
    .await;
    let wanted = network();
    let dropped = tokio::time::timeout(Duration::from_millis(100), provider.ensure(&wanted)).await;
    assert!(dropped.is_err());
    let log = || std::fs::read_to_string(folder.path().join("castrum-provider-bad.log")).unwrap_or_default();
    let began = Instant::now();
    while log() != "call 1\ncancel 1\n" {
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Keeps all log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn boot_data_is_in_no_failure_and_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (folder, provider) = start(
        r#"
import base64
for call in calls():
    data = call["wanted"]["boot_data"]
    print("user data is", data, base64.b64encode(data.encode()).decode(), file=sys.stderr, flush=True)
    print(json.dumps(call), file=sys.stderr, flush=True)
    mode = open(sys.argv[0] + ".mode").read()
    if mode == "failure":
        say(say="failure", id=call["id"], failure={"class": "invalid", "message": "bad: " + data, "hint": data})
    elif mode == "rubbish":
        print(data, flush=True)
        time.sleep(600)
    elif mode == "type":
        say(say="answer", id=call["id"], result={"change": data})
    elif mode == "note":
        seen = {"path": call["wanted"]["path"], "id": "1", "spec": None, "ready": False, "note": data}
        say(say="answer", id=call["id"], result={"change": "created", "seen": seen})
    else:
        os._exit(1)
"#,
    )
    .await;
    let mut said = String::new();
    for mode in ["failure", "rubbish", "type", "note", "death"] {
        std::fs::write(folder.path().join("castrum-provider-bad.mode"), mode).expect("written");
        let answer = provider.ensure(&network()).await;
        assert_eq!(answer.is_ok(), mode == "note", "{mode}: {answer:?}");
        let shown = answer.as_ref().err().map(ToString::to_string);
        writeln!(said, "{mode}: {answer:?} {shown:?}").expect("a String takes all");
    }
    write!(said, "{:?}", network()).expect("a String takes all");
    let log = String::from_utf8(log.0.lock().expect("a lock").clone()).expect("UTF-8");
    assert!(log.contains("user data is"), "what it logs is shown: {log}");
    let encoded = &"I2Nsb3VkLWNvbmZpZwp0b2tlbjogNWNhMWFiMWU1Y2ExYWIxZTVj"[24..48];
    for text in [&said, &log] {
        assert!(text.contains("[boot data]"), "{text}");
        assert!(!text.contains(CANARY) && !text.contains(encoded), "{text}");
    }
    assert!(provider.told_boot_data(), "and it is known that it does this");
}
