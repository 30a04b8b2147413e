//! System accounts: made by systemd-sysusers, read from `/etc/passwd` (a static binary has no name service).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::files::{FileError, read_if_there};
use crate::paths::Paths;

const TOOL: &str = "systemd-sysusers";
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an account was not made.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The tool could not be run.
    #[error("run `{TOOL}`")]
    Run(#[source] std::io::Error),
    /// The tool did not end.
    #[error("`{TOOL}` did not end within {} s", PATIENCE.as_secs())]
    Endless,
    /// The tool did not do it.
    #[error("`{TOOL}` failed: {0}")]
    Failed(String),
    /// The accounts could not be read.
    #[error("read the accounts")]
    Read(#[from] FileError),
    /// There is no such account, or its name is not one.
    #[error("there is no account `{0}`")]
    Missing(String),
}

/// The owner of files: user and primary group.
pub(crate) type Ids = (u32, u32);

/// Makes a system account without a login. One that exists is left as it is.
pub(crate) async fn make(paths: &Paths, account: &str) -> Result<(), AccountError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if account.is_empty() || !account.bytes().all(plain) {
        return Err(AccountError::Missing(account.to_owned()));
    }
    let mut command = Command::new(TOOL);
    if paths.root() != Path::new("/") {
        command.arg(format!("--root={}", paths.root().display()));
    }
    command.arg("--inline").arg(format!("u {account} - \"castrum component\""));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.map_err(|_| AccountError::Endless)?.map_err(AccountError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(AccountError::Failed(said.lines().last().unwrap_or("it said nothing").to_owned()))
}

/// All accounts by name.
pub(crate) fn all(paths: &Paths) -> Result<BTreeMap<String, Ids>, FileError> {
    let text = read_if_there(&paths.passwd())?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().filter_map(account_of).collect())
}

/// One account.
pub(crate) fn ids(paths: &Paths, account: &str) -> Result<Ids, AccountError> {
    all(paths)?.get(account).copied().ok_or_else(|| AccountError::Missing(account.to_owned()))
}

fn account_of(line: &str) -> Option<(String, Ids)> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((name, (user, group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_line_by_line() {
        assert_eq!(account_of("etcd:x:998:997::/:/usr/sbin/nologin"), Some(("etcd".to_owned(), (998, 997))));
        assert_eq!(account_of("+nis"), None);
        assert_eq!(account_of(""), None);
    }

    #[tokio::test]
    async fn an_account_is_made_under_the_root_and_not_twice() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let paths = Paths::new(dir.path());
        assert!(matches!(ids(&paths, "etcd"), Err(AccountError::Missing(_))));
        make(&paths, "etcd").await.unwrap();
        let first = ids(&paths, "etcd").unwrap();
        assert!(first.0 > 0 && first.0 < 1000, "{first:?}");
        make(&paths, "etcd").await.unwrap();
        assert_eq!(ids(&paths, "etcd").unwrap(), first);
        assert!(matches!(make(&paths, "x\" - 0 0").await, Err(AccountError::Missing(_))));
    }
}
