//! Chaos: three real replicas, a real server or three, clients that do not give up, and a nemesis that does whatever a
//! data centre does to all of them. Afterwards everything is mended, everything outstanding has to be answered, and the
//! checkers judge what was recorded.
//!
//! ```text
//! cargo test --test it chaos:: -- --nocapture                              # as in CI: one short round each
//! CHAOS_SECONDS=3600 cargo test --test it chaos:: -- --nocapture           # rounds of a minute for an hour
//! CHAOS_SEED=7 cargo test --test it chaos::a_cluster -- --nocapture        # the same plan and the same commands again
//! ```

mod commands;
mod diary;
mod judge;
mod nemesis;
mod rig;
mod workload;

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use diary::Diary;
use judge::History;
use rig::{Form, Rig};
use workload::{BUSY, Delivery, FINISHING, LISTENING, Looked, OVER, People, Sent, Shared};

use crate::engine::chance::Chance;
use crate::support::PATIENCE;

/// Clients that send commands.
const CLIENTS: usize = 5;

/// How a round is run.
#[derive(Clone, Copy)]
struct Settings {
    form: Form,
    seed: u64,
    /// How long the nemesis rages.
    time: Duration,
    command_timeout: Duration,
    /// How long a frozen replica stands still.
    frozen: Duration,
    /// Between the beginnings of two faults, on average; faults last about as long.
    pause: Duration,
}

#[test]
fn one_server_and_whatever_happens() {
    rounds(Form::Single, Duration::from_secs(18));
}

#[test]
fn a_cluster_and_whatever_happens() {
    rounds(Form::Cluster, Duration::from_secs(18));
}

fn rounds(form: Form, short: Duration) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let fresh = || u64::from(uuid::Uuid::new_v4().as_fields().0);
    let mut settings = Settings {
        form,
        seed: number("CHAOS_SEED").unwrap_or_else(fresh),
        time: short,
        command_timeout: Duration::from_secs(2),
        frozen: Duration::from_millis(2_500),
        pause: Duration::from_secs(1),
    };
    let Some(seconds) = number("CHAOS_SECONDS") else { return round(settings) };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut first = true;
    while first || Instant::now() < end {
        // Rounds differ in how dense the faults are. Every third is slow, with the deadlines that a service has.
        let mut chance = Chance::new(settings.seed);
        let is_slow = chance.draw(3) == 0;
        settings.time = Duration::from_secs(60);
        settings.pause = Duration::from_millis(500 + chance.draw(2500));
        settings.command_timeout = Duration::from_secs(if is_slow { 5 } else { 2 });
        settings.frozen = Duration::from_millis(if is_slow { 30_000 } else { 2_500 });
        round(settings);
        settings.seed += 1;
        first = false;
    }
}

/// One round, from the start of everything to the verdict.
fn round(settings: Settings) {
    let diary = Diary::begin();
    let Settings { form, seed, time, .. } = settings;
    println!("{form:?}, CHAOS_SEED={seed}: {settings}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/chaos/{form:?}-{seed}").to_lowercase());
    let mut rig = Rig::start(form, settings.command_timeout, diary.clone(), folder.clone());
    let plan = nemesis::plan(form, seed, time, settings.pause, settings.frozen);
    let crowd = Crowd::start(&rig, &settings);

    nemesis::rage(&mut rig, &plan, time);
    rig.heal();
    let healed_at = diary.now();
    let stuck = crowd.finish();
    let last = last_words(&rig, &crowd.shared);
    rig.drain();
    let (mut sent, mut looked) = crowd.end();
    for (words, look) in last {
        sent.push(words);
        looked.push(look);
    }

    let mut client = rig.client();
    let (stored, snapshots) = (judge::stored(&mut client), judge::snapshots(&mut client));
    let history = History { diary, sent, looked, stored, snapshots, healed_at };
    let begun = Instant::now();
    let violations = history.judge();
    println!("{}; judged in {:.1?}", summary(&history), begun.elapsed());
    check_logs(&rig);
    if violations.is_empty() && stuck.is_empty() {
        return;
    }
    rig.keep();
    history.keep(&folder);
    let mut words = format!("CHAOS_SEED={seed}, everything in {}\n", folder.display());
    for violation in &violations {
        words.push_str(&format!("{}: {:?}: {}\n", violation.checker, violation.person, violation.what));
    }
    stuck.iter().for_each(|stuck| words.push_str(&format!("no decisive answer after all was mended: {stuck}\n")));
    std::fs::write(folder.join("violations.txt"), &words).unwrap();
    if let Some(person) = violations.iter().find_map(|violation| violation.person) {
        let story = history.story(person);
        std::fs::write(folder.join(format!("story-{person}.txt")), &story).unwrap();
        println!("{story}");
    }
    panic!("{words}");
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { time, command_timeout, frozen, pause, .. } = self;
        write!(
            f,
            "{time:?} with a fault about every {pause:?}, deadlines of {command_timeout:?}, frozen for {frozen:?}"
        )
    }
}

/// The clients.
struct Crowd {
    shared: Shared,
    senders: Vec<(JoinHandle<Vec<Sent>>, Arc<AtomicU8>)>,
    looker: JoinHandle<Vec<Looked>>,
}

impl Crowd {
    fn start(rig: &Rig, settings: &Settings) -> Self {
        let shared = Shared {
            ports: Arc::new(rig.ports()),
            diary: rig.diary.clone(),
            command_timeout: settings.command_timeout,
            pause: Duration::from_millis(20),
            people: Arc::new(Mutex::new(People::default())),
            phase: Arc::new(AtomicU8::new(BUSY)),
        };
        let seed = settings.seed;
        let sender = |number: usize| {
            let (shared, is_open) = (shared.clone(), Arc::new(AtomicU8::new(1)));
            let open = Arc::clone(&is_open);
            (std::thread::spawn(move || workload::send(shared, seed, number, &open)), is_open)
        };
        let senders = (0..CLIENTS).map(sender).collect();
        let looking = shared.clone();
        let looker = std::thread::spawn(move || workload::look(&looking, seed));
        Self { shared, senders, looker }
    }

    /// No new commands: waits until every one that was sent has its decisive answer. Returns which clients wait in vain.
    fn finish(&self) -> Vec<String> {
        self.shared.phase.store(FINISHING, SeqCst);
        let deadline = Instant::now() + 2 * PATIENCE;
        let waits = |open: &AtomicU8| open.load(SeqCst) != 0;
        // A client sees the phase with its next look; until then it may begin another.
        std::thread::sleep(Duration::from_millis(200));
        while self.senders.iter().any(|(_, open)| waits(open)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let stuck = self.senders.iter().enumerate().filter(|(_, (_, open))| waits(open));
        stuck.map(|(number, _)| format!("client {number}")).collect()
    }

    fn end(self) -> (Vec<Sent>, Vec<Looked>) {
        self.shared.phase.store(OVER, SeqCst);
        let sent = self.senders.into_iter().flat_map(|(sender, _)| sender.join().expect("a client's end")).collect();
        (sent, self.looker.join().expect("the looker's end"))
    }
}

/// After all was mended every person takes a command, at once, and is shown with what came of it.
fn last_words(rig: &Rig, shared: &Shared) -> Vec<(Sent, Looked)> {
    shared.phase.store(LISTENING, SeqCst);
    let mut client = rig.client();
    let persons = shared.people.lock().unwrap().all.clone();
    let mut chance = Chance::new(0);
    let mut speak = |person: &String| {
        let id = uuid::Uuid::now_v7().to_string();
        let payload = commands::create(&mut chance, person).to_string().into_bytes();
        let headers = vec![("Nats-Msg-Id".to_owned(), id.clone())];
        let sent = shared.diary.now();
        let reply = client.ask(&format!("person.commands.{person}"), &headers, &payload, PATIENCE);
        let reply = reply.unwrap_or_else(|| panic!("no answer about {person} after all was mended"));
        let answer: Value = reply.json();
        assert_ne!(answer["status"], "failed", "after all was mended: {answer}");
        let delivery = Delivery { sent, replies: vec![(shared.diary.now(), reply.payload)] };
        let look = workload::look_once(&mut client, person, &shared.diary, PATIENCE);
        (Sent { id, person: person.clone(), headers, payload, deliveries: vec![delivery] }, look)
    };
    persons.iter().map(&mut speak).collect()
}

/// What no replica may ever have to say while the servers keep what they acknowledged.
fn check_logs(rig: &Rig) {
    for replica in 0..rig::REPLICAS {
        let log = rig.log(replica);
        // A replica that starts while the password is wrong ends with that word.
        let is_wrong = |line: &&str| line.contains("ERROR") && !line.contains("refused the sign-in");
        if let Some(line) = log.lines().find(is_wrong) {
            rig.keep();
            panic!("replica {replica} reports what did not happen: {line}\neverything in {}", rig.folder().display());
        }
    }
}

fn summary(history: &History) -> String {
    let deliveries: usize = history.sent.iter().map(|sent| sent.deliveries.len()).sum();
    let replies = history.sent.iter().flat_map(|sent| &sent.deliveries).flat_map(|delivery| &delivery.replies);
    let replies: Vec<Value> = replies.map(|(_, reply)| serde_json::from_slice(reply).unwrap_or_default()).collect();
    let with = |status: &str| replies.iter().filter(|reply| reply["status"] == status).count();
    let code = |code: &str| replies.iter().filter(|reply| reply["error"]["code"] == code).count();
    let duplicates = replies.iter().filter(|reply| reply["duplicate"] == true).count();
    format!(
        "{} commands in {deliveries} deliveries: {} accepted ({duplicates} as duplicates), {} rejected, {} failed \
         ({} unavailable, {} outcome_unknown, {} overloaded), {} without a reply; {} commits, {} snapshots, {} queries",
        history.sent.len(),
        with("accepted"),
        with("rejected"),
        with("failed"),
        code("unavailable"),
        code("outcome_unknown"),
        code("overloaded"),
        deliveries - replies.len().min(deliveries),
        history.stored.len(),
        history.snapshots.len(),
        history.looked.iter().filter(|look| look.reply.is_some()).count(),
    )
}
