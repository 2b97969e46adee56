//! Telling whoever asks which instance this is, what it serves and how it went: `nats micro ls`, `info`, `stats`.

use std::sync::Arc;

use crate::daemon::door::Entrance;
use crate::daemon::figures;
use crate::daemon::monitor::Monitor;
use crate::daemon::replier::Replier;
use crate::daemon::sharing::Sharer;
use crate::nats::Incoming;
use crate::wire::service::{Instance, verb};

/// Who answers on `$SRV.>`.
pub struct Discovery {
    /// This instance.
    pub instance: Instance,
    /// The way back.
    pub replier: Replier,
    /// Who else is there.
    pub sharer: Arc<Sharer>,
    /// How it went.
    pub monitor: Arc<Monitor>,
}

impl Entrance for Discovery {
    /// Answers, if it is for this instance.
    fn take(&self, message: &Incoming) {
        let Some(verb) = verb(message.subject(), &self.instance.id) else { return };
        let Ok(Some(reply_to)) = self.replier.permitted(message.reply()) else { return };
        let answer = self.instance.answer(verb, &self.sharer.metadata(), || {
            let now = self.monitor.read();
            [figures::commands_endpoint(&now), figures::queries_endpoint(&now)]
        });
        self.replier.tell(reply_to, &answer);
    }

    /// Whoever asked asks again, or hears of the other instances.
    fn turn_away(&self, _message: &Incoming) {}
}
