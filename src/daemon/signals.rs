//! Signals as messages: one thread waits for them, everyone else selects on a channel.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

/// Signals that may wait to be read. They mean the same however often they come.
const SIGNALS_LEN_MAX: usize = 8;
/// Of these, how many may be [`Signal::Reload`], so that a flood of them leaves room for the others.
const RELOADS_LEN_MAX: usize = 4;

/// What the outside asks for by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The first SIGTERM or SIGINT: take no more commands, answer those taken, leave.
    Stop,
    /// Another SIGTERM or SIGINT: leave at once.
    StopNow,
    /// SIGHUP: read the log level again.
    Reload,
}

/// The thread that waits for signals has ended, so that none arrives any more. A process that nobody can stop is to end by
/// itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread that waits for signals has ended, so that nobody could stop the process")]
pub struct Deaf;

/// The thread that waits for signals, to the end of the process. While it lives, none of the three ends the process by
/// itself.
#[derive(Debug)]
pub struct Signals {
    received: Receiver<Signal>,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP.
    pub fn take_over() -> io::Result<Self> {
        let incoming = Incoming::new([SIGTERM, SIGINT, SIGHUP])?;
        let (sender, received) = bounded(SIGNALS_LEN_MAX);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || wait(incoming, &sender))?;
        Ok(Self { received })
    }

    /// Where the signals arrive, for a `select!`. It disconnects when the thread has ended, which is [`Deaf`].
    pub fn received(&self) -> &Receiver<Signal> {
        &self.received
    }

    /// The next signal, if one comes within this time.
    pub fn next_within(&self, wait: Duration) -> Result<Option<Signal>, Deaf> {
        match self.received.recv_timeout(wait) {
            Ok(signal) => Ok(Some(signal)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Deaf),
        }
    }

    /// A signal that has come already.
    pub fn waiting(&self) -> Result<Option<Signal>, Deaf> {
        self.next_within(Duration::ZERO)
    }
}

fn wait(mut incoming: Incoming, sender: &Sender<Signal>) {
    let mut stopping = false;
    for number in incoming.forever() {
        let signal = meaning(number, stopping);
        stopping |= signal == Signal::Stop;
        if signal == Signal::Reload && sender.len() >= RELOADS_LEN_MAX {
            continue;
        }
        // Full means that several `StopNow` wait already.
        if let Err(TrySendError::Disconnected(_)) = sender.try_send(signal) {
            return;
        }
    }
}

fn meaning(number: i32, stopping: bool) -> Signal {
    match (number, stopping) {
        (SIGHUP, _) => Signal::Reload,
        (_, false) => Signal::Stop,
        (_, true) => Signal::StopNow,
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn signals_arrive_by_their_meaning() {
        let signals = Signals::take_over().expect("signals can be taken over");
        let mut seen = Vec::new();
        for number in [SIGHUP, SIGTERM, SIGHUP, SIGINT, SIGTERM] {
            raise(number).expect("a process may signal itself");
            seen.push(signals.received().recv_timeout(Duration::from_secs(10)).expect("it arrives"));
        }
        assert_eq!(signals.next_within(Duration::ZERO), Ok(None));
        use Signal::{Reload, Stop, StopNow};
        assert_eq!(seen, [Reload, Stop, Reload, StopNow, StopNow]);
    }

    /// The supervisor took a closed channel for a tick without a signal, and turned as fast as it could; the drain took it
    /// for no signal, and the start went on without ever looking for one.
    #[test]
    fn a_thread_of_signals_that_has_ended_is_no_silence() {
        let (sender, received) = bounded(SIGNALS_LEN_MAX);
        let signals = Signals { received };
        sender.send(Signal::Reload).expect("there is room");
        drop(sender);
        assert_eq!(signals.next_within(Duration::from_secs(10)), Ok(Some(Signal::Reload)), "what came before counts");
        assert_eq!(signals.next_within(Duration::from_secs(10)), Err(Deaf));
        assert_eq!(signals.waiting(), Err(Deaf));
    }
}
