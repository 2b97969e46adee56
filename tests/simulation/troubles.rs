//! What goes wrong: the faults, and the store as it answers on a bad day.

use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::ports::{Append, Appended, Consistency, SnapshotStore, Unavailable};
use cim_domain_person::engine::turn::Turn;

use super::replica::{Doing, Part, Pending};
use super::seat::{Call, Errand, Event, Order};
use super::world::World;

fn away() -> Unavailable {
    Unavailable("the store is away".to_owned())
}

impl World {
    /// Each fault has its chance.
    pub fn something_goes_wrong(&mut self) {
        let at = self.chance.place(self.replicas.len());
        let number = self.replicas[at].number;
        if self.chance.in_1000(self.plan.crashes) {
            self.crash(at);
        }
        if self.chance.in_1000(self.plan.drains) && !self.replicas[at].is_draining {
            self.tell(None, || format!("replica {number} is told to leave"));
            self.replicas[at].is_draining = true;
            let lost = self.plan.between.unheard;
            self.beat(at, lost);
        }
        if self.chance.in_1000(self.plan.sleeps) {
            let steps = self.chance.draw(400);
            self.tell(None, || format!("replica {number} stands still for {steps} steps"));
            self.replicas[at].asleep_until = self.steps + steps;
        }
        if self.chance.in_1000(self.plan.outages) {
            let steps = self.chance.draw(200);
            self.tell(None, || format!("the store is away from replica {number} for {steps} steps"));
            self.replicas[at].cut_until = self.steps + steps;
        }
        if self.chance.in_1000(self.plan.clock_jumps) {
            self.draw_skew(at);
        }
        if self.chance.in_1000(self.plan.snapshots_harmed) {
            self.harm_a_snapshot();
        }
        if self.chance.in_1000(self.plan.tails_lost) {
            self.lose_the_tail();
        }
        if let Some((at, expected)) = self.loss_due.take() {
            self.lose_what_it_builds_on(at, expected);
        }
        if self.chance.in_1000(100) && !self.limbo.is_empty() {
            let append = self.limbo.remove(self.chance.place(self.limbo.len()));
            self.land(&append);
        }
    }

    /// An append arrives that nobody waits for any more.
    pub fn land(&mut self, append: &Append) {
        let landed = self.ledger.append_one(append);
        self.tell(Some(append.person), || format!("a late append (after {}) arrives: {landed:?}", append.expected));
    }

    fn crash(&mut self, at: usize) {
        let number = self.replicas[at].number;
        self.tell(None, || format!("replica {number} crashes"));
        // What had left it may still arrive.
        for desk in 0..self.replicas[at].desks.len() {
            if let Doing::Asking(Pending { call: Call::Append(appends), left, .. }) =
                &self.replicas[at].desks[desk].doing
                && !self.replicas[at].desks[desk].is_cut
            {
                let sent: Vec<Append> = left.iter().map(|part| appends[*part].clone()).collect();
                let arriving = sent.into_iter().filter(|_| self.chance.in_1000(500));
                self.limbo.extend(arriving);
            }
        }
        self.begin_anew(at);
        self.all_may_know();
    }

    fn harm_a_snapshot(&mut self) {
        if self.written.is_empty() {
            return;
        }
        let any = &self.written[self.chance.place(self.written.len())];
        let (person, mut bytes) = (any.person, any.bytes.clone());
        let harmed = match self.chance.draw(4) {
            0 => None,
            1 => Some(b"garbage".to_vec()),
            2 => {
                let place = self.chance.place(bytes.len());
                bytes[place] ^= 1 << self.chance.draw(8);
                Some(bytes)
            }
            // An old one comes back.
            _ => Some(bytes),
        };
        let what = harmed.as_ref().map_or(0, Vec::len);
        self.tell(Some(person), || format!("its snapshot becomes {what} bytes, lost, old or corrupt"));
        self.snapshots.forge(person, harmed);
    }

    /// The log loses its newest part. Either the store was away for it and every replica learns of it before it does
    /// anything else, and new commits take the places of the lost ones; or nobody is told for a while, and the places
    /// stay empty.
    fn lose_the_tail(&mut self) {
        let last = self.ledger.last();
        if last == 0 {
            return;
        }
        let left = last - 1 - self.chance.draw(last.min(6));
        let is_noticed = self.chance.in_1000(500);
        self.lose_after(left, is_noticed);
    }

    /// An append got no answer, and what it builds on is lost: by everybody's knowledge, and others take its place. The
    /// replica that waits may be slow to come back.
    fn lose_what_it_builds_on(&mut self, at: usize, expected: u64) {
        if expected <= self.ledger.last() {
            self.lose_after(expected - 1, true);
            self.replicas[at].asleep_until = self.steps + self.chance.draw(100);
        }
    }

    fn lose_after(&mut self, left: u64, is_noticed: bool) {
        self.limbo.clear();
        let known_at = if is_noticed { self.tick() } else { u64::MAX };
        self.ledger.lose_after(left, known_at, is_noticed);
        self.tell(None, || format!("the log loses what came after {left}; noticed: {is_noticed}"));
        for at in 0..self.replicas.len() {
            for desk in 0..self.replicas[at].desks.len() {
                let wait = if is_noticed { 0 } else { self.chance.draw(300) };
                let desk = &mut self.replicas[at].desks[desk];
                // What it was told before it still has to do by then, and what was cut off stays so.
                let forget_at = self.steps + wait;
                desk.forget_at = Some(desk.forget_at.map_or(forget_at, |sooner| sooner.min(forget_at)));
                desk.is_cut |= is_noticed && !matches!(desk.doing, Doing::Nothing);
                if let (true, Doing::Asking(pending)) = (is_noticed, &mut desk.doing) {
                    // The connection is gone, and with it the answers.
                    pending.left = (0..pending.parts.len()).collect();
                }
            }
        }
    }

    /// Once nobody is left who has not been told, the loss is known.
    fn all_may_know(&mut self) {
        let mut desks = self.replicas.iter().flat_map(|replica| &replica.desks);
        if desks.all(|desk| desk.forget_at.is_none()) {
            let now = self.tick();
            self.ledger.loss_is_known(now);
        }
    }

    /// A worker does its next step.
    pub fn go_on(&mut self, at: usize, worker: usize) {
        match std::mem::replace(&mut self.replicas[at].desks[worker].doing, Doing::Nothing) {
            Doing::Nothing => self.begin_turn(at, worker),
            Doing::Asking(pending) if pending.left.is_empty() => {
                self.order(at, worker, Order::Answer(pending.answered()));
            }
            Doing::Asking(mut pending) => {
                for _ in 0..=self.chance.place(pending.left.len()) {
                    self.tick();
                    self.take_effect(at, worker, &mut pending);
                }
                self.replicas[at].desks[worker].doing = Doing::Asking(pending);
            }
            Doing::Replying(done) => {
                let Turn { answers, snapshots, errands, .. } = done.turn;
                let desk = &mut self.replicas[at].desks[worker];
                (desk.is_idle, desk.is_cut) = (done.is_idle, false);
                answers.iter().for_each(|answer| self.answer_task(&answer.task, &answer.outcome));
                let due = self.hand_out(snapshots);
                let replica = &mut self.replicas[at];
                replica.due.extend(due);
                replica.long.extend(errands.into_iter().map(|errand| (worker, errand)));
            }
        }
    }

    fn begin_turn(&mut self, at: usize, worker: usize) {
        let (steps, now) = (self.steps, self.moment());
        let desk = &mut self.replicas[at].desks[worker];
        let len = desk.queue.len().min(self.plan.turn_tasks_max);
        let arrivals = desk.queue.drain(..len).collect();
        let forget = desk.forget_at.take_if(|at| *at <= steps).is_some();
        let taken_back = std::mem::take(&mut desk.taken_back);
        if forget {
            self.all_may_know();
        }
        self.order(at, worker, Order::Turn(Errand { now, arrivals, taken_back, forget }));
    }

    fn order(&mut self, at: usize, worker: usize, order: Order) {
        let number = self.replicas[at].number;
        let doing = match self.replicas[at].desks[worker].seat.go_on(order) {
            Event::Called(call) => {
                for (person, what) in spoken_of(&call) {
                    self.tell(Some(person), || format!("replica {number} asks: {what}"));
                }
                Doing::Asking(Pending::new(call))
            }
            Event::Done(done) => Doing::Replying(done),
            Event::Crashed => Doing::Nothing,
            Event::Panicked(what) => {
                self.fault(format!("a worker panicked: {what}"));
                Doing::Nothing
            }
        };
        self.replicas[at].desks[worker].doing = doing;
    }

    /// One part of a call reaches the store, or does not.
    fn take_effect(&mut self, at: usize, worker: usize, pending: &mut Pending) {
        if pending.left.is_empty() {
            return;
        }
        let part = pending.left.remove(self.chance.place(pending.left.len()));
        let is_cut = self.replicas[at].desks[worker].is_cut;
        let is_away = is_cut || self.replicas[at].cut_until > self.steps;
        let (person, answer) = match &pending.call {
            Call::Read(reads) => {
                let read = &reads[part];
                let stale = read.consistency == Consistency::Any && self.chance.in_1000(self.plan.stale_reads);
                let upto = if stale { self.chance.draw(self.ledger.last() + 1) } else { u64::MAX };
                let fails = is_away || self.chance.in_1000(self.plan.read_unavailable);
                let page = self.ledger.page(read, upto, self.plan.page_commits_max);
                (read.person, Part::Page(if fails { Err(away()) } else { Ok(page) }))
            }
            Call::Tips(persons) => {
                let fails = is_away || self.chance.in_1000(self.plan.read_unavailable);
                let tip = self.ledger.tip(persons[part]);
                (persons[part], Part::Tip(if fails { Err(away()) } else { Ok(tip) }))
            }
            Call::Append(appends) => {
                let before = pending.parts[part].take();
                let append = appends[part].clone();
                let appended = self.append(&append, is_away, is_cut, before.is_some());
                let builds_on_something = append.expected > 0 && matches!(appended, Appended::Unknown);
                if builds_on_something && self.chance.in_1000(self.plan.foundations_lost) {
                    self.loss_due = Some((at, append.expected));
                }
                (append.person, Part::Appended(appended))
            }
            Call::Load(persons) => {
                let fails = is_away || self.chance.in_1000(self.plan.snapshots_unread);
                let loaded = self.snapshots.load(&[persons[part]]).pop().flatten();
                (persons[part], Part::Snapshot(loaded.filter(|_| !fails)))
            }
        };
        let number = self.replicas[at].number;
        self.tell(Some(person), || format!("the store answers replica {number}: {}", short(&answer)));
        pending.parts[part] = Some(answer);
    }

    fn append(&mut self, append: &Append, is_away: bool, is_cut: bool, took_effect: bool) -> Appended {
        let plan = &self.plan;
        let faults = [plan.append_refused, plan.append_unavailable, plan.writes_lost, plan.lands_later, plan.acks_lost];
        let fault = faults.map(|often| self.chance.in_1000(often));
        // What took effect and was cut off then may have got no refusal.
        if is_cut || took_effect {
            return if took_effect || self.chance.in_1000(500) {
                Appended::Unknown
            } else {
                Appended::Unavailable(away())
            };
        }
        match fault {
            _ if is_away && self.chance.in_1000(500) => Appended::Unavailable(away()),
            [true, ..] => Appended::Refused(Unavailable("maximum bytes exceeded".to_owned())),
            [_, true, ..] => Appended::Unavailable(away()),
            [_, _, true, ..] => Appended::Unknown,
            [_, _, _, true, _] => {
                self.limbo.push(append.clone());
                Appended::Unknown
            }
            [.., lost] => match self.ledger.append_one(append) {
                _ if lost || is_away => Appended::Unknown,
                Appended::Conflict(_) if self.chance.in_1000(self.plan.vague_conflicts) => Appended::Conflict(None),
                appended => appended,
            },
        }
    }
}

fn spoken_of(call: &Call) -> Vec<(PersonId, String)> {
    match call {
        Call::Read(reads) => reads.iter().map(|read| (read.person, format!("{read:?}"))).collect(),
        Call::Tips(persons) => persons.iter().map(|person| (*person, "its newest commit".to_owned())).collect(),
        Call::Load(persons) => persons.iter().map(|person| (*person, "its snapshot".to_owned())).collect(),
        Call::Append(appends) => {
            let what = |append: &Append| {
                format!("store after {}: {}", append.expected, String::from_utf8_lossy(&append.payload))
            };
            appends.iter().map(|append| (append.person, what(append))).collect()
        }
    }
}

fn short(part: &Part) -> String {
    match part {
        Part::Page(Ok(page)) => {
            let sequences: Vec<u64> = page.commits.iter().map(|commit| commit.sequence).collect();
            format!("commits {sequences:?}{}", if page.more { " and more" } else { "" })
        }
        Part::Tip(Ok(tip)) => format!("newest {:?}", tip.as_ref().map(|tip| tip.sequence)),
        Part::Snapshot(bytes) => format!("a snapshot of {:?} bytes", bytes.as_ref().map(Vec::len)),
        Part::Page(Err(_)) | Part::Tip(Err(_)) | Part::Appended(_) => format!("{part:?}"),
    }
}
