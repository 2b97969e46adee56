//! Raw publish: messages stored in a row, each with its expected sequence, without anybody asking for them; one by one, or
//! several persons' together in atomic batches, which the server writes at once.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;

use super::Place;
use super::ledger::{Ledger, ToStore, number, sequence};
use super::socket::{Socket, store, store_in_batch};

/// Stores messages and says how many a second.
#[derive(Args)]
pub struct Publish {
    #[command(flatten)]
    place: Place,
    /// Messages under way
    #[arg(long, default_value_t = 512)]
    in_flight: u64,
    /// Subjects, in turn; more than are under way
    #[arg(long, default_value_t = 10_000)]
    persons: u64,
    /// Messages in an atomic batch, each of another person; 1 for none
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// How long
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// What became of the messages.
#[derive(Default)]
struct Count {
    sent: u64,
    stored: u64,
    refused: u64,
}

impl Publish {
    /// Stores, and prints the result as JSON.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut socket = Socket::open(&self.place)?;
        let began = Instant::now();
        let ends = began + Duration::from_secs_f64(self.seconds);
        let count = if self.batch > 1 { self.batches(&mut socket, ends)? } else { self.singles(&mut socket, ends)? };
        let seconds = began.elapsed().as_secs_f64();
        let per_second = count.stored as f64 / seconds;
        println!(
            "{}",
            serde_json::json!({
                "accepted": count.stored, "not_accepted": count.refused, "seconds": seconds, "per_second": per_second,
            })
        );
        Ok(())
    }

    fn singles(&self, socket: &mut Socket, ends: Instant) -> Result<Count, Box<dyn Error>> {
        let mut ledger: Ledger<()> = Ledger::new();
        let event = ledger.event().to_vec();
        let mut count = Count::default();
        while Instant::now() < ends {
            while count.sent - count.stored - count.refused < self.in_flight {
                let subject = person(count.sent % self.persons);
                count.sent += 1;
                if let Some(order) = ledger.command(subject.as_bytes(), ()) {
                    store(&mut socket.output, &self.place.prefix, &order, &event);
                }
            }
            socket.turn(|arrived, output| {
                let settled = number(arrived.subject).and_then(|at| ledger.acknowledged(at, arrived.payload));
                if let Some(settled) = settled {
                    let good = settled.text.contains("accepted");
                    count.stored += u64::from(good);
                    count.refused += u64::from(!good);
                    if let Some(order) = settled.next {
                        store(output, &self.place.prefix, &order, &event);
                    }
                }
            })?;
        }
        Ok(count)
    }

    fn batches(&self, socket: &mut Socket, ends: Instant) -> Result<Count, Box<dyn Error>> {
        let event = Ledger::<()>::new().event().to_vec();
        let mut sequences: HashMap<u64, u64> = HashMap::new();
        let mut under_way: HashMap<u64, Vec<u64>> = HashMap::new();
        let (mut count, mut next_batch) = (Count::default(), 0);
        while Instant::now() < ends {
            while count.sent - count.stored - count.refused < self.in_flight {
                let persons: Vec<u64> = (0..self.batch).map(|at| (count.sent + at) % self.persons).collect();
                count.sent += self.batch;
                for (at, number) in (1..).zip(&persons) {
                    let id = *person(*number).as_bytes().last_chunk().ok_or("an id of another length")?;
                    let expected = sequences.get(number).copied().unwrap_or(0);
                    let order = ToStore { id, number: next_batch, expected };
                    store_in_batch(&mut socket.output, &self.place.prefix, &order, &event, at, at == self.batch);
                }
                under_way.insert(next_batch, persons);
                next_batch += 1;
            }
            socket.turn(|arrived, _| {
                let Some(persons) = number(arrived.subject).and_then(|at| under_way.remove(&at)) else { return };
                match sequence(arrived.payload) {
                    Some(last) => {
                        count.stored += self.batch;
                        sequences.extend(persons.iter().rev().zip((0..=last).rev()).map(|(person, at)| (*person, at)));
                    }
                    None => {
                        eprintln!("{}", String::from_utf8_lossy(arrived.payload));
                        count.refused += self.batch;
                    }
                }
            })?;
        }
        Ok(count)
    }
}

fn person(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}
