//! The log: one line an event, for the journal, for a person, or as JSON for whatever gathers it.
//!
//! A line may have fields besides its message, such as `person_id` and `error_code`: the key-values of the `log` crate.
//!
//! Under systemd stderr is the journal's socket and `JOURNAL_STREAM` names it: then events go to the journal by its own
//! protocol, in which fields are fields. Where that cannot be, a line on stderr begins with its priority, `<4>`, which
//! the journal takes off, and has no time, since the journal has its own. Elsewhere a line begins with the time and the
//! level, in colour on a terminal. Control characters are escaped, so that nobody can begin a line.
//!
//! Whoever logs puts the finished line into a queue and goes on; one thread writes. So a log that nobody reads
//! stops nothing, neither a command nor a signal nor the end of the process.

mod line;
mod queue;

use std::io::{self, ErrorKind, Write as _};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::{LevelSource, LogFormat};
use crate::daemon::journal::{Journal, SOCKET};
use crate::daemon::threads;
use line::{Escaped, Form, Line, form, priority};
use queue::{Entry, Gap, Item, LogQueue};

/// How long the end of the service waits for its last lines to be written, and a thread that panicked for its one.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the supervisor waits for the log level to be read again.
const RELOAD_WAIT: Duration = Duration::from_millis(250);
/// The pause of the thread that writes, where stderr was made non-blocking by others who share it, and is full.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// The name of the thread that writes.
const THREAD: &str = "log";

/// The log of the process.
static QUEUE: LogQueue = LogQueue::new();
/// Whether the thread that writes was started.
static STARTED: Mutex<bool> = Mutex::new(false);

/// Starts the log, for the rest of the process, and lets panics be logged as events, too. The second call only sets the
/// level.
///
/// # Errors
/// The thread that writes cannot be started.
pub fn start(level: LevelFilter, format: LogFormat) -> io::Result<()> {
    start_with(level, format, SOCKET)
}

/// The same, with the journal listening at this path.
///
/// # Errors
/// The thread that writes cannot be started.
pub fn start_with(level: LevelFilter, format: LogFormat, journal: &str) -> io::Result<()> {
    let form = form(format);
    let journal = (format == LogFormat::Auto && form == Form::Journal).then(|| Journal::open(journal).ok()).flatten();
    let filter = env_logger::Builder::new()
        // Others (the NATS client, TLS) speak up only when something is wrong. Of the service's own lines the global
        // level decides, which can be changed while it runs; env_logger's cannot.
        .filter_level(LevelFilter::Warn)
        .filter_module(env!("CARGO_CRATE_NAME"), LevelFilter::Trace)
        .build();
    let logger = Logger { filter, form, has_journal: journal.is_some() };
    start_writer(form, journal)?;
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    log::set_max_level(level);
    Ok(())
}

/// Reads the level again, at SIGHUP, and says what came of it.
pub fn reload_level(source: &LevelSource) {
    let old = log::max_level();
    match source.read() {
        Ok(new) => {
            // Said while the more talkative of the two is in force, or nobody would see it.
            log::set_max_level(old.max(new));
            log::info!("LOG_LEVEL is now {}, it was {}", name(new), name(old));
            log::set_max_level(new);
        }
        Err(reason) => log::warn!("LOG_LEVEL stays {}: {reason}", name(old)),
    }
}

/// The same on a thread of its own, which is waited for for a moment only: the file may lie on a disk that hangs.
pub fn reload_level_in_time(source: &LevelSource) {
    static IS_READING: AtomicBool = AtomicBool::new(false);
    if IS_READING.swap(true, Ordering::SeqCst) {
        return log::warn!("LOG_LEVEL stays {}: the file is still being read", name(log::max_level()));
    }
    let source = source.clone();
    let started = threads::within(RELOAD_WAIT, "reload", move || {
        reload_level(&source);
        IS_READING.store(false, Ordering::SeqCst);
    });
    if let Err(error) = started {
        IS_READING.store(false, Ordering::SeqCst);
        log::warn!("LOG_LEVEL stays {}: {error}", name(log::max_level()));
    }
}

/// A line of a client, or its last. It is written before this returns: whoever reads it may hold a client up, as with any
/// tool, but nothing of it may be lost.
pub fn last_words(message: &str) {
    write_out();
    // Where stderr is gone there is nobody to tell.
    let _ = io::stderr().write_all(words(message).as_bytes());
}

/// The last line of a process that may be the service and ends before its log has started. A stderr that nobody reads
/// does not hold it up.
pub fn last_words_in_time(message: &str) {
    match start_writer(form(LogFormat::Auto), None) {
        Ok(()) => {
            QUEUE.push(Entry { line: words(message), datagram: None, is_error: true });
            write_out_in_time();
        }
        Err(_) => last_words(message),
    }
}

/// Waits until all that was logged is written, for as long as that takes: for clients.
pub fn write_out() {
    QUEUE.wait_until_written(None);
}

/// The same, for no longer than the end of a service may be held up.
pub fn write_out_in_time() {
    QUEUE.wait_until_written(Some(FAREWELL));
}

/// Lines that were dropped since the start, because they could not be written.
pub fn lines_dropped() -> u64 {
    QUEUE.dropped()
}

/// Lines that wait to be written.
pub fn lines_waiting() -> usize {
    QUEUE.waiting()
}

fn words(message: &str) -> String {
    match form(LogFormat::Auto) {
        Form::Journal => format!("<{}>{}\n", priority(Level::Error), Escaped(message)),
        _ => format!("person-service: {}\n", Escaped(message)),
    }
}

/// What takes events in. It decides by env_logger's filters; all else happens on the thread that writes.
struct Logger {
    filter: env_logger::Logger,
    form: Form,
    has_journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) {
            QUEUE.push(entry(self.form, self.has_journal, record));
        }
    }

    fn flush(&self) {
        write_out_in_time();
    }
}

/// The event as it is now: with the time of this moment, whenever it is written.
fn entry(form: Form, has_journal: bool, record: &Record<'_>) -> Entry {
    Entry {
        line: format!("{}\n", Line { form, record }),
        datagram: has_journal.then(|| line::datagram(record)),
        is_error: record.level() == Level::Error,
    }
}

/// Starts the thread that writes, once. It is nobody's: it ends with the process, which waits for its queue.
fn start_writer(form: Form, journal: Option<Journal>) -> io::Result<()> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*started {
        let writer = Writer { form, journal, missing: None };
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || writer.write_all())?;
        *started = true;
    }
    Ok(())
}

/// The end at which lines are written.
struct Writer {
    form: Form,
    journal: Option<Journal>,
    /// What could not be written, and is to be said before the next line.
    missing: Option<Gap>,
}

impl Writer {
    fn write_all(mut self) {
        loop {
            match QUEUE.next() {
                // What came before it is written, so that there is somebody to say it to.
                Item::Gap(gap) => {
                    self.add_missing(gap);
                    self.say_missing();
                }
                Item::Entry(entry) if self.say_missing() && self.write(&entry).is_ok() => {}
                Item::Entry(_) => {
                    QUEUE.count_dropped();
                    self.add_missing(Gap { lines: 1, since: jiff::Timestamp::now() });
                }
            }
        }
    }

    fn add_missing(&mut self, gap: Gap) {
        match &mut self.missing {
            Some(missing) => missing.lines += gap.lines,
            None => self.missing = Some(gap),
        }
    }

    /// Says how many lines are missing here, if any are; whether it could be said.
    fn say_missing(&mut self) -> bool {
        let Some(Gap { lines, since }) = self.missing else { return true };
        let args =
            format_args!("{lines} lines of the log were dropped, the first at {since:.3}: they could not be written");
        let record = Record::builder().level(Level::Warn).target(module_path!()).args(args).build();
        let is_said = self.write(&entry(self.form, self.journal.is_some(), &record)).is_ok();
        if is_said {
            self.missing = None;
        }
        is_said
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        match (&self.journal, &entry.datagram) {
            (Some(journal), Some(datagram)) if journal.send(datagram).is_ok() => Ok(()),
            _ => write_to_stderr(entry.line.as_bytes()),
        }
    }
}

/// Writes all of it, however long that takes.
fn write_to_stderr(mut left: &[u8]) -> io::Result<()> {
    while !left.is_empty() {
        match io::stderr().write(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Logs a panic as one event. A message made at run time is left out, since it may quote the value that it stumbled over,
/// and no personal data goes into the log; the place says enough to find it. The line is waited for: the panic may be
/// the end of the process.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let message = panic.payload().downcast_ref::<&'static str>().unwrap_or(&"(message left out: it may quote data)");
    match panic.location() {
        Some(place) => log::error!(error_code = "panic"; "a bug: thread {thread} panicked at {place}: {message}"),
        None => log::error!(error_code = "panic"; "a bug: thread {thread} panicked: {message}"),
    }
    if thread != THREAD {
        write_out_in_time();
    }
}

/// The level as it is written in the configuration.
fn name(level: LevelFilter) -> String {
    level.as_str().to_ascii_lowercase()
}
