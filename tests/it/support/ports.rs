//! Ports for what has to know its own before it starts.

use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;

/// Below those that systems give to whoever asks for any, so that none of these is given to somebody else meanwhile.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// What keeps the ports that were given out.
static KEPT: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// Free TCP ports of the loopback, kept for this process until its end: to the tests of another process on this machine
/// they are not free. What shows that is a UDP socket on the same number, which is in nobody's way.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let mut kept = KEPT.lock().unwrap();
    // Each process begins elsewhere, and goes on where it left off.
    let begin = usize::try_from(std::process::id()).unwrap() * 101 + kept.len();
    let len = usize::from(LAST - FIRST);
    let mut candidates = (0..len).map(|at| FIRST + u16::try_from((begin + at) % len).unwrap());
    std::array::from_fn(|_| {
        let free = candidates.find_map(|port| {
            let mark = UdpSocket::bind(("127.0.0.1", port)).ok()?;
            TcpListener::bind(("127.0.0.1", port)).ok()?;
            kept.push(mark);
            Some(port)
        });
        free.expect("a free port")
    })
}

#[test]
fn no_port_is_given_out_twice_and_all_can_be_listened_on() {
    let ports: Vec<u16> = (0..20).flat_map(|_| free_ports::<3>()).collect();
    let listeners: Vec<TcpListener> =
        ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).expect("it is free")).collect();
    assert_eq!(listeners.len(), 60);
}
