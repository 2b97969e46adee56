//! The world of one run: replicas, log, snapshots, network and clients, all drawn from one seed, one step at a time.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cim_domain_person::domain::{PersonId, Timestamp};
use cim_domain_person::engine::history::{self, Budget};
use cim_domain_person::engine::inquiry::Inquiry;
use cim_domain_person::engine::ports::{Append, SnapshotStore};
use cim_domain_person::engine::router::worker_of;
use cim_domain_person::engine::sharing::Sharing;
use cim_domain_person::engine::turn::{DueSnapshot, Limits, Moment, Task};
use cim_domain_person::engine::worker::Worker;
use cim_domain_person::memory::MemorySnapshots;
use cim_domain_person::wire::beacon::ReplicaId;
use cim_domain_person::wire::query::{Get, Query, RecordedAt};
use cim_domain_person::wire::reply::{self, Code, Outcome, Problem};
use cim_domain_person::wire::request::{self, NotARequest, Request, Stamp};
use cim_domain_person::wire::subject::Subjects;

use super::chance::Chance;
use super::ledger::{Lagging, Ledger};
use super::plan::{CLOCK_OFFSET_MAX, Plan};
use super::replica::{Desk, Doing, Replica};
use super::seat::{Event, Order, Seat};
use super::sharing::Mail;
use super::workload::{Clients, Letter, person};
use crate::checkers::record::{self, Delivery, Record, Reply, Time, WrittenSnapshot};

/// 2026-01-01T12:00:00Z
const NOON_MICROS: i64 = 1_767_268_800_000_000;
/// So many clocks that are further off than is allowed do not break what is promised to retries: each time that one of them
/// moves the time of a history forward costs a minute of it.
const WRONG_CLOCKS_MAX: u32 = 5;
/// Steps after which a healed world has to be at rest.
const REST_STEPS_MAX: u64 = 40_000;

/// What a run left behind.
pub struct Run {
    pub record: Record,
    /// Found by the simulation itself: panics, and what never came to rest.
    pub faults: Vec<String>,
    /// What happened, for people, with the person that it is about; empty unless it was asked for.
    pub story: Vec<(Option<PersonId>, String)>,
    pub steps: u64,
}

/// Runs the world of this seed from beginning to end.
pub fn run(seed: u64, tells: bool) -> Run {
    let mut world = World::new(seed, tells);
    while world.faults.is_empty() && (world.has_more_to_send() || world.steps < 50) {
        world.step();
    }
    for _ in 0..world.chance.draw(200) {
        world.step();
    }
    world.heal();
    world.record.log = world.ledger.changes();
    Run { record: world.record, faults: world.faults, story: world.story, steps: world.steps }
}

pub struct World {
    pub plan: Plan,
    pub chance: Chance,
    clients: Clients,
    pub ledger: Ledger,
    pub snapshots: MemorySnapshots,
    pub replicas: Vec<Replica>,
    letters: Vec<Letter>,
    /// Which letter each delivery is.
    letter_of: Vec<usize>,
    /// Deliveries on their way, and the step before which they do not arrive.
    in_flight: Vec<(usize, u64)>,
    /// What is on its way between replicas, and the deliveries that were carried out from parcels.
    pub mail: Vec<Mail>,
    pub carried_out: BTreeSet<usize>,
    /// Appends of which nobody expects an answer any more, and which may still arrive.
    pub limbo: Vec<Append>,
    /// A replica whose append got no answer, and what that builds on, which is to be lost.
    pub loss_due: Option<(usize, u64)>,
    /// Every snapshot that was written.
    pub written: Vec<DueSnapshot>,
    pub record: Record,
    faults: Vec<String>,
    story: Vec<(Option<PersonId>, String)>,
    tells: bool,
    tick: Time,
    pub steps: u64,
    pub micros: u64,
    incarnations: u32,
    /// How often a replica's clock was set further off than is allowed.
    wrong_clocks: u32,
}

impl World {
    fn new(seed: u64, tells: bool) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::of(&mut chance);
        let mut world = Self {
            clients: Clients::new(chance.split()),
            ledger: Ledger::new(),
            snapshots: MemorySnapshots::new(),
            replicas: Vec::new(),
            letters: Vec::new(),
            letter_of: Vec::new(),
            in_flight: Vec::new(),
            mail: Vec::new(),
            carried_out: BTreeSet::new(),
            limbo: Vec::new(),
            loss_due: None,
            written: Vec::new(),
            record: Record::default(),
            faults: Vec::new(),
            story: Vec::new(),
            tells,
            tick: 0,
            steps: 0,
            micros: 60_000_000,
            incarnations: 0,
            wrong_clocks: 0,
            plan,
            chance,
        };
        let plan = world.plan.clone();
        world.tell(None, || format!("{plan:#?}"));
        for _ in 0..plan.replicas {
            let desks = (0..plan.workers).map(|_| Desk::new(Seat::new(limits(&plan), plan.payload_bytes_max)));
            let replica = Replica {
                number: 0,
                desks: desks.collect(),
                skew_micros: 0,
                is_draining: false,
                asleep_until: 0,
                cut_until: 0,
                due: Default::default(),
                long: Vec::new(),
                inquiry: world.inquiry(),
                sharing: Sharing::new(ReplicaId::from_u128(0), "", 0),
                clock_began: 0,
            };
            world.replicas.push(replica);
            world.begin_anew(world.replicas.len() - 1);
        }
        (0..plan.replicas).for_each(|at| world.beat(at, plan.between.unheard));
        (0..plan.replicas).for_each(|at| world.beat(at, plan.between.unheard));
        world
    }

    fn inquiry(&self) -> Inquiry {
        let (log, snapshots) = (Box::new(self.ledger.clone()), Box::new(self.snapshots.clone()));
        Inquiry::new(log, snapshots, self.plan.cache_bytes, 1 << 20, self.plan.read_bytes_max)
    }

    /// Adds to the story.
    pub fn tell(&mut self, person: Option<PersonId>, what: impl FnOnce() -> String) {
        if self.tells {
            self.story.push((person, format!("{:>6}  {}", self.tick, what())));
        }
    }

    /// The next moment.
    pub fn tick(&mut self) -> Time {
        self.tick += 1;
        self.ledger.set_clocks(self.tick, self.wall());
        self.tick
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(NOON_MICROS + i64::try_from(self.micros).unwrap())
    }

    fn has_more_to_send(&self) -> bool {
        self.clients.written() < u64::try_from(self.plan.requests).unwrap()
    }

    /// Something happens.
    fn step(&mut self) {
        self.steps += 1;
        self.micros += self.chance.draw(self.plan.step_micros);
        if self.chance.in_1000(self.plan.lulls) && self.is_at_rest() {
            self.micros += self.chance.draw(self.plan.lull_micros);
        }
        self.tick();
        self.something_goes_wrong();
        if self.has_more_to_send() && (self.chance.in_1000(self.plan.haste) || self.is_at_rest()) {
            for _ in 0..=self.chance.place(self.plan.burst) {
                self.send_something();
            }
        }
        if self.chance.in_1000(self.plan.queries) {
            let who = person(self.chance.place(self.plan.persons));
            self.ask_for(who);
        }
        self.work();
    }

    /// A message arrives, a worker goes on, or something is done beside the workers.
    fn work(&mut self) {
        for _ in 0..=self.chance.draw(3) {
            self.deliver_something();
            self.share();
        }
        let ready = self.ready();
        if !ready.is_empty() {
            let (replica, desk) = *self.chance.pick(&ready);
            self.go_on(replica, desk);
        }
        let replica = self.chance.place(self.replicas.len());
        self.work_beside(replica);
        self.leave_if_done(replica);
    }

    fn ready(&self) -> Vec<(usize, usize)> {
        let mut ready = Vec::new();
        for (at, replica) in self.replicas.iter().enumerate().filter(|(_, replica)| replica.asleep_until <= self.steps)
        {
            let desks = replica.desks.iter().enumerate();
            ready.extend(desks.filter(|(_, desk)| self.can_go_on(desk)).map(|(desk, _)| (at, desk)));
        }
        ready
    }

    fn can_go_on(&self, desk: &Desk) -> bool {
        !desk.is_at_rest() || desk.forget_at.is_some_and(|at| at <= self.steps)
    }

    fn is_at_rest(&self) -> bool {
        self.in_flight.is_empty() && self.mail.is_empty() && self.replicas.iter().all(Replica::is_at_rest)
    }

    // Clients and network.

    fn send_something(&mut self) {
        let again = self.chance.in_1000(self.plan.retries) && !self.letters.is_empty();
        let letter = match again {
            true => self.chance.place(self.letters.len()),
            false => self.write(),
        };
        if !again || self.letters[letter].has_id() {
            self.send(letter);
        }
        while self.clients.is_entangled() {
            let letter = self.write();
            self.send(letter);
        }
    }

    fn write(&mut self) -> usize {
        let (plan, wall) = (self.plan.clone(), self.wall());
        let letter = self.clients.write(&plan, wall);
        self.letters.push(letter);
        self.letters.len() - 1
    }

    fn send(&mut self, letter: usize) {
        let number = self.post(letter);
        if self.chance.in_1000(self.plan.rivals) {
            self.be_carried_out_by_a_rival(number);
        } else if !self.chance.in_1000(self.plan.requests_lost) {
            let late = if self.chance.in_1000(self.plan.requests_late) { self.chance.draw(300) } else { 0 };
            self.in_flight.push((number, self.steps + late));
        }
    }

    /// A delivery that is recorded as sent.
    fn post(&mut self, at: usize) -> usize {
        let number = self.record.deliveries.len();
        let letter = self.letters[at].clone();
        let sent_at = self.tick();
        self.tell(Some(letter.person), || {
            format!("#{number} is sent: {:?} {}", letter.headers, String::from_utf8_lossy(&letter.payload))
        });
        self.record.deliveries.push(Delivery {
            sent_at,
            subject: letter.subject,
            headers: letter.headers,
            payload: letter.payload,
            stamped_at: self.wall(),
            arrived_at: self.wall(),
            taken_by: None,
            replies: Vec::new(),
        });
        self.letter_of.push(at);
        number
    }

    fn deliver_something(&mut self) {
        let open: Vec<usize> = (0..self.replicas.len()).filter(|at| !self.replicas[*at].is_draining).collect();
        let arriving: Vec<usize> = (0..self.in_flight.len()).filter(|at| self.in_flight[*at].1 <= self.steps).collect();
        if open.is_empty() || arriving.is_empty() {
            return;
        }
        let (number, _) = self.in_flight.remove(*self.chance.pick(&arriving));
        let at = *self.chance.pick(&open);
        self.arrive(number, at);
    }

    pub fn stamp(&mut self, number: usize, skew_micros: i64) -> Stamp {
        let wall = self.wall();
        let at = wall.plus_micros(skew_micros);
        let delivery = &mut self.record.deliveries[number];
        (delivery.stamped_at, delivery.arrived_at) = (at, wall);
        let millis = u64::try_from(at.as_micros() / 1000).unwrap();
        let random = (u128::from(self.chance.next()) << 64 | u128::from(self.chance.next())).to_le_bytes();
        let random = std::array::from_fn(|byte| random[byte]);
        Stamp { at, id: uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid() }
    }

    fn arrive(&mut self, number: usize, at: usize) {
        let stamp = self.stamp(number, self.replicas[at].skew_micros);
        let taken_by = self.replicas[at].number;
        self.record.deliveries[number].taken_by = Some(taken_by);
        if self.hand_over(number, at, &stamp) {
            return;
        }
        if let Some(request) = self.decode(number, stamp) {
            self.take_on(number, at, request, 0, false);
        }
    }

    /// A replica takes a request on that arrived so long ago.
    pub fn take_on(&mut self, number: usize, at: usize, request: Request, micros_ago: u64, may_be_elsewhere: bool) {
        let (who, taken_by) = (request.person, self.replicas[at].number);
        self.tell(Some(who), || format!("#{number} arrives at replica {taken_by}"));
        self.record.deliveries[number].taken_by = Some(taken_by);
        let worker = worker_of(who, self.plan.workers);
        let task = self.task(number, request, micros_ago, may_be_elsewhere);
        if self.replicas[at].desks[worker].queue.len() >= self.plan.queue_len_max {
            let problem = task.told(Problem::new(Code::Overloaded, "no room"));
            return self.answer_task(&task, &Outcome::Problem(problem));
        }
        self.replicas[at].desks[worker].queue.push_back(task);
    }

    fn decode(&mut self, number: usize, stamp: Stamp) -> Option<Request> {
        let delivery = &self.record.deliveries[number];
        let subjects = Subjects::new("person");
        match request::decode(&subjects, &delivery.subject, delivery, &delivery.payload, stamp) {
            Ok(request) => Some(request),
            Err(not) => {
                self.refuse(number, not);
                None
            }
        }
    }

    pub fn refuse(&mut self, number: usize, not: NotARequest) {
        self.answer(number, not.command_id.as_deref(), not.person, &Outcome::Problem(not.problem));
    }

    /// The same delivery once more, as if it had been sent again at the same time.
    pub fn post_again(&mut self, number: usize) -> usize {
        let again = Delivery { replies: Vec::new(), ..self.record.deliveries[number].clone() };
        self.record.deliveries.push(again);
        self.letter_of.push(self.letter_of[number]);
        self.record.deliveries.len() - 1
    }

    fn task(&self, number: usize, request: Request, micros_ago: u64, may_be_elsewhere: bool) -> Task {
        let time_micros = self.letters[self.letter_of[number]].time_micros;
        let arrived = Moment(self.micros.saturating_sub(micros_ago));
        let deadline = Moment(arrived.0 + time_micros);
        Task { request: request.into(), reply_to: Some(number.to_string()), arrived, deadline, may_be_elsewhere }
    }

    pub fn answer_task(&mut self, task: &Task, outcome: &Outcome) {
        let number: usize = task.reply_to.as_deref().and_then(|number| number.parse().ok()).expect("a number");
        self.answer(number, Some(&task.request.command_id.text), Some(task.request.person), outcome);
    }

    fn answer(&mut self, number: usize, id: Option<&str>, who: Option<PersonId>, outcome: &Outcome) {
        let (at, payload) = (self.tick(), reply::encode(id, who, outcome));
        let is_lost = self.chance.in_1000(self.plan.replies_lost);
        self.tell(who, || {
            let lost = if is_lost { " (lost)" } else { "" };
            format!("#{number} is answered{lost}: {}", String::from_utf8_lossy(&payload))
        });
        let delivery = &mut self.record.deliveries[number];
        if is_lost {
            // Its silence is not the replica's.
            delivery.taken_by = None;
        } else {
            delivery.replies.push(Reply { at, payload });
        }
    }

    /// Another replica, on which nothing goes wrong, does it at once, between two steps of everybody else.
    fn be_carried_out_by_a_rival(&mut self, number: usize) {
        let stamp = self.stamp(number, 0);
        let Some(request) = self.decode(number, stamp) else { return };
        self.tell(Some(request.person), || format!("#{number} is carried out by a rival"));
        let mut worker =
            Worker::new(Box::new(self.ledger.clone()), Box::new(self.snapshots.clone()), limits(&self.plan));
        let mut arrivals = vec![self.task(number, request, 0, false)];
        for _ in 0..8 {
            let turn = worker.turn(Moment(self.micros), std::mem::take(&mut arrivals));
            turn.answers.iter().for_each(|answer| self.answer_task(&answer.task, &answer.outcome));
            self.hand_out(turn.snapshots);
            if worker.is_idle() {
                return;
            }
        }
    }

    fn ask_for(&mut self, who: PersonId) {
        let sent_at = self.tick();
        let at = self.chance.place(self.replicas.len());
        let get = Query::Get(Get { person: who, at: RecordedAt::Now, valid_on: None });
        let answer = self.replicas[at].inquiry.answer(&[get]).pop().expect("an answer");
        let payload = answer.unwrap_or_else(|problem| reply::encode(None, Some(who), &Outcome::Problem(problem)));
        let reply = Reply { at: self.tick(), payload };
        self.tell(Some(who), || format!("is shown as {}", String::from_utf8_lossy(&reply.payload)));
        self.record.queries.push(record::Query { person: who, sent_at, replies: vec![reply] });
    }

    // Replicas.

    /// Snapshots that a worker hands out.
    pub fn hand_out(&mut self, due: Vec<DueSnapshot>) -> Vec<DueSnapshot> {
        for DueSnapshot { person, version, bytes } in &due {
            self.record.snapshots.push(WrittenSnapshot { person: *person, bytes: bytes.clone() });
            let written = DueSnapshot { person: *person, version: *version, bytes: bytes.clone() };
            self.written.push(written);
        }
        due
    }

    /// What happens on the threads beside the workers: snapshots are stored, long histories read.
    fn work_beside(&mut self, at: usize) {
        let last = self.ledger.last();
        let upto = if self.chance.in_1000(self.plan.stale_reads) { self.chance.draw(last + 1) } else { u64::MAX };
        let ledger = self.ledger.clone();
        let mut lagging = Lagging { ledger: &ledger, upto, commits_max: self.plan.page_commits_max };
        let stores = self.chance.draw(2) == 0;
        let replica = &mut self.replicas[at];
        if replica.asleep_until > self.steps {
            return;
        }
        if stores && let Some(due) = replica.due.pop_front() {
            self.snapshots.store(due.person, due.version, &due.bytes).expect("memory is there");
        }
        if let Some((worker, errand)) = replica.long.pop() {
            let step = Budget { rounds: 3, ..Budget::of_bytes(self.plan.read_bytes_max) };
            let (done, open) = history::run(&mut lagging, &mut self.snapshots, vec![errand], &step);
            replica.long.extend(open.into_iter().map(|errand| (worker, errand)));
            replica.desks[worker].taken_back.extend(done);
        }
    }

    fn leave_if_done(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        if !replica.is_draining || !replica.is_at_rest() {
            return;
        }
        for due in std::mem::take(&mut replica.due) {
            self.snapshots.store(due.person, due.version, &due.bytes).expect("memory is there");
        }
        let number = replica.number;
        self.record.drained.insert(number);
        self.tell(None, || format!("replica {number} leaves in peace"));
        self.begin_anew(at);
    }

    /// Whatever the replica was at, it is gone, and another one in its place.
    pub fn begin_anew(&mut self, at: usize) {
        self.incarnations += 1;
        let inquiry = self.inquiry();
        let (sharing, clock_began) = self.sharing_of(self.incarnations);
        let replica = &mut self.replicas[at];
        (replica.sharing, replica.clock_began) = (sharing, clock_began);
        for desk in &mut replica.desks {
            match desk.seat.go_on(Order::Crash) {
                Event::Crashed => {}
                _ => self.faults.push("a worker did not crash when told to".to_owned()),
            }
            desk.queue.clear();
            desk.taken_back.clear();
            (desk.doing, desk.is_idle, desk.is_cut) = (Doing::Nothing, true, false);
            // Whoever begins with nothing in memory has nothing to forget.
            desk.forget_at = None;
        }
        replica.due.clear();
        replica.long.clear();
        (replica.is_draining, replica.asleep_until, replica.number) = (false, 0, self.incarnations);
        replica.inquiry = inquiry;
        self.draw_skew(at);
    }

    pub fn draw_skew(&mut self, at: usize) {
        let most = self.plan.clock_skew_micros;
        let skew = self.chance.draw(u64::try_from(2 * most + 1).unwrap());
        let skew = i64::try_from(skew).unwrap() - most;
        self.replicas[at].skew_micros = skew;
        self.wrong_clocks += u32::from(skew.abs() > CLOCK_OFFSET_MAX);
        self.record.clocks_were_wrong = self.wrong_clocks > WRONG_CLOCKS_MAX;
    }

    pub fn moment(&self) -> Moment {
        Moment(self.micros)
    }

    pub fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    // The end.

    /// Nothing goes wrong any more; everything is asked again and has to be answered.
    fn heal(&mut self) {
        self.tell(None, || "from here on nothing goes wrong any more".to_owned());
        self.plan = Plan { step_micros: 50, ..self.plan.healed() };
        for replica in &mut self.replicas {
            (replica.asleep_until, replica.cut_until) = (0, 0);
            replica.desks.iter_mut().for_each(|desk| desk.forget_at = desk.forget_at.map(|_| 0));
        }
        self.in_flight.iter_mut().for_each(|(_, not_before)| *not_before = 0);
        self.mail.iter_mut().for_each(Mail::hurry);
        for append in std::mem::take(&mut self.limbo) {
            if self.chance.in_1000(500) {
                self.tick();
                self.land(&append);
            }
        }
        self.come_to_rest();
        self.all_count_all();
        self.record.healed_at = Some(self.tick());
        let known: Vec<usize> = (0..self.letters.len()).filter(|at| self.letters[*at].has_id()).collect();
        for _ in 0..known.len().min(40) {
            let at = *self.chance.pick(&known);
            self.letters[at].time_micros = 5_000_000;
            self.send(at);
            if self.chance.in_1000(200) {
                self.come_to_rest();
            }
        }
        let new = self.write();
        self.send(new);
        self.come_to_rest();
        for number in 0..self.plan.persons {
            self.ask_for(person(number));
        }
    }

    fn come_to_rest(&mut self) {
        let before = self.steps;
        while self.faults.is_empty() && (!self.is_at_rest() || self.replicas.iter().any(|it| it.is_draining)) {
            self.steps += 1;
            self.micros += self.chance.draw(self.plan.step_micros);
            self.tick();
            self.work();
            if self.steps - before > REST_STEPS_MAX {
                self.faults.push("it does not come to rest".to_owned());
            }
        }
    }
}

fn limits(plan: &Plan) -> Limits {
    Limits {
        cache_bytes: plan.cache_bytes,
        snapshot_frequency: plan.snapshot_frequency,
        append_micros_max: 20_000,
        reading: Budget::of_a_turn(plan.read_bytes_max),
    }
}

/// What happened to these persons, for people.
pub fn told_of(story: &[(Option<PersonId>, String)], persons: &BTreeSet<PersonId>) -> String {
    let mut text = String::new();
    for (_, what) in story.iter().filter(|(who, _)| who.is_none_or(|who| persons.is_empty() || persons.contains(&who)))
    {
        let _ = writeln!(text, "{what}");
    }
    text
}
