//! The few system calls that Rust cannot prove harmless, each with the reason why it is.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::process::Signal;
use rustix::thread::UnshareFlags;

/// Asks systemd as PID 1 for a clean power-off: `SIGRTMIN+3` as the C library counts.
pub(crate) fn poweroff_signal() -> Signal {
    const SIGRTMIN: i32 = 34;
    #[expect(
        unsafe_code,
        reason = "a real-time signal that the C library leaves to programs; it is only sent to others"
    )]
    unsafe {
        Signal::from_raw_unchecked(SIGRTMIN + 3)
    }
}

/// Gives the calling process, which has one thread, namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared");
    #[expect(unsafe_code, reason = "only `FILES` is dangerous, and it is never asked for")]
    unsafe {
        rustix::thread::unshare_unsafe(flags)?;
    }
    Ok(())
}

/// Marks every descriptor but the standard three as close-on-exec, whatever our own parent left open.
pub(crate) fn keep_descriptors_from_children() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let Ok(fd) = entry?.file_name().to_string_lossy().parse::<RawFd>() else { continue };
        if fd <= 2 {
            continue;
        }
        #[expect(unsafe_code, reason = "borrowed for one call; a descriptor closed meanwhile gives EBADF")]
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        match rustix::io::ioctl_fioclex(fd) {
            Ok(()) | Err(rustix::io::Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
