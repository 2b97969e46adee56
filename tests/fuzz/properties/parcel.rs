//! What arrives where replicas hand commands to each other. The input: the payload.

use cim_domain_person::domain::Timestamp;
use cim_domain_person::engine::sharing::Sharing;
use cim_domain_person::engine::turn::Moment;
use cim_domain_person::wire::beacon::ReplicaId;
use cim_domain_person::wire::parcel::{
    Head, Item, PARCEL_BYTES_MAX, PARCEL_COMMANDS_MAX, PARCEL_HEADERS_MAX, decode, encode,
};
use cim_domain_person::wire::request::Stamp;
use cim_domain_person::wire::subject::Subjects;
use uuid::Uuid;

use super::command::{assert_refused, assert_sound};

/// What holds of every payload.
pub fn hold(input: &[u8]) {
    let Ok((head, items)) = decode(input) else { return };
    assert!(input.len() <= PARCEL_BYTES_MAX && (1..=PARCEL_COMMANDS_MAX).contains(&items.len()));
    assert!(items.iter().all(|item| item.headers.len() <= PARCEL_HEADERS_MAX));
    // Numbers may be written longer than they need be. So what is written again is no longer, and has room.
    let mut body = Vec::new();
    items.iter().for_each(|item| item.append_to(&mut body).expect("what was read can be packed"));
    let written = encode(head, &body);
    assert!(written.len() <= input.len());
    assert_eq!(decode(&written), Ok((head, items.clone())));
    assert!(decode(&written[..written.len() - 1]).is_err(), "cut short");
    items.iter().for_each(assert_carried_out_by_its_made_id);
    assert_in_time(&head);
}

/// A command that is handed over may be carried out twice: whoever gave it no id has one that is remembered.
fn assert_carried_out_by_its_made_id(item: &Item<'_>) {
    let stamp = Stamp { at: Timestamp::from_micros(1_770_000_000_000_000), id: Uuid::from_u128(7) };
    let made_here = stamp.id.to_string();
    match item.request(&Subjects::new("person"), stamp) {
        Ok(request) => {
            assert_sound(&request);
            assert!(!request.command_id.generated);
        }
        Err(refused) => {
            assert_refused(&refused);
            let is_its = item.made_id == 7 || refused.command_id.as_ref() != Some(&made_here);
            assert!(is_its || item.headers.iter().any(|(_, value)| *value == made_here));
        }
    }
}

/// Whatever it claims, a parcel is taken only on a beacon that was said, and not when that was long ago.
fn assert_in_time(head: &Head) {
    let (mut sharing, now) = (Sharing::new(ReplicaId::from_u128(7), "", u64::MAX), Moment(1_000_000));
    assert_eq!(sharing.arrival(head, now), None, "nothing was said");
    let beat = sharing.members.beat(String::new(), Moment(0)).beat;
    let late = Head { beat, beat_age_micros: 0, ..*head };
    assert_eq!(sharing.arrival(&late, now), None, "nobody waits for a second");
    for beat_age_micros in [head.beat_age_micros, now.0] {
        let arrival = sharing.arrival(&Head { beat, beat_age_micros, ..*head }, now);
        assert!(arrival.is_none_or(|arrival| arrival <= now));
    }
}
