//! The script that nodes run, with the python3 of this machine, against the functions that check it.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use castrum_blueprints::trust::{HOST_KEY_PROOF_SCRIPT, TrustError, host_key_proof, verify_host_key};

use super::*;

/// Runs the script as boot data does: on standard input, with the token only in a file.
fn run(folder: &Path) -> Output {
    let arguments = ["join-token", "run/castrum/hostkeys.proof", "ssh"].map(|part| folder.join(part));
    let mut python = Command::new("python3")
        .arg("-")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    python
        .stdin
        .take()
        .expect("a pipe")
        .write_all(HOST_KEY_PROOF_SCRIPT.as_bytes())
        .expect("the script is read");
    python.wait_with_output().expect("python3 ends")
}

fn machine(token: &JoinToken) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("ssh")).expect("a folder");
    let keys: Vec<String> =
        [("ed25519", "ssh-ed25519 AAAAC3Nz+a/b= root@x y"), ("rsa", "ssh-rsa AAAAB3Nz root@x")]
            .into_iter()
            .map(|(kind, line)| {
                fs::write(folder.path().join(format!("ssh/ssh_host_{kind}_key.pub")), format!("{line}\n"))
                    .expect("written");
                line.to_owned()
            })
            .collect();
    write_token(folder.path(), &token.expose(), 0o600);
    (folder, keys)
}

fn write_token(folder: &Path, text: &str, mode: u32) {
    let path = folder.join("join-token");
    fs::write(&path, format!("{text}\n")).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
}

#[test]
fn the_script_proves_what_the_installer_checks() {
    let mut keyring = keyring();
    let token = keyring.offer_token(&name("masters-1"), 1, NOW + HOUR, NOW).expect("a token");
    let (folder, keys) = machine(&token);
    // Twice, since a boot script may be run again.
    for _ in 0..2 {
        let output = run(folder.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let path = folder.path().join("run/castrum/hostkeys.proof");
    let proofs = fs::read_to_string(&path).expect("proofs");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o644);
    assert!(!proofs.contains(token.expose().as_str()));
    for key in &keys {
        assert!(proofs.contains(&host_key_proof(&token, key).expect("a proof")));
        assert_eq!(verify_host_key(&token, key, &proofs), Ok(()));
    }
    let between = "ssh-ed25519 AAAAC3NzMINE";
    let refused = verify_host_key(&token, between, &proofs);
    assert!(matches!(refused, Err(TrustError::HostKeyMismatch { .. })));
    let other = keyring.offer_token(&name("masters-2"), 1, NOW + HOUR, NOW).expect("a token");
    assert!(matches!(verify_host_key(&other, &keys[0], &proofs), Err(TrustError::HostKeyMismatch { .. })));
}

#[test]
fn the_script_refuses_an_open_or_broken_token_and_a_machine_without_keys() {
    let token = keyring().offer_token(&name("masters-1"), 1, NOW + HOUR, NOW).expect("a token");
    let (folder, _) = machine(&token);
    let refuses = |why: &str| {
        let output = run(folder.path());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(why), "{text}");
        assert!(!text.contains(token.expose().as_str()), "{text}");
        assert!(!folder.path().join("run/castrum/hostkeys.proof").exists());
    };
    write_token(folder.path(), &token.expose(), 0o644);
    refuses("chmod 600");
    write_token(folder.path(), &token.expose()[..32], 0o600);
    refuses("does not hold a join token");
    write_token(folder.path(), &token.expose(), 0o600);
    fs::remove_dir_all(folder.path().join("ssh")).expect("removed");
    refuses("ssh-keygen -A");
}
