//! Commands on their way from the replica where they arrived to the home of their persons: `P.intake.<replica>`.
//!
//! A parcel is a head and the commands behind it, one after the other, each as it arrived. Who takes it reads it as strictly
//! as any stranger's bytes.

use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::wire::request::{self, CommandId, Header, Headers, NotARequest, PAYLOAD_BYTES_MAX, Request, Stamp};
use crate::wire::subject::Subjects;

/// The form of parcels and beacons. Replicas with another one hand each other nothing.
pub const PROTOCOL: u8 = 1;
/// The most commands in a parcel.
pub const PARCEL_COMMANDS_MAX: usize = 256;
/// The largest parcel, in bytes: less than the smallest `max_payload` that the service can live with.
pub const PARCEL_BYTES_MAX: usize = 512 * 1024;
/// The most headers of a command that is handed over.
pub const PARCEL_HEADERS_MAX: usize = 64;

/// What an item may claim while it is read: bincode counts each number at its full size, though few bytes stand for it.
const CLAIMED_BYTES: usize = 2 * PARCEL_BYTES_MAX;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<CLAIMED_BYTES>,
> = bincode::config::standard().with_limit::<CLAIMED_BYTES>();

/// What stands before the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// The bits of the sender's id.
    pub from: u128,
    /// Its number, among those of this sender.
    pub number: u64,
    /// The home's latest beacon that the sender had heard.
    pub beat: u64,
    /// How long ago it had heard it when it sent the parcel, in microseconds. By both the home knows how old a parcel is at
    /// most, without comparing clocks.
    pub beat_age_micros: u64,
    /// How long the sender waits for an answer, in microseconds. Then it carries the commands out itself.
    pub patience_micros: u64,
    /// For how long the first command in it had waited then, in microseconds.
    pub waited_micros: u64,
    /// A parcel of the home's that the sender took, and answers with this one.
    pub taken: Option<Taken>,
}

/// That a parcel was taken: its home answers these commands from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Taken {
    /// The number of the parcel.
    pub number: u64,
    /// How many commands are in it.
    pub commands: usize,
}

/// A command as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Item<'a> {
    /// The id that was made for it, which is its command id if its client gave none.
    pub made_id: u128,
    /// The subject that it was sent to.
    pub subject: &'a str,
    /// Where its client waits for the reply.
    pub reply_to: Option<&'a str>,
    /// Its headers, one entry for each value.
    pub headers: Vec<(&'a str, &'a str)>,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Why bytes are no parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no parcel")]
pub struct NoParcel;

impl Item<'_> {
    /// Decodes, checks and normalises it, as [`request::decode`] does, with the stamp of whoever carries it out. It may be
    /// carried out at two places, and is to have one effect: so the id that was made for it is remembered as any other. Its
    /// events differ, so that each place knows its own commit.
    ///
    /// # Errors
    /// It is no request.
    pub fn request(&self, subjects: &Subjects, stamp: Stamp) -> Result<Request, NotARequest> {
        let made_id = || Uuid::from_u128(self.made_id).to_string();
        match request::decode(subjects, self.subject, self, self.payload, stamp) {
            Ok(mut request) if request.command_id.generated => {
                request.command_id = CommandId::new(made_id(), false);
                Ok(request)
            }
            Err(refused) if refused.command_id == Some(stamp.id.to_string()) => {
                Err(NotARequest { command_id: Some(made_id()), ..refused })
            }
            decoded => decoded,
        }
    }

    /// Adds it to the body of a parcel.
    ///
    /// # Errors
    /// It is too large for one, or for any request.
    pub fn append_to(&self, body: &mut Vec<u8>) -> Result<(), NoParcel> {
        let len = body.len();
        let is_written = self.headers.len() <= PARCEL_HEADERS_MAX
            && self.payload.len() <= PAYLOAD_BYTES_MAX
            && bincode::encode_into_std_write(self, body, CONFIG).is_ok()
            && body.len() <= PARCEL_BYTES_MAX - HEAD_BYTES_MAX;
        if !is_written {
            body.truncate(len);
            return Err(NoParcel);
        }
        Ok(())
    }
}

impl Headers for Item<'_> {
    fn get(&self, name: &str) -> Header<'_> {
        let mut values = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        match values.next() {
            None => Header::Absent,
            Some((_, value)) if values.all(|(_, other)| other == value) => Header::One(value),
            Some(_) => Header::Several,
        }
    }
}

/// What the head takes at most, in bytes: the protocol, the sender, five numbers of nine, and what was taken.
pub const HEAD_BYTES_MAX: usize = 1 + 17 + 5 * 9 + 1 + 2 * 9;

/// A parcel from its head and the items that were [appended](Item::append_to) to its body.
pub fn encode(head: Head, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX + body.len());
    bytes.push(PROTOCOL);
    // Numbers alone, into memory.
    let _ = bincode::encode_into_std_write(head, &mut bytes, CONFIG);
    bytes.extend_from_slice(body);
    bytes
}

/// Reads a parcel: all of its bytes, at least one command and no more than [`PARCEL_COMMANDS_MAX`].
///
/// # Errors
/// It is none, or one of another [`PROTOCOL`].
pub fn decode(bytes: &[u8]) -> Result<(Head, Vec<Item<'_>>), NoParcel> {
    let (head, mut rest) = decode_head(bytes)?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let (item, read): (Item<'_>, usize) = bincode::borrow_decode_from_slice(rest, CONFIG).map_err(|_| NoParcel)?;
        if items.len() == PARCEL_COMMANDS_MAX || item.headers.len() > PARCEL_HEADERS_MAX {
            return Err(NoParcel);
        }
        items.push(item);
        rest = rest.get(read..).unwrap_or_default();
    }
    if items.is_empty() { Err(NoParcel) } else { Ok((head, items)) }
}

/// Reads what stands before the commands; and what follows it, which may be anything.
///
/// # Errors
/// It is no parcel, or one of another [`PROTOCOL`].
pub fn decode_head(bytes: &[u8]) -> Result<(Head, &[u8]), NoParcel> {
    let (&protocol, rest) = bytes.split_first().ok_or(NoParcel)?;
    if protocol != PROTOCOL || bytes.len() > PARCEL_BYTES_MAX {
        return Err(NoParcel);
    }
    let (head, read): (Head, usize) = bincode::decode_from_slice(rest, CONFIG).map_err(|_| NoParcel)?;
    Ok((head, rest.get(read..).unwrap_or_default()))
}

/// What the home answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Receipt {
    /// It answers these commands from now on.
    Taken {
        /// How many.
        commands: usize,
    },
    /// It does nothing about any of them.
    Refused {
        /// Why.
        reason: Refused,
    },
}

/// Why a parcel was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refused {
    /// Its sender may have carried the commands out itself by now.
    Late,
    /// Too many parcels wait.
    Busy,
    /// It cannot be read.
    Malformed,
}

impl Receipt {
    /// Reads an answer; `None` for anything else.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// Its bytes.
    pub fn encode(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head {
        from: 3 << 100,
        number: 1,
        beat: 300,
        beat_age_micros: 70_000,
        patience_micros: 250_000,
        waited_micros: 0,
        taken: Some(Taken { number: 5, commands: 2 }),
    };

    fn item() -> Item<'static> {
        Item {
            made_id: 7 << 90,
            subject: "person.commands.x",
            reply_to: Some("_INBOX.a"),
            headers: vec![("Actor", "a"), ("Nats-Msg-Id", "1"), ("actor", "b"), ("nats-msg-id", "1")],
            payload: b"{}",
        }
    }

    fn parcel(items: &[Item<'_>]) -> Vec<u8> {
        let mut body = Vec::new();
        items.iter().for_each(|item| item.append_to(&mut body).expect("it has room"));
        encode(HEAD, &body)
    }

    #[test]
    fn it_is_read_as_it_was_packed() {
        let items = [item(), Item { reply_to: None, headers: Vec::new(), ..item() }];
        let bytes = parcel(&items);
        assert_eq!(decode(&bytes), Ok((HEAD, items.to_vec())));
        assert_eq!(
            [item().get("Nats-Msg-Id"), item().get("Actor"), item().get("x")],
            [Header::One("1"), Header::Several, Header::Absent]
        );
    }

    #[test]
    fn no_head_is_larger_than_the_largest() {
        let most = u64::MAX;
        let taken = Some(Taken { number: most, commands: usize::MAX });
        let head = Head {
            from: u128::MAX,
            number: most,
            beat: most,
            beat_age_micros: most,
            patience_micros: most,
            waited_micros: most,
            taken,
        };
        assert_eq!(encode(head, &[]).len(), HEAD_BYTES_MAX);
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = parcel(&[item()]);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(NoParcel), "cut at {end}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(NoParcel), "more behind it");
        assert_eq!(decode(&[&[PROTOCOL + 1], &bytes[1..]].concat()), Err(NoParcel), "another protocol");
        assert_eq!(decode(&encode(HEAD, &[])), Err(NoParcel), "nothing in it");
        let many = vec![Item { headers: Vec::new(), ..item() }; PARCEL_COMMANDS_MAX + 1];
        assert!(decode(&parcel(&many[1..])).is_ok());
        assert_eq!(decode(&parcel(&many)), Err(NoParcel), "too many");
    }

    #[test]
    fn what_is_too_large_is_not_packed() {
        let (mut body, payload) = (Vec::new(), vec![b'x'; PAYLOAD_BYTES_MAX + 1]);
        assert_eq!(Item { payload: &payload, ..item() }.append_to(&mut body), Err(NoParcel));
        let headers = vec![("a", "b"); PARCEL_HEADERS_MAX + 1];
        assert_eq!(Item { headers, ..item() }.append_to(&mut body), Err(NoParcel));
        assert!(body.is_empty());
    }

    /// What was read was counted otherwise than what was written: a parcel near the limit, with many headers, was packed and
    /// could be read by nobody, not even by the replica that had packed it.
    #[test]
    fn whatever_is_packed_can_be_read() {
        let payload = vec![b'x'; PAYLOAD_BYTES_MAX];
        for headers in [0, 1, PARCEL_HEADERS_MAX] {
            let most = Item { payload: &payload, headers: vec![("a", "b"); headers], ..item() };
            for short in (0..3_000).step_by(7) {
                let mut body = Vec::new();
                most.append_to(&mut body).expect("the first has room");
                let rest = Item { payload: payload.get(short..).expect("enough"), ..most.clone() };
                let len = 1 + usize::from(rest.append_to(&mut body).is_ok());
                let read = decode(&encode(HEAD, &body)).map(|(_, items)| items.len());
                assert_eq!(read, Ok(len), "{headers} headers, {short} short");
            }
        }
    }

    #[test]
    fn answers_are_json_that_people_can_read() {
        for (receipt, json) in [
            (Receipt::Taken { commands: 12 }, r#"{"status":"taken","commands":12}"#),
            (Receipt::Refused { reason: Refused::Late }, r#"{"status":"refused","reason":"late"}"#),
        ] {
            assert_eq!(String::from_utf8(receipt.encode()).as_deref(), Ok(json));
            assert_eq!(Receipt::decode(json.as_bytes()), Some(receipt));
        }
        assert_eq!(Receipt::decode(b""), None);
    }
}
