//! The stored form of a person's state: a cache that can be checked before it is believed.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | format number, little endian |
//! | 2..10 | the person's version, little endian |
//! | 10..18 | the stream sequence of the commit that made it, little endian |
//! | 18..34 | the digest of that commit's exact bytes |
//! | 34..50 | checksum: digest of the person's id, the bytes before and the bytes after |
//! | 50.. | [`Body`] in bincode's standard configuration |

use bincode::{Decode, Encode};

use crate::domain::{EventKinds, Person, PersonId, Timestamp};
use crate::wire::commit::Sequence;
use crate::wire::digest::Digest;

/// The format that this release writes. A change of any type inside [`Body`] makes a new one.
pub const FORMAT: u16 = 2;
/// What a snapshot may decode to, in bytes: the limit of a person's state with room for the receipts.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A person's state after one of its commits.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The person's version.
    pub version: u64,
    /// Where the commit lies that made this version.
    pub sequence: Sequence,
    /// The digest of that commit's exact bytes.
    pub chain: Digest,
    /// Everything else.
    pub body: Body,
}

/// The part of a snapshot that bincode writes.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Body {
    /// The state.
    pub person: Person,
    /// The time of the newest event.
    pub last_event_at: Timestamp,
    /// The commands carried out last, oldest first.
    pub receipts: Vec<Receipt>,
    /// Commands that were carried out by commits up to this one may be missing from the receipts; `None` when none is.
    pub missing_until: Option<Sequence>,
    /// Which ids commands can have that are missing, oldest first.
    pub id_spans: Vec<IdSpan>,
}

/// Some commands with UUIDv7 ids that were carried out one after the other, and when these ids were made, by their own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct IdSpan {
    /// Where the commit of the first lies.
    pub first: Sequence,
    /// How long before the newest command of the person it was carried out, in microseconds.
    pub first_micros_ago: u64,
    /// How long before that the last one was.
    pub last_micros_ago: u64,
    /// The earliest time in one of the ids.
    pub made_from: Timestamp,
    /// The latest.
    pub made_until: Timestamp,
}

/// What is remembered of a command that was carried out, so that a retry gets the same outcome.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The digest of its command id.
    pub command: Digest,
    /// The digest of its commands.
    pub digest: Digest,
    /// The person's version after it.
    pub version: u64,
    /// Where its commit lies.
    pub sequence: Sequence,
    /// The time of its last event.
    pub at: Timestamp,
    /// The types of its events.
    pub events: EventKinds,
}

/// Why a snapshot is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by another release.
    #[error("format {0}, this release reads {FORMAT}")]
    UnknownFormat(u16),
    /// Cut short, changed, or another person's.
    #[error("the checksum does not hold")]
    Corrupt,
}

/// The bytes of a snapshot.
pub fn encode(person: PersonId, snapshot: &Snapshot) -> Result<Vec<u8>, bincode::error::EncodeError> {
    /// More than those of most persons have.
    const BODY_BYTES: usize = 8 * 1024;
    let mut body = Vec::with_capacity(BODY_BYTES);
    bincode::encode_into_std_write(&snapshot.body, &mut body, bincode::config::standard())?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend(snapshot.version.to_le_bytes());
    bytes.extend(snapshot.sequence.to_le_bytes());
    bytes.extend(snapshot.chain.to_bytes());
    bytes.extend(checksum(person, &bytes, &body).to_bytes());
    bytes.extend(body);
    Ok(bytes)
}

/// Reads a snapshot of this person.
pub fn decode(person: PersonId, bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let header = Header::read(bytes).ok_or(SnapshotError::Corrupt)?;
    if header.format != FORMAT {
        return Err(SnapshotError::UnknownFormat(header.format));
    }
    if checksum(person, header.before_checksum, header.body) != header.checksum {
        return Err(SnapshotError::Corrupt);
    }
    match read_body(header.body) {
        Some(body) if body.person.id == person => {
            Ok(Snapshot { version: header.version, sequence: header.sequence, chain: header.chain, body })
        }
        _ => Err(SnapshotError::Corrupt),
    }
}

/// The version of a snapshot that holds what it claims, whoever's it is; `None` for other bytes. What nobody could use
/// must not stand in the way of a good one by its claim alone.
pub fn claimed_version(bytes: &[u8]) -> Option<u64> {
    let header = Header::read(bytes).filter(|header| header.format == FORMAT)?;
    let body = read_body(header.body)?;
    let holds = checksum(body.person.id, header.before_checksum, header.body) == header.checksum;
    holds.then_some(header.version)
}

fn read_body(bytes: &[u8]) -> Option<Body> {
    let config = bincode::config::standard().with_limit::<BODY_BYTES_MAX>();
    let (body, read) = bincode::decode_from_slice(bytes, config).ok()?;
    (read == bytes.len()).then_some(body)
}

const HEADER_BYTES: usize = 50;

struct Header<'a> {
    format: u16,
    version: u64,
    sequence: Sequence,
    chain: Digest,
    checksum: Digest,
    before_checksum: &'a [u8],
    body: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (chain, rest) = rest.split_first_chunk()?;
        let (checksum, body) = rest.split_first_chunk()?;
        Some(Self {
            format: u16::from_le_bytes(*format),
            version: u64::from_le_bytes(*version),
            sequence: u64::from_le_bytes(*sequence),
            chain: Digest::from_bytes(*chain),
            checksum: Digest::from_bytes(*checksum),
            before_checksum: bytes.get(..HEADER_BYTES - 16)?,
            body,
        })
    }
}

/// The person's id is part of it, so that a snapshot under another person's key is not believed.
fn checksum(person: PersonId, before: &[u8], body: &[u8]) -> Digest {
    Digest::of_parts(&[person.uuid().as_bytes(), before, body])
}
