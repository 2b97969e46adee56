//! The loops that do nothing, each on another client.

mod bare;
mod bare_async;
mod ledger;
mod publish;
mod raw;
mod socket;

use std::error::Error;

use clap::{Args, ValueEnum};

pub use publish::Publish;

/// What all of them need to know.
#[derive(Args, Clone)]
pub struct Place {
    /// The server, as host:port
    #[arg(long, default_value = "127.0.0.1:4222")]
    pub server: String,
    /// The first tokens of the subjects
    #[arg(long, default_value = "bench")]
    pub prefix: String,
    /// The stream, which is made
    #[arg(long, default_value = "BENCH")]
    pub stream: String,
    /// Copies of it
    #[arg(long, default_value_t = 1)]
    pub replicas: u8,
}

/// A loop.
#[derive(Args)]
pub struct Loop {
    /// On what
    client: Client,
    /// Where
    #[command(flatten)]
    place: Place,
}

/// What a loop is made with.
#[derive(Clone, Copy, ValueEnum)]
enum Client {
    /// The service's client crate, flushed as the service does it, with the service's two connections
    Nats,
    /// The same, with a queue and a thread more between the one that takes commands and the one that stores
    Queued,
    /// The asynchronous client on tokio
    Async,
    /// A socket, written to and read from by hand
    Raw,
}

impl Loop {
    /// Answers until it is killed.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        match self.client {
            Client::Nats => bare::run(&self.place, false),
            Client::Queued => bare::run(&self.place, true),
            Client::Async => bare_async::run(&self.place),
            Client::Raw => raw::run(&self.place),
        }
    }
}

impl Place {
    /// The JSON of the stream, the same as the service makes it.
    pub fn stream_json(&self) -> String {
        serde_json::json!({
            "name": self.stream, "subjects": [format!("{}.events.>", self.prefix), format!("{}.identifiers.*", self.prefix)], "retention": "limits",
            "storage": "file", "num_replicas": self.replicas, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
            "max_age": 0, "max_msg_size": -1, "max_msgs_per_subject": -1, "discard": "new", "deny_delete": true,
            "deny_purge": false, "allow_rollup_hdrs": true, "allow_direct": true, "compression": "s2", "allow_atomic": true,
        })
        .to_string()
    }

    /// Where streams are made.
    pub fn create_subject(&self) -> String {
        format!("$JS.API.STREAM.CREATE.{}", self.stream)
    }
}
