//! The figures as `$SRV.STATS` tells them: the endpoints' own counts, and `data` beside them.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{FIGURES, Figure, Reading, Scope, Times, Values};
use crate::daemon::latencies::Latencies;
use crate::wire::reply::Code;
use crate::wire::service::EndpointStats;

/// What is told of the commands.
pub fn commands_endpoint(now: &Reading) -> EndpointStats {
    let errors = now.tally.problems.values().sum();
    let data = data(now, &[Scope::Commands, Scope::Process]);
    endpoint(now.tally.commands(), errors, now.tally.last_problem, &now.tally.command, data)
}

/// What is told of the queries.
pub fn queries_endpoint(now: &Reading) -> EndpointStats {
    let errors: u64 = now.tally.query_problems.values().sum();
    let data = data(now, &[Scope::Queries]);
    endpoint(now.tally.queries + errors, errors, now.tally.last_query_problem, &now.tally.query, data)
}

fn endpoint(
    num_requests: u64,
    num_errors: u64,
    last: Option<(Instant, Code)>,
    times: &Latencies,
    data: Value,
) -> EndpointStats {
    let processing_time = u64::try_from(times.sum().as_nanos()).unwrap_or(u64::MAX);
    EndpointStats {
        num_requests,
        num_errors,
        last_error: last.map_or("", |(_, code)| code.as_str()),
        processing_time,
        average_processing_time: processing_time.checked_div(num_requests).unwrap_or(0),
        data,
    }
}

fn data(now: &Reading, scopes: &[Scope]) -> Value {
    let figures = FIGURES.iter().filter(|figure| scopes.contains(&figure.scope));
    Value::Object(figures.map(|figure| (key(figure).to_owned(), value((figure.read)(now)))).collect())
}

/// The name without what only Prometheus wants.
fn key(figure: &Figure) -> &'static str {
    figure.name.strip_suffix("_total").unwrap_or(figure.name)
}

fn value(values: Values) -> Value {
    match values {
        Values::One(value) => number(value),
        Values::By(_, values) => object(values.into_iter().map(|(name, value)| (name, number(value)))),
        Values::Times(times) => percentiles(&times),
        Values::TimesBy(_, times) => {
            object(times.into_iter().map(|(name, times)| (name.to_owned(), percentiles(&times))))
        }
    }
}

fn object(members: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Object(members.collect::<Map<_, _>>())
}

/// How many since the start; the percentiles of the last minute or two, in seconds.
fn percentiles(times: &Times) -> Value {
    let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|share| times.lately.quantile(share).as_secs_f64());
    json!({"count": times.all.count(), "p50": p50, "p95": p95, "p99": p99, "max": max})
}

/// Whole numbers are written as such.
fn number(value: f64) -> Value {
    let whole = Duration::try_from_secs_f64(value).ok().filter(|_| value.fract() == 0.0);
    whole.map_or_else(|| json!(value), |whole| json!(whole.as_secs()))
}
