//! A machine that should not get in: it has the agent and a boot config, and asks a master to let it join.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use castrum_blueprints::boot::{BOOT_FILE, BootConfig, TOKEN_FILE};
use castrum_blueprints::trust::node_dns;
use castrum_blueprints::wire::JoinAnswer;

use crate::world::{Running, World, program};

/// One such machine, as a folder that is the root of its file system.
pub struct Rogue<'w> {
    world: &'w World,
    root: PathBuf,
    name: String,
}

impl<'w> Rogue<'w> {
    /// A machine that says that it is `boot.node`, with this token.
    pub fn new(world: &'w World, name: &str, boot: &BootConfig, token: &str) -> Self {
        let root = world.dir().join(format!("rogue-{name}"));
        let rogue = Self { world, root, name: name.to_owned() };
        rogue.write(BOOT_FILE, &boot.to_text());
        rogue.write(TOKEN_FILE, token);
        rogue
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        fs::write(path, text).expect("a file");
    }

    /// Asks the first master; the answer comes when some installer has decided.
    pub fn ask(&self) -> Asked {
        let mut agent = Command::new(program().with_file_name("castrum-agent"));
        agent.arg("--root").arg(&self.root).args(["join", "prepare"]).stdin(Stdio::null());
        let request = agent.output().expect("the agent runs");
        assert!(request.status.success(), "{}", String::from_utf8_lossy(&request.stderr));
        let (body, ca) = (self.root.join("request.json"), self.root.join("ca.pem"));
        fs::write(&body, &request.stdout).expect("a request");
        fs::write(&ca, self.world.trust().ca_pem()).expect("a certificate");
        let host = node_dns(&"masters-1".parse().expect("a name"));
        let port = BootConfig::PORT;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "40", "--cacert"]).arg(&ca);
        curl.arg("--resolve").arg(format!("{host}:{port}:{}", self.world.address("masters-1")));
        curl.args(["--header", "Content-Type: application/json", "--data-binary"]);
        curl.arg(format!("@{}", body.display())).arg(format!("https://{host}:{port}/v1/join"));
        Asked { name: self.name.clone(), curl: Running::start(curl, self.world.dir()) }
    }
}

/// A question under way.
pub struct Asked {
    name: String,
    curl: Running,
}

impl Asked {
    /// Why it was refused; it must have been.
    pub fn refused(self) -> String {
        let ran = self.curl.wait(std::time::Duration::from_secs(50));
        let answer = serde_json::from_str::<JoinAnswer>(&ran.stdout);
        match answer {
            Ok(JoinAnswer::Refused { reason }) => reason,
            answer => {
                panic!("the machine with the {} token was not refused: {answer:?}\n{}", self.name, ran.tail())
            }
        }
    }
}
