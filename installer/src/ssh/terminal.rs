//! This side's terminal: its size, its raw mode, and what is typed, read so that reading can be stopped.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use castrum_provider_ssh::transport::TerminalSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// As much as a person pastes at once.
const PIECE: usize = 16 * 1024;

/// The size of the terminal behind `fd`; 80 by 24 for what is none.
pub(super) fn size_of(fd: impl AsFd) -> io::Result<TerminalSize> {
    if !isatty(&fd) {
        return Ok(TerminalSize { columns: 80, rows: 24 });
    }
    let size = tcgetwinsize(fd)?;
    Ok(TerminalSize { columns: size.ws_col.max(1), rows: size.ws_row.max(1) })
}

/// A terminal in raw mode: every key goes to the node. Dropping it restores the mode from before.
pub(super) struct Raw(Option<(OwnedFd, Termios)>);

impl Raw {
    /// Does nothing for what is no terminal.
    pub(super) fn enter(fd: impl AsFd) -> io::Result<Self> {
        if !isatty(&fd) {
            return Ok(Self(None));
        }
        let before = tcgetattr(&fd)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&fd, OptionalActions::Now, &raw)?;
        Ok(Self(Some((fd.as_fd().try_clone_to_owned()?, before))))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some((fd, before)) = &self.0 {
            // Nothing can be done about a terminal that is gone.
            let _ = tcsetattr(fd, OptionalActions::Drain, before);
        }
    }
}

/// What is typed. A thread of its own reads it, and ends when this is dropped: the usual way, a read that waits for a
/// key, would keep the program from ending until somebody presses one.
pub(super) struct Input {
    pieces: mpsc::Receiver<Bytes>,
    stop: Stop,
}

/// The end of a pipe that the reading thread watches; closing it stops the thread.
pub(super) struct Stop(#[expect(dead_code, reason = "only its end matters")] OwnedFd);

impl Input {
    pub(super) fn read(fd: OwnedFd) -> io::Result<Self> {
        let (watched, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let (sender, pieces) = mpsc::channel(4);
        std::thread::Builder::new().name("typed".to_owned()).spawn(move || pump(&fd, &watched, &sender))?;
        Ok(Self { pieces, stop: Stop(stop) })
    }

    /// The next keys; `None` at the end of the input.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }

    /// The keys as a queue, and what keeps them coming.
    pub(super) fn into_pieces(self) -> (mpsc::Receiver<Bytes>, Stop) {
        (self.pieces, self.stop)
    }
}

fn pump(fd: &OwnedFd, watched: &OwnedFd, sender: &mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let mut waits = [PollFd::new(fd, PollFlags::IN), PollFd::new(watched, PollFlags::empty())];
        match poll(&mut waits, None) {
            Ok(_) if !waits[1].revents().is_empty() => return,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if sender.blocking_send(Bytes::copy_from_slice(&buffer[..length])).is_err() {
                    return;
                }
            }
        }
    }
}
