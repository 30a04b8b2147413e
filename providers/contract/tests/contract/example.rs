//! The example in Python is a provider like any other: it passes the suite, as a process that is killed on the way.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use castrum_blueprints::names::ClusterId;
use castrum_provider::conformance::{Candidate, Ground, Opened, Suite, Verdict};
use castrum_provider::{Deadlines, Executable, Failure, Hello, ProcessProvider};

use crate::memory::ground;

struct Example {
    folder: tempfile::TempDir,
}

impl Example {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/provider.py");
        symlink(script, folder.path().join("castrum-provider-example")).expect("a link");
        Self { folder }
    }

    async fn opened(&self, cluster: &ClusterId, state: PathBuf) -> Result<Opened, Failure> {
        let executable = Executable::find("example", &[self.folder.path().to_owned()]).expect("it is there");
        let settings: BTreeMap<String, serde_json::Value> =
            [("state".to_owned(), state.display().to_string().into()), ("seconds".to_owned(), 0.1.into())]
                .into();
        let hello = Hello::new(cluster.clone(), "here".parse().expect("a name"), settings);
        Ok(Opened::process(ProcessProvider::start(executable, hello, Deadlines::default()).await?))
    }
}

#[async_trait]
impl Candidate for Example {
    async fn open(&self, cluster: &ClusterId) -> Result<Opened, Failure> {
        self.opened(cluster, self.folder.path().join("state.json")).await
    }

    async fn open_unreachable(&self, cluster: &ClusterId) -> Option<Result<Opened, Failure>> {
        // A folder is no state file.
        Some(self.opened(cluster, self.folder.path().to_owned()).await)
    }
}

#[test]
fn the_example_is_short() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/provider.py");
    let text = std::fs::read_to_string(script).expect("the example");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    assert!(text.lines().filter(is_code).count() <= 50, "the README says that it has 50 lines");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "and they are lines");
}

#[tokio::test]
async fn the_example_passes_the_suite() {
    let (example, ground) = (Example::new(), Ground { patience: Duration::from_mins(1), ..ground() });
    let suite = Suite::new(&example, &ground);
    let outcomes = suite.run(&mut |_| {}).await;
    suite.sweep().await.expect("everything is removed");
    let missed: Vec<_> = outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Ok).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    let left = std::fs::read_to_string(example.folder.path().join("state.json")).expect("the state");
    assert_eq!(left, r#"{"070707070707": {"here": {}}, "080808080808": {"here": {}}}"#);
}
