//! Lines of bounded length: what comes from another process is never trusted to end.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::UnboundedReceiver;

/// The longest line of the protocol, in bytes.
pub const LINE_LIMIT: usize = 16 * 1024 * 1024;

/// Why no further line can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    #[error("reading broke off")]
    Read(#[from] io::Error),
}

/// Reads up to the next line feed; `None` at the end. A last line without a line feed counts as one.
///
/// A call that is dropped keeps what it has read in `line`, and the next one goes on from there.
pub(crate) async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    limit: usize,
) -> Result<Option<Vec<u8>>, LineError> {
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok((!line.is_empty()).then(|| std::mem::take(line)));
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        if line.len() + taken > limit {
            return Err(LineError::TooLong(limit));
        }
        line.extend_from_slice(&chunk[..taken]);
        reader.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(Some(std::mem::take(line)));
        }
    }
}

/// Writes lines as they come, until nobody sends or nobody takes them any more: whoever cannot be written to is found to
/// have ended by whoever reads.
pub(crate) async fn write_lines(mut writer: impl AsyncWrite + Unpin, mut lines: UnboundedReceiver<String>) {
    while let Some(line) = lines.recv().await {
        let written = writer.write_all(line.as_bytes()).await;
        if written.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn all(text: &str, limit: usize) -> Result<Vec<String>, LineError> {
        let (mut reader, mut line, mut lines) =
            (BufReader::with_capacity(3, text.as_bytes()), vec![], vec![]);
        while let Some(line) = next_line(&mut reader, &mut line, limit).await? {
            lines.push(String::from_utf8(line).expect("UTF-8"));
        }
        Ok(lines)
    }

    #[tokio::test]
    async fn lines_are_whole_whatever_the_chunks() {
        assert_eq!(
            all("one\n\nthree is long\nfour", 20).await.expect("lines"),
            ["one", "", "three is long", "four"]
        );
        assert!(all("", 20).await.expect("nothing").is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        assert!(matches!(all("ok\n0123456789", 9).await, Err(LineError::TooLong(9))));
        assert_eq!(all("012345678\n", 9).await.expect("just so").len(), 1);
    }
}
