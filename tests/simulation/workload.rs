//! What clients ask for: few persons and few values, so that requests meet.

use cim_domain_person::domain::{PersonId, Timestamp};
use serde_json::{Value, json};

use super::chance::Chance;
use super::plan::Plan;

/// The nth person.
pub fn person(number: usize) -> PersonId {
    format!("0197c5a0-0000-7000-8000-{number:012x}").parse().expect("a UUID")
}

/// A request, to be sent any number of times.
#[derive(Debug, Clone)]
pub struct Letter {
    pub person: PersonId,
    pub subject: String,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
    /// How long the service has for it, in microseconds.
    pub time_micros: u64,
}

impl Letter {
    /// Whether it can be sent again without being another request.
    pub fn has_id(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == "Nats-Msg-Id")
    }
}

/// Writes letters.
pub struct Clients {
    pub chance: Chance,
    written: u64,
    ids: Vec<String>,
    /// In the order in which they are created first: so that most of them exist soon.
    next_person: usize,
    /// Of whom and what is to be written next, to be sent together.
    entangled: Vec<(PersonId, Value)>,
    /// How far the clock of each client is off, in microseconds.
    skews: Vec<i64>,
}

impl Clients {
    pub fn new(chance: Chance) -> Self {
        Self { chance, written: 0, ids: Vec::new(), next_person: 0, entangled: Vec::new(), skews: Vec::new() }
    }

    /// The time by the clock of one of them.
    fn time(&mut self, plan: &Plan, now: Timestamp) -> Timestamp {
        let client = self.chance.place(plan.clients);
        let is_new = client >= self.skews.len();
        self.skews.resize(self.skews.len().max(client + 1), 0);
        if is_new || self.chance.in_1000(plan.client_jumps) {
            let most = plan.client_skew_micros;
            let skew = self.chance.draw(u64::try_from(2 * most + 1).unwrap());
            self.skews[client] = i64::try_from(skew).unwrap() - most;
        }
        now.plus_micros(self.skews[client])
    }

    /// How many letters were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether the next one belongs to the last one, and is to be sent with it.
    pub fn is_entangled(&self) -> bool {
        !self.entangled.is_empty()
    }

    /// A new one. `now` is the time by a clock that is right.
    pub fn write(&mut self, plan: &Plan, now: Timestamp) -> Letter {
        let now = self.time(plan, now);
        if self.entangled.is_empty() && self.next_person > 1 && self.chance.in_1000(plan.entangled) {
            self.entangle();
        }
        if let Some((who, command)) = self.entangled.pop() {
            return self.address(plan, who, &command, now);
        }
        let who = self.whom(plan);
        let commands = match self.next_person {
            next if next < plan.persons && self.chance.in_1000(500) => {
                self.next_person += 1;
                let commands = create(person(next), &mut self.chance);
                return self.address(plan, person(next), &commands, now);
            }
            _ if self.chance.in_1000(plan.arrays) => {
                let len = 1 + self.chance.place(4);
                let mut commands: Vec<Value> = (0..len).map(|_| self.command(plan, who)).collect();
                // Refused for ever, unless one before it is refused.
                if self.chance.in_1000(200) {
                    commands.push(create(who, &mut self.chance));
                }
                Value::Array(commands)
            }
            _ => self.command(plan, who),
        };
        self.address(plan, who, &commands, now)
    }

    fn whom(&mut self, plan: &Plan) -> PersonId {
        if self.chance.in_1000(plan.hot) { person(0) } else { person(self.chance.place(plan.persons)) }
    }

    /// Two merges towards each other, or a merge and what happens to its target meanwhile, in either order.
    fn entangle(&mut self) {
        let chance = &mut self.chance;
        let first = chance.place(self.next_person);
        let other = (first + 1 + chance.place(self.next_person - 1)) % self.next_person;
        let (source, target) = (person(first), person(other));
        let meanwhile = match chance.draw(6) {
            0..3 => merge(target, source),
            3 => json!({ "DeactivatePerson": { "person_id": target, "reason": "test" } }),
            4 => merge(target, person(chance.place(self.next_person))),
            _ => end(target, chance),
        };
        self.entangled = vec![(source, merge(source, target)), (target, meanwhile)];
        if chance.in_1000(500) {
            self.entangled.reverse();
        }
    }

    fn address(&mut self, plan: &Plan, who: PersonId, commands: &Value, now: Timestamp) -> Letter {
        self.written += 1;
        let chance = &mut self.chance;
        let mut headers = Vec::new();
        let mut header = |name: &str, value: String| headers.push((name.to_owned(), value));
        if chance.in_1000(plan.without_id) {
            header("Correlation-Id", format!("only-{}", self.written));
        } else if chance.in_1000(plan.reused_ids) && !self.ids.is_empty() {
            header("Nats-Msg-Id", chance.pick(&self.ids).clone());
        } else {
            let id = match chance.in_1000(plan.uuid_v7_ids) {
                true => uuid_v7(now, self.written),
                false => format!("c{}", self.written),
            };
            self.ids.push(id.clone());
            header("Nats-Msg-Id", id);
        }
        if chance.in_1000(plan.expected_versions) {
            header("Expected-Version", chance.draw(8).to_string());
        }
        let mut payload = serde_json::to_vec(commands).expect("JSON");
        let mut subject = format!("person.commands.{who}");
        if chance.in_1000(plan.bad_requests) {
            match chance.draw(3) {
                0 => payload.truncate(payload.len() / 2),
                1 => subject = format!("person.commands.{}", person(999)),
                _ => payload = br#"{"ArchivePerson":{"person_id":"nobody","reason":"test"}}"#.to_vec(),
            }
        }
        let time_micros = match chance.in_1000(plan.short_deadlines) {
            true => chance.draw(200_000),
            false => 5_000_000,
        };
        Letter { person: who, subject, headers, payload, time_micros }
    }

    fn command(&mut self, plan: &Plan, who: PersonId) -> Value {
        let chance = &mut self.chance;
        let is_magnet = plan.magnets > 0 && (who == person(0) || who == person(1));
        if is_magnet && chance.in_1000(700) {
            let what = *chance.pick(&["DeactivatePerson", "ReactivatePerson"]);
            return json!({ what: { "person_id": who, "reason": "test" } });
        }
        if chance.in_1000(plan.merges) {
            let many = if chance.in_1000(plan.magnets) { 2 } else { plan.persons };
            let target = person(chance.place(many));
            if target != who {
                return merge(who, target);
            }
        }
        if chance.in_1000(plan.ends) {
            return end(who, chance);
        }
        match chance.draw(24) {
            0..3 => create(who, chance),
            3..7 => json!({ "UpdateName": { "person_id": who, "name": name(chance) } }),
            7..13 => json!({ "RecordAttribute": { "person_id": who, "attribute": attribute(chance) } }),
            13..17 => {
                let attribute = attribute(chance);
                json!({ "UpdateAttribute": {
                    "person_id": who, "attribute_type": attribute["attribute_type"], "new_attribute": attribute
                } })
            }
            17..19 => json!({ "InvalidateAttribute": {
                "person_id": who, "attribute_type": attribute(chance)["attribute_type"]
            } }),
            19 => json!({ "DeactivatePerson": { "person_id": who, "reason": "test" } }),
            20..22 => json!({ "ReactivatePerson": { "person_id": who, "reason": "test" } }),
            _ => {
                let day = *chance.pick(&["2000-01-01", "2001-01-01", "2999-01-01"]);
                json!({ "SetBirthDate": { "person_id": who, "birth_date": day } })
            }
        }
    }
}

fn merge(source: PersonId, target: PersonId) -> Value {
    json!({ "MergePersons": {
        "source_person_id": source, "target_person_id": target, "merge_reason": "DuplicateIdentity"
    } })
}

fn end(who: PersonId, chance: &mut Chance) -> Value {
    match chance.draw(2) {
        0 => json!({ "ArchivePerson": { "person_id": who, "reason": "test" } }),
        _ => json!({ "RecordDeath": { "person_id": who, "date_of_death": "2020-02-02" } }),
    }
}

fn create(who: PersonId, chance: &mut Chance) -> Value {
    json!({ "CreatePerson": { "person_id": who, "name": name(chance), "source": "test" } })
}

fn name(chance: &mut Chance) -> Value {
    json!({ "components": { "given_names": [chance.pick(&["Ann", "Bea", "Cy"])], "family_names": ["Lee"] } })
}

fn attribute(chance: &mut Chance) -> Value {
    let kind = *chance.pick(&["NationalId", "BirthPlace"]);
    json!({
        "attribute_type": { "Identifying": kind },
        "value": { "Text": chance.pick(&["x", "y", "z"]) },
        "provenance": { "source": "SelfReported", "confidence": "Certain" },
    })
}

/// A UUIDv7 made at this time, the `number`th of its kind.
fn uuid_v7(made_at: Timestamp, number: u64) -> String {
    let millis = u64::try_from(made_at.as_micros() / 1000).unwrap();
    let mut random = [0x5A; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}
