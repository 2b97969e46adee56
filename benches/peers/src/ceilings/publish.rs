//! Raw publish: messages stored in a row, each with its expected sequence, without anybody asking for them.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;

use super::Place;
use super::ledger::{Ledger, number};
use super::socket::{Socket, store};

/// Stores messages and says how many a second.
#[derive(Args)]
pub struct Publish {
    #[command(flatten)]
    place: Place,
    /// Messages under way
    #[arg(long, default_value_t = 512)]
    in_flight: u64,
    /// Subjects, in turn
    #[arg(long, default_value_t = 10_000)]
    persons: u64,
    /// How long
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

impl Publish {
    /// Stores, and prints the result as JSON.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut socket = Socket::open(&self.place)?;
        let mut ledger: Ledger<()> = Ledger::new();
        let event = ledger.event().to_vec();
        let (mut sent, mut stored, mut refused) = (0_u64, 0_u64, 0_u64);
        let began = Instant::now();
        let ends = began + Duration::from_secs_f64(self.seconds);
        while Instant::now() < ends {
            while sent - stored - refused < self.in_flight {
                let subject = format!("00000000-0000-4000-8000-{:012x}", sent % self.persons);
                sent += 1;
                if let Some(order) = ledger.command(subject.as_bytes(), ()) {
                    store(&mut socket.output, &self.place.prefix, &order, &event);
                }
            }
            socket.turn(|arrived, output| {
                let settled = number(arrived.subject).and_then(|at| ledger.acknowledged(at, arrived.payload));
                if let Some(settled) = settled {
                    let good = settled.text.contains("accepted");
                    stored += u64::from(good);
                    refused += u64::from(!good);
                    if let Some(order) = settled.next {
                        store(output, &self.place.prefix, &order, &event);
                    }
                }
            })?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let per_second = stored as f64 / seconds;
        println!(
            "{}",
            serde_json::json!({"accepted": stored, "refused": refused, "seconds": seconds, "per_second": per_second})
        );
        Ok(())
    }
}
