//! Sharing the persons with other replicas: beacons, parcels for their homes, and the thread that takes back what no home
//! took. The rules are those of [`engine::sharing`](crate::engine::sharing).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};

use crate::daemon::clock::{Clock, micros};
use crate::daemon::door::{Door, Entrance};
use crate::daemon::pulse::Pulse;
use crate::daemon::statistics::Statistics;
use crate::engine::sharing::{Parcel, Sending, Sharing, TakenBack};
use crate::engine::turn::Moment;
use crate::log_limit::RateLimited;
use crate::nats::{Inbox, Incoming, Intake, Post};
use crate::wire::beacon::{Beacon, Presence, ReplicaId};
use crate::wire::parcel::{self, Head, Item, PROTOCOL, Receipt, Refused, Taken};
use crate::wire::request::{Stamp, person_hinted};
use crate::wire::service::Metadata;
use crate::wire::subject::Subjects;

/// How often a replica says that it is there, and up to how much sooner.
const BEAT_PERIOD: Duration = Duration::from_secs(1);
const BEAT_JITTER_MILLIS: u64 = 200;
/// The same while it does not hear itself.
const UNHEARD_BEAT_PERIOD: Duration = Duration::from_secs(10);
/// The time between two beacons for newcomers.
const NEWCOMERS_BEAT_PERIOD: Duration = Duration::from_millis(50);
/// How long the thread sleeps at most, and at least.
const SLEEP_MAX: Duration = Duration::from_millis(100);
const SLEEP_MIN: Duration = Duration::from_micros(200);
/// How long its own first beacon is waited for before commands are taken.
const FIRST_BEAT_WAIT: Duration = Duration::from_millis(100);
/// How long a replica that serves may not hear its own beacons until it says so.
const UNHEARD_MAX: Duration = Duration::from_secs(5);
/// The part of a command's time that a home's answer may take.
const PATIENCE_DIVISOR: u32 = 4;

static UNHEARD: RateLimited = RateLimited::new(Duration::from_secs(600));
static STRANGE: RateLimited = RateLimited::new(Duration::from_secs(60));
static TAKEN_BACK: RateLimited = RateLimited::new(Duration::from_secs(10));
static NEWCOMERS: RateLimited = RateLimited::new(Duration::from_secs(1));

/// What the threads share that hand over, take, hear and speak.
pub struct Sharer {
    sharing: Mutex<Sharing>,
    /// Whether there is nobody to hand anything to, so that whoever is alone pays nothing.
    is_alone: AtomicBool,
    /// Whether something is packed that is not sent off yet.
    is_packed: AtomicBool,
    /// Whether a newcomer is to hear of this replica.
    is_asked: AtomicBool,
    subjects: Subjects,
    post: Post,
    intake: Arc<Intake>,
    statistics: Arc<Statistics>,
    clock: Clock,
}

impl Sharer {
    /// A replica that does not serve yet, with an id of its own, for commands that have so much time. The homes' answers go to
    /// this inbox, which is for [`run`].
    pub fn new(
        command_timeout: Duration,
        subjects: &Subjects,
        inbox: &Inbox,
        intake: &Arc<Intake>,
        statistics: &Arc<Statistics>,
        clock: Clock,
    ) -> Self {
        let own = ReplicaId::from_u128(uuid::Uuid::new_v4().as_u128());
        let patience_micros_max = micros(command_timeout / PATIENCE_DIVISOR);
        Self {
            sharing: Mutex::new(Sharing::new(own, &intake.cluster(), patience_micros_max)),
            is_alone: AtomicBool::new(true),
            is_packed: AtomicBool::new(false),
            is_asked: AtomicBool::new(false),
            subjects: subjects.clone(),
            post: inbox.post(),
            intake: Arc::clone(intake),
            statistics: Arc::clone(statistics),
            clock,
        }
    }

    /// This replica.
    pub fn id(&self) -> ReplicaId {
        self.sharing().members.own()
    }

    /// Tells the others whether to hand it anything.
    pub fn stand(&self, presence: Presence) {
        self.change(|sharing, now| sharing.members.stand(presence, now));
        self.beat();
    }

    /// Says that it is there.
    pub fn beat(&self) {
        let beacon = self.change(|sharing, now| sharing.members.beat(self.intake.cluster(), now));
        self.intake.say(&self.subjects.beacon(), &beacon.encode());
    }

    /// What is told of it.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            cluster: self.intake.cluster(),
            protocol: PROTOCOL.to_string(),
            members: self.sharing().members.count().to_string(),
        }
    }

    /// Whether nothing is on its way to another replica.
    pub fn is_at_rest(&self) -> bool {
        self.sharing().is_at_rest()
    }

    /// Says that it is there until it hears itself; so the others know it, and it knows them, before it takes commands.
    pub fn begin(&self) {
        self.beat();
        let deadline = Instant::now() + FIRST_BEAT_WAIT;
        while !self.sharing().members.hears_itself(self.clock.now()) && Instant::now() < deadline {
            std::thread::sleep(SLEEP_MIN);
        }
        self.stand(Presence::Serving);
    }

    /// Puts a command into the parcel for its person's home. False where it is to be carried out here.
    pub fn hand_over(&self, message: &Incoming, reply_to: Option<&str>, stamp: &Stamp) -> bool {
        if self.is_alone.load(Relaxed) {
            return false;
        }
        let person = person_hinted(&self.subjects, message.subject(), message.payload());
        let mut sharing = self.sharing();
        let Some(home) = person.and_then(|person| sharing.members.home_elsewhere(person)) else { return false };
        let item = Item {
            made_id: stamp.id.as_u128(),
            subject: message.subject(),
            reply_to,
            headers: message.all_headers().collect(),
            payload: message.payload(),
        };
        let is_packed = sharing.pack(home, &item, self.clock.now());
        self.is_packed.fetch_or(is_packed, Relaxed);
        is_packed
    }

    /// Sends off what was packed. What cannot be sent is carried out here.
    pub fn send_off(&self, door: &Door) {
        if self.is_packed.swap(false, Relaxed) {
            self.send(door);
        }
    }

    fn send(&self, door: &Door) {
        let Sending { parcels, taken_back } = self.change(Sharing::send);
        self.send_parcels(parcels, door);
        taken_back.into_iter().for_each(|taken_back| self.carry_out(taken_back, door));
    }

    fn send_parcels(&self, parcels: Vec<Parcel>, door: &Door) {
        let are_any = !parcels.is_empty();
        for Parcel { number, home, bytes, .. } in parcels {
            if self.post.send(number, &self.subjects.intake_of(home), &[], &bytes).is_err() {
                let taken_back = self.change(|sharing, now| sharing.not_taken(number, now));
                taken_back.into_iter().for_each(|taken_back| self.carry_out(taken_back, door));
            }
        }
        if are_any {
            self.post.mark_dirty();
        }
    }

    /// Answers parcels that were taken, with parcels for the same replicas where some wait.
    fn answer(&self, taken: Vec<Answer>, door: &Door) {
        let mut parcels = Vec::new();
        for Answer { from, reply_to, taken } in taken {
            match self.change(|sharing, now| sharing.answer(from, taken, now)) {
                Some(parcel) => parcels.push(parcel),
                // The first replies to what was taken are about to leave, and each flush costs a round trip.
                None => door.replier.tell_along(&reply_to, &Receipt::Taken { commands: taken.commands }.encode()),
            }
        }
        self.send_parcels(parcels, door);
    }

    fn carry_out(&self, taken_back: TakenBack, door: &Door) {
        let TakenBack { parcel: Parcel { home, commands, bytes, .. }, arrived, may_be_taken } = taken_back;
        self.statistics.taken_back(commands);
        TAKEN_BACK.warn(format_args!("replica {home} did not take {commands} commands: they are carried out here"));
        let Ok((_, items)) = parcel::decode(&bytes) else { unreachable!("a parcel that this replica packed") };
        items.iter().for_each(|item| door.carry_out(item, arrived, may_be_taken));
    }

    /// Changes what is known, and takes in what follows for those who only look.
    fn change<T>(&self, change: impl FnOnce(&mut Sharing, Moment) -> T) -> T {
        let mut sharing = self.sharing();
        let result = change(&mut sharing, self.clock.now());
        self.is_alone.store(sharing.members.is_alone(), Relaxed);
        self.statistics.sharing(sharing.members.count(), sharing.handed_over());
        result
    }

    fn sharing(&self) -> MutexGuard<'_, Sharing> {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where beacons arrive.
pub struct Beacons(pub Arc<Sharer>);

impl Entrance for Beacons {
    fn take(&self, message: &Incoming) {
        let Some(beacon) = Beacon::decode(message.payload()) else {
            return STRANGE.warn(format_args!("something that is no beacon arrives on {}", self.0.subjects.beacon()));
        };
        if self.0.change(|sharing, now| sharing.members.hear(&beacon, now)) {
            if let Some(held_back) = NEWCOMERS.pass(Instant::now()) {
                log::info!("replica {} ({}) shares the persons now{held_back}", beacon.replica, beacon.version);
            }
            self.0.is_asked.store(true, Relaxed);
        }
    }

    /// The next ones come in a second.
    fn turn_away(&self, _message: &Incoming) {}
}

/// Where parcels arrive.
pub struct Parcels {
    /// Who knows how old they are.
    sharer: Arc<Sharer>,
    /// Who carries their commands out.
    door: Arc<Door>,
    /// What was taken in a row and is not answered yet.
    taken: Mutex<Vec<Answer>>,
}

/// That a parcel was taken.
struct Answer {
    /// Whose parcel it was.
    from: ReplicaId,
    /// Where the answer may go alone.
    reply_to: String,
    taken: Taken,
}

impl Parcels {
    /// For the parcels of this replica, whose commands are carried out behind this door.
    pub fn new(sharer: &Arc<Sharer>, door: &Arc<Door>) -> Self {
        Self { sharer: Arc::clone(sharer), door: Arc::clone(door), taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_parcel(&self, parcel: &[u8], reply_to: &str) -> Result<(), Refused> {
        let (head, items) = parcel::decode(parcel).map_err(|_| Refused::Malformed)?;
        let from = ReplicaId::from_u128(head.from);
        self.take_answer(&head);
        // All or none: its sender carries out what is not taken.
        if !items.iter().all(|item| self.door.replier.permitted(item.reply_to).is_ok()) {
            return Err(Refused::Malformed);
        }
        let arrived = self.sharer.sharing().arrival(&head, self.sharer.clock.now()).ok_or(Refused::Late)?;
        items.iter().for_each(|item| self.door.carry_out(item, arrived, false));
        self.sharer.statistics.taken_over(items.len());
        let taken = Taken { number: head.number, commands: items.len() };
        self.taken().push(Answer { from, reply_to: reply_to.to_owned(), taken });
        Ok(())
    }

    /// A parcel may answer one of this replica's.
    fn take_answer(&self, head: &Head) {
        if let Some(taken) = head.taken {
            let from = ReplicaId::from_u128(head.from);
            let taken_back = self.sharer.change(|sharing, now| sharing.answered_by(from, taken, now));
            taken_back.into_iter().for_each(|taken_back| self.sharer.carry_out(taken_back, &self.door));
        }
    }

    fn refuse(&self, reply_to: &str, reason: Refused) {
        self.door.replier.tell_along(reply_to, &Receipt::Refused { reason }.encode());
    }
}

impl Entrance for Parcels {
    fn take(&self, message: &Incoming) {
        let Some(reply_to) = inbox_of(message) else { return };
        if let Err(reason) = self.take_parcel(message.payload(), reply_to) {
            if reason == Refused::Malformed {
                STRANGE.warn(format_args!("something that is no parcel arrives on {}", message.subject()));
            }
            self.refuse(reply_to, reason);
        }
    }

    fn turn_away(&self, message: &Incoming) {
        if let Ok((head, _)) = parcel::decode_head(message.payload()) {
            self.take_answer(&head);
        }
        if let Some(reply_to) = inbox_of(message) {
            self.refuse(reply_to, Refused::Busy);
        }
    }

    fn rest(&self) {
        let taken = std::mem::take(&mut *self.taken());
        self.sharer.answer(taken, &self.door);
        self.sharer.send(&self.door);
    }
}

/// Where a parcel is to be answered. Replicas ask from inboxes, whatever is configured for clients.
fn inbox_of(message: &Incoming) -> Option<&str> {
    let inbox = message.reply().filter(|to| to.starts_with("_INBOX."));
    if inbox.is_none() {
        STRANGE.warn(format_args!("a parcel without an inbox for its answer arrives on {}", message.subject()));
    }
    inbox
}

/// Speaks, takes the homes' answers and takes back what no home took, until `over` is disconnected.
pub fn run(sharer: &Sharer, door: &Door, mut answers: Inbox, over: &Receiver<()>, pulse: &Pulse) {
    let (mut beat_at, mut beaten_at) = (Moment(0), Moment(0));
    let mut heard_at = sharer.clock.now();
    // What came back at once is carried out bit by bit: meanwhile answers arrive.
    let mut taken_back = VecDeque::new();
    while over.try_recv() != Err(TryRecvError::Disconnected) {
        let now = sharer.clock.now();
        let is_asked =
            sharer.is_asked.load(Relaxed) && now.0.saturating_sub(beaten_at.0) >= micros(NEWCOMERS_BEAT_PERIOD);
        if now >= beat_at || is_asked {
            sharer.is_asked.store(false, Relaxed);
            beaten_at = now;
            let is_serving = sharer.sharing().members.is_serving();
            pulse.while_busy(|| {
                if is_serving { sharer.beat() } else { sharer.change(|sharing, now| sharing.members.count_homes(now)) }
            });
            beat_at = Moment(now.0 + sharer.beat_micros(now, &mut heard_at));
        }
        answers.listen_on_present_session();
        let sleep = if taken_back.is_empty() { sharer.sleep(now, beat_at) } else { Duration::ZERO };
        let mut answer = answers.next_answer(Instant::now() + sleep);
        pulse.while_busy(|| {
            while let Some((number, message)) = answer {
                taken_back.extend(sharer.change(|sharing, now| match Receipt::decode(message.payload()) {
                    Some(receipt) => sharing.answered(number, receipt, now),
                    None if message.is_no_responders() => sharing.not_taken(number, now),
                    // Whatever it is, the home did not say it: what it did is not known yet.
                    None => Vec::new(),
                }));
                answer = answers.next_answer(Instant::now());
            }
            taken_back.extend(sharer.change(Sharing::overdue));
            taken_back.pop_front().into_iter().for_each(|one| sharer.carry_out(one, door));
            sharer.send(door);
        });
    }
    taken_back.into_iter().for_each(|one| sharer.carry_out(one, door));
}

impl Sharer {
    /// Until the next beacon. Whoever serves and does not hear itself says so now and then, in the log and to the others.
    fn beat_micros(&self, now: Moment, heard_at: &mut Moment) -> u64 {
        let is_expected = self.sharing().members.is_serving() && self.intake.health().connected;
        if !is_expected || self.sharing().members.heard_its_last() {
            *heard_at = now;
        }
        if now.0.saturating_sub(heard_at.0) > micros(UNHEARD_MAX) {
            UNHEARD.warn(format_args!(
                "this replica serves alone, since it does not hear its own beacons on {}: see the rights of its user",
                self.subjects.beacon()
            ));
            return micros(UNHEARD_BEAT_PERIOD);
        }
        micros(BEAT_PERIOD) - rand::random::<u64>() % (BEAT_JITTER_MILLIS * 1000)
    }

    /// How long there is nothing to do, unless an answer arrives.
    fn sleep(&self, now: Moment, beat_at: Moment) -> Duration {
        let due = self.sharing().next_overdue().map_or(beat_at, |overdue| overdue.min(beat_at));
        Duration::from_micros(due.0.saturating_sub(now.0)).clamp(SLEEP_MIN, SLEEP_MAX)
    }
}
