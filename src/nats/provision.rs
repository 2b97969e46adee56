//! Making sure that the store is there: a server that is new enough, JetStream, the stream and the snapshot bucket.

use std::time::Duration;

use semver::Version;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::account::{Account, MAX_BYTES_REQUIRED, Share};
use super::answers::{AccountInfo, StreamInfo, StreamState, Trouble, account, no_answer, read_answer};
use super::api::{ApiError, STREAM_NAME_IN_USE, STREAM_NOT_FOUND};
use super::definitions::{Definition, bucket, new_salt, stream};
use super::fault::{Fault, mended};
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::message::Incoming;
use super::store::Store;
use super::stream_rules::{judge_bucket, judge_stream};
use crate::config::Config;
use crate::wire::salt::IdentifierSalt;

/// Older servers know no atomic batches, and older ones still can let two writers win in a cluster.
pub const SERVER_MIN: Version = Version::new(2, 12, 0);

/// The JetStream API level that came with [`SERVER_MIN`]. The stream may be kept by another server than the one that
/// we are connected to.
pub const API_LEVEL_MIN: u64 = 2;

/// What a call may take. Making a stream in a cluster takes an election.
const API_WAIT: Duration = Duration::from_secs(10);

/// After this a call that got no answer is looked at: where the server has denied a right meanwhile none will come.
const DENIAL_WAIT: Duration = Duration::from_secs(1);

/// The store is there.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The version of the server that we are connected to.
    pub server: Version,
    /// The stream as it is now.
    pub stream: StreamState,
    /// The JetStream domain that the stream lies in; empty where the server names none.
    pub domain: String,
    /// What the subjects of exclusive identifiers are made with.
    pub salt: IdentifierSalt,
    /// Whether there is a bucket to keep snapshots in.
    pub snapshots: bool,
    /// Whether this user lacks a right on the bucket, so that it is no use to look at it again.
    pub bucket_denied: bool,
    /// What an operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Why the store is not there.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The server gave no answer. It may later.
    #[error("{0}")]
    Away(String),
    /// The server is too old.
    #[error("nats-server {found} is too old: {needed} or newer is needed")]
    ServerTooOld {
        /// What is there.
        found: String,
        /// What has to be there.
        needed: Version,
    },
    /// There is no JetStream for us.
    #[error("JetStream is not available: {0}")]
    NoJetStream(String),
    /// The service may not create what is missing.
    #[error("missing: {}, and STREAM_CREATE is false", names(.0))]
    Missing(Vec<Definition>),
    /// The server did not create it.
    #[error("cannot create stream {name}: {why}")]
    NotCreated {
        /// Which one.
        name: String,
        /// The server's words.
        why: String,
        /// What the account would let somebody create; none where that is not the matter.
        by_hand: Vec<Definition>,
    },
    /// There is a stream of this name that cannot hold commits.
    #[error("stream {name} cannot be used: {}{}", in_words(.faults), mended_with(.mended.as_ref()))]
    Unusable {
        /// Which one.
        name: String,
        /// All reasons.
        faults: Vec<Fault>,
        /// The configuration with all of them mended; `None` where that takes a new stream.
        mended: Option<Definition>,
    },
}

/// Checks server and JetStream, finds or creates stream and bucket. Several replicas may do so at once.
pub fn prepare(store: &Store, config: &Config) -> Result<Prepared, ProvisionError> {
    let inbox = store.inbox().map_err(|error| ProvisionError::Away(error.to_string()))?;
    let mut provision = Provision { inbox, layout: Layout::new(config), config, account: None, new_salt: new_salt() };
    let (server, domain) = provision.check_server()?;
    provision.check_all_there()?;
    let with_snapshots = config.snapshot_frequency > 0;
    let (info, salt, mut warnings) = provision.stream()?;
    let snapshots = with_snapshots && provision.bucket(&mut warnings)?;
    Ok(Prepared { server, stream: info.into_state(), domain, salt, snapshots, bucket_denied: false, warnings })
}

struct Provision<'a> {
    inbox: Inbox,
    layout: Layout,
    config: &'a Config,
    /// What JetStream says of our account.
    account: Option<Account>,
    /// The salt of a stream that is made now.
    new_salt: IdentifierSalt,
}

impl Provision<'_> {
    fn check_server(&mut self) -> Result<(Version, String), ProvisionError> {
        let answer = match ask(&mut self.inbox, &self.layout.api("INFO"), b"") {
            Exchanged::Answered(answer) => answer,
            other => return Err(ProvisionError::Away(no_answer(&other))),
        };
        let (server, info) = (answer.server_version().unwrap_or(Version::new(0, 0, 0)), account(&answer));
        if let Some(why) = too_old(&server, info.as_ref().ok()) {
            return Err(why);
        }
        self.account = serde_json::from_slice(answer.payload()).ok();
        match info {
            Ok(info) => Ok((server, info.domain)),
            Err(Trouble::Refused(error)) if error.is_temporary() => Err(ProvisionError::Away(error.to_string())),
            Err(Trouble::Refused(error)) => Err(ProvisionError::NoJetStream(error.to_string())),
            Err(Trouble::Away(why)) => Err(ProvisionError::NoJetStream(why)),
        }
    }

    /// Where nothing may be created, all that is missing is named at once.
    fn check_all_there(&mut self) -> Result<(), ProvisionError> {
        if self.config.store.create {
            return Ok(());
        }
        let mut missing = Vec::new();
        for definition in self.definitions() {
            match stream_info(&mut self.inbox, &self.layout, &definition.name) {
                Err(Trouble::Refused(error)) if error.err_code == STREAM_NOT_FOUND => missing.push(definition),
                Err(Trouble::Away(why)) => return Err(ProvisionError::Away(why)),
                Ok(_) | Err(Trouble::Refused(_)) => {}
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(ProvisionError::Missing(missing)) }
    }

    /// Stream and bucket as somebody can create them in this account.
    fn definitions(&self) -> Vec<Definition> {
        let with_snapshots = self.config.snapshot_frequency > 0;
        let bucket = with_snapshots.then(|| (self.bucket_config(), Share::Snapshots));
        let all = std::iter::once((self.stream_config(), Share::Commits)).chain(bucket);
        all.map(|(config, share)| {
            let name = name_of(&config);
            let config = self.account.iter().fold(config, |config, account| account.as_demanded(config, share));
            let command = format!("{} stream add {name} --config FILE", self.layout.tool());
            Definition { name, json: format!("{config:#}"), command }
        })
        .collect()
    }

    fn stream(&mut self) -> Result<(StreamInfo, IdentifierSalt, Vec<String>), ProvisionError> {
        let config = self.stream_config();
        let info = self.find_or_create(&config)?;
        let found = info.config()?;
        let verdict = judge_stream(&found, &self.layout, &self.config.store, None);
        let name = self.layout.stream().to_owned();
        // Without a salt there is a fault.
        let Some(salt) = found.salt().filter(|_| verdict.faults.is_empty()) else {
            let mended = mended(&info.config, &verdict.faults);
            let command = format!("{} stream edit {name} --config FILE", self.layout.tool());
            let mended = mended.map(|config| Definition { name: name.clone(), json: format!("{config:#}"), command });
            return Err(ProvisionError::Unusable { name, faults: verdict.faults, mended });
        };
        let warnings = verdict.warnings.into_iter().map(|words| format!("stream {name}: {words}")).collect();
        Ok((info, salt, warnings))
    }

    /// Without a bucket commands go on, so nothing about it but an outage stands in the way of the start.
    fn bucket(&mut self, warnings: &mut Vec<String>) -> Result<bool, ProvisionError> {
        let config = self.bucket_config();
        let why = match self.find_or_create(&config) {
            Ok(info) => match judge_bucket(&info.config()?, &self.layout) {
                faults if faults.is_empty() => return Ok(true),
                faults => in_words(&faults),
            },
            Err(ProvisionError::Away(why)) => return Err(ProvisionError::Away(why)),
            Err(error) => error.to_string(),
        };
        warnings.push(format!("no snapshots, stream {}: {why}", self.layout.bucket_stream()));
        Ok(false)
    }

    /// A rival may create it between our look and our try, with another salt: so whatever comes of the try, what counts is
    /// what is there afterwards.
    fn find_or_create(&mut self, config: &Value) -> Result<StreamInfo, ProvisionError> {
        let name = name_of(config);
        match stream_info(&mut self.inbox, &self.layout, &name) {
            Ok(info) => return Ok(info),
            Err(Trouble::Away(why)) => return Err(ProvisionError::Away(why)),
            Err(Trouble::Refused(error)) if error.err_code == STREAM_NOT_FOUND => {}
            Err(Trouble::Refused(error)) => return Err(refused(name, &error)),
        }
        let create = self.layout.api(&format!("STREAM.CREATE.{name}"));
        let refusal = match call::<StreamInfo>(&mut self.inbox, &create, config.to_string().as_bytes()) {
            Ok(_) => None,
            Err(Trouble::Away(why)) => return Err(ProvisionError::Away(why)),
            Err(Trouble::Refused(error)) => Some(error),
        };
        match (stream_info(&mut self.inbox, &self.layout, &name), refusal) {
            (Ok(info), _) => Ok(info),
            (Err(Trouble::Away(why)), _) => Err(ProvisionError::Away(why)),
            // A rival's, which the server that answers has not heard of yet.
            (Err(Trouble::Refused(_)), Some(error)) if error.err_code == STREAM_NAME_IN_USE => {
                Err(ProvisionError::Away(error.to_string()))
            }
            (Err(Trouble::Refused(_)), Some(error)) if error.err_code == MAX_BYTES_REQUIRED => {
                Err(ProvisionError::NotCreated { name, why: error.to_string(), by_hand: self.definitions() })
            }
            (Err(Trouble::Refused(_)), Some(error)) => Err(refused(name, &error)),
            (Err(Trouble::Refused(error)), None) => Err(ProvisionError::Away(error.to_string())),
        }
    }

    fn stream_config(&self) -> Value {
        stream(&self.layout, &self.config.store, self.new_salt)
    }

    fn bucket_config(&self) -> Value {
        bucket(&self.layout, self.config.store.replicas)
    }
}

/// JetStream looking for a leader is an outage, not an answer.
fn refused(name: String, error: &ApiError) -> ProvisionError {
    match error.is_temporary() {
        true => ProvisionError::Away(error.to_string()),
        false => ProvisionError::NotCreated { name, why: error.to_string(), by_hand: Vec::new() },
    }
}

/// Whether the server that answers is too old, or the one with JetStream, as far as that is known.
pub(super) fn too_old(server: &Version, account: Option<&AccountInfo>) -> Option<ProvisionError> {
    let too_old = |found: String| Some(ProvisionError::ServerTooOld { found, needed: SERVER_MIN });
    if (server.major, server.minor) < (SERVER_MIN.major, SERVER_MIN.minor) {
        return too_old(server.to_string());
    }
    let level = account.map(|account| account.api.level).filter(|level| *level < API_LEVEL_MIN)?;
    too_old(format!("{} (the one with JetStream)", series(level)))
}

fn stream_info(inbox: &mut Inbox, layout: &Layout, name: &str) -> Result<StreamInfo, Trouble> {
    call(inbox, &layout.api(&format!("STREAM.INFO.{name}")), b"")
}

fn call<T: DeserializeOwned>(inbox: &mut Inbox, subject: &str, payload: &[u8]) -> Result<T, Trouble> {
    match ask(inbox, subject, payload) {
        Exchanged::Answered(answer) => read_answer(&answer),
        other => Err(Trouble::Away(no_answer(&other))),
    }
}

/// Each call can be made twice.
fn ask(inbox: &mut Inbox, subject: &str, payload: &[u8]) -> Exchanged<Incoming> {
    match inbox.request(subject, payload, DENIAL_WAIT) {
        Exchanged::Silent if inbox.store().connection().denied().is_none() => inbox.request(subject, payload, API_WAIT),
        first => first,
    }
}

/// The releases of an API level that is too low.
const fn series(api_level: u64) -> &'static str {
    if api_level == 0 { "before 2.11" } else { "2.11" }
}

fn in_words(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

impl From<Trouble> for ProvisionError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Away(why) => Self::Away(why),
            Trouble::Refused(error) => Self::Away(error.to_string()),
        }
    }
}

/// Where the operator finds what mends the stream, and how it is applied.
fn mended_with(mended: Option<&Definition>) -> String {
    mended.map_or_else(String::new, |mended| {
        format!("; stdout has the configuration that mends it, for '{}'", mended.command)
    })
}

fn name_of(config: &Value) -> String {
    config.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn names(definitions: &[Definition]) -> String {
    let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
    format!("stream {}", names.join(" and stream "))
}
