//! Snapshots of format 2, as they lie in buckets.

use cim_domain_person::domain::{EventKind, Person};
use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::snapshot::{
    Body, FORMAT, IdSpan, Receipt, Snapshot, SnapshotError, claimed_version, decode, encode,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{golden, recorded};
use crate::domain::{ANN, BOB, arbitrary, day, folded, id, name, national_id, time};

/// A person with something in every member.
fn person() -> Person {
    let person = folded(&[
        cim_domain_person::domain::Event::PersonCreated {
            person_id: id(ANN),
            name: name("Ann", "Lee").into(),
            source: "test".to_owned(),
            created_at: time("2026-01-02T03:04:05Z"),
        },
        cim_domain_person::domain::Event::BirthDateSet {
            person_id: id(ANN),
            birth_date: day("2000-02-29"),
            set_at: time("2026-01-03T03:04:05Z"),
        },
        cim_domain_person::domain::Event::AttributeRecorded {
            person_id: id(ANN),
            attribute: recorded(&national_id("AB 123", "2001-01-01", "2031-01-01"), time("2026-01-04T03:04:05Z"))
                .into(),
            recorded_at: time("2026-01-04T03:04:05Z"),
        },
        cim_domain_person::domain::Event::PersonDeactivated {
            person_id: id(ANN),
            reason: "moved away".to_owned(),
            deactivated_at: time("2026-01-05T03:04:05.678901Z"),
        },
    ]);
    person.unwrap()
}

fn snapshot() -> Snapshot {
    let receipt = Receipt {
        command: Digest::of(b"c4"),
        digest: Digest::of(b"commands"),
        version: 4,
        sequence: 1234,
        at: time("2026-01-05T03:04:05.678901Z"),
        events: [EventKind::PersonDeactivated].into(),
    };
    let body = Body {
        person: person(),
        last_event_at: time("2026-01-05T03:04:05.678901Z"),
        receipts: vec![receipt],
        missing_until: Some(1229),
        id_spans: vec![IdSpan {
            first: 7,
            first_micros_ago: 60_000_000,
            last_micros_ago: 2_000_000,
            made_from: time("2026-01-05T02:04:05.678Z"),
            made_until: time("2026-01-05T03:04:06Z"),
        }],
    };
    Snapshot { version: 4, sequence: 1234, chain: Digest::of(b"the commit"), body }
}

#[test]
fn a_snapshot_of_format_2_is_read_for_ever() {
    let made = encode(id(ANN), &snapshot()).unwrap();
    let stored = golden("snapshot-2.bin", &made);
    assert_eq!(decode(id(ANN), &stored), Ok(snapshot()));
    assert_eq!(made, stored, "it is written as it was");
    assert_eq!(stored[..2], FORMAT.to_le_bytes());
    assert_eq!(stored[2..10], 4_u64.to_le_bytes());
    assert_eq!(stored[10..18], 1234_u64.to_le_bytes());
    assert_eq!(stored[18..34], Digest::of(b"the commit").to_bytes());
    assert_eq!(claimed_version(&stored), Some(4));
}

#[test]
fn what_was_changed_anywhere_is_not_believed() {
    let good = encode(id(ANN), &snapshot()).unwrap();
    for place in 0..good.len() {
        let mut bytes = good.clone();
        bytes[place] ^= 0x40;
        let then = match place {
            0 | 1 => Err(SnapshotError::UnknownFormat(u16::from_le_bytes([bytes[0], bytes[1]]))),
            _ => Err(SnapshotError::Corrupt),
        };
        assert_eq!(decode(id(ANN), &bytes), then, "at {place}");
        assert_eq!(claimed_version(&bytes), None, "at {place}");
        assert_eq!(decode(id(ANN), &good[..place]), Err(SnapshotError::Corrupt), "{place} bytes");
        assert_eq!(claimed_version(&good[..place]), None, "{place} bytes");
    }
    assert_eq!(decode(id(BOB), &good), Err(SnapshotError::Corrupt));
    assert_eq!(decode(id(ANN), &[&good[..], b"x"].concat()), Err(SnapshotError::Corrupt));
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_again(
        events in vec(arbitrary::event(), 1..40),
        (version, sequence, number) in any::<(u64, u64, u128)>(),
        missing_until in proptest::option::of(any::<u64>()),
        id_spans in vec((any::<[u64; 3]>(), arbitrary::timestamp(), arbitrary::timestamp()), 0..30),
        last_event_at in arbitrary::timestamp(),
    ) {
        let Some(person) = folded(&events) else { return Ok(()) };
        let receipts = events.iter().map(|event| Receipt {
            command: Digest::from_bytes(number.to_be_bytes()),
            digest: Digest::ZERO,
            version,
            sequence,
            at: event.happened_at(),
            events: [event.kind()].into(),
        });
        let owner = person.id;
        let id_spans = id_spans.into_iter().map(|([first, first_micros_ago, last_micros_ago], made_from, made_until)| {
            IdSpan { first, first_micros_ago, last_micros_ago, made_from, made_until }
        });
        let (receipts, id_spans) = (receipts.collect(), id_spans.collect());
        let body = Body { person, last_event_at, receipts, missing_until, id_spans };
        let chain = Digest::from_bytes(number.to_le_bytes());
        let snapshot = Snapshot { version, sequence, chain, body };
        let bytes = encode(owner, &snapshot).unwrap();
        prop_assert_eq!(claimed_version(&bytes), Some(version));
        prop_assert_eq!(decode(owner, &bytes), Ok(snapshot));
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in vec(any::<u8>(), 0..300),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        prop_assert!(decode(id(ANN), &bytes).is_err());
        prop_assert_eq!(claimed_version(&bytes), None);
        // With the right format and checksum, so that the body is looked at.
        let mut forged = encode(id(ANN), &snapshot()).unwrap();
        let header = forged[..34].to_vec();
        for (place, byte) in changes {
            let place = 50 + place.index(forged.len() - 50);
            forged[place] = byte;
        }
        for body in [&forged[50..], &bytes[..]] {
            let checksum = Digest::of_parts(&[id(ANN).uuid().as_bytes(), &header, body]);
            let sealed = [&header[..], &checksum.to_bytes(), body].concat();
            let _ = decode(id(ANN), &sealed);
            let _ = claimed_version(&sealed);
        }
    }
}
