//! What every pair of log and snapshot store has to keep to, in memory or on NATS. Each rule takes persons that nobody
//! has used before, so all can run on one store.

use std::sync::Arc;

use cim_domain_person::domain::{EventKind, PersonId};
use cim_domain_person::engine::ports::{
    Append, Appended, AppendedTogether, CommitHeaders, Consistency, EventLog, Page, Read, Sequence, SnapshotStore,
    SnapshotStored, StoredCommit, TOGETHER_MAX, Tip,
};
use cim_domain_person::engine::trail::Trail;
use cim_domain_person::wire::digest::Digest;

use crate::support::{eventually, somebody};

/// A rule for a log, in words and as a check.
pub type LogRule = (&'static str, fn(&mut dyn EventLog));

/// A rule for a snapshot store.
pub type SnapshotRule = (&'static str, fn(&mut dyn SnapshotStore));

/// The rules for a log.
pub const EVENT_LOG: &[LogRule] = &[
    ("nobody has neither commits nor a tip", nobody),
    ("what is stored is read as it was written", stored_as_written),
    ("only the expected sequence stores", expected_sequence),
    ("a batch is answered one by one and in order", batch),
    ("of two appends to one person in a batch one wins", rivals_in_a_batch),
    ("what is appended together is stored in the order given", together_in_order),
    ("of what is appended together all is stored or nothing", all_or_nothing),
    ("of two batches over the same persons one is stored", rivals_together),
    ("what cannot be stored together is refused and nothing of it stored", unfit_together),
    ("reads start where they are told", starts),
    ("long histories come in pages", pages_by_count),
    ("heavy histories come in pages", pages_by_bytes),
    ("no more is read than there is room for, and somebody gets on", pages_by_room),
    ("no more commits are read than are wanted", pages_by_wish),
    ("the largest payload is stored and a larger one refused", payload_bytes_max),
    ("many persons are answered in order", many_persons),
    ("nothing asked, nothing answered", nothing_asked),
    ("where the newest commit lies is a hint, right or wrong", a_hint_changes_nothing),
];

/// The rules for a snapshot store whose `version_of` is [`snapshot_version`].
pub const SNAPSHOT_STORE: &[SnapshotRule] = &[
    ("nobody has a snapshot", no_snapshot),
    ("a snapshot is loaded as it was stored", snapshot_as_stored),
    ("an older snapshot does not replace a newer one", older_snapshot),
    ("what is no snapshot is replaced", unreadable_snapshot),
    ("many snapshots are loaded in order", many_snapshots),
];

/// The version of a snapshot of these tests: its first eight bytes.
pub fn snapshot_version(snapshot: &[u8]) -> Option<u64> {
    snapshot.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Runs all rules for a log.
pub fn check_event_log(log: &mut dyn EventLog) {
    for (rule, check) in EVENT_LOG {
        println!("{rule}");
        check(log);
    }
}

/// Runs all rules for a snapshot store.
pub fn check_snapshot_store(store: &mut dyn SnapshotStore) {
    for (rule, check) in SNAPSHOT_STORE {
        println!("{rule}");
        check(store);
    }
}

pub fn append(person: PersonId, expected: Sequence, payload: impl Into<Arc<[u8]>>) -> Append {
    let headers = CommitHeaders {
        event_types: [EventKind::PersonCreated, EventKind::NameUpdated].into(),
        person_version: 2,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        trail: Trail::after(expected).to_header(),
    };
    Append { person, expected, payload: payload.into(), headers }
}

#[track_caller]
pub fn store(log: &mut dyn EventLog, person: PersonId, expected: Sequence, payload: &[u8]) -> Sequence {
    match &log.append(&[append(person, expected, payload)])[..] {
        [Appended::Stored(sequence)] => *sequence,
        other => panic!("expected it to be stored: {other:?}"),
    }
}

#[track_caller]
pub fn read(log: &mut dyn EventLog, person: PersonId, from: Sequence, consistency: Consistency) -> Page {
    let read = Read { person, start: from, consistency, newest: None, commits_max: usize::MAX };
    log.read(&[read], usize::MAX).remove(0).unwrap()
}

#[track_caller]
fn read_all(log: &mut dyn EventLog, person: PersonId, consistency: Consistency) -> (Vec<StoredCommit>, usize) {
    let (mut commits, mut pages, mut from) = (Vec::new(), 0, 1);
    loop {
        let page = read(log, person, from, consistency);
        assert!(!page.more || !page.commits.is_empty(), "a page that says there is more brings something");
        commits.extend(page.commits);
        pages += 1;
        if !page.more {
            return (commits, pages);
        }
        from = commits.last().unwrap().sequence + 1;
    }
}

/// Stores commits of one person one after the other.
fn fill(log: &mut dyn EventLog, person: PersonId, payloads: impl Iterator<Item = Vec<u8>>) -> Vec<StoredCommit> {
    let mut commits: Vec<StoredCommit> = Vec::new();
    for payload in payloads {
        let expected = commits.last().map_or(0, |commit| commit.sequence);
        let sequence = store(log, person, expected, &payload);
        commits.push(StoredCommit { sequence, payload: payload.into() });
    }
    commits
}

fn sequences(page: &Page) -> Vec<Sequence> {
    page.commits.iter().map(|commit| commit.sequence).collect()
}

fn nobody(log: &mut dyn EventLog) {
    for consistency in [Consistency::Any, Consistency::Leader] {
        let page = read(log, somebody(), 1, consistency);
        assert!(page.commits.is_empty() && !page.more);
    }
    assert_eq!(log.tips(&[somebody()]), [Ok(None)]);
}

fn stored_as_written(log: &mut dyn EventLog) {
    let person = somebody();
    let payloads = [b"{}".to_vec(), vec![0, 13, 10, 255, 0], "ünïcödé\r\n".into(), vec![7; 100_000]];
    let commits = fill(log, person, payloads.into_iter());
    assert!(commits.is_sorted_by(|a, b| a.sequence < b.sequence) && commits[0].sequence > 0);
    for consistency in [Consistency::Any, Consistency::Leader] {
        let page = read(log, person, 1, consistency);
        assert_eq!(page.commits, commits);
        assert!(!page.more);
    }
    assert_eq!(log.tips(&[person]), [Ok(commits.last().map(Tip::from))]);
}

#[track_caller]
fn assert_conflict(log: &mut dyn EventLog, person: PersonId, expected: Sequence, newest: Sequence) {
    match &log.append(&[append(person, expected, *b"loser")])[..] {
        [Appended::Conflict(None)] => {}
        [Appended::Conflict(Some(named))] => assert_eq!(*named, newest),
        other => panic!("expected a conflict: {other:?}"),
    }
}

fn expected_sequence(log: &mut dyn EventLog) {
    let (person, other) = (somebody(), somebody());
    assert_conflict(log, person, 17, 0);
    let first = store(log, person, 0, b"1");
    let elsewhere = store(log, other, 0, b"x");
    for expected in [0, first + 1, elsewhere, u64::MAX >> 1] {
        assert_conflict(log, person, expected, first);
    }
    let second = store(log, person, first, b"2");
    assert_conflict(log, person, first, second);
    assert_eq!(sequences(&read(log, person, 1, Consistency::Leader)), [first, second]);
}

fn batch(log: &mut dyn EventLog) {
    let persons: Vec<PersonId> = (0..100).map(|_| somebody()).collect();
    let taken = store(log, persons[3], 0, b"first");
    let appends: Vec<Append> =
        persons.iter().map(|person| append(*person, 0, person.to_string().into_bytes())).collect();
    let outcomes = log.append(&appends);
    assert_eq!(outcomes.len(), persons.len());
    for (index, (person, outcome)) in persons.iter().zip(outcomes).enumerate() {
        match outcome {
            Appended::Conflict(newest) if index == 3 => assert!(newest.is_none_or(|newest| newest == taken)),
            Appended::Stored(sequence) => {
                let tip = log.tips(&[*person]).remove(0).unwrap().unwrap();
                assert_eq!((tip.sequence, tip.digest), (sequence, Digest::of(person.to_string().as_bytes())));
            }
            other => panic!("{index}: {other:?}"),
        }
    }
}

fn rivals_in_a_batch(log: &mut dyn EventLog) {
    let person = somebody();
    let outcomes = log.append(&[append(person, 0, *b"one"), append(person, 0, *b"two")]);
    let stored = outcomes.iter().filter(|outcome| matches!(outcome, Appended::Stored(_))).count();
    let conflicts = outcomes.iter().filter(|outcome| matches!(outcome, Appended::Conflict(_))).count();
    assert_eq!((stored, conflicts), (1, 1), "{outcomes:?}");
    assert_eq!(read(log, person, 1, Consistency::Leader).commits.len(), 1);
}

/// The newest commit of each person.
fn tips(log: &mut dyn EventLog, persons: &[PersonId]) -> Vec<Option<Digest>> {
    log.tips(persons).into_iter().map(|tip| tip.unwrap().map(|tip| tip.digest)).collect()
}

fn together_in_order(log: &mut dyn EventLog) {
    let persons: Vec<PersonId> = (0..50).map(|_| somebody()).collect();
    // One of them exists already: each has an expected sequence of its own.
    let first = store(log, persons[7], 0, b"first");
    let appends: Vec<Append> = persons
        .iter()
        .enumerate()
        .map(|(index, person)| append(*person, if index == 7 { first } else { 0 }, person.to_string().into_bytes()))
        .collect();
    let AppendedTogether::Stored(sequences) = log.append_together(&appends) else { panic!("all fit") };
    assert!(sequences.is_sorted_by(|a, b| a < b) && sequences[0] > first, "{sequences:?}");
    let found: Vec<_> = log.tips(&persons).into_iter().map(|tip| tip.unwrap().unwrap()).collect();
    assert!(found.iter().zip(&persons).all(|(tip, person)| tip.digest == Digest::of(person.to_string().as_bytes())));
    assert_eq!(found.iter().map(|tip| tip.sequence).collect::<Vec<_>>(), sequences);
    // They are commits as all others: the next one builds on them.
    assert!(store(log, persons[0], sequences[0], b"next") > sequences[0]);
    let alone = somebody();
    let outcome = log.append_together(&[append(alone, 0, *b"alone")]);
    assert!(matches!(&outcome, AppendedTogether::Stored(sequences) if sequences.len() == 1), "{outcome:?}");
    assert_eq!(log.append_together(&[]), AppendedTogether::Stored(Vec::new()));
}

/// Two persons merged towards each other made two dead ends: what one of them is decided on may be stale.
fn all_or_nothing(log: &mut dyn EventLog) {
    let (source, target) = (somebody(), somebody());
    let (of_source, of_target) = (store(log, source, 0, b"source"), store(log, target, 0, b"target"));
    let newer = store(log, target, of_target, b"target, newer");
    let before = tips(log, &[source, target]);
    for (expected_of_source, expected_of_target) in [(of_source, of_target), (0, newer), (of_source, newer + 1)] {
        for order in [[0, 1], [1, 0]] {
            let both = [append(source, expected_of_source, *b"1"), append(target, expected_of_target, *b"2")];
            let outcome = log.append_together(&order.map(|at| both[at].clone()));
            assert_eq!(outcome, AppendedTogether::Conflict, "{expected_of_source} {expected_of_target} {order:?}");
            assert_eq!(tips(log, &[source, target]), before);
        }
    }
    let outcome = log.append_together(&[append(source, of_source, *b"1"), append(target, newer, *b"2")]);
    assert!(matches!(outcome, AppendedTogether::Stored(_)), "{outcome:?}");
    assert_eq!(tips(log, &[source, target]), [b"1", b"2"].map(|payload| Some(Digest::of(payload))));
}

fn rivals_together(log: &mut dyn EventLog) {
    let (one, other) = (somebody(), somebody());
    let there = log.append_together(&[append(one, 0, *b"->"), append(other, 0, *b"->")]);
    let back = log.append_together(&[append(other, 0, *b"<-"), append(one, 0, *b"<-")]);
    assert!(matches!(there, AppendedTogether::Stored(_)), "{there:?}");
    assert_eq!(back, AppendedTogether::Conflict);
    assert_eq!(tips(log, &[one, other]), [Some(Digest::of(b"->")); 2]);
}

fn unfit_together(log: &mut dyn EventLog) {
    let (one, other) = (somebody(), somebody());
    let twice = vec![append(one, 0, *b"1"), append(other, 0, *b"2"), append(one, 0, *b"3")];
    let too_many: Vec<Append> = (0..=TOGETHER_MAX).map(|_| append(somebody(), 0, *b"x")).collect();
    let too_large = vec![append(one, 0, *b"1"), append(other, 0, vec![b'x'; 2 * log.payload_bytes_max()])];
    for (appends, words) in [(twice, "one person"), (too_many, "1001 commits"), (too_large, "bytes")] {
        let outcome = log.append_together(&appends);
        assert!(matches!(&outcome, AppendedTogether::Refused(why) if why.0.contains(words)), "{words}: {outcome:?}");
        let persons: Vec<PersonId> = appends.iter().map(|append| append.person).collect();
        assert!(tips(log, &persons).iter().all(Option::is_none), "{words}");
    }
}

fn starts(log: &mut dyn EventLog) {
    let (person, other) = (somebody(), somebody());
    let first = store(log, person, 0, b"1");
    let between = store(log, other, 0, b"x");
    let second = store(log, person, first, b"2");
    for consistency in [Consistency::Any, Consistency::Leader] {
        for (from, found) in [
            (0, vec![first, second]),
            (first, vec![first, second]),
            (first + 1, vec![second]),
            (between, vec![second]),
            (second, vec![second]),
            (second + 1, vec![]),
            (second + 1_000_000, vec![]),
        ] {
            assert_eq!(sequences(&read(log, person, from, consistency)), found, "from {from}, {consistency:?}");
        }
    }
    let question = |person, from| Read {
        person,
        start: from,
        consistency: Consistency::Any,
        newest: None,
        commits_max: usize::MAX,
    };
    let pages = log.read(&[question(person, second), question(other, 1), question(person, 1)], usize::MAX);
    let found: Vec<_> = pages.iter().map(|page| sequences(page.as_ref().unwrap())).collect();
    assert_eq!(found, [vec![second], vec![between], vec![first, second]]);
}

fn pages_by_count(log: &mut dyn EventLog) {
    let person = somebody();
    let commits = fill(log, person, (0..2600).map(|number| format!("commit {number}").into_bytes()));
    for consistency in [Consistency::Any, Consistency::Leader] {
        let (found, pages) = read_all(log, person, consistency);
        assert_eq!(found, commits);
        assert!(pages > 1, "2,600 commits are more than a page");
    }
}

fn pages_by_bytes(log: &mut dyn EventLog) {
    let person = somebody();
    let commits = fill(log, person, (0..10).map(|number| vec![number; 300_000]));
    for consistency in [Consistency::Any, Consistency::Leader] {
        let (found, pages) = read_all(log, person, consistency);
        assert_eq!(found, commits);
        assert!(pages > 1, "3 MB are more than a page");
    }
}

/// Histories of everybody who was asked for were in memory at once before anybody looked how large they are.
fn pages_by_room(log: &mut dyn EventLog) {
    const BYTES: usize = 100_000;
    let persons: Vec<PersonId> = (0..40).map(|_| somebody()).collect();
    let histories: Vec<Vec<StoredCommit>> =
        persons.iter().map(|person| fill(log, *person, (0..5).map(|number| vec![number; BYTES]))).collect();
    for consistency in [Consistency::Any, Consistency::Leader] {
        for bytes_max in [0, 1, 10 * BYTES, 37 * BYTES + 1] {
            let mut found: Vec<Vec<StoredCommit>> = vec![Vec::new(); persons.len()];
            let mut open: Vec<usize> = (0..persons.len()).collect();
            for _ in 0..1_000 {
                let next = |at: &usize| found[*at].last().map_or(1, |commit| commit.sequence + 1);
                let read = |at: &usize| Read {
                    person: persons[*at],
                    start: next(at),
                    consistency,
                    newest: None,
                    commits_max: usize::MAX,
                };
                let reads: Vec<Read> = open.iter().map(read).collect();
                let pages: Vec<Page> = log.read(&reads, bytes_max).into_iter().map(Result::unwrap).collect();
                let bytes: usize = pages.iter().map(Page::bytes).sum();
                assert!(bytes < bytes_max.max(1) + BYTES, "{bytes} bytes where there is room for {bytes_max}");
                assert!(bytes > 0 || pages.iter().any(|page| !page.more), "nobody gets on");
                let more: Vec<bool> = pages.iter().map(|page| page.more).collect();
                for (at, page) in open.iter().zip(pages) {
                    found[*at].extend(page.commits);
                }
                open = open.into_iter().zip(more).filter_map(|(at, more)| more.then_some(at)).collect();
                // Few are enough to see that a narrow budget gets on, too.
                open.truncate(if bytes_max < BYTES { 2 } else { usize::MAX });
                if open.is_empty() {
                    break;
                }
            }
            assert!(open.is_empty(), "{} are left", open.len());
            let is_whole = |(found, history): &(&Vec<StoredCommit>, &Vec<StoredCommit>)| found == history;
            let whole = found.iter().zip(&histories).filter(is_whole).count();
            assert!(whole >= if bytes_max < BYTES { 2 } else { persons.len() }, "{whole} for {bytes_max}");
        }
    }
}

/// To learn what lies behind a commit, a whole page was read from the leader, message by message.
fn pages_by_wish(log: &mut dyn EventLog) {
    let person = somebody();
    let commits = fill(log, person, (0..5).map(|number| vec![number; 10]));
    for consistency in [Consistency::Any, Consistency::Leader] {
        let read = Read { person, start: commits[1].sequence, consistency, newest: None, commits_max: 2 };
        let page = log.read(&[read], usize::MAX).remove(0).unwrap();
        assert_eq!((&page.commits[..], page.more), (&commits[1..3], true), "{consistency:?}");
    }
}

fn payload_bytes_max(log: &mut dyn EventLog) {
    let (person, bytes_max) = (somebody(), log.payload_bytes_max());
    assert!(bytes_max >= 512 * 1024, "commits may have 512 KiB");
    let sequence = store(log, person, 0, &vec![b'x'; bytes_max]);
    assert_eq!(tips(log, &[person]), [Some(Digest::of(&vec![b'x'; bytes_max]))]);
    let too_large = append(person, sequence, vec![b'x'; 2 * bytes_max]);
    let outcomes = log.append(&[too_large, append(somebody(), 0, *b"small")]);
    assert!(matches!(outcomes[..], [Appended::Refused(_), Appended::Stored(_)]), "{outcomes:?}");
}

fn many_persons(log: &mut dyn EventLog) {
    let persons: Vec<PersonId> = (0..150).map(|_| somebody()).collect();
    for person in persons.iter().step_by(2) {
        store(log, *person, 0, person.to_string().as_bytes());
    }
    let named = |index: usize| index.is_multiple_of(2).then(|| persons[index].to_string().into_bytes());
    for (index, tip) in log.tips(&persons).into_iter().enumerate() {
        assert_eq!(tip.unwrap().map(|tip| tip.digest), named(index).map(|payload| Digest::of(&payload)));
    }
    for consistency in [Consistency::Any, Consistency::Leader] {
        let reads: Vec<Read> = persons
            .iter()
            .map(|person| Read { person: *person, start: 1, consistency, newest: None, commits_max: usize::MAX })
            .collect();
        for (index, page) in log.read(&reads, usize::MAX).into_iter().enumerate() {
            assert_eq!(page.unwrap().commits.first().map(|commit| commit.payload.to_vec()), named(index));
        }
    }
}

fn nothing_asked(log: &mut dyn EventLog) {
    assert!(log.read(&[], 0).is_empty() && log.tips(&[]).is_empty() && log.append(&[]).is_empty());
}

fn snapshot(version: u64, rest: &[u8]) -> Vec<u8> {
    [&version.to_be_bytes(), rest].concat()
}

/// A copy of the bucket that lags may show less, for a while.
#[track_caller]
fn loads(store: &mut dyn SnapshotStore, persons: &[PersonId], expected: &[Option<Vec<u8>>]) {
    eventually("what was stored is loaded", || store.load(persons) == expected);
}

fn no_snapshot(store: &mut dyn SnapshotStore) {
    assert_eq!(store.load(&[somebody()]), [None]);
    assert!(store.load(&[]).is_empty());
}

fn snapshot_as_stored(store: &mut dyn SnapshotStore) {
    let person = somebody();
    let snapshot = snapshot(3, &vec![0xfe; 300_000]);
    assert_eq!(store.store(person, 3, &snapshot), Ok(SnapshotStored::Written));
    loads(store, &[person], &[Some(snapshot)]);
}

fn older_snapshot(store: &mut dyn SnapshotStore) {
    let person = somebody();
    for (version, stored) in [
        (5, SnapshotStored::Written),
        (5, SnapshotStored::NewerExists),
        (4, SnapshotStored::NewerExists),
        (6, SnapshotStored::Written),
        (5, SnapshotStored::NewerExists),
    ] {
        assert_eq!(store.store(person, version, &snapshot(version, b"state")), Ok(stored), "version {version}");
    }
    loads(store, &[person], &[Some(snapshot(6, b"state"))]);
}

fn unreadable_snapshot(store: &mut dyn SnapshotStore) {
    let person = somebody();
    assert_eq!(store.store(person, 9, b"what?"), Ok(SnapshotStored::Written));
    assert_eq!(store.store(person, 1, &snapshot(1, b"")), Ok(SnapshotStored::Written));
    loads(store, &[person], &[Some(snapshot(1, b""))]);
}

fn many_snapshots(store: &mut dyn SnapshotStore) {
    let persons: Vec<PersonId> = (0..80).map(|_| somebody()).collect();
    for (index, person) in persons.iter().enumerate().step_by(2) {
        let version = index as u64;
        assert_eq!(store.store(*person, version, &snapshot(version, b"")), Ok(SnapshotStored::Written));
    }
    let expected = (0..80).map(|index: u64| index.is_multiple_of(2).then(|| snapshot(index, b"")));
    loads(store, &persons, &expected.collect::<Vec<_>>());
}

/// A hint may be right, or out of date, or name another person's commit, or nothing: what is read is the same.
fn a_hint_changes_nothing(log: &mut dyn EventLog) {
    let (person, other) = (somebody(), somebody());
    let commits = fill(log, person, (0..12).map(|n| format!("commit {n}").into_bytes()));
    let others = store(log, other, 0, b"somebody else's");
    let sequences: Vec<Sequence> = commits.iter().map(|commit| commit.sequence).collect();
    let hints = [sequences[11], sequences[10], sequences[0], others, others + 1_000_000, 0, Sequence::MAX];
    for from in [1, sequences[0], sequences[1], sequences[8], sequences[11], sequences[11] + 1] {
        let expected: Vec<_> = commits.iter().filter(|commit| commit.sequence >= from).cloned().collect();
        let reads = hints.map(|hint| Read {
            person,
            start: from,
            consistency: Consistency::Any,
            newest: Some(hint),
            commits_max: usize::MAX,
        });
        // A copy that lags may have less, for a while.
        eventually("the hints are read past", || {
            hints.iter().zip(log.read(&reads, usize::MAX)).all(|(hint, page)| {
                let page = page.unwrap();
                // A hint that is out of date ends there, unless there was nothing to end with.
                let up_to_hint = expected.iter().filter(|commit| commit.sequence <= *hint);
                let read_all = page.commits == expected;
                read_all || (!page.commits.is_empty() && page.commits.iter().eq(up_to_hint))
            })
        });
    }
}
