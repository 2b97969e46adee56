//! The door: what arrives goes to its home, or is decoded, checked and handed to the pool, or refused at once. Nothing here waits.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::daemon::clock::{Clock, micros, stamp};
use crate::daemon::pool::Pool;
use crate::daemon::pulse::Pulse;
use crate::daemon::replier::Replier;
use crate::daemon::sharing::Sharer;
use crate::daemon::threads::{self, Poison};
use crate::engine::turn::{Moment, Task};
use crate::log_limit::RateLimited;
use crate::nats::{Arrivals, Group, Incoming, Left};
use crate::wire::parcel::Item;
use crate::wire::reply::{Code, Problem};
use crate::wire::request::{self, NotARequest, Request};
use crate::wire::subject::Subjects;

/// How soon a request to leave is noticed when nothing arrives.
const LOOK_UP: Duration = Duration::from_millis(100);
/// The same while the group is left for a moment: a worker may run out of work meanwhile.
const PAUSED_LOOK_UP: Duration = Duration::from_millis(2);
/// Messages that may wait at a door. The client puts no limit on them, and a command that waits here is in nobody's queue
/// and has no deadline yet. While more wait, those are refused unread for which there is no room anyway.
const ARRIVALS_LEN_MAX: usize = 2048;
/// While so many wait they come faster than even refusals can leave: the oldest are dropped without an answer, which to
/// their clients is as if they had been lost on the way.
const BACKLOG_LEN_MAX: usize = 8192;
/// While so many wait they come faster than refusals can leave, and receiving them would take what serving needs. The
/// group is left until the door has room again: NATS gives what comes to other replicas, or tells its senders at once
/// that nobody is there.
const LEAVE_LEN_MAX: usize = 4096;
/// The same limits by the bytes of the payloads that wait: as many as may wait in the pool, and twice as many.
const ARRIVALS_BYTES_MAX: usize = 64 * 1024 * 1024;
const LEAVE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Of so many payloads the mean is taken, as the client tells the number of those that wait, not their bytes.
const MEAN_OF: usize = 8;
/// After so many messages in a row the thread looks up whether it is to leave, for good or for a moment.
const RUN_MAX: usize = 256;
/// What a task takes in memory besides its payload, in bytes.
const TASK_BYTES: usize = 1024;

static TOO_MANY: RateLimited = RateLimited::new(Duration::from_secs(10));
static PAUSED: RateLimited = RateLimited::new(Duration::from_secs(10));

/// Where messages arrive.
pub trait Entrance: Send + Sync + 'static {
    /// Takes one message on, or refuses it. Does not wait.
    fn take(&self, message: &Incoming);
    /// Too many wait: refuses one without looking into it, unless it can be taken on.
    fn turn_away(&self, message: &Incoming);
    /// Nothing more waits at the moment.
    fn rest(&self) {}
    /// Whether there is room again after a pause.
    fn has_room(&self) -> bool {
        true
    }
}

/// What stands between an arriving message and the pool.
pub struct Door {
    /// The subjects of this service.
    pub subjects: Subjects,
    /// Who carries commands out.
    pub pool: Arc<Pool>,
    /// The way back for what is refused here.
    pub replier: Replier,
    /// The way to other replicas.
    pub sharer: Arc<Sharer>,
    /// The time.
    pub clock: Clock,
    /// From arrival to reply.
    pub command_timeout: Duration,
}

impl Entrance for Door {
    fn take(&self, message: &Incoming) {
        let Ok(reply_to) = self.replier.permitted(message.reply()) else { return };
        let stamp = stamp();
        if !self.sharer.hand_over(message, reply_to, &stamp) {
            let request = request::decode(&self.subjects, message.subject(), message, message.payload(), stamp);
            self.submit(request, reply_to, message.payload(), self.clock.now(), false);
        }
    }

    fn rest(&self) {
        self.sharer.send_off(self);
    }

    fn turn_away(&self, message: &Incoming) {
        let person = self.subjects.person_named_by(message.subject());
        if self.pool.has_room_for(person, task_bytes(message.payload())) {
            return self.take(message);
        }
        let Ok(reply_to) = self.replier.permitted(message.reply()) else { return };
        if self.sharer.hand_over(message, reply_to, &stamp()) {
            return;
        }
        let problem = Problem::new(Code::Overloaded, "more arrives than can be looked at; nothing was done");
        self.replier.refuse(reply_to, request::unread(&self.subjects, message.subject(), message, stamp(), problem));
    }

    fn has_room(&self) -> bool {
        self.pool.is_short_of_work()
    }
}

impl Door {
    /// Carries out a command that came in a parcel, wherever that was filled, and had arrived then; whether its home may do so,
    /// too.
    pub fn carry_out(&self, item: &Item<'_>, arrived: Moment, may_be_elsewhere: bool) {
        // Whoever fills a parcel may be a stranger.
        let Ok(reply_to) = self.replier.permitted(item.reply_to) else { return };
        self.submit(item.request(&self.subjects, stamp()), reply_to, item.payload, arrived, may_be_elsewhere);
    }

    fn submit(
        &self,
        decoded: Result<Request, NotARequest>,
        reply_to: Option<&str>,
        payload: &[u8],
        arrived: Moment,
        may_be_elsewhere: bool,
    ) {
        match decoded {
            Ok(request) => {
                let deadline = Moment(arrived.0.saturating_add(micros(self.command_timeout)));
                let (request, reply_to) = (Box::new(request), reply_to.map(str::to_owned));
                if let Err(full) = self
                    .pool
                    .submit(Task { request, reply_to, arrived, deadline, may_be_elsewhere }, task_bytes(payload))
                {
                    self.refuse_overload(full.0);
                }
            }
            Err(refused) => self.replier.refuse(reply_to, refused),
        }
    }

    fn refuse_overload(&self, task: Task) {
        let problem = task.told(Problem::new(Code::Overloaded, "no room is left in the queue; nothing was done"));
        let refused =
            NotARequest { command_id: Some(task.request.command_id.text), person: Some(task.request.person), problem };
        self.replier.refuse(task.reply_to.as_deref(), refused);
    }
}

fn task_bytes(payload: &[u8]) -> usize {
    TASK_BYTES + payload.len()
}

/// A thread that takes what arrives for a queue group, until it is told to leave.
pub struct Doorkeeper {
    /// How long leaving may take, once it is to leave.
    leave: Arc<OnceLock<Duration>>,
    thread: JoinHandle<()>,
}

impl Doorkeeper {
    /// Starts the thread.
    pub fn start(
        name: &str,
        group: Group,
        pulse: Arc<Pulse>,
        poison: &Poison,
        entrance: Arc<impl Entrance>,
    ) -> std::io::Result<Self> {
        let leave = Arc::new(OnceLock::new());
        let told = Arc::clone(&leave);
        let thread = threads::start(name, poison, move || keep(group, &told, &pulse, entrance.as_ref()))?;
        Ok(Self { leave, thread })
    }

    /// Tells the thread to leave the group, and how long NATS may take to confirm it. The thread ends once all that had
    /// been sent to it is taken.
    pub fn leave(&self, within: Duration) {
        // Who was told before is leaving already.
        let _ = self.leave.set(within);
    }

    /// Whether it has left and taken everything.
    pub fn has_left(&self) -> bool {
        self.thread.is_finished()
    }
}

/// The threads of all groups that the service is a member of.
pub struct Doorkeepers {
    /// For what clients send.
    pub of_clients: Vec<Doorkeeper>,
    /// For what other replicas say and hand over.
    pub of_replicas: Vec<Doorkeeper>,
}

impl Doorkeepers {
    /// Tells all to leave, and how long NATS may take to confirm it.
    pub fn leave(&self, within: Duration) {
        self.all().for_each(|keeper| keeper.leave(within));
    }

    /// Whether one has ended without being told to, as all will: the session is over.
    pub fn are_over(&self) -> bool {
        self.all().any(Doorkeeper::has_left)
    }

    /// Whether all have left and taken everything.
    pub fn have_left(&self) -> bool {
        self.all().all(Doorkeeper::has_left)
    }

    fn all(&self) -> impl Iterator<Item = &Doorkeeper> {
        self.of_clients.iter().chain(&self.of_replicas)
    }
}

/// How much waits at a door, as far as it can be known.
struct Crowd {
    arrivals: Arrivals,
    /// The mean size of the last payloads, in bytes.
    payload_bytes: Cell<usize>,
}

/// What may be done with the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Crowding {
    /// It can be looked at.
    Room,
    /// It is refused unread, unless it can be taken on.
    TooMany,
    /// The same, and the group is to be left for a while.
    FarTooMany,
    /// It is dropped.
    Hopeless,
}

impl Crowd {
    fn saw(&self, payload_bytes: usize) {
        self.payload_bytes.set((self.payload_bytes.get() * (MEAN_OF - 1) + payload_bytes).div_ceil(MEAN_OF));
    }

    fn crowding(&self) -> Crowding {
        crowding(self.arrivals.len(), self.payload_bytes.get())
    }
}

/// How crowded a door is where so many payloads of about this size wait.
fn crowding(waiting: usize, payload_bytes: usize) -> Crowding {
    match (waiting, waiting.saturating_mul(payload_bytes)) {
        (BACKLOG_LEN_MAX.., _) => Crowding::Hopeless,
        (LEAVE_LEN_MAX.., _) | (_, LEAVE_BYTES_MAX..) => Crowding::FarTooMany,
        (ARRIVALS_LEN_MAX.., _) | (_, ARRIVALS_BYTES_MAX..) => Crowding::TooMany,
        _ => Crowding::Room,
    }
}

fn keep(group: Group, leave: &OnceLock<Duration>, pulse: &Pulse, entrance: &impl Entrance) {
    let crowd = Crowd { arrivals: group.arrivals(), payload_bytes: Cell::new(0) };
    let arrivals = &crowd.arrivals;
    let take = |message: Incoming| {
        crowd.saw(message.payload().len());
        pulse.while_busy(|| match crowd.crowding() {
            Crowding::Room => entrance.take(&message),
            Crowding::TooMany | Crowding::FarTooMany => entrance.turn_away(&message),
            Crowding::Hopeless => {
                TOO_MANY.warn(format_args!("more messages arrive than can be refused: some are dropped"));
            }
        });
    };
    let mut is_paused = false;
    let within = loop {
        if let Some(within) = leave.get() {
            break *within;
        }
        is_paused = pause_or_resume(&group, is_paused, &crowd, entrance);
        let is_over = group.is_over();
        let run =
            arrivals.take_run(RUN_MAX, if is_paused { PAUSED_LOOK_UP } else { LOOK_UP }, take, || entrance.rest());
        if run.is_err() || is_over && arrivals.is_empty() {
            return;
        }
    };
    // What is there already does not wait for the leaving, which takes its time when NATS is away.
    (0..arrivals.len()).map_while(|_| arrivals.try_recv().ok()).for_each(take);
    entrance.rest();
    if group.leave(within) == Left::Abrupt {
        log::warn!("the queue group was left without NATS confirming it: what was under way to it may be lost");
    }
    while let Ok(message) = arrivals.try_recv() {
        take(message);
    }
    entrance.rest();
}

/// Leaves the group for a while where too much arrives, and joins it again when there is room; whether it is left.
fn pause_or_resume(group: &Group, is_paused: bool, crowd: &Crowd, entrance: &impl Entrance) -> bool {
    if crowd.crowding() >= Crowding::FarTooMany {
        // Also when it is paused: a reconnect joins it again.
        group.pause();
        PAUSED.warn(format_args!("more messages arrive than can be refused: the queue group is left for a moment"));
        return true;
    }
    if is_paused && crowd.arrivals.is_empty() && entrance.has_room() {
        group.resume();
        return false;
    }
    is_paused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_crowded_by_number_or_by_size() {
        use Crowding::{FarTooMany, Hopeless, Room, TooMany};
        let kib = 1024;
        for (waiting, payload_bytes, expected) in [
            (0, 256 * kib, Room),
            (2_047, 300, Room),
            (2_048, 300, TooMany),
            (4_096, 300, FarTooMany),
            (8_192, 300, Hopeless),
            (255, 256 * kib, Room),
            (256, 256 * kib, TooMany),
            (512, 256 * kib, FarTooMany),
            (8_191, 256 * kib, FarTooMany),
        ] {
            assert_eq!(crowding(waiting, payload_bytes), expected, "{waiting} of {payload_bytes}");
        }
    }
}
