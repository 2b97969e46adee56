//! Who counts as a member, and what becomes of a parcel.

use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::sharing::members::HEARD_MICROS_MAX;
use cim_domain_person::engine::sharing::{
    ON_ITS_WAY_BYTES_MAX, PATIENCE_MICROS_MAX, PATIENCE_MICROS_MIN, Parcel, Sharing,
};
use cim_domain_person::engine::turn::Moment;
use cim_domain_person::wire::beacon::{Beacon, Presence, ReplicaId};
use cim_domain_person::wire::parcel::{
    self, Head, Item, PARCEL_BYTES_MAX, PARCEL_COMMANDS_MAX, PROTOCOL, Receipt, Refused, Taken,
};
use uuid::Uuid;

const SECOND: u64 = 1_000_000;
const TAKEN: Receipt = Receipt::Taken { commands: 1 };

fn at(micros: u64) -> Moment {
    Moment(10 * SECOND + micros)
}

fn replica(number: u128) -> Sharing {
    let mut sharing = Sharing::new(ReplicaId::from_u128(number << 64), "C", u64::MAX);
    sharing.members.stand(Presence::Serving, at(0));
    sharing
}

/// Everybody says that it is there, once more when it has heard itself, and everybody hears it.
fn meet(all: &mut [&mut Sharing], now: Moment) {
    for one in &mut *all {
        let own = one.members.beat("C".to_owned(), now);
        one.members.hear(&own, now);
    }
    let beacons: Vec<Beacon> = all.iter_mut().map(|one| one.members.beat("C".to_owned(), now)).collect();
    all.iter_mut().for_each(|one| {
        beacons.iter().for_each(|beacon| {
            one.members.hear(beacon, now);
        })
    });
}

/// A person whose home is not here.
fn foreign(sharing: &Sharing) -> (PersonId, ReplicaId) {
    let mut persons = (0..).map(|number| PersonId::from_uuid(Uuid::from_u128(number)));
    persons.find_map(|person| Some((person, sharing.members.home_elsewhere(person)?))).expect("one of them")
}

fn item(payload: &[u8]) -> Item<'_> {
    Item { made_id: 1, subject: "person.commands.x", reply_to: None, headers: Vec::new(), payload }
}

/// A parcel with one command, sent now.
fn send(sharing: &mut Sharing, now: Moment) -> Parcel {
    let (_, home) = foreign(sharing);
    assert!(sharing.pack(home, &item(b"{}"), now));
    sharing.send(now).parcels.pop().expect("a parcel")
}

fn head(parcel: &Parcel) -> Head {
    parcel::decode(&parcel.bytes).expect("it can be read").0
}

#[test]
fn who_hears_nobody_or_not_itself_is_alone() {
    let [mut a, mut b] = [1, 2].map(replica);
    assert!(a.members.is_alone() && a.members.count() == 1);
    let beacon = Beacon { state: Presence::Serving, ..b.members.beat("C".to_owned(), at(0)) };
    assert!(a.members.hear(&beacon, at(0)), "a newcomer");
    assert!(!a.members.hear(&beacon, at(1)), "known by now");
    assert!(a.members.is_alone(), "its own beacons do not come back: it may not speak");
    meet(&mut [&mut a, &mut b], at(2));
    assert!(!a.members.is_alone() && !b.members.is_alone() && [a.members.count(), b.members.count()] == [2, 2]);
}

#[test]
fn who_is_silent_leaves_or_is_of_another_kind_does_not_count() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    a.members.beat("C".to_owned(), at(HEARD_MICROS_MAX));
    assert_eq!(a.members.count(), 2);
    a.members.beat("C".to_owned(), at(HEARD_MICROS_MAX + 1));
    assert_eq!(a.members.count(), 1);
    meet(&mut [&mut a, &mut b], at(4 * SECOND));
    b.members.stand(Presence::Leaving, at(4 * SECOND));
    let leaving = b.members.beat("C".to_owned(), at(4 * SECOND));
    a.members.hear(&leaving, at(4 * SECOND));
    assert_eq!(a.members.count(), 1);
    let serving = Beacon { state: Presence::Serving, ..leaving };
    a.members.hear(&Beacon { protocol: PROTOCOL + 1, ..serving.clone() }, at(4 * SECOND));
    a.members.hear(&Beacon { cluster: "D".to_owned(), ..serving.clone() }, at(4 * SECOND));
    assert_eq!(a.members.count(), 1);
    a.members.hear(&serving, at(4 * SECOND));
    assert_eq!(a.members.count(), 2);
    a.members.beat("D".to_owned(), at(4 * SECOND));
    assert_eq!(a.members.count(), 1, "it is in another cluster now itself");
}

/// One that leaves has no persons of its own any more, and hands over what still arrives.
#[test]
fn who_leaves_hands_everything_over() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    a.members.stand(Presence::Leaving, at(1));
    let mut persons = (0..100).map(|number| PersonId::from_uuid(Uuid::from_u128(number)));
    assert!(persons.all(|person| a.members.home_elsewhere(person) == Some(b.members.own())));
}

#[test]
fn a_parcel_is_kept_until_it_is_taken() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    let parcel = send(&mut a, at(0));
    assert_eq!(
        (parcel.home, a.is_at_rest(), a.next_overdue()),
        (b.members.own(), false, Some(at(PATIENCE_MICROS_MAX)))
    );
    assert!(a.answered(parcel.number, TAKEN, at(700)).is_empty());
    assert!(a.is_at_rest() && a.overdue(at(SECOND)).is_empty() && a.members.count() == 2);
    assert!(a.not_taken(parcel.number, at(SECOND)).is_empty(), "it was answered before");
    // By now it knows how quick homes are.
    send(&mut a, at(SECOND));
    assert_eq!(a.next_overdue(), Some(at(SECOND + PATIENCE_MICROS_MIN)));
}

#[test]
fn one_parcel_is_under_way_to_each_home_and_what_comes_meanwhile_goes_together() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    let first = send(&mut a, at(0));
    let (_, home) = foreign(&a);
    (0..3).for_each(|_| assert!(a.pack(home, &item(b"{}"), at(0))));
    assert!(a.send(at(1)).parcels.is_empty());
    assert!(a.answered(first.number, TAKEN, at(2)).is_empty());
    let commands: Vec<usize> = a.send(at(2)).parcels.iter().map(|parcel| parcel.commands).collect();
    assert_eq!(commands, [3]);
}

/// Where both have something for the other, each parcel answers the one that came.
#[test]
fn a_parcel_that_waits_for_the_sender_bears_the_answer() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    let [first, second] = [&mut a, &mut b].map(|one| send(one, at(0)));
    let taken = |parcel: &Parcel| Taken { number: parcel.number, commands: parcel.commands };
    let own = a.members.own();
    assert!(b.answer(own, taken(&first), at(1)).is_none(), "nothing waits: it goes alone");
    assert!(b.pack(own, &item(b"{}"), at(1)));
    assert!(b.send(at(1)).parcels.is_empty(), "one is under way");
    let third = b.answer(own, taken(&first), at(2)).expect("one waits");
    assert_eq!((head(&third).taken, third.commands, third.home), (Some(taken(&first)), 1, own));
    // Whose parcel it was not has nothing to say about it.
    let stranger = ReplicaId::from_u128(7);
    assert!(a.answered_by(stranger, taken(&first), at(3)).is_empty() && !a.is_at_rest());
    assert!(a.answered_by(b.members.own(), taken(&first), at(3)).is_empty() && a.is_at_rest());
    for parcel in [&second, &third] {
        assert!(b.answered_by(own, taken(parcel), at(4)).is_empty());
    }
    assert!(b.is_at_rest());
    // An answer that does not fit is none.
    let fourth = send(&mut a, at(5));
    let wrong = Taken { commands: 2, ..taken(&fourth) };
    assert!(a.answered_by(b.members.own(), wrong, at(6)).is_empty() && !a.is_at_rest());
    assert!(b.answer(stranger, taken(&fourth), at(6)).is_none(), "nobody is there");
}

#[test]
fn what_is_not_taken_is_carried_out_here_and_its_home_does_not_count_until_it_is_heard_again() {
    // No answer at all, the server's word that nobody listens, and the home's own.
    for how in 0..3 {
        let [mut a, mut b] = [1, 2].map(replica);
        meet(&mut [&mut a, &mut b], at(0));
        assert!(a.overdue(at(0)).is_empty());
        let first = send(&mut a, at(0));
        assert!(a.pack(first.home, &item(b"{}"), at(0)), "it waits for the first");
        let back = match how {
            0 => {
                assert!(a.overdue(at(PATIENCE_MICROS_MAX - 1)).is_empty());
                a.overdue(at(PATIENCE_MICROS_MAX))
            }
            1 => a.not_taken(first.number, at(30)),
            _ => a.answered(first.number, Receipt::Refused { reason: Refused::Late }, at(30)),
        };
        let commands: Vec<(usize, Moment)> = back.iter().map(|one| (one.parcel.commands, one.arrived)).collect();
        assert_eq!(commands, [(1, at(0)); 2], "{how}");
        assert_eq!(back.iter().filter(|one| one.may_be_taken).count(), usize::from(how == 0));
        assert!(back.iter().all(|one| parcel::decode(&one.parcel.bytes).is_ok()));
        assert!(a.is_at_rest() && a.members.is_alone() && a.members.count() == 1);
        meet(&mut [&mut a, &mut b], at(SECOND));
        assert_eq!(a.members.count(), 2);
    }
}

/// A home that stood still finds parcels that were taken back long ago: they are answered, and somebody may have been
/// told that nothing was done.
#[test]
fn a_parcel_that_may_have_been_taken_back_is_late_whatever_the_clocks_say() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    // The home's clock began an hour earlier, and it takes a second until its beacon is heard.
    let home = |micros: u64| at(micros + 3_600 * SECOND);
    meet(&mut [&mut b], home(0));
    let beacon = b.members.beat("C".to_owned(), home(0));
    a.members.hear(&beacon, at(0));
    let (_, id) = foreign(&a);
    assert!(a.pack(id, &item(b"{}"), at(599_000)));
    let head = head(&a.send(at(600_000)).parcels.pop().expect("a parcel"));
    let expected = Head {
        from: a.members.own().as_u128(),
        number: 1,
        beat: beacon.beat,
        beat_age_micros: 600_000,
        patience_micros: PATIENCE_MICROS_MAX,
        waited_micros: 1_000,
        taken: None,
    };
    assert_eq!(head, expected);
    assert_eq!(b.arrival(&head, home(600_000 + 40)), Some(home(599_000)));
    // The other half of the patience is for the answer.
    assert_eq!(b.arrival(&head, home(600_000 + PATIENCE_MICROS_MAX / 2)), None);
    // Clocks do not run alike; one that says much less stood still, as that of a machine that was suspended.
    assert_eq!(b.arrival(&head, home(596_000)), Some(home(595_000)));
    assert_eq!(b.arrival(&head, home(400_000)), None);
    let long = Head { waited_micros: u64::MAX, ..head };
    assert_eq!(b.arrival(&long, home(600_000)), Some(home(600_000 - PATIENCE_MICROS_MAX)));
    let boundless = Head { patience_micros: u64::MAX, ..head };
    assert_eq!(b.arrival(&boundless, home(600_000 + PATIENCE_MICROS_MAX / 2)), None, "nobody may wait for longer");
    assert_eq!(b.arrival(&Head { beat: 77, ..head }, home(600_000)), None, "it never said that");
    // It remembers the last 64.
    (0..64).for_each(|_| drop(b.members.beat("C".to_owned(), home(SECOND))));
    assert_eq!(b.arrival(&head, home(SECOND)), None, "it said that long ago");
}

/// Answers lay unread in the socket of a replica that stood still, and all that they told of was carried out once more.
#[test]
fn who_stood_still_reads_what_has_come_before_it_takes_anything_back() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    assert!(a.overdue(at(0)).is_empty());
    let parcel = send(&mut a, at(0));
    assert!(a.overdue(at(3 * SECOND)).is_empty());
    assert!(a.answered(parcel.number, TAKEN, at(3 * SECOND)).is_empty() && a.is_at_rest());
    let parcel = send(&mut a, at(3 * SECOND));
    assert!(a.overdue(at(6 * SECOND)).is_empty());
    assert_eq!(a.overdue(at(6 * SECOND + PATIENCE_MICROS_MAX)).len(), 1, "{parcel:?} was not answered");
}

/// A home's patience had shrunk to what quick answers need, and every parcel on a slower way was late for ever.
#[test]
fn what_comes_too_late_is_waited_for_longer() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    let quick = |a: &mut Sharing| {
        let parcel = send(a, at(0));
        a.answered(parcel.number, TAKEN, at(100));
    };
    (0..20).for_each(|_| quick(&mut a));
    let parcel = send(&mut a, at(0));
    assert_eq!(head(&parcel).patience_micros, PATIENCE_MICROS_MIN);
    a.answered(parcel.number, Receipt::Refused { reason: Refused::Late }, at(100));
    meet(&mut [&mut a, &mut b], at(200));
    assert_eq!(head(&send(&mut a, at(200))).patience_micros, PATIENCE_MICROS_MAX);
}

#[test]
fn a_home_that_fails_in_a_row_is_heard_as_often_before_it_counts() {
    let [mut a, mut b] = [1, 2].map(replica);
    for failures in 1..=7 {
        meet(&mut [&mut a, &mut b], at(0));
        let parcel = send(&mut a, at(0));
        a.not_taken(parcel.number, at(100));
        for heard in 1..=5 {
            assert_eq!(a.members.count(), 1, "failed {failures} times, heard {} times", heard - 1);
            let beacon = b.members.beat("C".to_owned(), at(0));
            a.members.hear(&beacon, at(0));
            if heard == failures {
                break;
            }
        }
        assert_eq!(a.members.count(), 2, "failed {failures} times");
    }
    let parcel = send(&mut a, at(0));
    a.answered(parcel.number, TAKEN, at(100));
    let parcel = send(&mut a, at(200));
    a.not_taken(parcel.number, at(300));
    meet(&mut [&mut a, &mut b], at(400));
    assert_eq!(a.members.count(), 2, "once it took one, all is forgotten");
}

#[test]
fn parcels_and_what_is_on_its_way_are_bounded() {
    let [mut a, mut b] = [1, 2].map(replica);
    meet(&mut [&mut a, &mut b], at(0));
    let (_, home) = foreign(&a);
    (0..=PARCEL_COMMANDS_MAX).for_each(|_| assert!(a.pack(home, &item(b"{}"), at(0))));
    let full = a.send(at(0)).parcels;
    let commands: Vec<usize> = full.iter().map(|parcel| parcel.commands).collect();
    assert_eq!(commands, [PARCEL_COMMANDS_MAX, 1]);
    let large = vec![b'x'; PARCEL_BYTES_MAX / 4];
    let packed = (0..).take_while(|_| a.pack(home, &item(&large), at(0))).count();
    assert_eq!(packed.div_ceil(4), ON_ITS_WAY_BYTES_MAX / PARCEL_BYTES_MAX);
    let parcels = a.send(at(0)).parcels;
    assert!(
        parcels.iter().all(|parcel| parcel.bytes.len() <= PARCEL_BYTES_MAX && parcel::decode(&parcel.bytes).is_ok())
    );
    assert!(!a.pack(home, &item(b"{}"), at(0)), "too much is on its way");
    for parcel in parcels {
        a.answered(parcel.number, Receipt::Taken { commands: parcel.commands }, at(1));
    }
    assert!(!a.pack(home, &item(&vec![b'x'; PARCEL_BYTES_MAX]), at(0)), "it fits into none");
    assert!(a.pack(home, &item(b"{}"), at(0)));
    // The first two, and the two that wait behind them.
    a.overdue(at(0));
    let back = a.overdue(at(PATIENCE_MICROS_MAX));
    assert_eq!(back.iter().map(|back| back.parcel.commands).sum::<usize>(), PARCEL_COMMANDS_MAX + 3);
}
