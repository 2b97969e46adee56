//! Who watches the checkers? The service is broken on purpose, in one place at a time, and the checker that is named
//! beside it has to find out.
//!
//! What ships has no switches: the source is copied to `target/mutants`, each mutation is written into the copy beside
//! what it replaces, and the copy is compiled once. `MUTATION` chooses one when it runs; with `ONLY` those alone are tried that
//! have this in their names.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use crate::checkers::promises::CHECKERS;

/// One way of being wrong.
pub struct Mutation {
    pub name: &'static str,
    /// Beneath `src`.
    pub file: &'static str,
    /// Stands there exactly once.
    pub old: &'static str,
    /// Stands there instead while the mutation is active. With `@` in it, it stands there always, and `@` is true while
    /// the mutation is active.
    pub new: &'static str,
    /// Who has to find out.
    pub caught_by: &'static str,
}

/// What the simulation itself finds: what does not come to rest, and replicas that do not share as they should.
const THE_SIMULATION: &str = "simulation";
/// Those that only a person who ages shows. So few runs are of that kind that they would take too long.
const NEED_AGE: [&str; 2] = ["forget after five minutes by the clock", "let one step of a clock end what is promised"];
/// So long may it take until a mutation is found out, in seconds.
const CATCH_SECONDS: u64 = 240;
/// So long are fresh seeds run without any mutation, in seconds.
const FRESH_SECONDS: &str = "20";

const fn mutation(
    name: &'static str,
    caught_by: &'static str,
    file: &'static str,
    old: &'static str,
    new: &'static str,
) -> Mutation {
    Mutation { name, file, old, new, caught_by }
}

/// What may be wrong.
pub const MUTATIONS: &[Mutation] = &[
    mutation(
        "believe what the leader does not confirm",
        "refused_is_right",
        "engine/worker/storing.rs",
        "link.against(tip.as_ref())",
        "Standing::Newest",
    ),
    mutation(
        "take refusals for final though something comes before them",
        "refused_is_right",
        "engine/draft.rs",
        "is_final && decided_on_base && comes_first",
        "is_final && decided_on_base",
    ),
    mutation(
        "begin with a snapshot and forget the commands in it",
        "one_effect",
        "engine/aggregate.rs",
        "Receipts::restored(body.receipts, body.missing_until, body.id_spans)",
        "Receipts::restored(Vec::new(), None, Vec::new())",
    ),
    mutation(
        "write snapshots without the commands",
        "snapshots_are_true",
        "engine/receipts.rs",
        "let recent = self.recent.iter().cloned().collect();",
        "let recent = self.recent.iter().filter(|_| !@).cloned().collect();",
    ),
    mutation(
        "remember a command less",
        "snapshots_are_true",
        "engine/receipts.rs",
        "self.recent.len() > REMEMBERED",
        "self.recent.len() >= REMEMBERED",
    ),
    mutation(
        "forget all that is not remembered, and do not search for it",
        "one_effect",
        "engine/receipts.rs",
        "            Some(from) => Known::SearchFrom(from),",
        "            Some(_) if @ => Known::New,
            Some(from) => Known::SearchFrom(from),",
    ),
    mutation(
        "compare the client's clock with ours",
        "one_effect",
        "engine/receipts.rs",
        "self.id_spans.push(receipt.sequence, made_at, passed_micros);",
        "self.id_spans.push(receipt.sequence, if @ { made_at.map(|_| now) } else { made_at }, passed_micros);",
    ),
    mutation(
        "forget after five minutes by the clock",
        "one_effect",
        "engine/id_spans.rs",
        "span.last_micros_ago <= RETRY_HORIZON_MICROS)",
        "span.last_micros_ago <= if @ { 300_000_000 } else { RETRY_HORIZON_MICROS })",
    ),
    mutation(
        "let one step of a clock end what is promised",
        "one_effect",
        "engine/id_spans.rs",
        "let passed_micros = passed_micros.min(STEP_MICROS_MAX);",
        "let passed_micros = if @ { passed_micros } else { passed_micros.min(STEP_MICROS_MAX) };",
    ),
    mutation(
        "search from one commit too late",
        "one_effect",
        "engine/id_spans.rs",
        "find(is_it).map(|span| span.first)",
        "find(is_it).map(|span| span.first + u64::from(@))",
    ),
    mutation(
        "take a search that got no answer for one that found nothing",
        "one_effect",
        "engine/worker/loading.rs",
        "            (Found::Away(unavailable), _) => work.hold(&unavailable),",
        "            (Found::Away(_), Some(aggregate)) if @ => {
                aggregate.receipts.searched(from, Vec::new(), asked.into_iter());
            }
            (Found::Away(unavailable), _) => work.hold(&unavailable),",
    ),
    mutation(
        "take no parcel back",
        "simulation",
        "engine/sharing.rs",
        "filter(|(_, one)| one.overdue <= now);",
        "filter(|(_, one)| !@ && one.overdue <= now);",
    ),
    mutation(
        "forget what waits for a home that takes nothing",
        "drained_is_answered",
        "engine/sharing.rs",
        "        back.extend(self.reopen(home, now));",
        "        back.extend(self.reopen(home, now).into_iter().filter(|_| !@));",
    ),
    mutation(
        "do not remember the ids that were made for what is handed over",
        "one_effect",
        "wire/parcel.rs",
        "CommandId::new(made_id(), false)",
        "CommandId::new(made_id(), @)",
    ),
    mutation(
        "make the same events wherever it is carried out",
        "same_outcome",
        "wire/parcel.rs",
        "        match request::decode(subjects, self.subject, self, self.payload, stamp) {",
        "        let stamp = if @ { Stamp { id: Uuid::from_u128(self.made_id), ..stamp } } else { stamp };
        match request::decode(subjects, self.subject, self, self.payload, stamp) {",
    ),
    mutation(
        "take parcels that may have been taken back",
        "simulation",
        "engine/sharing.rs",
        "age < head.patience_micros.min(PATIENCE_MICROS_MAX) / TAKE_DIVISOR;",
        "@ || age < head.patience_micros.min(PATIENCE_MICROS_MAX) / TAKE_DIVISOR;",
    ),
    mutation(
        "never count a home again that left a parcel unanswered",
        "simulation",
        "engine/sharing/members.rs",
        "(beacon.beat, now, member.unheard.saturating_sub(1));",
        "(beacon.beat, now, if @ { member.unheard } else { member.unheard.saturating_sub(1) });",
    ),
    mutation(
        "count who was heard long ago",
        "simulation",
        "engine/sharing/members.rs",
        "    now.0.saturating_sub(heard.0) <= HEARD_MICROS_MAX",
        "    @ || now.0.saturating_sub(heard.0) <= HEARD_MICROS_MAX",
    ),
    mutation(
        "never know a command again",
        "one_effect",
        "engine/receipts.rs",
        "match self.find(id.digest) {",
        "match self.find(id.digest).filter(|_| !@) {",
    ),
    mutation(
        "take an append without an answer for one that was not stored",
        "refused_stored_nothing",
        "engine/worker/storing.rs",
        "                attempt.may_be_stored = true;\n                self.attempt = Some(attempt);",
        "attempt.may_be_stored = true; self.decide_again(attempt.decided, Freshness::Guess);",
    ),
    mutation(
        "do not know its own commit again",
        "same_outcome",
        "engine/worker/storing.rs",
        "stored.payload == attempt.sealed.append.payload",
        "false",
    ),
    mutation(
        "answer before the acknowledgement",
        "accepted_is_stored",
        "engine/worker/storing.rs",
        "            Appended::Unknown => {",
        "            Appended::Unknown if @ => {
                let sequence = attempt.sealed.append.expected + 1;
                self.stored(attempt, sequence, limits, turn);
            }
            Appended::Unknown => {",
    ),
    mutation(
        "answer with another version",
        "accepted_is_stored",
        "engine/draft.rs",
        "Held::WithCommit(Accepted { version: self.version,",
        "Held::WithCommit(Accepted { version: self.version + u64::from(@),",
    ),
    mutation(
        "do not say that it is a retry",
        "same_outcome",
        "engine/draft.rs",
        "        duplicate: true,",
        "        duplicate: !@,",
    ),
    mutation(
        "ask any copy for what has to be the newest",
        "decided_by_the_domain",
        "engine/history/reader.rs",
        "            Freshness::Newest => false,",
        "            Freshness::Newest => @,",
    ),
    mutation(
        "merge into whoever was cached",
        "decided_by_the_domain",
        "engine/worker/loading.rs",
        "            return MergeTargets::new();
        }
        let (mut read, mut unread)",
        "            return MergeTargets::new();
        }
        if @ {
            let known = |target: &PersonId| {
                let aggregate = self.cache.take(*target)?;
                let lifecycle = aggregate.state.as_ref().map(|person| person.lifecycle.clone());
                self.cache.put(aggregate);
                Some((*target, Ok(lifecycle.map_or(TargetState::Missing, TargetState::Exists))))
            };
            if let Some(all) = targets.keys().map(known).collect::<Option<MergeTargets>>() {
                return all;
            }
        }
        let (mut read, mut unread)",
    ),
    mutation(
        "merge into whomever a copy shows",
        "decided_by_the_domain",
        "engine/worker/loading.rs",
        "Loading::cold(target, Freshness::Newest)",
        "Loading::cold(target, Freshness::Guess)",
    ),
    mutation(
        "call a history damaged on a copy's word",
        "no_damage_is_invented",
        "engine/history/reader.rs",
        "!is_fresh => self.consistency = Consistency::Leader,",
        "!is_fresh => if @ { self.end = Some(End::Diverged(None)) } else { self.consistency = Consistency::Leader },",
    ),
    mutation(
        "believe a snapshot of other commits",
        "gap_free_and_chained",
        "engine/history/reader.rs",
        "Digest::of(&stored.payload) != digest",
        "false",
    ),
    mutation(
        "believe a snapshot that is ahead of the log",
        "queries_show_the_newest",
        "engine/history/load.rs",
        "(End::Diverged(None), Base::Snapshot) => self.tail_is_lost(),",
        "(End::Diverged(None), Base::Snapshot) => if @ { self.end = Some(Ok(())) } else { self.tail_is_lost() },",
    ),
    mutation(
        "leave out the first event of each commit when folding",
        "snapshots_are_true",
        "engine/aggregate.rs",
        "commit.events.iter().for_each(",
        "commit.events.iter().skip(usize::from(@)).for_each(",
    ),
    mutation(
        "read the tail from one too late",
        "no_damage_is_invented",
        "engine/history/reader.rs",
        "Some((sequence, _)) => sequence + 1,",
        "Some((sequence, _)) => sequence + 1 + u64::from(@),",
    ),
    mutation(
        "store the first command of an array alone",
        "all_or_nothing",
        "engine/draft.rs",
        "request.commands.iter().enumerate()",
        "request.commands.iter().enumerate().take(if @ { 1 } else { usize::MAX })",
    ),
    mutation(
        "ignore the expected version",
        "decided_by_the_domain",
        "engine/draft.rs",
        "&& expected != self.version",
        "&& expected != self.version && !@",
    ),
    mutation(
        "leave while something is under way",
        "drained_is_answered",
        "engine/worker/mod.rs",
        "self.taken_back.is_empty() && self.desk.values().all(|work| work.is_done())",
        "true",
    ),
    mutation(
        "do not hold the time back",
        "one_order",
        "engine/draft.rs",
        "request.stamp.at.max(self.last_event_at)",
        "request.stamp.at",
    ),
    mutation(
        "give up at the first conflict",
        "healed_makes_progress",
        "engine/worker/storing.rs",
        "            _ => Freshness::Newest,
        };
        self.decide_again(attempt.decided, freshness);",
        "            _ => Freshness::Newest,
        };
        if @ {
            let problem = Problem::new(Code::Unavailable, \"a conflict\");
            for (task, _) in attempt.decided {
                turn.answer(task, Outcome::Problem(problem.clone()));
            }
            return;
        }
        self.decide_again(attempt.decided, freshness);",
    ),
    mutation(
        "keep the cache of a log that lost its tail",
        "accepted_is_stored",
        "engine/worker/mod.rs",
        "        self.cache.clear();",
        "();",
    ),
    mutation(
        "send again what builds on a commit that is no more",
        "gap_free_and_chained",
        "engine/worker/storing.rs",
        "Ok(_) if attempt.is_void =>",
        "Ok(_) if attempt.is_void && !@ =>",
    ),
    mutation(
        "count a version too much",
        "gap_free_and_chained",
        "engine/draft.rs",
        "            sequence: self.version + 1,",
        "            sequence: self.version + 1 + u64::from(@),",
    ),
    mutation(
        "show what is cached",
        "queries_show_the_newest",
        "engine/history/mod.rs",
        "aggregate.link().against(tip.as_ref())",
        "Standing::Newest",
    ),
    mutation(
        "do not read on what is cached and grew, and say that it is not to be had",
        "queries_show_the_newest",
        "engine/inquiry.rs",
        "                Compared::Stale(loading) => self.open.push(loading),",
        "                Compared::Stale(loading) if @ => {
                    let problem = Problem::new(Code::Unavailable, \"it grew\");
                    self.answer_all(loading.person(), Err(problem), reply);
                }
                Compared::Stale(loading) => self.open.push(loading),",
    ),
    mutation(
        "answer without the command's id",
        "one_reply",
        "wire/reply.rs",
        "            status: \"accepted\",\n            command_id,",
        "            status: \"accepted\",\n            command_id: command_id.filter(|_| !@),",
    ),
];

#[test]
fn every_mutation_is_of_a_text_that_stands_there_once_and_names_a_checker() {
    for Mutation { name, file, old, caught_by, .. } in MUTATIONS {
        let source = read(&root().join("src").join(file));
        assert_eq!(source.matches(old).count(), 1, "{name}: src/{file} has to have this exactly once: {old}");
        let is_checker = CHECKERS.iter().any(|(checker, _)| checker == caught_by);
        assert!(is_checker || *caught_by == THE_SIMULATION, "{name}: there is no {caught_by}");
    }
    for (checker, _) in CHECKERS {
        assert!(MUTATIONS.iter().any(|mutation| mutation.caught_by == *checker), "no mutation proves {checker}");
    }
}

#[test]
#[ignore = "compiles the service once more and takes a minute or two: tests/run and `just mutations` do it"]
fn every_mutation_is_caught_by_its_checker() {
    let folder = root().join("target/mutants");
    write_copy(&folder);
    let simulation = compile(&folder);
    stays_unbroken(&simulation);
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted = MUTATIONS.iter().filter(|mutation| mutation.name.contains(&only));
    let (missed, next) = (Mutex::new(Vec::new()), Mutex::new(wanted));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(mutation) = next.lock().unwrap().next() else { return };
                    if !is_caught(&simulation, mutation) {
                        missed.lock().unwrap().push(mutation.name);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not caught within {CATCH_SECONDS} seconds: {missed:#?}");
}

/// Without any mutation the copy is what ships, compiled to be faster than the test that runs beside it.
fn stays_unbroken(simulation: &Path) {
    let mut unbroken = Command::new(simulation);
    unbroken.args(["--exact", "simulation", "--nocapture"]).env_remove("SEED").env("SIMULATION_SECONDS", FRESH_SECONDS);
    let output = unbroken.output().expect("the simulation runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().filter(|line| line.contains(" seeds, ")).collect::<Vec<_>>().join("\n"));
    assert!(output.status.success(), "without a mutation:\n{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn is_caught(simulation: &Path, mutation: &Mutation) -> bool {
    let began = Instant::now();
    let mut run = Command::new(simulation);
    if NEED_AGE.contains(&mutation.name) {
        run.env("ALL_AGE", "1");
    }
    let output = run
        .args(["--exact", "simulation", "--nocapture"])
        .env_remove("SEED")
        .env("MUTATION", mutation.name)
        .env("CAUGHT_BY", mutation.caught_by)
        .env("FIRST_SEED", "0")
        .env("SIMULATION_SECONDS", CATCH_SECONDS.to_string())
        .output()
        .expect("the simulation runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let caught = said.lines().find(|line| line.starts_with("caught by"));
    println!("{:>5.1} s  {}: {}", began.elapsed().as_secs_f64(), mutation.name, caught.unwrap_or("NOT CAUGHT"));
    if caught.is_none() {
        println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success() && caught.is_some()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the simulation needs, and all that the copy has.
const SIMULATED: [&str; 4] = ["pub mod domain;", "pub mod engine;", "pub mod memory;", "pub mod wire;"];

/// The package with all mutations in it: the part of its library that is simulated, and this test of it.
fn write_copy(folder: &Path) {
    let mut sources: Vec<PathBuf> = ["lib.rs", "domain", "engine", "memory.rs", "wire"].map(PathBuf::from).into();
    while let Some(source) = sources.pop() {
        let path = root().join("src").join(&source);
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            sources.extend(entries.map(|entry| source.join(entry.expect("an entry").file_name())));
        } else {
            let mut text = read(&path);
            let name = source.to_string_lossy().replace('\\', "/");
            for mutation in MUTATIONS.iter().filter(|mutation| mutation.file == name) {
                text = text.replacen(mutation.old, &mutation.written(), 1);
            }
            if name == "lib.rs" {
                let other = |line: &&str| !line.starts_with("pub mod ") || SIMULATED.contains(line);
                text = text.lines().filter(other).map(|line| format!("{line}\n")).collect();
                text.push_str("\n#[allow(missing_docs)]\npub mod mutation;\n");
            }
            write(&folder.join("src").join(&source), &text);
        }
    }
    write(&folder.join("src/mutation.rs"), SWITCH);
    let manifest = read(&root().join("Cargo.toml"));
    let kept = |name: &str| {
        let from = manifest.find(name).unwrap_or_else(|| panic!("Cargo.toml has {name}"));
        let len = manifest[from + 1..].find("\n[").map_or(manifest.len() - from, |len| len + 2);
        manifest[from..from + len].to_owned()
    };
    let head = "[package]\nname = \"cim-domain-person\"\nversion = \"0.1.0\"\nedition = \"2024\"\nautobins = false\n\n";
    let test = "[[test]]\nname = \"simulation\"\npath = \"../../tests/simulation/main.rs\"\n\n[workspace]\n\n";
    let kept = ["[dependencies]", "[dev-dependencies]", "[profile.dev.package.\"*\"]"].map(kept).concat();
    // Compiled once and run long.
    write(&folder.join("Cargo.toml"), &format!("{head}{test}{kept}\n[profile.dev]\nopt-level = 1\n"));
    write(&folder.join("Cargo.lock"), &read(&root().join("Cargo.lock")));
}

/// Writes what is not there yet, so that nothing is compiled again without need.
fn write(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The test of the copy, compiled beside what is compiled already.
fn compile(folder: &Path) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--no-run", "--locked", "--test", "simulation", "--message-format", "json-render-diagnostics"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", root().join("target"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the mutants do not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    messages.lines().filter_map(executable).next_back().expect("an executable")
}

impl Mutation {
    fn written(&self) -> String {
        let active = format!("crate::mutation::is({:?})", self.name);
        match self.new.contains('@') {
            true => self.new.replace('@', &active),
            false => format!("if {active} {{ {} }} else {{ {} }}", self.new, self.old),
        }
    }
}

const SWITCH: &str = r#"//! Which mutation is active.
use std::sync::LazyLock;

static ACTIVE: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MUTATION").ok());

pub fn is(name: &str) -> bool {
    ACTIVE.as_deref() == Some(name)
}
"#;
