//! All figures.

use super::Kind::{Counter, Gauge, Histogram};
use super::Scope::{Commands, Process, Queries};
use super::{Figure, Kind, Reading, Scope, Times, Values};
use crate::daemon::reasons::Reason;
use crate::daemon::statistics::{Stages, Tally};
use crate::nats::Health;
use crate::wire::reply::Code;

/// A figure that stands in no line.
const fn figure(
    name: &'static str,
    help: &'static str,
    kind: Kind,
    scope: Scope,
    read: fn(&Reading) -> Values,
) -> Figure {
    Figure { name, help, kind, scope, minute: None, status: None, read }
}

impl Figure {
    const fn minute(self, word: &'static str) -> Self {
        Self { minute: Some(word), ..self }
    }

    const fn status(self, word: &'static str) -> Self {
        Self { status: Some(word), ..self }
    }
}

/// Every figure, in the order in which people read them.
pub static FIGURES: &[Figure] = &[
    figure("commands_accepted_total", "Commands carried out, or with nothing to change.", Counter, Commands, |now| {
        one(now.tally.accepted)
    })
    .minute("accepted")
    .status("accepted"),
    figure(
        "commands_duplicate_total",
        "Accepted commands that had been carried out by an earlier delivery.",
        Counter,
        Commands,
        |now| one(now.tally.duplicates),
    )
    .minute("duplicates"),
    figure(
        "commands_rejected_total",
        "Commands that were wrong for the state they met, by code.",
        Counter,
        Commands,
        |now| by_code(now, |code| !code.is_failure(), |tally| &tally.problems),
    )
    .minute("rejected")
    .status("rejected"),
    figure(
        "commands_failed_total",
        "Commands that could not be decided or stored, by code.",
        Counter,
        Commands,
        |now| by_code(now, Code::is_failure, |tally| &tally.problems),
    )
    .minute("failed")
    .status("failed"),
    figure(
        "requests_dropped_total",
        "Requests that were not carried out because of a reply subject that is not allowed.",
        Counter,
        Commands,
        |now| one(now.tally.dropped),
    )
    .minute("dropped"),
    figure(
        "replies_unsent_total",
        "Replies that could not be sent, since NATS was away or mute: their clients ask again.",
        Counter,
        Commands,
        |now| one(now.tally.unsent),
    )
    .minute("unsent"),
    figure("command_duration_seconds", "From a command's arrival to its answer.", Histogram, Commands, |now| {
        Values::Times(Times::new(&now.tally.command, &now.before.command))
    })
    .minute("command ms")
    .status("command ms"),
    figure(
        "stage_duration_seconds",
        "The stages: a command's wait in the queue; reading, storing and confirming, in turns that do; whole turns.",
        Histogram,
        Commands,
        stages,
    )
    .minute("stage ms"),
    figure("queue_commands", "Commands that wait for a worker.", Gauge, Commands, |now| count(now.queue_len))
        .minute("queue")
        .status("queue"),
    figure(
        "queue_capacity_commands",
        "Commands that can wait; beyond it they are refused as overloaded.",
        Gauge,
        Commands,
        |now| count(now.queue_len_max),
    ),
    figure("commands_in_flight", "Commands taken on and not answered yet.", Gauge, Commands, |now| one(now.in_flight))
        .minute("in flight")
        .status("in flight"),
    figure("commits_total", "Commits stored.", Counter, Commands, |now| one(now.tally.turns.commits)).minute("commits"),
    figure(
        "conflicts_total",
        "Commits that were not stored because another replica's came first; their commands are decided again.",
        Counter,
        Commands,
        |now| one(now.tally.turns.conflicts),
    )
    .minute("conflicts"),
    figure("appends_unsettled_total", "Commits for which no acknowledgement came in time.", Counter, Commands, |now| {
        one(now.tally.turns.unsettled)
    })
    .minute("unsettled"),
    figure("cache_hits_total", "Persons found in memory.", Counter, Commands, |now| one(now.tally.turns.cache_hits))
        .minute("cache hits"),
    figure("cache_misses_total", "Persons not found in memory, new ones among them.", Counter, Commands, |now| {
        one(now.tally.turns.cache_misses)
    })
    .minute("misses"),
    figure("cached_persons", "Persons in memory.", Gauge, Commands, |now| one(now.tally.cached_persons)),
    figure("loads_total", "Persons read from snapshot and stream.", Counter, Commands, |now| {
        one(now.tally.turns.loads)
    })
    .minute("loads"),
    figure(
        "tails_total",
        "Persons in memory whose newer commits were read, after a conflict.",
        Counter,
        Commands,
        |now| one(now.tally.turns.tails),
    )
    .minute("tails"),
    figure("members", "Replicas that share the persons, this one included.", Gauge, Commands, |now| {
        one(now.tally.members)
    })
    .minute("members")
    .status("members"),
    figure(
        "handed_over_total",
        "Commands that were handed to the homes of their persons, which are other replicas.",
        Counter,
        Commands,
        |now| one(now.tally.handed_over),
    )
    .minute("handed over"),
    figure("taken_over_total", "Commands that other replicas handed over to this one.", Counter, Commands, |now| {
        one(now.tally.taken_over)
    })
    .minute("taken over"),
    figure(
        "taken_back_total",
        "Commands that were handed over, were not taken in time, and were carried out where they had arrived.",
        Counter,
        Commands,
        |now| one(now.tally.taken_back),
    )
    .minute("taken back"),
    figure(
        "replay_loops_total",
        "Times that one person's commands met conflict after conflict, and it was loaded again and again.",
        Counter,
        Commands,
        |now| one(now.tally.turns.replay_loops),
    )
    .minute("replay loops"),
    figure("snapshots_written_total", "Snapshots written.", Counter, Commands, |now| one(now.tally.snapshots_written))
        .minute("snapshots"),
    figure("snapshots_failed_total", "Snapshots that the store did not take.", Counter, Commands, |now| {
        one(now.tally.snapshots_failed)
    })
    .minute("snapshots failed"),
    figure("snapshots_skipped_total", "Snapshots not written because too many waited.", Counter, Commands, |now| {
        one(now.tally.snapshots_skipped)
    }),
    figure("queries_answered_total", "Queries answered.", Counter, Queries, |now| one(now.tally.queries))
        .minute("queries")
        .status("queries"),
    figure("queries_refused_total", "Queries that were refused or failed, by code.", Counter, Queries, |now| {
        by_code(now, |_| true, |tally| &tally.query_problems)
    })
    .minute("queries refused"),
    figure("query_duration_seconds", "From a query's arrival to its answer.", Histogram, Queries, |now| {
        Values::Times(Times::new(&now.tally.query, &now.before.query))
    })
    .minute("query ms"),
    figure("ready", "1 when a command sent now would be answered, else 0.", Gauge, Process, |now| {
        one(u64::from(now.is_ready))
    }),
    figure(
        "not_serving",
        "1 for each reason for which the service does not serve now, else 0.",
        Gauge,
        Process,
        |now| by_reason(Reason::all(), |reason| u64::from(now.reasons.contains(&reason))),
    ),
    figure(
        "nats_connects_failed_total",
        "Attempts to connect to NATS that failed, by reason.",
        Counter,
        Process,
        |now| {
            by_reason(Reason::OF_CONNECTIONS.into_iter(), |reason| {
                now.connects_failed.get(&reason).copied().unwrap_or(0)
            })
        },
    ),
    figure(
        "stream_conflicts",
        "Other streams that take the service's subjects and acknowledge: clients get that in place of the reply.",
        Gauge,
        Process,
        |now| one(now.tally.stream_conflicts),
    ),
    figure("nats_connected", "1 while the connection to NATS stands, else 0.", Gauge, Process, |now| {
        by_connection(now, |health| f64::from(u8::from(health.connected)))
    }),
    figure("nats_connections_lost_total", "Connections to NATS that were lost.", Counter, Process, |now| {
        by_connection(now, |health| number(health.generation))
    }),
    figure(
        "nats_silent_seconds",
        "The time since a round trip to NATS last came back; below one while all is well.",
        Gauge,
        Process,
        |now| by_connection(now, |health| health.silent_for.as_secs_f64()),
    ),
    figure(
        "log_lines_waiting",
        "Lines of the log that wait to be written; it does not fall back to 0 where nobody reads the log.",
        Gauge,
        Process,
        |now| count(now.log_lines_waiting),
    ),
    figure(
        "log_lines_dropped_total",
        "Lines of the log that were dropped, because they could not be written in time.",
        Counter,
        Process,
        |now| one(now.log_lines_dropped),
    ),
    figure(
        "clock_offset_seconds",
        "How far our clock is ahead of the server's; below 0 when it is behind, 0 until they were compared.",
        Gauge,
        Process,
        |now| Values::One(now.clock_offset.map_or(0.0, |offset| whole_micros(offset.ahead_micros))),
    ),
    figure("start_time_seconds", "When the process started, in seconds since 1970.", Gauge, Process, |now| {
        Values::One(now.started.map_or(0.0, |started| whole_seconds(started.as_micros())))
    }),
    figure("uptime_seconds", "How long the process has run.", Gauge, Process, |now| {
        Values::One(now.uptime.as_secs_f64())
    }),
    figure("build_info", "1, with the version of the service.", Gauge, Process, |_| {
        Values::By("version", vec![(env!("CARGO_PKG_VERSION").to_owned(), 1.0)])
    }),
    figure(
        "nats_server_info",
        "1, with the version of the server that the store is connected to.",
        Gauge,
        Process,
        |now| Values::By("version", now.server_version.iter().map(|version| (version.clone(), 1.0)).collect()),
    ),
];

fn stages(now: &Reading) -> Values {
    let Stages { queue, load, append, confirm, turn } = &now.tally.stages;
    let before = &now.before.stages;
    Values::TimesBy(
        "stage",
        vec![
            ("queue", Times::new(queue, &before.queue)),
            ("load", Times::new(load, &before.load)),
            ("append", Times::new(append, &before.append)),
            ("confirm", Times::new(confirm, &before.confirm)),
            ("turn", Times::new(turn, &before.turn)),
        ],
    )
}

fn one(value: u64) -> Values {
    Values::One(number(value))
}

fn count(value: usize) -> Values {
    one(value as u64)
}

/// Beyond 2^53, which no count of ours reaches, the last digits would be lost.
#[expect(clippy::cast_precision_loss, reason = "every figure of Prometheus is a double")]
fn number(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "a time of day in whole seconds is far below 2^53")]
fn whole_seconds(micros: i64) -> f64 {
    (micros / 1_000_000) as f64
}

#[expect(clippy::cast_precision_loss, reason = "a clock that is so far off may be off by a microsecond more")]
fn whole_micros(micros: i64) -> f64 {
    micros as f64 / 1_000_000.0
}

/// Every code that may come stands there from the start, so that a rate over it has something to begin with.
fn by_code(
    now: &Reading,
    is_one: fn(Code) -> bool,
    counts: fn(&Tally) -> &std::collections::BTreeMap<Code, u64>,
) -> Values {
    let codes = Code::ALL.into_iter().filter(|code| is_one(*code));
    let counted = |code: Code| (code.as_str().to_owned(), number(counts(&now.tally).get(&code).copied().unwrap_or(0)));
    Values::By("code", codes.map(counted).collect())
}

/// Every reason stands there, so that an alert has something to look at.
fn by_reason(reasons: impl Iterator<Item = Reason>, value: impl Fn(Reason) -> u64) -> Values {
    Values::By("reason", reasons.map(|reason| (reason.name().to_owned(), number(value(reason)))).collect())
}

fn by_connection(now: &Reading, value: fn(&Health) -> f64) -> Values {
    let named = |(name, health): &(&'static str, Health)| ((*name).to_owned(), value(health));
    Values::By("connection", now.connections.iter().map(named).collect())
}
