//! What a client writes: text for people or bytes for programs on stdout, and what went wrong in one line on stderr.
//!
//! Whoever closed the pipe has read enough: from then on nothing is written, and nothing is wrong. Colours reach a
//! terminal alone. Text that somebody once sent is shown without its control characters, which a terminal would obey.

use std::borrow::Cow;
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Stdout, Write};
use std::path::{Path, PathBuf};

use anstream::AutoStream;
use anstyle::Style;

use crate::cli::failure::Failure;
use crate::exit::ExitStatus;

/// What matters.
pub const STRONG: Style = Style::new().bold();
/// What is there for whoever looks for it.
pub const DIM: Style = Style::new().dimmed();

/// Standard output.
pub struct Out {
    stream: AutoStream<Stdout>,
    state: State,
}

/// What became of stdout.
enum State {
    Open,
    /// Nobody reads any more.
    Closed,
    Broken(io::Error),
}

impl Out {
    /// The process's own.
    pub fn new() -> Self {
        Self { stream: AutoStream::auto(io::stdout()), state: State::Open }
    }

    /// Writes a line for people.
    pub fn line(&mut self, text: impl fmt::Display) {
        if self.is_open() {
            let written = writeln!(self.stream, "{text}");
            self.note(written);
        }
    }

    /// Writes a line for programs, byte for byte.
    pub fn json(&mut self, bytes: &[u8]) {
        if self.is_open() {
            let mut stdout = self.stream.as_inner();
            let written = stdout.write_all(bytes).and_then(|()| stdout.write_all(b"\n"));
            self.note(written);
        }
    }

    /// Whether there is any use in writing on.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Writes out what is still held back; an error if something that somebody waits for could not be written.
    pub fn finish(mut self) -> Result<(), Failure> {
        if self.is_open() {
            let flushed = self.stream.flush();
            self.note(flushed);
        }
        match self.state {
            State::Open | State::Closed => Ok(()),
            State::Broken(error) => {
                Err(Failure::new(ExitStatus::Unavailable, format!("stdout cannot be written: {error}")))
            }
        }
    }

    fn note(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.state = State::Closed,
            Err(error) => self.state = State::Broken(error),
        }
    }
}

/// Opens a file that may hold personal data, anew and for its owner alone.
pub fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // That mode is for a new file. One that was there gets it before anything is in it; /dev/null and the like stay as
    // they are.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Where a file is written before it takes the place of this one.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Text without anything that a terminal would obey.
pub fn harmless(text: &str) -> Cow<'_, str> {
    // The two separators end a line for some readers.
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// A text in a style.
pub fn styled(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A number as people read it: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its unit, in the plural unless it is one: `1,234 persons`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_what_somebody_sent() {
        for (sent, shown) in [
            ("Jürgen 李", "Jürgen 李"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("c1 \u{9b}31m", "c1 \\u{9b}31m"),
            ("two\nlines\u{2028}more", "two\\nlines\\u{2028}more"),
        ] {
            assert_eq!(harmless(sent), shown);
        }
    }

    /// A file of --refused that everybody could read stayed so when it was written anew.
    #[test]
    fn a_private_file_is_its_owners_alone_also_where_it_was_not() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("refused");
        std::fs::write(&path, "before").expect("it is written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");
        let file = private(&path).expect("it opens");
        let found = file.metadata().expect("it is there");
        assert_eq!((found.permissions().mode() & 0o777, found.len()), (0o600, 0));
        let null = Path::new("/dev/null");
        let mode = || std::fs::metadata(null).expect("it is there").permissions().mode();
        let before = mode();
        private(null).expect("it opens");
        assert_eq!(mode(), before);
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        let counts = [0, 1, 2_000].map(|count| counted(count, "person", "persons"));
        assert_eq!(counts, ["0 persons", "1 person", "2,000 persons"]);
    }
}
