//! Starting threads so that each has a name, and a panic in one is not silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Whether some thread of the service panicked: then the process takes no more commands, answers what it can, and ends.
#[derive(Debug, Clone, Default)]
pub struct Poison(Arc<AtomicBool>);

impl Poison {
    /// Whether a thread panicked.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sets the poison unless it is told before that all went well.
struct OnPanic<'a>(&'a Poison);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set();
        }
    }
}

/// Starts a named thread. Its panic is logged by the hook, and poisons the process.
pub fn start(name: &str, poison: &Poison, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let poison = poison.clone();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _on_panic = OnPanic(&poison);
        body();
    })
}

/// Waits for threads to end, until the deadline at most. A thread that panicked has ended.
pub fn join_until(deadline: Instant, threads: Vec<JoinHandle<()>>) {
    const POLL: Duration = Duration::from_millis(2);
    let mut left = threads;
    loop {
        left.retain(|thread| !thread.is_finished());
        if left.is_empty() || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(POLL);
    }
}

/// Runs something that may hang on a thread of its own, and waits for its end, this long at most.
pub fn within(limit: Duration, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
    join_until(Instant::now() + limit, vec![thread]);
    Ok(())
}
