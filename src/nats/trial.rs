//! Trying what the service does, in ways that cannot succeed: its rights, and whether there is room for more.
//!
//! A commit is offered for a person whom nobody knows, beneath a commit that there cannot be: whoever may publish there is
//! told so by the stream, which refuses it, and it names the stream, so that no other one takes it. It is offered as an
//! atomic batch of one, since nats-server looks whether there is room before it looks at what a batch expects.
//! Subscriptions are to subjects to which nobody sends.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::account::Account;
use super::api::ApiError;
use super::examiner::{Examiner, Question, Said};
use super::layout::Layout;
use super::obstacle::{Cause, Consequence, Obstacle};
use super::provision::Prepared;
use super::store::Store;
use crate::config::Config;
use crate::domain::PersonId;
use crate::wire::service::ALL_SERVICES;
use crate::wire::subject::{SERVICE_NAME, Subjects};

/// What the answers may take. A cluster may be looking for a leader, and a batch takes a few syncs of the server's disk,
/// however busy that is.
const TRIAL_WAIT: Duration = Duration::from_secs(10);

/// No message of a stream has this sequence.
const NO_SEQUENCE: u64 = u64::MAX;

/// Below this a stream or an account counts as full: no commit is smaller.
const ROOM_BYTES_MIN: u64 = 512;

/// The errors by which JetStream says that there is no room: the account's limit, the server's, and that a batch which is
/// whole is not, since it could not be written to the disk.
const NO_ROOM: [u16; 3] = [10002, 10023, 10176];

/// What the service cannot do without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Its work.
    Work,
    /// Keep snapshots, without which long histories are read whole.
    Snapshots,
    /// Share the persons with other replicas.
    Sharing,
}

/// What came of one trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It may be done.
    Possible,
    /// This user may not do it.
    Denied,
    /// Nobody says.
    Silent,
    /// It may be done, and there is no room for more.
    Full(String),
    /// It was done, although it named an impossible sequence.
    Done,
}

/// One thing that was tried.
#[derive(Debug, Clone)]
pub struct Tried {
    /// In words that follow "may not".
    pub what: &'static str,
    /// The right that it takes, such as `publish to person.events.*`.
    pub right: String,
    /// What it is for.
    pub need: Need,
    /// What came of it.
    pub outcome: Outcome,
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.what, self.right)
    }
}

/// What there is to be tried. Rights are found out without a stream as well: then nobody answers.
#[derive(Debug, Default, Clone, Copy)]
pub struct There {
    /// JetStream answers; else nothing but subscriptions is tried.
    pub jetstream: bool,
    /// The stream of commits is there.
    pub commits: bool,
    /// Snapshots are wanted.
    pub with_snapshots: bool,
    /// A stream would have to be created.
    pub to_create: bool,
    /// The connection is for this trial alone: that a subscription is denied stays with a connection. Where it is not, the
    /// subscriptions that the service can do without are not tried.
    pub is_alone: bool,
}

/// What the trial of everything showed.
#[derive(Debug)]
pub struct Trial {
    /// All that was tried.
    pub tried: Vec<Tried>,
    /// What keeps the service from its work.
    pub obstacles: Vec<Obstacle>,
}

impl Trial {
    /// Tries everything that the service does.
    pub fn run(examiner: &mut Examiner, layout: &Layout, subjects: &Subjects, there: There) -> Self {
        let nobody = PersonId::from_uuid(Uuid::new_v4());
        let mut tried = subscriptions(examiner, subjects, there);
        let questions = questions(layout, subjects, nobody, there);
        let (prepared, questions): (Vec<Tried>, Vec<Question>) = questions.into_iter().unzip();
        let answers = examiner.ask_within(&questions, TRIAL_WAIT);
        tried.extend(prepared.into_iter().zip(&answers).map(|(one, said)| Tried { outcome: outcome(said), ..one }));
        if let Some(crowded) = examiner.crowded() {
            return Self { tried, obstacles: vec![crowded] };
        }
        let mut obstacles: Vec<Obstacle> = tried.iter().filter_map(obstacle).collect();
        if there.commits && !obstacles.iter().any(|found| found.cause == Cause::Full) {
            obstacles.extend(out_of_room(examiner, layout));
        }
        Self { tried, obstacles }
    }

    /// Whether snapshots can be kept, as far as rights go; else what lacks.
    pub fn lacking(&self, need: Need) -> Vec<&Tried> {
        self.tried.iter().filter(|one| one.need == need && one.outcome == Outcome::Denied).collect()
    }
}

/// The trial of the start. What is found beside obstacles is added to what was prepared; returned is what hinders the
/// service in some of its work.
///
/// # Errors
/// The first obstacle with which the service does not start.
pub fn stand(store: &Store, config: &Config, prepared: &mut Prepared) -> Result<Vec<Obstacle>, Obstacle> {
    let mut examiner = Examiner::over(store.clone(), TRIAL_WAIT)?;
    let there =
        There { jetstream: true, commits: true, with_snapshots: prepared.snapshots, to_create: false, is_alone: false };
    let trial = Trial::run(&mut examiner, &Layout::new(config), &Subjects::new(&config.subject_prefix), there);
    for lacking in trial.lacking(Need::Snapshots) {
        prepared.snapshots = false;
        prepared.bucket_denied = true;
        prepared.warnings.push(format!("no snapshots: this user may not {lacking}"));
    }
    for lacking in trial.lacking(Need::Sharing) {
        prepared.warnings.push(format!("beside other replicas it serves alone: this user may not {lacking}"));
    }
    let (hinders, ends): (Vec<Obstacle>, Vec<Obstacle>) =
        trial.obstacles.into_iter().partition(|found| found.cause.consequence() == Consequence::GoesOn);
    ends.into_iter().next().map_or(Ok(hinders), Err)
}

fn outcome(said: &Said) -> Outcome {
    match said {
        Said::Denied => Outcome::Denied,
        Said::Silent | Said::NotSent(_) => Outcome::Silent,
        Said::NobodyListens => Outcome::Possible,
        Said::Message(message) => match serde_json::from_slice(message.payload()) {
            Ok(Reply { error: Some(error), .. }) if NO_ROOM.contains(&error.err_code) => {
                Outcome::Full(error.to_string())
            }
            Ok(Reply { error: None, seq: Some(_) }) => Outcome::Done,
            _ => Outcome::Possible,
        },
    }
}

#[derive(Deserialize)]
struct Reply {
    error: Option<ApiError>,
    seq: Option<u64>,
}

fn obstacle(tried: &Tried) -> Option<Obstacle> {
    match (&tried.outcome, tried.need) {
        (Outcome::Denied, Need::Work) => Some(Obstacle::no_right(&tried.to_string())),
        (Outcome::Silent, Need::Work) => {
            Some(Obstacle::new(Cause::Silent, format!("no answer when trying to {tried}")))
        }
        (Outcome::Full(why), Need::Work) => Some(full(why)),
        (Outcome::Done, _) => {
            let says = format!("the attempt to {tried} was stored although it named an impossible sequence");
            Some(Obstacle::new(Cause::Unusable, says))
        }
        _ => None,
    }
}

fn full(why: impl std::fmt::Display) -> Obstacle {
    Obstacle::new(Cause::Full, format!("nothing more can be stored: {why}"))
}

/// A limit that is reached to the last bytes refuses a commit, and not always what was offered.
fn out_of_room(examiner: &mut Examiner, layout: &Layout) -> Option<Obstacle> {
    let questions = ["INFO".to_owned(), format!("STREAM.INFO.{}", layout.stream())];
    let answers = examiner.ask(&questions.map(|call| Question::new(layout.api(&call), "")));
    let [info, stream] = answers.as_slice() else { return None };
    let StreamPart { config, state } = serde_json::from_value(stream.json()?).ok()?;
    let account = Account::read(&info.json()?)?;
    let tier = account.tier(config.num_replicas)?;
    if let Some(max) = tier.storage_max()
        && tier.storage.saturating_add(ROOM_BYTES_MIN) > max
    {
        return Some(full(format_args!("the account has stored {} of {max} bytes", tier.storage)));
    }
    let (name, StatePart { bytes, messages }) = (layout.stream(), state);
    let limit = |value: i64| u64::try_from(value).ok().filter(|max| *max > 0);
    match (limit(config.max_bytes), limit(config.max_msgs)) {
        (Some(max), _) if bytes.saturating_add(ROOM_BYTES_MIN) > max => {
            Some(full(format_args!("stream {name} holds {bytes} of {max} bytes")))
        }
        (_, Some(max)) if messages >= max => {
            Some(full(format_args!("stream {name} holds {messages} of {max} messages")))
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct StreamPart {
    config: ConfigPart,
    state: StatePart,
}

#[derive(Deserialize)]
struct ConfigPart {
    num_replicas: u64,
    max_bytes: i64,
    max_msgs: i64,
}

#[derive(Deserialize)]
struct StatePart {
    bytes: u64,
    messages: u64,
}

fn subscriptions(examiner: &mut Examiner, subjects: &Subjects, there: There) -> Vec<Tried> {
    let token = format!("trial-{}", Uuid::new_v4());
    let below = |all: &str| all.replace('>', &format!("{token}.>"));
    let wanted = [
        (Need::Work, "take commands", subjects.all_commands(), Some(SERVICE_NAME)),
        (Need::Work, "take queries", subjects.all_queries(), Some(SERVICE_NAME)),
        (Need::Work, "be discovered", ALL_SERVICES.to_owned(), None),
        (Need::Sharing, "take what replicas hand over", subjects.all_intakes(), None),
    ];
    wanted
        .into_iter()
        .filter(|(need, ..)| there.is_alone || *need == Need::Work)
        .map(|(need, what, subject, group)| {
            let may = examiner.may_listen(&below(&subject), group);
            let outcome = if may { Outcome::Possible } else { Outcome::Denied };
            Tried { what, right: format!("subscribe to {subject}"), need, outcome }
        })
        .collect()
}

/// What the service does, each as a question that changes nothing.
fn questions(layout: &Layout, subjects: &Subjects, nobody: PersonId, there: There) -> Vec<(Tried, Question)> {
    let mut questions = Vec::new();
    if !there.jetstream {
        return questions;
    }
    let mut add = |need, what, question: Question| {
        let right = format!("publish to {}", question.subject.replace(&nobody.to_string(), "*"));
        questions.push((Tried { what, right, need, outcome: Outcome::Silent }, question));
    };
    let offer = |stream: String| {
        vec![("Nats-Expected-Stream", stream), ("Nats-Expected-Last-Subject-Sequence", NO_SEQUENCE.to_string())]
    };
    let (name, subject) = (layout.stream().to_owned(), layout.event_subject(nobody));
    let mut headers = offer(name.clone());
    headers.push(("Nats-Batch-Id", Uuid::new_v4().simple().to_string()));
    headers.push(("Nats-Batch-Sequence", "1".to_owned()));
    headers.push(("Nats-Batch-Commit", "1".to_owned()));
    let last = json!({"last_by_subj": subject});
    add(Need::Work, "store commits", Question { headers, ..Question::new(subject, "") });
    add(Need::Work, "read commits", Question::new(layout.direct_get(&name), &last));
    add(Need::Work, "read commits from the leader", Question::new(layout.leader_get(&name), &last));
    let hand_over = subjects.all_intakes().replace('>', &nobody.to_string());
    let headers = offer(name.clone());
    add(Need::Sharing, "hand over to other replicas", Question { headers, ..Question::new(hand_over, "") });
    if there.with_snapshots {
        let name = layout.bucket_stream();
        let last = json!({"last_by_subj": layout.snapshot_subject(nobody)});
        let write = Question { headers: offer(name.clone()), ..Question::new(layout.snapshot_target(nobody), "") };
        add(Need::Snapshots, "store snapshots", write);
        add(Need::Snapshots, "read snapshots", Question::new(layout.direct_get(&name), &last));
        add(Need::Snapshots, "read snapshots from the leader", Question::new(layout.leader_get(&name), &last));
    }
    if there.to_create {
        // No configuration at all: it is refused as soon as it is read.
        let subject = layout.api(&format!("STREAM.CREATE.{}", layout.stream()));
        add(Need::Work, "make the stream", Question::new(subject, "none"));
    }
    questions
}
