//! Replicas that share the persons: beacons and parcels on a network that loses, doubles and delays them, and clocks that
//! began at different moments.

use cim_domain_person::engine::sharing::members::HEARD_MICROS_MAX;
use cim_domain_person::engine::sharing::{PATIENCE_MICROS_MAX, Parcel, Sending, Sharing, TakenBack};
use cim_domain_person::engine::turn::Moment;
use cim_domain_person::wire::beacon::{Presence, ReplicaId};
use cim_domain_person::wire::parcel::{self, Head, Item, Receipt, Refused, Taken};
use cim_domain_person::wire::request::{Stamp, person_hinted};
use cim_domain_person::wire::subject::Subjects;

use super::world::World;

/// The one cluster in which all of them are.
const CLUSTER: &str = "simulated";

/// Something on its way between two replicas.
#[derive(Clone)]
pub struct Mail {
    /// Who sent the parcel, and in which of its lives.
    from: (usize, u32),
    parcel: Parcel,
    sent_micros: u64,
    what: What,
    not_before: u64,
}

#[derive(Clone)]
enum What {
    Parcel,
    /// What the home said; `None` where nobody listens.
    Answer(Option<Receipt>),
}

impl Mail {
    /// The network is quick again.
    pub fn hurry(&mut self) {
        self.not_before = 0;
    }
}

impl World {
    /// A replica that begins knows nobody, and nobody knows it yet.
    pub fn sharing_of(&mut self, incarnation: u32) -> (Sharing, u64) {
        let own = ReplicaId::from_u128(u128::from(self.chance.next()) << 64 | u128::from(incarnation));
        let mut sharing = Sharing::new(own, CLUSTER, PATIENCE_MICROS_MAX);
        sharing.members.stand(Presence::Serving, Moment(0));
        (sharing, self.chance.draw(1 << 40))
    }

    /// The time by a replica's own clock, which began when it did.
    fn own_moment(&self, at: usize) -> Moment {
        Moment(self.moment().0 + self.replicas[at].clock_began)
    }

    /// A replica says that it is there, or that it leaves; some hear it.
    pub fn beat(&mut self, at: usize, lost: u64) {
        let now = self.own_moment(at);
        let replica = &mut self.replicas[at];
        replica.sharing.members.stand(if replica.is_draining { Presence::Leaving } else { Presence::Serving }, now);
        let beacon = replica.sharing.members.beat(CLUSTER.to_owned(), now);
        for hearer in 0..self.replicas.len() {
            let now = self.own_moment(hearer);
            if self.replicas[hearer].asleep_until <= self.steps && !self.chance.in_1000(lost) {
                self.replicas[hearer].sharing.members.hear(&beacon, now);
            }
        }
    }

    /// Puts a delivery into the parcel for its person's home, unless that is here.
    pub fn hand_over(&mut self, number: usize, at: usize, stamp: &Stamp) -> bool {
        let delivery = &self.record.deliveries[number];
        let person = person_hinted(&Subjects::new("person"), &delivery.subject, &delivery.payload);
        let sharing = &mut self.replicas[at].sharing;
        let Some(home) = person.and_then(|person| sharing.members.home_elsewhere(person)) else { return false };
        let item = Item {
            made_id: stamp.id.as_u128(),
            subject: &delivery.subject,
            reply_to: Some(&number.to_string()),
            headers: delivery.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            payload: &delivery.payload,
        };
        let now = Moment(self.micros + self.replicas[at].clock_began);
        let is_packed = self.replicas[at].sharing.pack(home, &item, now);
        self.tell(person, || format!("#{number} is packed for {home}: {is_packed}"));
        is_packed
    }

    /// Parcels leave, arrive, are answered and taken back.
    pub fn share(&mut self) {
        if self.chance.in_1000(self.plan.between.beats) {
            let at = self.chance.place(self.replicas.len());
            let lost = self.plan.between.unheard;
            self.beat(at, lost);
        }
        for at in 0..self.replicas.len() {
            if self.replicas[at].asleep_until <= self.steps {
                self.send_off(at);
                let now = self.own_moment(at);
                let overdue = self.replicas[at].sharing.overdue(now);
                overdue.into_iter().for_each(|taken_back| self.take_back(at, taken_back));
            }
        }
        let arriving: Vec<usize> = (0..self.mail.len()).filter(|one| self.can_arrive(&self.mail[*one])).collect();
        if !arriving.is_empty() {
            let mail = self.mail.remove(*self.chance.pick(&arriving));
            match mail.what {
                What::Parcel => self.arrive_at_home(mail),
                What::Answer(receipt) => self.arrive_at_sender(&mail, receipt),
            }
        }
    }

    /// Who stands still takes nothing: it waits for it.
    fn can_arrive(&self, mail: &Mail) -> bool {
        let receiver = match mail.what {
            What::Parcel => self.home_of(&mail.parcel),
            What::Answer(_) => Some(mail.from.0),
        };
        mail.not_before <= self.steps && receiver.is_none_or(|at| self.replicas[at].asleep_until <= self.steps)
    }

    fn home_of(&self, parcel: &Parcel) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.sharing.members.own() == parcel.home)
    }

    fn send_off(&mut self, at: usize) {
        let now = self.own_moment(at);
        let Sending { parcels, taken_back } = self.replicas[at].sharing.send(now);
        taken_back.into_iter().for_each(|taken_back| self.take_back(at, taken_back));
        parcels.into_iter().for_each(|parcel| self.post_parcel(at, parcel));
    }

    fn post_parcel(&mut self, at: usize, parcel: Parcel) {
        let number = self.replicas[at].number;
        let (number_of_it, home, commands) = (parcel.number, parcel.home, parcel.commands);
        self.tell(None, || format!("replica {number} sends parcel {number_of_it} with {commands} to {home}"));
        let sent_micros = self.moment().0;
        self.post_mail(Mail { from: (at, number), parcel, sent_micros, what: What::Parcel, not_before: 0 });
    }

    /// The network loses it, doubles it, or takes its time.
    fn post_mail(&mut self, mail: Mail) {
        let copies = match () {
            () if self.chance.in_1000(self.plan.between.lost) => 0,
            () if self.chance.in_1000(self.plan.between.doubled) => 2,
            () => 1,
        };
        for _ in 0..copies {
            let late = if self.chance.in_1000(self.plan.between.late) { self.chance.draw(400) } else { 0 };
            self.mail.push(Mail { not_before: self.steps + late, ..mail.clone() });
        }
    }

    fn arrive_at_home(&mut self, mail: Mail) {
        // Where nobody listens any more the server says so.
        let Some(home) = self.home_of(&mail.parcel) else {
            return self.post_mail(Mail { what: What::Answer(None), ..mail });
        };
        let (head, _) = parcel::decode(&mail.parcel.bytes).expect("a parcel");
        let (from, now) = (ReplicaId::from_u128(head.from), self.own_moment(home));
        if let Some(taken) = head.taken {
            let taken_back = self.replicas[home].sharing.answered_by(from, taken, now);
            taken_back.into_iter().for_each(|taken_back| self.take_back(home, taken_back));
        }
        let receipt = self.take(home, &mail, &head);
        let taken = Taken { number: head.number, commands: mail.parcel.commands };
        let is_taken = receipt == Receipt::Taken { commands: taken.commands };
        match is_taken.then(|| self.replicas[home].sharing.answer(from, taken, now)).flatten() {
            Some(parcel) => self.post_parcel(home, parcel),
            None => self.post_mail(Mail { what: What::Answer(Some(receipt)), ..mail }),
        }
    }

    fn take(&mut self, home: usize, mail: &Mail, head: &Head) -> Receipt {
        let Some(arrived) = self.replicas[home].sharing.arrival(head, self.own_moment(home)) else {
            return Receipt::Refused { reason: Refused::Late };
        };
        if self.moment().0 - mail.sent_micros > head.patience_micros {
            self.fault("a parcel was carried out that its sender may have taken back".to_owned());
        }
        self.carry_out(home, &mail.parcel, arrived, false);
        Receipt::Taken { commands: mail.parcel.commands }
    }

    fn arrive_at_sender(&mut self, mail: &Mail, receipt: Option<Receipt>) {
        let (at, life) = mail.from;
        if self.replicas[at].number != life {
            return;
        }
        let now = self.own_moment(at);
        let (sharing, number) = (&mut self.replicas[at].sharing, mail.parcel.number);
        let taken_back = match receipt {
            Some(receipt) => sharing.answered(number, receipt, now),
            None => sharing.not_taken(number, now),
        };
        taken_back.into_iter().for_each(|taken_back| self.take_back(at, taken_back));
    }

    fn take_back(&mut self, at: usize, taken_back: TakenBack) {
        let number = self.replicas[at].number;
        let TakenBack { parcel, arrived, may_be_taken } = taken_back;
        self.tell(None, || format!("replica {number} takes parcel {} back", parcel.number));
        self.carry_out(at, &parcel, arrived, may_be_taken);
    }

    /// What is carried out at a second place is judged as one that was sent once more.
    fn carry_out(&mut self, at: usize, parcel: &Parcel, arrived: Moment, may_be_elsewhere: bool) {
        let micros_ago = self.own_moment(at).0.saturating_sub(arrived.0);
        let (_, items) = parcel::decode(&parcel.bytes).expect("a parcel");
        for (number, item) in numbers(parcel).into_iter().zip(items) {
            let number = if self.carried_out.insert(number) { number } else { self.post_again(number) };
            let stamp = self.stamp(number, self.replicas[at].skew_micros);
            match item.request(&Subjects::new("person"), stamp) {
                Ok(request) => self.take_on(number, at, request, micros_ago, may_be_elsewhere),
                Err(not) => self.refuse(number, not),
            }
        }
    }

    /// Nobody is left out once all were heard, and nobody counts who is no more.
    pub fn all_count_all(&mut self) {
        // Whoever is no more is forgotten meanwhile, and nobody else. One that failed again and again is to be heard several times.
        for _ in 0..8 {
            self.micros += HEARD_MICROS_MAX / 2;
            (0..self.replicas.len()).for_each(|at| self.beat(at, 0));
        }
        let all = self.replicas.len();
        if self.replicas.iter().any(|replica| replica.sharing.members.count() != all) {
            self.fault("not all count whom there are, or others do".to_owned());
        }
    }
}

/// The deliveries in a parcel.
fn numbers(parcel: &Parcel) -> Vec<usize> {
    let (_, items) = parcel::decode(&parcel.bytes).expect("a parcel");
    items.iter().map(|item| item.reply_to.and_then(|number| number.parse().ok()).expect("a number")).collect()
}
