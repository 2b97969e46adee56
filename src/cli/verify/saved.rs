//! How far a check has come, in a file: after an interruption it goes on, after its end it goes on with what is new.
//!
//! The file is written beside the old one, flushed to disk and renamed, so that there is always a whole one. It holds ids
//! and hashes of persons, no names, and is readable by its owner alone.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bincode::{Decode, Encode};

use crate::cli::failure::Failure;
use crate::cli::output::{beside, private};
use crate::cli::verify::finding::{Finding, Findings};
use crate::cli::verify::ledger::{Ledger, Packed, Part};
use crate::domain::PersonId;
use crate::exit::ExitStatus;

/// What the file begins with: what it is, and the release of its form.
const MAGIC: &[u8; 24] = b"person-service verify 1\n";
const CONFIG: bincode::config::Configuration = bincode::config::standard();

/// How far a check has come, without the persons.
#[derive(Debug, Clone, Encode, Decode)]
pub struct Place {
    /// The stream's name and the time of its creation: another stream has another history.
    pub stream: (String, String),
    /// Which part of the persons is being looked at.
    pub part: Part,
    /// The sequence to go on from.
    pub next: u64,
    /// Where the stream ended when this check began.
    pub end: u64,
    /// The end, once it is reached for all parts.
    pub is_complete: bool,
}

#[derive(Encode, Decode)]
struct Head {
    place: Place,
    findings: Findings,
    merged: Vec<(PersonId, PersonId)>,
    suspects: Vec<(PersonId, Finding)>,
    unlisted_suspects: u64,
    commits: u64,
    events: u64,
    persons_before: u64,
    persons: u64,
}

/// Writes it all down.
pub fn save(path: &Path, place: &Place, ledger: &Ledger, findings: &Findings) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::new(ExitStatus::BadConfiguration, format!("--state {} cannot be written: {error}", path.display()))
    };
    let beside = beside(path);
    let write = || -> Result<(), Box<dyn std::error::Error>> {
        let mut writer = Hashing::new(BufWriter::new(private(&beside)?));
        writer.write_all(MAGIC)?;
        let head = Head {
            place: place.clone(),
            findings: findings.clone(),
            merged: ledger.merged.iter().map(|(from, into)| (*from, *into)).collect(),
            suspects: ledger.suspects.iter().map(|(person, finding)| (*person, finding.clone())).collect(),
            unlisted_suspects: ledger.unlisted_suspects,
            commits: ledger.commits,
            events: ledger.events,
            persons_before: ledger.persons_before,
            persons: ledger.len(),
        };
        bincode::encode_into_std_write(&head, &mut writer, CONFIG)?;
        for person in ledger.saved() {
            bincode::encode_into_std_write(person, &mut writer, CONFIG)?;
        }
        let hash = writer.hasher.finalize();
        writer.inner.write_all(hash.as_bytes())?;
        let file = writer.inner.into_inner()?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        Ok(())
    };
    write().map_err(|error| refused(&error))
}

/// Reads what was written down; `None` where there is no such file. What cannot be read is an error: whoever wants to
/// begin anew deletes it.
pub fn load(path: &Path) -> Result<Option<(Place, Ledger, Findings)>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(path, &error.to_string())),
    };
    // The hash comes first: a number that was changed could ask for all memory there is.
    match is_whole(&file).map_err(|error| error.to_string()).and_then(|whole| read(&file, whole)) {
        Ok(read) => Ok(Some(read)),
        Err(why) => Err(unusable(path, &why)),
    }
}

/// Whether the file ends with the hash of what is before it. Leaves it at its beginning.
fn is_whole(mut file: &File) -> io::Result<bool> {
    let hash_bytes = u64::try_from(blake3::OUT_LEN).unwrap_or(0);
    let Some(length) = file.metadata()?.len().checked_sub(hash_bytes) else { return Ok(false) };
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut BufReader::new(file).take(length), &mut hasher)?;
    let mut hash = [0; blake3::OUT_LEN];
    file.seek(SeekFrom::Start(length))?;
    file.read_exact(&mut hash)?;
    file.rewind()?;
    Ok(hasher.finalize() == hash)
}

/// The file cannot be gone on from.
pub fn unusable(path: &Path, why: &str) -> Failure {
    let message = format!("--state {}: {why}; delete it to check all from the beginning", path.display());
    Failure::new(ExitStatus::BadConfiguration, message)
}

fn read(file: &File, is_whole: bool) -> Result<(Place, Ledger, Findings), String> {
    let broken = || "it is cut short or changed".to_owned();
    let mut reader = BufReader::new(file);
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic).map_err(|_| broken())?;
    if &magic != MAGIC {
        return Err("it is none that this release wrote".to_owned());
    }
    if !is_whole {
        return Err(broken());
    }
    let head: Head = bincode::decode_from_std_read(&mut reader, CONFIG).map_err(|_| broken())?;
    let mut ledger = Ledger::default();
    ledger.merged = head.merged.into_iter().collect();
    ledger.suspects = head.suspects.into_iter().collect();
    ledger.unlisted_suspects = head.unlisted_suspects;
    (ledger.commits, ledger.events, ledger.persons_before) = (head.commits, head.events, head.persons_before);
    ledger.reserve(head.persons);
    for _ in 0..head.persons {
        let (person, packed): ([u8; 16], Packed) =
            bincode::decode_from_std_read(&mut reader, CONFIG).map_err(|_| broken())?;
        ledger.restore(person, packed);
    }
    Ok((head.place, ledger, head.findings))
}

/// Hashes what goes through.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
