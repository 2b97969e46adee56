//! Where letters come from: one that is there already, or the lines of a file or stdin, read by a thread of their own so
//! that answers are taken in while a slow pipe has nothing to say.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::cli::failure::Failure;
use crate::cli::output::private;
use crate::cli::send::letter::{Letter, LetterMaker};
use crate::exit::ExitStatus;

/// How a path names stdin.
const STDIN: &str = "-";
/// The longest line that is read, in bytes: well beyond what the service takes, so that it can say so.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Letters that wait to be taken.
const WAITING_LEN_MAX: usize = 64;

/// Letters, one after the other.
pub struct Source {
    letters: Receiver<io::Result<Letter>>,
    ended: bool,
    /// Bytes of the file, where that is known.
    pub bytes: Option<u64>,
}

/// Where a thread puts what it read.
pub struct Given(Sender<io::Result<Letter>>);

impl Given {
    /// One more; false when nobody takes any more.
    pub fn give(&mut self, letter: Letter) -> bool {
        self.0.send(Ok(letter)).is_ok()
    }
}

/// What a source has to give.
pub enum Next {
    /// The next letter.
    Letter(Letter),
    /// Nothing yet.
    NotYet,
    /// Nothing any more.
    End,
}

impl Source {
    /// One letter.
    pub fn single(letter: Letter) -> Self {
        let (sender, letters) = bounded(1);
        // There is room for one.
        let _ = sender.send(Ok(letter));
        Self { letters, ended: false, bytes: None }
    }

    /// The lines of a file or stdin.
    pub fn lines(path: &Path, maker: LetterMaker) -> Result<Self, Failure> {
        let (reader, bytes): (Box<dyn BufRead + Send>, _) = if path == Path::new(STDIN) {
            (Box::new(BufReader::new(io::stdin())), None)
        } else {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.size());
            (Box::new(BufReader::new(file)), size)
        };
        Self::spawn(bytes, move |given| read_lines(reader, maker, given))
    }

    /// What a thread of its own gives. `bytes` are those of the input, where known.
    pub fn spawn(
        bytes: Option<u64>,
        read: impl FnOnce(&mut Given) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Failure> {
        let (sender, letters) = bounded(WAITING_LEN_MAX);
        let thread = std::thread::Builder::new().name("lines".to_owned());
        let mut given = Given(sender);
        // It ends with the input, or when nobody takes any more; one that waits for stdin ends with the process.
        let run = move || {
            if let Err(error) = read(&mut given) {
                // Nobody takes any more: then nobody is interested in why it ended either.
                let _ = given.0.send(Err(error));
            }
        };
        thread
            .spawn(run)
            .map_err(|error| Failure::new(ExitStatus::Bug, format!("no thread can be started: {error}")))?;
        Ok(Self { letters, ended: false, bytes })
    }

    /// What there is now.
    pub fn poll(&mut self) -> io::Result<Next> {
        self.wait(Duration::ZERO)
    }

    /// What there is within this time.
    pub fn wait(&mut self, within: Duration) -> io::Result<Next> {
        if self.ended {
            return Ok(Next::End);
        }
        match self.letters.recv_timeout(within) {
            Ok(letter) => letter.map(Next::Letter),
            Err(RecvTimeoutError::Timeout) => Ok(Next::NotYet),
            Err(RecvTimeoutError::Disconnected) => {
                self.ended = true;
                Ok(Next::End)
            }
        }
    }

    /// Whether all was taken.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

/// All of a file or stdin, as the payload of one letter.
pub fn read_whole(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut payload = Vec::new();
    let read = if path == Path::new(STDIN) {
        io::stdin().lock().take(LINE_BYTES_MAX).read_to_end(&mut payload)
    } else {
        File::open(path).and_then(|file| file.take(LINE_BYTES_MAX).read_to_end(&mut payload))
    };
    read.map_err(|error| unreadable(path, &error))?;
    Ok(payload)
}

/// Opens a file for the lines that were refused. It may hold personal data, so it is for its owner alone.
pub fn create_private(path: &Path, input: Option<&PathBuf>) -> Result<File, Failure> {
    let refused =
        |why: &str| Failure::new(ExitStatus::BadConfiguration, format!("--refused {}: {why}", path.display()));
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    if input.is_some_and(|input| identity(input).is_some() && identity(input) == identity(path)) {
        return Err(refused("this is the file that is read; name another one"));
    }
    private(path).map_err(|error| refused(&format!("it cannot be written: {error}")))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let name = if path == Path::new(STDIN) { "stdin".to_owned() } else { path.display().to_string() };
    Failure::new(ExitStatus::BadConfiguration, format!("{name} cannot be read: {error}"))
}

fn read_lines(mut reader: impl BufRead, mut maker: LetterMaker, given: &mut Given) -> io::Result<()> {
    for line in 1.. {
        let Some(text) = next_line(&mut reader)? else { break };
        if !text.iter().all(u8::is_ascii_whitespace) && !given.give(maker.letter(line, text)) {
            break;
        }
    }
    Ok(())
}

/// The next line without its end, cut off where it is too long for anything; `None` at the end.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    } else {
        reader.skip_until(b'\n')?;
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_empty_ones_left_out() {
        let (sender, letters) = bounded(10);
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).expect("a small number") + 5);
        let text = format!("one\r\n\n  \ntwo\n{long}\nthree");
        read_lines(text.as_bytes(), LetterMaker::new(""), &mut Given(sender)).expect("a text can be read");
        let read: Vec<(u64, usize)> =
            letters.iter().map(Result::unwrap).map(|letter| (letter.line, letter.payload.len())).collect();
        assert_eq!(read, [(1, 4), (4, 3), (5, long.len() - 5), (6, 5)]);
    }
}
