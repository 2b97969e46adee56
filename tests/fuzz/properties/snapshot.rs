//! A value in the bucket, read as a snapshot: as it is, and as the body of one whose checksum holds.
//!
//! No checksum is found by chance, so the second way is the one that goes deep.

use cim_domain_person::domain::binary::CONFIG;
use cim_domain_person::domain::{DisplayNames, PersonId, PersonView};
use cim_domain_person::engine::aggregate::Aggregate;
use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::query::encode_person;
use cim_domain_person::wire::snapshot::{FORMAT, Snapshot, claimed_version, decode, encode};
use uuid::Uuid;

const HEADER_BYTES: usize = 50;

/// What holds of every value in the bucket.
pub fn hold(input: &[u8]) {
    let person = owner(input);
    assert_same_again(person, input);
    let sealed = sealed(person, input);
    assert_same_again(person, &sealed);
    // A snapshot is believed whole or not at all.
    if decode(person, &sealed).is_ok() {
        let other = PersonId::from_uuid(Uuid::from_u128(person.uuid().as_u128() ^ 1));
        assert!(decode(other, &sealed).is_err(), "under another person's key");
        assert!(decode(person, &sealed[..sealed.len() - 1]).is_err(), "cut short");
    }
}

/// The person that the body begins with, so that a body which decodes has the right owner.
fn owner(body: &[u8]) -> PersonId {
    let first = bincode::decode_from_slice(body, CONFIG);
    first.map_or(PersonId::from_uuid(Uuid::nil()), |(person, _)| person)
}

fn sealed(person: PersonId, body: &[u8]) -> Vec<u8> {
    let mut bytes = FORMAT.to_le_bytes().to_vec();
    bytes.extend([7; HEADER_BYTES - 2 - 16]);
    let checksum = Digest::of_parts(&[person.uuid().as_bytes(), &bytes, body]);
    bytes.extend(checksum.to_bytes());
    bytes.extend(body);
    bytes
}

fn assert_same_again(person: PersonId, bytes: &[u8]) {
    let read = decode(person, bytes);
    assert!(read.is_err() || claimed_version(bytes).is_some());
    let Ok(read) = read else { return };
    assert_eq!(claimed_version(bytes), Some(read.version));
    // By their bytes: a number that is none equals nothing, not even itself.
    let written = encode(person, &read).unwrap();
    let again = decode(person, &written).expect("what was read can be written and read again");
    assert_eq!(encode(person, &again).unwrap(), written);
    assert_usable(person, read);
}

/// Whatever a checksum vouches for can be shown and worked on.
fn assert_usable(person: PersonId, read: Snapshot) {
    let version = read.version;
    let state = read.body.person.clone();
    let _ = DisplayNames::of(&state.name);
    for day in [None, Some(state.created_at.utc_date()), Some(state.updated_at.latest_date_on_earth())] {
        let shown = encode_person(version, read.sequence, &PersonView::new(&state, version, day));
        assert!(!shown.is_empty(), "a person that cannot be shown");
    }
    let aggregate = Aggregate::from_snapshot(person, read);
    assert!(aggregate.size() > 0);
    let taken = aggregate.to_snapshot().expect("it has a state");
    assert_eq!(taken.version, version);
}
