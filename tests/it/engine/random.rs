//! Random commands for several persons through several replicas over one log on which anything may go wrong.

use std::collections::BTreeMap;

use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::ports::EventLog;
use cim_domain_person::wire::snapshot;
use proptest::prelude::*;

use super::chance::Chance;
use super::*;

const PERSONS: [&str; 3] = [ANN, BOB, CAT];

fn any_command(chance: &mut Chance) -> Value {
    let person = *chance.pick(&PERSONS);
    let given = *chance.pick(&["Ann", "Bea", "Cy"]);
    match chance.draw(24) {
        0..4 => create(person),
        4..8 => rename(person, given),
        8..12 => note(person, given),
        12..14 => note_again(person, given),
        14 => deactivate(person),
        15..18 => reactivate(person),
        18 => birth(person, "2000-01-01"),
        19 if chance.draw(6) == 0 => archive(person),
        20 if chance.draw(4) == 0 => {
            let target = *chance.pick(&PERSONS);
            if target == person { note(person, given) } else { merge(person, target) }
        }
        _ => {
            let all = [create(person), rename(person, given), note(person, given), note_again(person, "x")];
            let len = 1 + usize::try_from(chance.draw(3)).unwrap();
            Value::Array((0..len).map(|_| chance.pick(&all).clone()).collect())
        }
    }
}

fn any_ask(chance: &mut Chance, number: usize) -> Ask {
    let skew = i64::try_from(chance.draw(2_000_000)).unwrap() - 1_000_000;
    let command_id = format!("c{number}");
    let command = any_command(chance);
    match chance.draw(8) {
        0 => ask(&command_id, command).skewed(skew).expecting(chance.draw(6)),
        1 => ask("", command).skewed(skew).with("Correlation-Id", &command_id),
        _ => ask(&command_id, command).skewed(skew),
    }
}

/// What happened to one command: how often it was sent, and everything that was said of it.
struct Sent {
    ask: Ask,
    told: Vec<String>,
}

struct Story {
    world: World,
    chance: Chance,
    replicas: Vec<Replica>,
    sent: Vec<Sent>,
    /// By replica: which command each of its tasks is.
    under_way: Vec<BTreeMap<usize, usize>>,
    snapshots: Vec<DueSnapshot>,
}

const LIMITS_HERE: Limits = Limits { cache_bytes: 12_000, snapshot_frequency: 1, append_micros_max: 20 * MILLI };

impl Story {
    fn new(seed: u64) -> Self {
        let (world, mut chance) = (World::new(), Chance::new(seed));
        let replicas: Vec<Replica> = (0..3).map(|_| world.replica_with(LIMITS_HERE)).collect();
        for replica in &replicas {
            replica.faults.at_random(Some(Chance::new(chance.next())));
        }
        let under_way = replicas.iter().map(|_| BTreeMap::new()).collect();
        Self { world, chance, replicas, sent: Vec::new(), under_way, snapshots: Vec::new() }
    }

    /// One replica takes a turn with a few new commands and a few retries.
    fn step(&mut self) {
        self.world.pass(self.chance.draw(8) * MILLI);
        let at = usize::try_from(self.chance.draw(3)).unwrap();
        if self.chance.draw(40) == 0 {
            self.crash(at);
        }
        let mut numbers = Vec::new();
        for _ in 0..self.chance.draw(4) {
            if self.chance.draw(3) == 0 && !self.sent.is_empty() {
                let number = usize::try_from(self.chance.draw(self.sent.len() as u64)).unwrap();
                // Whoever sends a command without an id knows better than to send it again.
                numbers.extend(self.sent[number].ask.has_id().then_some(number));
            } else {
                let ask = any_ask(&mut self.chance, self.sent.len()).within(self.chance.draw(200) * MILLI);
                self.sent.push(Sent { ask, told: Vec::new() });
                numbers.push(self.sent.len() - 1);
            }
        }
        self.turn(at, &numbers);
        if self.chance.draw(10) == 0 {
            self.harm_a_snapshot();
        }
    }

    fn turn(&mut self, at: usize, numbers: &[usize]) {
        let replica = &mut self.replicas[at];
        for (offset, number) in numbers.iter().enumerate() {
            self.under_way[at].insert(replica.asked + offset, *number);
        }
        let asks: Vec<Ask> = numbers.iter().map(|number| self.sent[*number].ask.clone()).collect();
        let before = PERSONS.map(|person| before_the_newest(&self.world, person));
        for (task, outcome) in replica.turn(asks) {
            let number = self.under_way[at].remove(&task).expect("answered once");
            let commands = &self.sent[number].ask.commands;
            let place = PERSONS.iter().position(|person| person_of(commands) == *person).unwrap();
            if could_be_overturned(&outcome, &self.world.history(PERSONS[place])) {
                let newest = version_of(&outcome).unwrap() >= before[place];
                assert!(newest, "decided on a state that was not the newest: {outcome}, {commands}");
            }
            self.sent[number].told.push(outcome);
        }
        replica.read_long_histories();
        self.snapshots.append(&mut replica.snapshots);
    }

    /// The replica is gone with all that it knew, and another one takes its place.
    fn crash(&mut self, at: usize) {
        self.replicas[at] = self.world.replica_with(LIMITS_HERE);
        self.replicas[at].faults.at_random(Some(Chance::new(self.chance.next())));
        self.under_way[at].clear();
    }

    fn harm_a_snapshot(&mut self) {
        let person = self.chance.pick::<&str>(&PERSONS);
        let person = id(person);
        let old = match self.chance.draw(3) {
            0 => None,
            1 => Some(b"garbage".to_vec()),
            _ if self.snapshots.is_empty() => None,
            _ => Some(self.chance.pick(&self.snapshots).bytes.clone()),
        };
        self.world.snapshots.forge(person, old);
    }

    /// Nothing goes wrong any more: what is under way comes to its end, and everything is asked again.
    fn heal(&mut self) {
        for replica in &self.replicas {
            replica.faults.at_random(None);
        }
        for at in 0..self.replicas.len() {
            for _ in 0..1_000 {
                if self.replicas[at].worker.is_idle() {
                    break;
                }
                self.world.pass(MILLI);
                self.turn(at, &[]);
            }
            assert!(self.replicas[at].worker.is_idle());
            assert!(self.under_way[at].is_empty(), "not all were answered");
        }
    }

    fn check(&mut self) {
        let histories: Vec<History> = PERSONS.iter().map(|person| self.world.history(person)).collect();
        for (number, Sent { ask, told }) in self.sent.iter().enumerate() {
            let times: usize = histories.iter().map(|history| history.times(&format!("c{number}"))).sum();
            let stored: Vec<&str> =
                told.iter().filter(|told| told.contains('#')).map(|told| first_time(told)).collect();
            let context = format!("c{number} {:?} {told:?}", ask.commands);
            assert!(times <= 1, "stored {times} times: {context}");
            assert!(stored.is_empty() || times == 1, "said to be stored: {context}");
            assert!(stored.windows(2).all(|pair| pair[0] == pair[1]), "different outcomes: {context}");
            let unknown = told.iter().any(|told| told == "outcome_unknown") || told.is_empty();
            if times > 0 && stored.is_empty() {
                // Stored, and nobody was told: only where it was left open, or whoever would have told it crashed.
                assert!(unknown || !told.iter().any(|told| told.starts_with("accepted")), "{context}");
            }
            assert!(!told.iter().any(|told| told.starts_with("history_")), "{context}");
        }
        let receipts = histories.iter().flat_map(|history| &history.receipts);
        let by_command: BTreeMap<[u8; 16], &Receipt> = receipts.map(|of| (of.command.to_bytes(), of)).collect();
        // Whoever asks again is told what is in the log.
        for number in 0..self.sent.len() {
            if !self.sent[number].ask.has_id() {
                continue;
            }
            let at = usize::try_from(self.chance.draw(3)).unwrap();
            let ask = self.sent[number].ask.clone().within(5 * SECOND);
            let Some(receipt) = by_command.get(&Digest::of(format!("c{number}").as_bytes()).to_bytes()) else {
                continue;
            };
            let kinds: String = receipt.events.iter().map(|kind| format!(" {}", kind.as_str())).collect();
            let then = format!("accepted v{} #{}{kinds} again", receipt.version, receipt.sequence);
            assert_eq!(self.replicas[at].tell([ask]), [then], "c{number}");
        }
        self.check_snapshots();
    }

    /// What every replica held in memory when it made a snapshot is what the history says.
    fn check_snapshots(&self) {
        for due in &self.snapshots {
            let restored = snapshot::decode(due.person, &due.bytes).unwrap();
            let history = self.history_up_to(due.person, restored.sequence);
            assert_eq!((restored.version, Some(&restored.body.person)), (history.version, history.state.as_ref()));
            let newest = history.receipts.len().saturating_sub(restored.body.receipts.len());
            assert_eq!(restored.body.receipts, history.receipts[newest..]);
            assert!(newest == 0 || restored.body.receipts.len() >= 128);
        }
    }

    fn history_up_to(&self, person: PersonId, sequence: u64) -> History {
        let mut commits = self.world.log.commits(person);
        commits.retain(|commit| commit.sequence <= sequence);
        History::of(person, &commits)
    }
}

/// The person's version before its newest commit: what was decided in the middle of it may be answered with it.
fn before_the_newest(world: &World, person: &str) -> u64 {
    let newest = world.log.clone().tips(&[id(person)]).pop().unwrap().unwrap();
    newest.map_or(0, |stored| commit::decode(&stored.payload).unwrap().first_version() - 1)
}

/// The person of a command, or of the first one of an array.
fn person_of(commands: &Value) -> &str {
    let first = commands.get(0).unwrap_or(commands);
    let fields = first.as_object().and_then(|command| command.values().next()).unwrap();
    fields.get("person_id").or_else(|| fields.get("source_person_id")).and_then(Value::as_str).unwrap()
}

fn version_of(told: &str) -> Option<u64> {
    told.split(' ').nth(1)?.strip_prefix('v')?.parse().ok()
}

/// Whether newer events could have led to another answer: then it has to be decided on the newest state.
fn could_be_overturned(told: &str, history: &History) -> bool {
    use cim_domain_person::domain::Lifecycle;
    let is_archived =
        matches!(history.state.as_ref().map(|person| &person.lifecycle), Some(Lifecycle::Archived { .. }));
    let never = ["already_exists", "person_merged", "command_id_reused"];
    let is_final = never.iter().any(|code| told.starts_with(code)) || is_archived && told.starts_with("invalid_state");
    version_of(told).is_some() && !told.contains('#') && !is_final
}

fn first_time(told: &str) -> &str {
    told.strip_suffix(" again").unwrap_or(told)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_every_command_has_one_effect_and_one_outcome(seed: u64, steps in 1..160_usize) {
        let mut story = Story::new(seed);
        (0..steps).for_each(|_| story.step());
        story.heal();
        story.check();
    }
}
