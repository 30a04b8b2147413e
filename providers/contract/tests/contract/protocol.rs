//! The conversation that `providers/PROTOCOL.md` shows, played from both ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::memory::{ABOUT, Flaw, Memory, Place};
use async_trait::async_trait;
use castrum_blueprints::blueprint::Size;
use castrum_blueprints::names::{ClusterId, Role};
use castrum_provider::{
    Attachments, BootData, Change, Deadlines, Failure, FailureClass, Hello, Launch, Line, MachineSpec, Peer,
    PowerState, ProcessProvider, Provider, Removed, ResourceSpec, Told, Wanted, serve,
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const DOCUMENT: &str = include_str!("../../../PROTOCOL.md");

/// The messages of the document, each with whether it goes to the provider.
fn conversation() -> Vec<(bool, Value)> {
    let block = DOCUMENT.split("```json\n").nth(1).expect("the conversation");
    let lines = block.split("```").next().expect("its end").lines();
    let message = |line: &str| -> (bool, Value) {
        (line.starts_with("> "), serde_json::from_str(&line[2..]).expect("JSON"))
    };
    lines.map(message).collect()
}

fn machine() -> Wanted {
    let spec = ResourceSpec::Machine(Box::new(MachineSpec {
        node: "agents-1".parse().expect("a name"),
        role: Role::Agent,
        size: Size { cpus: 1, memory_mib: 512, disk_gib: 4 },
        disks: Vec::new(),
        zone: None,
        image: None,
        open_ports: Vec::new(),
        existing: None,
        attached: Attachments::default(),
    }));
    let boot_data = Some(BootData::new("#cloud-config\n".to_owned()));
    Wanted { path: "here/machine/agents-1".parse().expect("a path"), spec, generation: 0, boot_data }
}

fn hello() -> Hello {
    let settings = [("region".to_owned(), "north".into())].into();
    Hello { settings, ..crate::memory::hello(ClusterId::from_bytes([7; 6])) }
}

/// A provider of memory behind a pipe: its lines go out by the first, its answers come in by the second.
fn served(slow: Duration) -> (impl AsyncWriteExt + Unpin, impl AsyncBufReadExt + Unpin, Place) {
    let place = Place::default();
    let (ours, theirs) = tokio::io::duplex(1024 * 1024);
    let (reader, writer) = tokio::io::split(theirs);
    let of = Arc::clone(&place);
    let make = async move |hello: Hello| Ok(Memory { slow, flaw: Flaw::None, ..Memory::new(&of, &hello) });
    tokio::spawn(async move { drop(serve(ABOUT, make, reader, writer).await) });
    let (reader, writer) = tokio::io::split(ours);
    (writer, BufReader::new(reader), place)
}

async fn read(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Value> {
    let mut line = String::new();
    reader.read_line(&mut line).await.expect("a line");
    (!line.is_empty()).then(|| serde_json::from_str(&line).expect("JSON"))
}

async fn say(writer: &mut (impl AsyncWriteExt + Unpin), message: &str) {
    writer.write_all(format!("{message}\n").as_bytes()).await.expect("written");
}

#[tokio::test(start_paused = true)]
async fn the_conversation_in_the_documentation_takes_place() {
    let (mut writer, mut reader, _) = served(Duration::ZERO);
    for (to_provider, message) in conversation() {
        if to_provider {
            say(&mut writer, &message.to_string()).await;
        } else {
            assert_eq!(read(&mut reader).await, Some(message));
        }
    }
    assert_eq!(read(&mut reader).await, None, "it ends when it is asked to");
}

/// Takes down what is said, and answers as the document does.
struct Scribe(Arc<Mutex<Vec<Value>>>);

struct Nothing;

#[async_trait]
impl Peer for Nothing {
    fn kill(&mut self) {}

    async fn ended(&mut self) -> String {
        "ended".to_owned()
    }
}

#[async_trait]
impl Launch for Scribe {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn launch(&self, _: &Told) -> Result<Line, Failure> {
        let (ours, theirs) = tokio::io::duplex(1024 * 1024);
        let heard = Arc::clone(&self.0);
        tokio::spawn(async move {
            let (reader, mut writer) = tokio::io::split(theirs);
            let mut reader = BufReader::new(reader);
            let mut script = conversation().into_iter().peekable();
            while let Some(message) = read(&mut reader).await {
                heard.lock().expect("a lock").push(message);
                script.next();
                while let Some((_, answer)) = script.next_if(|(to_provider, _)| !to_provider) {
                    say(&mut writer, &answer.to_string()).await;
                }
            }
        });
        let (reader, writer) = tokio::io::split(ours);
        Ok(Line { reader: Box::new(reader), writer: Box::new(writer), peer: Box::new(Nothing) })
    }
}

#[tokio::test(start_paused = true)]
async fn castrum_says_what_the_documentation_says() {
    let heard = Arc::default();
    let provider = ProcessProvider::start(Scribe(Arc::clone(&heard)), hello(), Deadlines::default())
        .await
        .expect("a provider");
    assert_eq!((provider.version(), provider.abilities().provider.as_str()), ("7", "memory"));
    let (wanted, absent) = (machine(), "here/machine/agents-9".parse().expect("a path"));
    assert!(provider.preflight().await.is_empty());
    assert!(provider.observe().await.blind.is_empty());
    let made = provider.ensure(&wanted).await.expect("made");
    assert_eq!((made.change, made.seen.spec), (Change::Created, Some(wanted.spec.digest())));
    let power = provider.power().expect("power");
    assert_eq!(power.state(&wanted.path).await, Ok(PowerState::On));
    assert_eq!(power.set(&wanted.path, PowerState::Off).await, Ok(()));
    assert_eq!(power.kill(&absent).await.expect_err("no machine").class, FailureClass::Invalid);
    assert_eq!(provider.remove(&wanted.path).await, Ok(Removed::Removed));
    provider.shutdown().await;
    let said = conversation().into_iter().filter(|(to_provider, _)| *to_provider).map(|(_, said)| said);
    // Nothing was cancelled here: that line of the document is played by the other test.
    let said: Vec<Value> = said.filter(|said| said["say"] != "cancel").collect();
    assert_eq!(*heard.lock().expect("a lock"), said);
}

const HELLO: &str = r#"{"say":"hello","contract":1,"cluster":"070707070707","site":"here","more":[1]}"#;

#[tokio::test(start_paused = true)]
async fn calls_are_answered_as_they_are_done_and_not_in_their_order() {
    let (mut writer, mut reader, _) = served(Duration::from_secs(5));
    say(&mut writer, HELLO).await;
    assert_eq!(read(&mut reader).await.expect("a welcome")["say"], "hello");
    let ensure = conversation().remove(6).1;
    say(&mut writer, &ensure.to_string()).await;
    say(&mut writer, r#"{"say":"call","id":8,"deadline_ms":10,"verb":"preflight"}"#).await;
    assert_eq!(read(&mut reader).await.expect("the later call")["id"], 8);
    assert_eq!(read(&mut reader).await.expect("the earlier call")["id"], 3);
}

#[tokio::test(start_paused = true)]
async fn deadlines_and_cancels_drop_the_work() {
    let (mut writer, mut reader, place) = served(Duration::from_secs(5));
    say(&mut writer, HELLO).await;
    read(&mut reader).await.expect("a welcome");
    let mut late = conversation().remove(6).1;
    late["deadline_ms"] = 100.into();
    say(&mut writer, &late.to_string()).await;
    let answer = read(&mut reader).await.expect("an answer");
    assert_eq!((&answer["say"], &answer["failure"]["class"]), (&"failure".into(), &"transient".into()));
    (late["id"], late["deadline_ms"]) = (4.into(), 60_000.into());
    say(&mut writer, &late.to_string()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    say(&mut writer, r#"{"say":"cancel","id":4}"#).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    say(&mut writer, r#"{"say":"call","id":5,"deadline_ms":9000,"verb":"observe"}"#).await;
    let answer = read(&mut reader).await.expect("an answer");
    assert_eq!(answer["id"], 5, "what was cancelled is not answered");
    let seen = &answer["result"]["seen"]["here/machine/agents-1"];
    assert_eq!(seen["ready"], false, "it was dropped in the middle, twice");
    drop(place);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_left_out_and_what_is_wrong_is_refused() {
    let (mut writer, mut reader, _) = served(Duration::ZERO);
    say(&mut writer, HELLO).await;
    read(&mut reader).await.expect("a welcome");
    for left_out in [r#"{"say":"sing"}"#, "no JSON", "[]", "7", r#"{"say":"cancel","id":99}"#, "{}"] {
        say(&mut writer, left_out).await;
    }
    let mut unknown = conversation().remove(6).1;
    unknown["wanted"]["spec"]["colour"] = "red".into();
    unknown["id"] = 1.into();
    say(&mut writer, &unknown.to_string()).await;
    let answer = read(&mut reader).await.expect("an answer");
    assert_eq!(answer["result"]["change"], "created", "a field that is not known is left out");
    unknown["wanted"]["digest"] = "0".repeat(64).into();
    for (changed, class) in [
        (unknown, "unsupported"),
        (serde_json::json!({ "verb": "conjure" }), "unsupported"),
        (serde_json::json!({ "verb": "remove", "path": "nonsense" }), "invalid"),
        (serde_json::json!({ "verb": "ensure", "wanted": { "boot_data": "canary" } }), "invalid"),
    ] {
        let mut call = serde_json::json!({ "say": "call", "deadline_ms": 1000 });
        call.as_object_mut().expect("an object").extend(changed.as_object().expect("an object").clone());
        call["id"] = 2.into();
        say(&mut writer, &call.to_string()).await;
        let answer = read(&mut reader).await.expect("an answer");
        assert_eq!((&answer["id"], &answer["failure"]["class"]), (&2.into(), &class.into()), "{answer}");
        assert!(!answer.to_string().contains("canary"));
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_of_the_contract_is_refused_with_both_numbers() {
    let (mut writer, mut reader, _) = served(Duration::ZERO);
    say(&mut writer, &HELLO.replace("\"contract\":1", "\"contract\":2")).await;
    let refused = read(&mut reader).await.expect("an answer");
    assert_eq!((&refused["say"], &refused["failure"]["class"]), (&"refuse".into(), &"unsupported".into()));
    let message = refused["failure"]["message"].as_str().expect("a text");
    assert!(message.contains("version 1") && message.contains("version 2"), "{message}");
    assert_eq!(read(&mut reader).await, None);
}
