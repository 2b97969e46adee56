//! The checkers: one a promise, each on its own, each a plain function of what happened.

use std::collections::BTreeSet;

use cim_domain_person::domain::{Event, PersonId, PersonView, Timestamp};
use cim_domain_person::wire::query::encode_person;
use cim_domain_person::wire::request::Request;
use cim_domain_person::wire::snapshot;

use super::model::{Verdict, verdicts};
use super::past::{Answer, Carried, Line, Past, Sent, Spot};
use super::record::{Query, Time};

/// Of whom, and what happened.
pub type Finding = (Option<PersonId>, String);

/// A checker's name and the checker.
pub type Checker = (&'static str, fn(&Past) -> Vec<Finding>);

/// All of them.
pub const CHECKERS: &[Checker] = &[
    ("accepted_is_stored", accepted_is_stored),
    ("refused_is_right", refused_is_right),
    ("refused_stored_nothing", refused_stored_nothing),
    ("one_effect", one_effect),
    ("same_outcome", same_outcome),
    ("decided_by_the_domain", decided_by_the_domain),
    ("all_or_nothing", all_or_nothing),
    ("gap_free_and_chained", gap_free_and_chained),
    ("one_order", one_order),
    ("snapshots_are_true", snapshots_are_true),
    ("queries_show_the_newest", queries_show_the_newest),
    ("one_reply", one_reply),
    ("drained_is_answered", drained_is_answered),
    ("healed_makes_progress", healed_makes_progress),
    ("no_damage_is_invented", no_damage_is_invented),
];

/// So many later requests of the same person may come before a retry of any id is no longer recognised.
const REMEMBERED_LATER: usize = 128;
/// So long after it was carried out is a UUIDv7 recognised, in microseconds, whatever came between.
const REMEMBERED_MICROS: u64 = 10 * 60 * 1_000_000;

/// Who was told "accepted" finds it in the log: the same person, sequence, version and events, stored before the reply.
fn accepted_is_stored(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (sent, at, answer) in past.answers().filter(|(_, _, answer)| answer.is_accepted() && answer.sequence.is_some())
    {
        let Some((person, request)) = sent.asked() else {
            wrong.push((None, format!("{}: accepted, but it is no request: {answer:?}", sent.key)));
            continue;
        };
        let is_it = |carried: &&Carried| {
            let events = carried.events.iter().map(|record| record.event.kind().as_str());
            carried.key == sent.key
                && carried.digest == request.digest
                && Some(carried.sequence) == answer.sequence
                && Some(carried.version()) == answer.version
                && events.eq(answer.events.iter().map(String::as_str))
        };
        let stored: Vec<&Carried> = past.carried(person).filter(is_it).collect();
        let in_time = |carried: &&&Carried| {
            carried.at.is_none_or(|stored_at| stored_at <= at)
                && carried.lost.is_none_or(|(_, known_at)| known_at >= sent.delivery.sent_at)
        };
        if stored.is_empty() {
            wrong.push((
                Some(person),
                format!("{}: accepted at {at}, but the log has no such commit: {answer:?}", sent.key),
            ));
        } else if !stored.iter().any(|carried| in_time(&carried)) {
            let when: Vec<_> = stored.iter().map(|carried| (carried.at, carried.lost)).collect();
            wrong.push((Some(person), format!("{}: accepted at {at}, but stored and lost at {when:?}", sent.key)));
        }
    }
    wrong
}

/// A refusal, or "nothing to change", is what the domain says of the person as it was at some moment between request
/// and reply. What can never be overturned may speak of an earlier state.
fn refused_is_right(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (sent, at, answer) in past.answers().filter(|(_, _, answer)| answer.is_decided() && answer.sequence.is_none()) {
        let Some((person, request)) = sent.asked() else {
            let code = sent.request.as_ref().err().map_or("", |not| not.problem.code.as_str());
            if answer.code() != code {
                wrong.push((None, format!("{}: {answer:?} for what is {code}", sent.key)));
            }
            continue;
        };
        let judgement = Judgement { past, sent, request, at, answer };
        if !judgement.is_right(past.line(person)) {
            let seen: Vec<_> = past.line(person).spots_between(sent.delivery.sent_at, at).collect();
            let seen: Vec<_> = seen.iter().map(|(_, spot)| (spot.version, spot.begin, spot.end)).collect();
            let what = format!(
                "{}: sent at {}, answered at {at} with {answer:?}; (version, from, to) meanwhile: {seen:?}",
                sent.key, sent.delivery.sent_at
            );
            wrong.push((Some(person), what));
        }
    }
    wrong
}

/// One decided answer without an event, and all that it has to be judged by.
struct Judgement<'a> {
    past: &'a Past<'a>,
    sent: &'a Sent<'a>,
    request: &'a Request,
    at: Time,
    answer: &'a Answer,
}

impl Judgement<'_> {
    fn is_right(&self, line: &Line) -> bool {
        let meanwhile = || line.spots_between(self.sent.delivery.sent_at, self.at);
        let is_of_version = |spot: &Spot| self.answer.version.is_none_or(|version| version == spot.version);
        if self.answer.code() == "command_id_reused" {
            return meanwhile()
                .any(|(place, _)| self.known(line, place).any(|known| known.digest != self.request.digest));
        }
        if meanwhile().any(|(place, spot)| is_of_version(spot) && self.agrees(line, place, spot, false)) {
            return true;
        }
        let mut earlier = line.spots.iter().enumerate().filter(|(_, spot)| spot.begin <= self.at);
        earlier.any(|(place, spot)| is_of_version(spot) && self.agrees(line, place, spot, true))
            && meanwhile().any(|(place, spot)| self.agrees(line, place, spot, true))
    }

    /// What stands under this request's id in the history of a spot.
    fn known<'l>(&'l self, line: &'l Line, place: usize) -> impl Iterator<Item = &'l Carried> {
        line.carried
            .iter()
            .filter(move |known| !known.generated && known.key == self.sent.key && known.is_known_at(place))
    }

    /// Whether the answer is what has to be said in this state; if asked for, only if it could never be overturned.
    fn agrees(&self, line: &Line, place: usize, spot: &Spot, finally: bool) -> bool {
        // It has to be recognised. That a person exists may be said without knowing what came since, and then the id
        // may have been used for another command; docs/decisions/010 says why that is right. Nothing comes after a
        // merge or an archiving, so that their refusals have no such excuse.
        let may_miss_others = finally && self.answer.code() == "already_exists";
        let is_its_own = |known: &&Carried| !may_miss_others || known.digest == self.request.digest;
        let mut known = self.known(line, place).filter(is_its_own);
        if known.any(|known| is_promised(self.past, line, known, spot, self.sent, self.sent.delivery.arrived_at)) {
            return false;
        }
        let is_expected = self.request.expected_version.is_none_or(|expected| expected == spot.version);
        if !is_expected || self.answer.code() == "version_conflict" {
            return !is_expected && !finally && self.answer.code() == "version_conflict";
        }
        let targets = self.past.targets(self.sent.delivery.sent_at, self.at);
        verdicts(spot.state.as_ref(), self.request, self.now(spot), &targets).iter().any(|verdict| match verdict {
            Verdict::Events(_) => false,
            Verdict::Nothing => self.answer.is_accepted() && self.answer.events.is_empty() && !finally,
            Verdict::Refused { code, index, moved_to, is_final } => {
                let error = self.answer.error.as_ref();
                error.is_some_and(|error| error.code == *code && error.index == *index && error.moved_to == *moved_to)
                    && (*is_final || !finally)
            }
        })
    }

    fn now(&self, spot: &Spot) -> Timestamp {
        self.sent.delivery.stamped_at.max(spot.last_event_at)
    }
}

/// Whether a request that was carried out has to be recognised when it is decided again on this spot, at this time by a right
/// clock. What the client's clock says does not count.
fn is_promised(past: &Past, line: &Line, known: &Carried, spot: &Spot, sent: &Sent, now: Timestamp) -> bool {
    let is_v7 = sent.request.as_ref().is_ok_and(|request| request.command_id.made_at().is_some());
    let is_young = is_v7 && now.micros_since(known.wall) <= REMEMBERED_MICROS && !past.record.clocks_were_wrong;
    is_young || spot.requests - line.spots[known.before + 1].requests <= REMEMBERED_LATER
}

/// What was refused, or failed without a doubt, each time it was sent, is not in the log.
fn refused_stored_nothing(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    // What the log lost is decided afresh, and may be refused then.
    for (person, _, carried) in past.all_carried().filter(|(_, _, carried)| carried.lost.is_none()) {
        let Some(deliveries) = past.by_key.get(&carried.key) else {
            wrong.push((Some(person), format!("{}: in the log, but nobody sent it", carried.key)));
            continue;
        };
        let mut sent = deliveries.iter().map(|at| &past.sent[*at]);
        let may_be_it = |sent: &Sent| {
            sent.request.as_ref().is_ok_and(|request| request.digest == carried.digest)
                && carried.at.is_none_or(|at| sent.delivery.sent_at <= at)
                && !sent.answers.iter().any(|(_, answer)| answer.says_nothing_done())
                && !sent.answers.iter().any(|(_, answer)| answer.is_accepted() && answer.sequence.is_none())
        };
        if !sent.any(may_be_it) {
            let told: Vec<_> = deliveries.iter().flat_map(|at| &past.sent[*at].answers).collect();
            wrong.push((Some(person), format!("{}: in the log, but answered {told:?}", carried.key)));
        }
    }
    wrong
}

/// No request stands twice in a history, unless so much lies between that it need not have been recognised.
fn one_effect(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (person, line, again) in past.all_carried() {
        let sent = past.by_key.get(&again.key).and_then(|all| all.first()).map(|first| &past.sent[*first]);
        let spot = &line.spots[again.before];
        let mut before = line.carried.iter().filter(|first| first.key == again.key && first.is_known_at(again.before));
        let promised =
            |first: &&Carried| sent.is_none_or(|sent| is_promised(past, line, first, spot, sent, again.wall));
        if let Some(first) = before.rfind(promised) {
            let what = format!("{}: carried out at {} and again at {}", again.key, first.sequence, again.sequence);
            wrong.push((Some(person), what));
        }
    }
    wrong
}

/// Everybody who is told that a request is stored is told the same, and only once that it was not stored before.
fn same_outcome(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    // What was lost may be carried out again, and in the same place.
    for (person, _, carried) in past.all_carried().filter(|(_, line, _)| !line.is_harmed) {
        // An id may have been used for several persons, of whom each has its own.
        let is_for_them = |at: &&usize| past.sent[**at].asked().is_some_and(|(asked, _)| asked == person);
        let deliveries: Vec<usize> =
            past.by_key.get(&carried.key).into_iter().flatten().filter(is_for_them).copied().collect();
        if deliveries.is_empty() {
            continue;
        }
        let told: Vec<(Time, &Answer)> = deliveries
            .iter()
            .flat_map(|at| &past.sent[*at].answers)
            .filter(|(_, answer)| answer.sequence == Some(carried.sequence))
            .map(|(at, answer)| (*at, answer))
            .collect();
        let first_times = told.iter().filter(|(_, answer)| !answer.duplicate).count();
        let differs = |(_, answer): &&(Time, &Answer)| {
            answer.version != Some(carried.version()) || answer.events.len() != carried.events.len()
        };
        // When the service hears of a loss, it gives up an append that got no answer; one that then arrives after all is
        // told as a duplicate of itself.
        let is_excused = deliveries
            .first()
            .zip(told.first())
            .is_some_and(|(first, (last, _))| past.is_loss_learnt_between(past.sent[*first].delivery.sent_at, *last));
        let never_new = told.len() == deliveries.len() && first_times == 0 && carried.at.is_some();
        if first_times > 1 || never_new && !is_excused {
            wrong.push((Some(person), format!("{}: {first_times} times told that it is new: {told:?}", carried.key)));
        }
        if let Some(other) = told.iter().find(differs) {
            wrong.push((Some(person), format!("{}: told differently: {other:?}", carried.key)));
        }
    }
    wrong
}

/// What is stored of a request is what the domain decides on the state before it, the expected version included.
fn decided_by_the_domain(past: &Past) -> Vec<Finding> {
    past.all_carried()
        .filter_map(|(person, line, carried)| match past.decisions(line, carried)? {
            (true, decided) if decided.iter().any(|events| same(events, carried)) => None,
            (true, decided) if decided.iter().any(|events| is_part(events, carried)) => None,
            (is_expected, decided) => {
                let what = format!(
                    "{}: the expected version {}; stored {:?} on version {}; the domain says {decided:?}",
                    carried.key,
                    if is_expected { "holds" } else { "does not hold" },
                    carried.events,
                    line.spots[carried.before].version
                );
                Some((Some(person), what))
            }
        })
        .collect()
}

/// All events of a request lie in one commit, under one entry.
fn all_or_nothing(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (person, line, carried) in past.all_carried() {
        let Some((_, decided)) = past.decisions(line, carried) else { continue };
        if !decided.iter().any(|events| same(events, carried)) && decided.iter().any(|events| is_part(events, carried))
        {
            wrong.push((Some(person), format!("{}: a part of it is stored: {:?}", carried.key, carried.events)));
        }
    }
    wrong
}

fn same(events: &[Event], carried: &Carried) -> bool {
    events.iter().eq(carried.events.iter().map(|record| &record.event))
}

fn is_part(events: &[Event], carried: &Carried) -> bool {
    let kinds = || carried.events.iter().map(|record| record.event.kind());
    events.len() > carried.events.len()
        && events.windows(carried.events.len()).any(|part| part.iter().map(Event::kind).eq(kinds()))
}

/// Versions 1, 2, 3 without gap, each commit naming the exact bytes before it, each in its own person's history.
fn gap_free_and_chained(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (person, line) in &past.lines {
        for seen in &line.commits {
            let place = format!("the commit at {}", seen.sequence);
            match &seen.decoded {
                Err(error) => wrong.push((Some(*person), format!("{place} does not decode: {error}"))),
                Ok(commit) if commit.aggregate_id != *person => {
                    wrong.push((Some(*person), format!("{place} is of {}", commit.aggregate_id)));
                }
                Ok(commit) if commit.first_version() != seen.before.version + 1 => {
                    let what =
                        format!("{place} begins with version {} after {}", commit.first_version(), seen.before.version);
                    wrong.push((Some(*person), what));
                }
                Ok(commit) if Some(commit.previous) != seen.before.chain => {
                    wrong.push((Some(*person), format!("{place} builds on other bytes than those before it")));
                }
                Ok(_) => {}
            }
        }
    }
    wrong
}

/// Stream positions and times never run backwards, and the order of the log is one that clients can have seen: what was
/// told before something else was sent comes before it.
fn one_order(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (person, line) in &past.lines {
        for seen in &line.commits {
            let first = seen.decoded.as_ref().ok().and_then(|commit| commit.events.first());
            if seen.sequence <= seen.before.sequence {
                wrong
                    .push((Some(*person), format!("{} follows {} in the stream", seen.sequence, seen.before.sequence)));
            }
            if first.is_some_and(|first| first.timestamp < seen.before.last_event_at) {
                wrong.push((Some(*person), format!("time runs backwards at {}", seen.sequence)));
            }
        }
        for carried in &line.carried {
            if carried.events.windows(2).any(|pair| pair[0].timestamp > pair[1].timestamp) {
                wrong.push((Some(*person), format!("{}: time runs backwards within it", carried.key)));
            }
            let record = |record: &cim_domain_person::wire::commit::EventRecord| {
                record.event.happened_at() != record.timestamp || record.event.person_id() != *person
            };
            if carried.events.iter().any(record) {
                wrong.push((Some(*person), format!("{}: an event of another time or person", carried.key)));
            }
        }
        if let Some(spot) = line.spots.iter().find(|spot| spot.begin > spot.end) {
            let what =
                format!("version {} cannot have been before {} nor after {}", spot.version, spot.begin, spot.end);
            wrong.push((Some(*person), what));
        }
    }
    for (person, _, carried) in past.all_carried() {
        let (sent, told) = (past.first_sent(&carried.key), past.first_told(&carried.key));
        if carried.at.is_some_and(|at| sent.is_some_and(|sent| at < sent)) || told.is_some_and(|told| sent > Some(told))
        {
            wrong.push((Some(person), format!("{}: stored before it was sent", carried.key)));
        }
    }
    wrong
}

/// A snapshot is the fold of the history up to the commit that it names, and remembers who was carried out.
fn snapshots_are_true(past: &Past) -> Vec<Finding> {
    past.record
        .snapshots
        .iter()
        .filter_map(|written| {
            let person = written.person;
            snapshot_fault(past.line(person), person, &written.bytes).map(|what| (Some(person), what))
        })
        .collect()
}

fn snapshot_fault(line: &Line, person: PersonId, bytes: &[u8]) -> Option<String> {
    let snapshot = match snapshot::decode(person, bytes) {
        Ok(snapshot) => snapshot,
        Err(error) => return Some(format!("a snapshot that does not decode: {error}")),
    };
    let at = format!("the snapshot of version {} at {}", snapshot.version, snapshot.sequence);
    let found =
        line.spots.iter().position(|spot| spot.chain == Some(snapshot.chain) && spot.sequence == snapshot.sequence);
    let Some(place) = found else { return Some(format!("{at} is of no commit in the log")) };
    let spot = &line.spots[place];
    if (spot.version, &spot.state) != (snapshot.version, &Some(snapshot.body.person)) {
        return Some(format!(
            "{at} is not the fold of the history, which has version {}: {:?}",
            spot.version, spot.state
        ));
    }
    if spot.last_event_at != snapshot.body.last_event_at {
        return Some(format!("{at} has another time of the last event"));
    }
    let known: Vec<&Carried> =
        line.carried.iter().filter(|known| !known.generated && known.is_known_at(place)).collect();
    let remembered = snapshot.body.receipts;
    let forgotten = known.len().saturating_sub(remembered.len());
    let is_it = |(known, receipt): (&&Carried, &snapshot::Receipt)| {
        let kinds = known.events.iter().map(|record| record.event.kind());
        cim_domain_person::wire::digest::Digest::of(known.command_id.as_bytes()) == receipt.command
            && (known.digest, known.version(), known.sequence) == (receipt.digest, receipt.version, receipt.sequence)
            && kinds.eq(receipt.events.iter().copied())
    };
    if remembered.len() < known.len().min(REMEMBERED_LATER + 1)
        || !known[forgotten..].iter().zip(&remembered).all(is_it)
    {
        return Some(format!("{at} remembers {} commands of {}, or others", remembered.len(), known.len()));
    }
    let newest_forgotten = forgotten.checked_sub(1).map(|newest| known[newest].sequence);
    (snapshot.body.missing_until < newest_forgotten).then(|| format!("{at} claims to remember more than it does"))
}

/// Who asks for a person sees it as it was at some moment between question and answer, after whole commits. "Not now" is
/// an answer only as long as something goes wrong.
fn queries_show_the_newest(past: &Past) -> Vec<Finding> {
    let is_healed = |asked: &Query| past.record.healed_at.is_some_and(|healed_at| asked.sent_at >= healed_at);
    let mut wrong = Vec::new();
    for asked in &past.record.queries {
        let line = past.line(asked.person);
        if asked.replies.is_empty() && is_healed(asked) {
            wrong.push((Some(asked.person), format!("asked at {}: no answer", asked.sent_at)));
        }
        for reply in &asked.replies {
            let answer: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap_or_default();
            let code = answer["error"]["code"].as_str();
            let shows = |spot: &Spot| match &spot.state {
                None => code == Some("person_not_found"),
                Some(person) => {
                    let view = PersonView::new(person, spot.version, None);
                    let shown = encode_person(spot.version, spot.sequence, &view);
                    serde_json::from_slice::<serde_json::Value>(&shown).is_ok_and(|shown| shown == answer)
                }
            };
            let may_fail = match code {
                Some("history_damaged") => line.is_harmed,
                Some("history_too_new") => false,
                _ => !is_healed(asked),
            };
            let is_excused = answer["status"] == "failed" && may_fail;
            let mut meanwhile = line.spots_between(asked.sent_at, reply.at).filter(|(_, spot)| spot.chain.is_some());
            if !is_excused && !meanwhile.any(|(_, spot)| shows(spot)) {
                wrong
                    .push((Some(asked.person), format!("asked at {}, shown at {}: {answer}", asked.sent_at, reply.at)));
            }
        }
    }
    wrong
}

/// At most one reply, and it names the request and its person.
fn one_reply(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for sent in past.sent.iter().filter(|sent| sent.answers.len() > 1) {
        wrong.push((sent.person(), format!("{}: {} replies: {:?}", sent.key, sent.answers.len(), sent.answers)));
    }
    for (sent, _, answer) in past.answers() {
        let id = sent.delivery.header("Nats-Msg-Id");
        let is_its_own = (id.is_none() || answer.command_id.as_deref() == id)
            && (sent.request.is_err() || answer.aggregate_id == sent.person());
        let is_one = ["accepted", "rejected", "failed"].contains(&answer.status.as_str());
        if !is_its_own || !is_one {
            wrong.push((sent.person(), format!("{}: not its reply: {answer:?}", sent.key)));
        }
    }
    wrong
}

/// A replica that leaves in peace has answered everything that it took.
fn drained_is_answered(past: &Past) -> Vec<Finding> {
    let left = |sent: &&Sent| sent.delivery.taken_by.is_some_and(|replica| past.record.drained.contains(&replica));
    let silent = past.sent.iter().filter(left).filter(|sent| sent.answers.is_empty());
    silent
        .map(|sent| (sent.person(), format!("{}: taken by a replica that left without answering it", sent.key)))
        .collect()
}

/// When nothing goes wrong any more everything is answered, and with more than "not now".
fn healed_makes_progress(past: &Past) -> Vec<Finding> {
    let Some(healed_at) = past.record.healed_at else { return Vec::new() };
    let mut wrong = Vec::new();
    for sent in past.sent.iter().filter(|sent| sent.delivery.sent_at >= healed_at) {
        let Some((_, answer)) = sent.answers.first() else {
            wrong.push((sent.person(), format!("{}: no answer", sent.key)));
            continue;
        };
        if answer.status == "failed" && answer.code() != "history_damaged" {
            wrong.push((sent.person(), format!("{}: {}", sent.key, answer.code())));
        }
    }
    wrong
}

/// Nobody's history is called damaged unless the log lost some of it, and nothing is from a newer release.
fn no_damage_is_invented(past: &Past) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (sent, _, answer) in past.answers() {
        let targets =
            sent.request.iter().flat_map(|request| &request.commands).filter_map(|command| command.merge_target());
        let persons: BTreeSet<PersonId> = sent.person().into_iter().chain(targets).collect();
        let is_harmed = persons.into_iter().any(|person| past.line(person).is_harmed);
        if answer.code() == "history_too_new" || answer.code() == "history_damaged" && !is_harmed {
            wrong.push((sent.person(), format!("{}: {}", sent.key, answer.code())));
        }
    }
    wrong
}

static NOBODY: std::sync::LazyLock<Line> = std::sync::LazyLock::new(Line::empty);

impl Past<'_> {
    /// A person's history; an empty one for whoever has none.
    fn line(&self, person: PersonId) -> &Line {
        self.lines.get(&person).unwrap_or(&NOBODY)
    }

    fn carried(&self, person: PersonId) -> impl Iterator<Item = &Carried> {
        self.line(person).carried.iter()
    }

    fn all_carried(&self) -> impl Iterator<Item = (PersonId, &Line, &Carried)> {
        self.lines.iter().flat_map(|(person, line)| line.carried.iter().map(move |carried| (*person, line, carried)))
    }

    fn answers(&self) -> impl Iterator<Item = (&Sent<'_>, Time, &Answer)> {
        self.sent.iter().flat_map(|sent| sent.answers.iter().map(move |(at, answer)| (sent, *at, answer)))
    }

    /// Whether the expected version held, and the events that the domain may decide, for a request that was carried out;
    /// `None` if nobody knows what it asked for.
    fn decisions(&self, line: &Line, carried: &Carried) -> Option<(bool, Vec<Vec<Event>>)> {
        let asked = self.by_key.get(&carried.key)?.iter().filter_map(|at| self.sent[*at].request.as_ref().ok());
        let asked: Vec<&Request> = asked.filter(|request| request.digest == carried.digest).collect();
        let request = asked.first()?;
        let spot = &line.spots[carried.before];
        let now = carried.events.first()?.timestamp;
        let until = carried.at.or_else(|| self.first_told(&carried.key)).unwrap_or(Time::MAX);
        let targets = self.targets(self.first_sent(&carried.key).unwrap_or(0), until);
        let decided =
            verdicts(spot.state.as_ref(), request, now, &targets).into_iter().filter_map(|verdict| match verdict {
                Verdict::Events(events) => Some(events),
                Verdict::Nothing | Verdict::Refused { .. } => None,
            });
        let is_expected = |request: &&Request| request.expected_version.is_none_or(|expected| expected == spot.version);
        Some((asked.iter().any(is_expected), decided.collect()))
    }
}

impl Sent<'_> {
    fn asked(&self) -> Option<(PersonId, &Request)> {
        self.request.as_ref().ok().map(|request| (request.person, request))
    }
}

impl Answer {
    /// Whether it says what is, rather than that it could not be found out.
    fn is_decided(&self) -> bool {
        self.status != "failed"
    }
}
