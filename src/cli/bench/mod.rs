//! `person-service bench`: a load of test persons for a running service, and how fast it answers.
//!
//! ```text
//!  args ──► load    for whom, and what
//!             │
//!  work: the persons first, then what is measured ──► tally ──► report
//!             │                                        cpu ──────┘
//!           driver   one connection each: so many under way, an inbox of its own
//! ```
//!
//! The messages go over the same client and are read as any client would, so that a latency is what a user has.

mod args;
mod cpu;
mod driver;
mod load;
mod report;
mod tally;
mod work;

use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

pub use args::Bench;

use crate::cli::bench::cpu::Process;
use crate::cli::bench::driver::Driver;
use crate::cli::bench::load::{Load, Persons};
use crate::cli::bench::report::Report;
use crate::cli::bench::tally::Tally;
use crate::cli::bench::work::{Measured, Progress, Round};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, no_responders};
use crate::cli::output::{Out, counted, grouped};
use crate::config;
use crate::daemon::logging::last_words;
use crate::exit::ExitStatus;
use crate::wire::subject::Subjects;

/// How often the bar is drawn, and looked whether all is done.
const TICK: Duration = Duration::from_millis(20);
/// The most that are under way while persons are written: what the smallest queue of a service has room for.
const IN_FLIGHT_WRITING_MAX: u64 = 1024;
/// A subject prefix with a token that begins so is meant for load.
const LOAD_TOKEN: &str = "bench";

impl Bench {
    /// Writes the persons, sends the load, says what came out.
    pub fn run(&self, config: &config::Client) -> Result<ExitStatus, Failure> {
        self.check_place(&config.subject_prefix)?;
        if self.in_flight < self.connections {
            let why = format!("--in-flight {} is too few for --connections {}", self.in_flight, self.connections);
            return Err(Failure::new(ExitStatus::Usage, why));
        }
        let processes = self.pid.iter().map(|pid| Process::find(*pid)).collect::<Result<Vec<_>, _>>()?;
        let persons = Persons::new(Subjects::new(&config.subject_prefix), self.seed);
        let mut out = Out::new();
        if !self.cold {
            self.write_persons(config, &persons)?;
        }
        if self.prepare_only {
            let persons = counted(self.persons, "person is", "persons are");
            out.line(format!("{persons} there, of {} each", counted(self.history, "commit", "commits")));
            return out.finish().map(|()| ExitStatus::Clean);
        }
        let mut connections = self.connections(config, &persons)?;
        let warm_up = self.warm_up();
        if !warm_up.is_zero() {
            let until = Instant::now() + warm_up;
            self.drive(&mut connections, Some(until), None, "warming up")?;
        }
        let (report, tally) = self.measure(&mut connections, &processes)?;
        let is_unheard = tally.refused() > 0 && tally.problems.keys().all(|code| code == "no_service");
        if tally.accepted == 0 && is_unheard {
            return Err(Failure::new(ExitStatus::Unavailable, no_responders(&commands(config))));
        }
        report.show(&mut out, self.json);
        out.finish()?;
        if report.is_generator_suspect() {
            last_words("note: this program was busy most of the time: more --connections may show a higher rate");
        }
        match tally.refused() {
            0 => Ok(ExitStatus::Clean),
            refused => {
                let message = counted(refused, "was not accepted: see its code", "were not accepted: see their codes");
                Err(Failure::new(ExitStatus::Refused, message))
            }
        }
    }

    /// Test persons are events, which stay: they are written only where that was meant.
    fn check_place(&self, prefix: &str) -> Result<(), Failure> {
        if self.leave_test_persons || prefix.split('.').any(|token| token.starts_with(LOAD_TOKEN)) {
            return Ok(());
        }
        Err(Failure::new(
            ExitStatus::Usage,
            format!(
                "bench writes test persons, which stay in the stream for good, and SUBJECT_PREFIX is {prefix}: start a \
                 service of its own for it, with SUBJECT_PREFIX={LOAD_TOKEN} STREAM_NAME=BENCH, and give bench the same \
                 prefix; or say --leave-test-persons"
            ),
        ))
    }

    fn write_persons(&self, config: &config::Client, persons: &Persons) -> Result<(), Failure> {
        let in_flight = self.in_flight.min(IN_FLIGHT_WRITING_MAX);
        let mut drivers = self.drivers(config, in_flight)?;
        let progress = Progress::default();
        let bar = bar(Some(self.persons * self.history), "writing persons");
        let written = together(&mut drivers, &progress, &bar, |part, driver| {
            let share = |part: u64| self.persons * part / self.connections;
            (0..self.history).find_map(|round| {
                let mut round = Round::new(persons, &progress, round, share(part)..share(part + 1));
                driver.drive(&mut round, None);
                round.failure()
            })
        })?;
        match written.into_iter().flatten().next() {
            None => Ok(()),
            Some(code) if code == "no_service" => {
                Err(Failure::new(ExitStatus::Unavailable, no_responders(&commands(config))))
            }
            Some(code) => Err(Failure::new(ExitStatus::Unavailable, format!("the persons cannot be written: {code}"))),
        }
    }

    fn measure(&self, connections: &mut [Connection], processes: &[Process]) -> Result<(Report, Tally), Failure> {
        let cpu = |process: &Process| process.cpu().unwrap_or_default();
        let used_before: Vec<Duration> = processes.iter().map(cpu).collect();
        let own_before = cpu::own();
        let began = Instant::now();
        let time = self.measured_time();
        let counted = self.drive(connections, time.map(|time| began + time), self.commands, "measuring")?;
        let own = cpu::own().saturating_sub(own_before);
        let used_after: Vec<Duration> = processes.iter().map(cpu).collect();
        let mut tally = Tally::new(None);
        counted.iter().for_each(|(part, _)| tally.add(part));
        let ended = counted.iter().map(|(_, ended)| *ended).max().unwrap_or(began);
        // Answers that come when the time is over do not count for the rate; a run may also end before.
        let took = time.unwrap_or(Duration::MAX).min(ended.saturating_duration_since(began));
        let used = processes.iter().zip(used_before.into_iter().zip(used_after));
        let usage = used.map(|(process, (before, after))| process.usage(before, after, tally.accepted)).collect();
        Ok((Report::new(self, &tally, took, own, usage), tally))
    }

    /// Has all connections send their load, and returns what each counted and when it was done.
    fn drive(
        &self,
        connections: &mut [Connection],
        until: Option<Instant>,
        count: Option<u64>,
        what: &'static str,
    ) -> Result<Vec<(Tally, Instant)>, Failure> {
        let progress = Progress::default();
        let length = count.or_else(|| until.is_none().then_some(self.persons));
        let bar = bar(length, what);
        let parts = self.connections;
        together(connections, &progress, &bar, |part, connection| {
            let share = count.map(|count| share(count, part, parts));
            let mut measured = Measured::new(&mut connection.load, &progress, until, share);
            connection.driver.drive(&mut measured, until);
            (measured.tally, Instant::now())
        })
    }

    fn connections(&self, config: &config::Client, persons: &Persons) -> Result<Vec<Connection>, Failure> {
        let parts = self.connections;
        let rate = self.rate.map(|rate| f64_of(rate) / f64_of(parts));
        let mut connections = Vec::new();
        for (part, mut driver) in (0..).zip(self.drivers(config, self.in_flight)?) {
            let load = Load::new(persons.clone(), self.persons, self.distribution(), &self.mix, part, parts);
            let load = load.ok_or_else(|| {
                let why = format!("--distribution {} is not for so many persons", self.distribution());
                Failure::new(ExitStatus::Usage, why)
            })?;
            driver.set_rate(rate);
            connections.push(Connection { driver, load });
        }
        Ok(connections)
    }

    fn drivers(&self, config: &config::Client, in_flight: u64) -> Result<Vec<Driver>, Failure> {
        let open = |part| {
            let mine = usize::try_from(share(in_flight, part, self.connections)).unwrap_or(usize::MAX);
            Client::open(config, "bench").map(|client| Driver::new(client.caller, mine, client.reply_wait))
        };
        (0..self.connections).map(open).collect()
    }
}

/// What falls to one of so many parts, so that all of them together have all.
fn share(of: u64, part: u64, parts: u64) -> u64 {
    let upto = |part: u64| u128::from(of) * u128::from(part) / u128::from(parts.max(1));
    u64::try_from(upto(part + 1) - upto(part)).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "rates and connections are small")]
fn f64_of(number: u64) -> f64 {
    number as f64
}

/// A connection and what it has to send.
struct Connection {
    driver: Driver,
    load: Load,
}

/// Runs the same on each connection, each in a thread of its own, and draws the bar meanwhile.
fn together<C: Send, T: Send>(
    connections: &mut [C],
    progress: &Progress,
    bar: &ProgressBar,
    run: impl Fn(u64, &mut C) -> T + Sync,
) -> Result<Vec<T>, Failure> {
    let began = Instant::now();
    let run = &run;
    let ended: Vec<thread::Result<T>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..).zip(connections).map(|(part, connection)| scope.spawn(move || run(part, connection))).collect();
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            draw(bar, progress, began);
            thread::sleep(TICK);
        }
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    bar.finish_and_clear();
    let panicked = |_| Failure::new(ExitStatus::Bug, "a thread of bench panicked, which is a bug");
    ended.into_iter().map(|result| result.map_err(panicked)).collect()
}

fn bar(length: Option<u64>, what: &'static str) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = match length {
        Some(_) => "{prefix} {bar:30} {percent:>3}%  {msg}",
        None => "{prefix} {spinner} {elapsed}  {msg}",
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_prefix(what)
}

fn draw(bar: &ProgressBar, progress: &Progress, began: Instant) {
    if bar.is_hidden() {
        return;
    }
    let (done, problems) = progress.counts();
    let rate = 1e6 / cpu::micros_each(began.elapsed(), done.max(1));
    let problems = if problems > 0 { format!(", {} not accepted", grouped(problems)) } else { String::new() };
    bar.set_position(done);
    bar.set_message(format!("{} accepted, {rate:.0} a second{problems}", grouped(done)));
}

fn commands(config: &config::Client) -> String {
    Subjects::new(&config.subject_prefix).all_commands()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_together_have_all() {
        for (of, parts) in [(1, 1), (64, 64), (100, 3), (65, 64), (u64::MAX, 64)] {
            let shares: Vec<u64> = (0..parts).map(|part| share(of, part, parts)).collect();
            assert_eq!(shares.iter().sum::<u64>(), of, "{of} in {parts}");
            assert!(shares.iter().all(|share| share.abs_diff(of / parts) <= 1), "{shares:?}");
        }
    }
}
