//! The journal's own protocol, by which a line has fields to search by: `journalctl ERROR_CODE=history_damaged`.
//!
//! One datagram an entry, each field `NAME=value`, or name, length and value where the value has line breaks in it
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). What is too large for a datagram would have to be handed over as a
//! file; lines of the log are bounded far below that.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// Where the journal listens, on every system that has one.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// A field's name, in bytes: the journal ignores longer ones.
const NAME_BYTES_MAX: usize = 64;

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The journal that listens there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let socket = UnixDatagram::unbound()?;
        // Whether anybody listens; later it is told anew each time, since the journal may be started anew.
        socket.connect(&path)?;
        Ok(Self { socket: UnixDatagram::unbound()?, path })
    }

    /// Hands over one entry. It waits where the journal hangs.
    pub fn send(&self, entry: &[u8]) -> io::Result<()> {
        self.socket.send_to(entry, &self.path).map(drop)
    }
}

/// An entry of these fields.
pub fn entry<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    for (name, value) in fields {
        bytes.extend_from_slice(field_name(name).as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Capitals, digits and underscores, beginning with a letter: others are ignored, and a leading underscore is the
/// journal's own.
fn field_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    name.chars().take(NAME_BYTES_MAX).map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_field_a_line_and_line_breaks_are_counted() {
        let bytes = entry([("MESSAGE", "a\nb"), ("PRIORITY", "4"), ("person_id", "x=y")]);
        assert_eq!(bytes, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=4\nPERSON_ID=x=y\n");
    }

    #[test]
    fn names_are_such_as_the_journal_takes() {
        for (name, expected) in [("error_code", "ERROR_CODE"), ("_PID", "PID"), ("1st", "ST"), ("a b=c\n", "A_B_C_")] {
            assert_eq!(field_name(name), expected);
        }
        assert_eq!(field_name(&"x".repeat(100)).len(), NAME_BYTES_MAX);
    }

    #[test]
    fn where_nobody_listens_there_is_no_journal() {
        assert!(Journal::open("/nowhere/journal/socket").is_err());
    }
}
