//! A pipe that nobody reads: whoever writes to it waits.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::eventually;

/// What a pipe of Linux holds, in bytes.
const ROOM: usize = 64 * 1024;
/// One that holds less is full when nothing more went into it for so long.
const STILL: Duration = Duration::from_millis(500);

/// The end that is not read, and a thread that keeps the pipe full.
pub struct FullPipe {
    reader: PipeReader,
    ends: Arc<AtomicBool>,
}

/// A pipe, and the end to give to a process. It has room until [`fill`] is called.
pub fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().expect("a pipe")
}

/// Fills it with empty lines; a process that has the other end as well finds no room.
pub fn fill(reader: PipeReader, mut writer: PipeWriter) -> FullPipe {
    let (ends, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (told, count) = (Arc::clone(&ends), Arc::clone(&written));
    std::thread::spawn(move || {
        while !told.load(Ordering::SeqCst) && writer.write_all(b"\n").is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (mut before, mut since) = (0, Instant::now());
    eventually("the pipe is full", || {
        let now = written.load(Ordering::SeqCst);
        if std::mem::replace(&mut before, now) != now {
            since = Instant::now();
        }
        now >= ROOM || now > 0 && since.elapsed() > STILL
    });
    FullPipe { reader, ends }
}

impl FullPipe {
    /// Reads on: the lines that are not empty, until nobody writes any more.
    pub fn read(self) -> impl Iterator<Item = String> {
        self.ends.store(true, Ordering::SeqCst);
        BufReader::new(self.reader).lines().map_while(Result::ok).filter(|line| !line.is_empty())
    }
}
