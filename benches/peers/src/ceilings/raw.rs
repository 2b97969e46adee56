//! The raw loop: the socket by hand. What is left is what the server can do.

use std::error::Error;

use super::Place;
use super::ledger::{Ledger, number};
use super::socket::{Socket, publish, store};

/// Answers until it is killed.
pub fn run(place: &Place) -> Result<(), Box<dyn Error>> {
    let mut socket = Socket::open(place)?;
    socket.output.extend_from_slice(format!("SUB {}.commands.> person-service 2\r\n", place.prefix).as_bytes());
    socket.output.extend_from_slice(b"PING\r\n");
    // The answer to PING says that the subscription is there.
    socket.turn(|_, _| {})?;
    println!("ready");
    let mut ledger: Ledger<Vec<u8>> = Ledger::new();
    let event = ledger.event().to_vec();
    loop {
        socket.turn(|arrived, output| {
            if arrived.subscription == b"2" {
                let order = arrived.reply.and_then(|reply| ledger.command(arrived.subject, reply.to_vec()));
                if let Some(order) = order {
                    store(output, &place.prefix, &order, &event);
                }
                return;
            }
            let settled = number(arrived.subject).and_then(|at| ledger.acknowledged(at, arrived.payload));
            if let Some(settled) = settled {
                publish(output, &settled.reply, settled.text.as_bytes());
                if let Some(order) = settled.next {
                    store(output, &place.prefix, &order, &event);
                }
            }
        })?;
    }
}
