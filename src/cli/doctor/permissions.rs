//! What this user may do, as the start tries it, and whether there is room for more.

use super::Place;
use super::report::Report;
use super::streams::Found;
use crate::nats::{Cause, Need, Outcome, There, Trial};

/// Tries everything that the service does.
pub fn try_all(place: &mut Place<'_>, found: &Found, report: &mut Report) {
    let there = There {
        jetstream: found.jetstream,
        commits: found.commits,
        with_snapshots: place.config.snapshot_frequency > 0,
        to_create: place.config.store.create && !(found.commits && found.snapshots),
        is_alone: true,
    };
    let trial = Trial::run(&mut place.examiner, &place.layout, &place.subjects, there);
    for obstacle in &trial.obstacles {
        let about = match obstacle.cause {
            Cause::Full => "room",
            Cause::Crowded => "connection",
            Cause::NoRight => "permissions",
            _ => "stream",
        };
        report.obstacle(about, obstacle);
    }
    for lacking in trial.lacking(Need::Snapshots) {
        report.warning("permissions", format!("no snapshots: this user may not {lacking}"));
    }
    for lacking in trial.lacking(Need::Sharing) {
        let instead = "beside others it serves alone, and they get in each other's way";
        report.warning("permissions", format!("this user may not {lacking}: {instead}"));
    }
    for silent in trial.tried.iter().filter(|one| one.outcome == Outcome::Silent && one.need != Need::Work) {
        report.warning("permissions", format!("no answer when trying to {silent}"));
    }
    if !trial.tried.iter().any(|one| matches!(one.outcome, Outcome::Denied | Outcome::Silent)) {
        report.ok("permissions", format!("this user may do all {} things that were tried", trial.tried.len()));
    }
}
