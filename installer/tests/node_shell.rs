//! A person's terminal connected to a shell on a real SSH server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

#[path = "../../providers/ssh/tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use castrum::ssh::{Terminal, shell};
use castrum_provider_ssh::transport::{ExitStatus, Session};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use support::{SOON, Server, run};

/// Both sides of a terminal: the one that a person has before them, and the one that programs use.
fn terminal() -> (File, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
    let program = File::options().read(true).write(true).open(name).unwrap();
    (person.into(), program.into())
}

fn resize(person: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(person, size).unwrap();
}

/// Reads the screen until it shows `text`.
fn wait_for(person: &mut File, shown: &mut String, text: &str) {
    let mut buffer = [0; 4096];
    while !shown.contains(text) {
        let read = person.read(&mut buffer);
        let length = read.unwrap_or_else(|error| panic!("{error}: no {text:?} in {shown:?}"));
        shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_works_on_the_node_and_is_itself_again_afterwards() {
    let server = Server::start();
    let session = Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap();
    let (mut person, program) = terminal();
    resize(&person, 91, 31);
    let before = tcgetattr(&program).unwrap();
    let user = std::thread::spawn(move || {
        let mut shown = String::new();
        person.write_all(b"stty size; echo on-$TERM\n").unwrap();
        wait_for(&mut person, &mut shown, "31 91");
        wait_for(&mut person, &mut shown, "on-vt220");
        resize(&person, 71, 21);
        run(&["kill", "-s", "WINCH", &std::process::id().to_string()]);
        std::thread::sleep(Duration::from_millis(300));
        person.write_all(b"stty size\n").unwrap();
        wait_for(&mut person, &mut shown, "21 71");
        // An interrupt is a key like any other: it must end the command there, not this program.
        person.write_all(b"sleep 1000\n").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        person.write_all(b"\x03").unwrap();
        person.write_all(b"exit 9\n").unwrap();
        person
    });
    let here = Terminal { input: program.try_clone().unwrap(), output: program.try_clone().unwrap() };
    let work = shell(&session, here, Some("vt220"));
    let status = tokio::time::timeout(Duration::from_secs(30), work).await.unwrap().unwrap();
    assert_eq!(status, ExitStatus::Code(9));
    let _person = user.join().unwrap();
    let after = tcgetattr(&program).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
    assert!(after.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_gives_the_terminal_back() {
    let mut server = Server::start();
    let session = Session::connect(&server.target(), &server.auth(), server.pinned(), SOON).await.unwrap();
    let (person, program) = terminal();
    let here = Terminal { input: program.try_clone().unwrap(), output: program.try_clone().unwrap() };
    let death = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!tcgetattr(&program).unwrap().local_modes.contains(LocalModes::ECHO), "it is not raw");
        server.kill();
    };
    let work = tokio::time::timeout(Duration::from_secs(10), shell(&session, here, None));
    let (result, ()) = tokio::join!(work, death);
    assert!(result.unwrap().is_err());
    assert!(tcgetattr(&program).unwrap().local_modes.contains(LocalModes::ECHO));
    drop(person);
}
