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
use crate::wire::parcel::{self, Item, PROTOCOL, Receipt, Refused};
use crate::wire::request::{Stamp, person_hinted};
use crate::wire::service::Metadata;
use crate::wire::subject::Subjects;

/// How often a replica says that it is there, and up to how much sooner; and while it does not hear itself.
const BEAT_PERIOD: Duration = Duration::from_secs(1);
const BEAT_JITTER_MILLIS: u64 = 200;
const UNHEARD_BEAT_PERIOD: Duration = Duration::from_secs(10);
/// How long the thread sleeps at most, and at least.
const SLEEP_MAX: Duration = Duration::from_millis(100);
const SLEEP_MIN: Duration = Duration::from_micros(200);
/// How long its own first beacon is waited for before commands are taken.
const FIRST_BEAT_WAIT: Duration = Duration::from_millis(100);
/// So many commands that arrive in a row in parcels are a crowd, and for so long the answers to it wait.
const CROWD_MIN: usize = 8;
const CROWD_WAIT: Duration = Duration::from_millis(2);
/// How long a replica that serves may not hear its own beacons until it says so.
const UNHEARD_MAX: Duration = Duration::from_secs(5);
/// The part of a command's time that a home's answer may take.
const PATIENCE_DIVISOR: u32 = 4;

static UNHEARD: RateLimited = RateLimited::new(Duration::from_secs(600));
static STRANGE: RateLimited = RateLimited::new(Duration::from_secs(60));
static TAKEN_BACK: RateLimited = RateLimited::new(Duration::from_secs(10));

/// What the threads share that hand over, take, hear and speak.
pub struct Sharer {
    own: ReplicaId,
    sharing: Mutex<Sharing>,
    /// Whether there is nobody to hand anything to, so that whoever is alone pays nothing.
    is_alone: AtomicBool,
    /// Whether something is packed that is not sent off yet.
    is_packed: AtomicBool,
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
            own,
            sharing: Mutex::new(Sharing::new(own, &intake.cluster(), patience_micros_max)),
            is_alone: AtomicBool::new(true),
            is_packed: AtomicBool::new(false),
            subjects: subjects.clone(),
            post: inbox.post(),
            intake: Arc::clone(intake),
            statistics: Arc::clone(statistics),
            clock,
        }
    }

    /// This replica.
    pub fn id(&self) -> ReplicaId {
        self.own
    }

    /// Tells the others whether to hand it anything.
    pub fn stand(&self, presence: Presence) {
        self.change(|sharing, now| sharing.stand(presence, now));
        self.beat();
    }

    /// Says that it is there.
    pub fn beat(&self) {
        let beacon = self.change(|sharing, now| sharing.beat(self.intake.cluster(), now));
        self.intake.say(&self.subjects.beacon(), &beacon.encode());
    }

    /// What is told of it.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            cluster: self.intake.cluster(),
            protocol: PROTOCOL.to_string(),
            members: self.sharing().members().to_string(),
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
        while !self.sharing().hears_itself(self.clock.now()) && Instant::now() < deadline {
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
        let Some(home) = person.and_then(|person| sharing.home_elsewhere(person)) else { return false };
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
        let Sending { parcels, mut taken_back } = self.change(Sharing::send);
        let are_parcels = !parcels.is_empty();
        for Parcel { number, home, bytes, .. } in parcels {
            if self.post.send(number, &self.subjects.intake_of(home), &[], &bytes).is_err() {
                taken_back.extend(self.change(|sharing, now| sharing.answered(number, None, now)));
            }
        }
        if are_parcels {
            self.post.mark_dirty();
        }
        taken_back.into_iter().for_each(|taken_back| self.carry_out(taken_back, door));
    }

    fn carry_out(&self, taken_back: TakenBack, door: &Door) {
        let TakenBack { parcel: Parcel { home, commands, bytes, .. }, away_micros, may_be_taken } = taken_back;
        self.statistics.taken_back(commands);
        TAKEN_BACK.warn(format_args!("replica {home} did not take {commands} commands: they are carried out here"));
        let Ok((_, items)) = parcel::decode(&bytes) else { unreachable!("a parcel that this replica packed") };
        items.iter().for_each(|item| door.carry_out(item, away_micros, may_be_taken));
    }

    /// Changes what is known, and takes in what follows for those who only look.
    fn change<T>(&self, change: impl FnOnce(&mut Sharing, Moment) -> T) -> T {
        let mut sharing = self.sharing();
        let result = change(&mut sharing, self.clock.now());
        self.is_alone.store(sharing.is_alone(), Relaxed);
        self.statistics.sharing(sharing.members(), sharing.handed_over());
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
        if self.0.change(|sharing, now| sharing.hear(&beacon, now)) {
            log::info!("replica {} ({}) shares the persons now", beacon.replica, beacon.version);
            self.0.beat();
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
    /// Answers to what was taken in a row, and how many commands that was.
    answers: Mutex<(Vec<(String, Receipt)>, usize)>,
}

impl Parcels {
    /// For the parcels of this replica, whose commands are carried out behind this door.
    pub fn new(sharer: &Arc<Sharer>, door: &Arc<Door>) -> Self {
        Self { sharer: Arc::clone(sharer), door: Arc::clone(door), answers: Mutex::default() }
    }

    fn answers(&self) -> MutexGuard<'_, (Vec<(String, Receipt)>, usize)> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receipt(&self, message: &Incoming) -> Receipt {
        let refused = |reason| Receipt::Refused { reason };
        let Ok((head, items)) = parcel::decode(message.payload()) else {
            STRANGE.warn(format_args!("something that is no parcel arrives on {}", message.subject()));
            return refused(Refused::Malformed);
        };
        // All or none: its sender carries out what is not taken.
        if !items.iter().all(|item| self.door.replier.permitted(item.reply_to).is_ok()) {
            return refused(Refused::Malformed);
        }
        let Some(age_micros) = self.sharer.sharing().age(&head, self.sharer.clock.now()) else {
            return refused(Refused::Late);
        };
        items.iter().for_each(|item| self.door.carry_out(item, age_micros, false));
        self.sharer.statistics.taken_over(items.len());
        Receipt::Taken { commands: items.len() }
    }

    /// Replicas ask from inboxes, whatever is configured for clients.
    fn answer(&self, message: &Incoming, receipt: Receipt) {
        if let Some(to) = message.reply().filter(|to| to.starts_with("_INBOX.")) {
            self.answers().0.push((to.to_owned(), receipt));
        }
    }
}

impl Entrance for Parcels {
    fn take(&self, message: &Incoming) {
        let receipt = self.receipt(message);
        if let Receipt::Taken { commands } = receipt {
            self.answers().1 += commands;
        }
        self.answer(message, receipt);
    }

    fn turn_away(&self, message: &Incoming) {
        self.answer(message, Receipt::Refused { reason: Refused::Busy });
    }

    /// In a crowd the answers wait a little: each brings the next parcel, and larger ones cost less.
    fn rest(&self) {
        let (answers, commands) = std::mem::take(&mut *self.answers());
        if commands >= CROWD_MIN {
            std::thread::sleep(CROWD_WAIT);
        }
        for (to, receipt) in answers {
            // The first replies to what was taken are about to leave, and each flush costs a round trip.
            self.door.replier.tell_along(&to, &receipt.encode());
        }
    }
}

/// Speaks, takes the homes' answers and takes back what no home took, until `over` is disconnected.
pub fn run(sharer: &Sharer, door: &Door, mut answers: Inbox, over: &Receiver<()>, pulse: &Pulse) {
    let mut beat_at = Moment(0);
    let mut heard_at = sharer.clock.now();
    // What came back at once is carried out bit by bit: meanwhile answers arrive.
    let mut taken_back = VecDeque::new();
    while over.try_recv() != Err(TryRecvError::Disconnected) {
        let now = sharer.clock.now();
        if now >= beat_at {
            let is_serving = sharer.sharing().is_serving();
            pulse.while_busy(|| if is_serving { sharer.beat() } else { sharer.change(Sharing::count_homes) });
            beat_at = Moment(now.0 + sharer.beat_micros(now, &mut heard_at));
        }
        answers.listen_on_present_session();
        let sleep = if taken_back.is_empty() { sharer.sleep(now, beat_at) } else { Duration::ZERO };
        let mut answer = answers.next_answer(Instant::now() + sleep);
        pulse.while_busy(|| {
            while let Some((number, message)) = answer {
                let receipt = Receipt::decode(message.payload());
                taken_back.extend(sharer.change(|sharing, now| sharing.answered(number, receipt, now)));
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
        let is_expected = self.sharing().is_serving() && self.intake.health().connected;
        if !is_expected || self.sharing().heard_its_last() {
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
