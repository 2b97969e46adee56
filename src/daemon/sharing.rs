//! Sharing the persons with other replicas: beacons, parcels for their homes, and the thread that takes back what no home
//! took. The rules are those of [`engine::sharing`](crate::engine::sharing).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};

use crate::daemon::clock::{Clock, micros};
use crate::daemon::door::{Door, Entrance};
use crate::daemon::pulse::Pulse;
use crate::daemon::statistics::Statistics;
use crate::engine::sharing::{Parcel, Sharing, TakenBack};
use crate::engine::turn::Moment;
use crate::log_limit::RateLimited;
use crate::nats::{Inbox, Incoming, Intake, Post};
use crate::wire::beacon::{Beacon, ReplicaId, Standing};
use crate::wire::parcel::{self, Item, PROTOCOL, Receipt, Refused};
use crate::wire::request::{Stamp, person_hinted};
use crate::wire::service::Metadata;
use crate::wire::subject::Subjects;

/// How often a replica says that it is there, and up to how much sooner.
const BEAT_PERIOD: Duration = Duration::from_secs(1);
const BEAT_JITTER_MILLIS: u64 = 200;
/// How soon an overdue parcel is noticed, at most.
const LOOK_UP: Duration = Duration::from_millis(20);
/// How long a replica may not hear its own beacons until it says so.
const UNHEARD_MAX: Duration = Duration::from_secs(5);

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
    /// A replica that does not serve yet, with an id of its own. The homes' answers go to this inbox, which is for [`run`].
    pub fn new(
        subjects: &Subjects,
        inbox: &Inbox,
        intake: &Arc<Intake>,
        statistics: &Arc<Statistics>,
        clock: Clock,
    ) -> Self {
        let own = ReplicaId::from_u128(uuid::Uuid::new_v4().as_u128());
        Self {
            own,
            sharing: Mutex::new(Sharing::new(own, &intake.cluster())),
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
    pub fn stand(&self, standing: Standing) {
        self.change(|sharing, now| sharing.stand(standing, now));
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

    /// Whether the person that a message is for has its home elsewhere, as far as can be seen.
    pub fn is_elsewhere(&self, message: &Incoming) -> bool {
        !self.is_alone.load(Relaxed) && {
            let person = person_hinted(&self.subjects, message.subject(), message.payload());
            person.is_some_and(|person| self.sharing().home_elsewhere(person).is_some())
        }
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
        let is_packed = sharing.pack(home, &item);
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
        let parcels = self.change(Sharing::send);
        if parcels.is_empty() {
            return;
        }
        self.statistics.handed_over(parcels.iter().map(|parcel| parcel.commands).sum());
        for Parcel { number, home, bytes, .. } in parcels {
            if self.post.send(number, &self.subjects.intake_of(home), &[], &bytes).is_err() {
                let taken_back = self.change(|sharing, now| sharing.answered(number, None, now));
                self.carry_out(taken_back, door);
            }
        }
        self.post.mark_dirty();
    }

    fn carry_out(&self, taken_back: impl IntoIterator<Item = TakenBack>, door: &Door) {
        for TakenBack { parcel, away_micros } in taken_back {
            let Parcel { home, commands, bytes, .. } = parcel;
            self.statistics.taken_back(commands);
            TAKEN_BACK.warn(format_args!("replica {home} did not take {commands} commands: they are carried out here"));
            let Ok((_, items)) = parcel::decode(&bytes) else { unreachable!("a parcel that this replica packed") };
            items.iter().for_each(|item| door.carry_out(item, away_micros));
        }
    }

    /// Changes what is known, and takes in what follows for those who only look.
    fn change<T>(&self, change: impl FnOnce(&mut Sharing, Moment) -> T) -> T {
        let mut sharing = self.sharing();
        let result = change(&mut sharing, self.clock.now());
        self.is_alone.store(sharing.is_alone(), Relaxed);
        self.statistics.members(sharing.members());
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
    pub sharer: Arc<Sharer>,
    /// Who carries their commands out.
    pub door: Arc<Door>,
}

impl Parcels {
    fn receipt(&self, message: &Incoming) -> Receipt {
        let refused = |reason| Receipt::Refused { reason };
        let Ok((head, items)) = parcel::decode(message.payload()) else {
            STRANGE.warn(format_args!("something that is no parcel arrives on {}", message.subject()));
            return refused(Refused::Malformed);
        };
        let Some(age_micros) = self.sharer.sharing().age(&head, self.sharer.clock.now()) else {
            return refused(Refused::Late);
        };
        items.iter().for_each(|item| self.door.carry_out(item, age_micros));
        self.sharer.statistics.taken_over(items.len());
        Receipt::Taken { commands: items.len() }
    }

    /// Replicas ask from inboxes, whatever is configured for clients.
    fn answer(&self, message: &Incoming, receipt: Receipt) {
        if let Some(to) = message.reply().filter(|to| to.starts_with("_INBOX.")) {
            // The first replies to what was taken are about to leave, and each flush costs a round trip.
            self.door.replier.tell_along(to, &receipt.encode());
        }
    }
}

impl Entrance for Parcels {
    fn take(&self, message: &Incoming) {
        let receipt = self.receipt(message);
        self.answer(message, receipt);
    }

    fn turn_away(&self, message: &Incoming) {
        self.answer(message, Receipt::Refused { reason: Refused::Busy });
    }
}

/// Speaks, takes the homes' answers and takes back what no home took, until `over` is disconnected.
pub fn run(sharer: &Sharer, door: &Door, mut answers: Inbox, over: &Receiver<()>, pulse: &Pulse) {
    let mut beat_at = Moment(0);
    let mut heard_at = sharer.clock.now();
    while over.try_recv() != Err(TryRecvError::Disconnected) {
        let now = sharer.clock.now();
        if now >= beat_at {
            pulse.while_busy(|| sharer.beat());
            let sooner = rand::random::<u64>() % (BEAT_JITTER_MILLIS * 1000);
            beat_at = Moment(now.0 + micros(BEAT_PERIOD) - sooner);
        }
        if sharer.sharing().hears_itself(now) {
            heard_at = now;
        } else if now.0.saturating_sub(heard_at.0) > micros(UNHEARD_MAX) {
            UNHEARD.warn(format_args!(
                "this replica serves alone, since it does not hear its own beacons on {}: see the rights of its user",
                sharer.subjects.beacon()
            ));
        }
        let within = if sharer.is_alone.load(Relaxed) && sharer.is_at_rest() {
            Duration::from_micros(beat_at.0.saturating_sub(now.0))
        } else {
            LOOK_UP
        };
        answers.listen_on_present_session();
        let answer = answers.next_answer(Instant::now() + within);
        pulse.while_busy(|| {
            if let Some((number, message)) = answer {
                let receipt = Receipt::decode(message.payload());
                let taken_back = sharer.change(|sharing, now| sharing.answered(number, receipt, now));
                sharer.carry_out(taken_back, door);
            }
            let overdue = sharer.change(Sharing::overdue);
            sharer.carry_out(overdue, door);
            sharer.send(door);
        });
    }
}
