//! Beginning to receive: what clients send, as a member of the queue group, and what other replicas say and hand over.

use std::sync::Arc;
use std::time::Duration;

use super::Service;
use crate::daemon::door::{Doorkeeper, Doorkeepers, Entrance};
use crate::daemon::sharing::{Beacons, Parcels};
use crate::log_limit::RateLimited;
use crate::wire::beacon::Presence;
use crate::wire::service::ALL_SERVICES;
use crate::wire::subject::SERVICE_NAME;

/// How long NATS may take to confirm a subscription.
const JOIN_WAIT: Duration = Duration::from_secs(1);

static ALONE: RateLimited = RateLimited::new(Duration::from_secs(600));

/// That no commands come in as they should.
pub struct NotJoined {
    /// Why.
    pub why: NoEntry,
    /// Those who joined all the same. They are told to leave, and may hold commands until they have.
    pub leaving: Doorkeepers,
}

/// Why no commands come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEntry {
    /// NATS did not say in time that it knows of us.
    Unconfirmed,
    /// NATS does not let us receive them.
    Denied,
}

impl Service {
    /// Joins the queue group: from now on commands and queries come in.
    pub fn join(&self) -> Result<Doorkeepers, NotJoined> {
        let door = Arc::clone(&self.door);
        let Some(query_door) = self.query_door.clone() else {
            let leaving = Doorkeepers { of_clients: Vec::new(), of_replicas: Vec::new() };
            return Err(NotJoined { why: NoEntry::Unconfirmed, leaving });
        };
        let of_replicas = match self.join_replicas() {
            Ok(of_replicas) => of_replicas,
            Err(of_replicas) => {
                let leaving = Doorkeepers { of_clients: Vec::new(), of_replicas };
                return Err(NotJoined { why: NoEntry::Unconfirmed, leaving });
            }
        };
        let denied_before = self.intake.connection().subscriptions_denied();
        let discovery = Arc::clone(&self.discovery);
        let subjects = &self.door.subjects;
        let shared = Some(SERVICE_NAME);
        let started = [
            self.keeper("commands", &subjects.all_commands(), shared, door),
            self.keeper("queries", &subjects.all_queries(), shared, query_door),
            self.keeper("discovery", ALL_SERVICES, None, discovery),
        ];
        let all_started = started.iter().all(Option::is_some);
        let keepers = Doorkeepers { of_clients: started.into_iter().flatten().collect(), of_replicas };
        let is_settled = all_started && self.intake.settle(JOIN_WAIT);
        let is_denied = self.intake.connection().subscriptions_denied() != denied_before;
        if is_settled && !is_denied {
            return Ok(keepers);
        }
        self.sharer.stand(Presence::Leaving);
        keepers.leave(JOIN_WAIT);
        Err(NotJoined { why: if is_denied { NoEntry::Denied } else { NoEntry::Unconfirmed }, leaving: keepers })
    }

    /// Begins to hear other replicas and to take what they hand over. It comes before commands do, so that it knows the
    /// others when the first one arrives. None where this user may not: it serves alone.
    ///
    /// # Errors
    /// NATS did not say in time that it knows of us.
    fn join_replicas(&self) -> Result<Vec<Doorkeeper>, Vec<Doorkeeper>> {
        let (subjects, sharer) = (&self.door.subjects, &self.sharer);
        let denied_before = self.intake.connection().subscriptions_denied();
        let parcels = Arc::new(Parcels::new(sharer, &self.door));
        let started = [
            self.keeper("beacons", &subjects.beacon(), None, Arc::new(Beacons(Arc::clone(sharer)))),
            self.keeper("parcels", &subjects.intake_of(sharer.id()), None, parcels),
        ];
        let are_all = started.iter().all(Option::is_some);
        let keepers: Vec<Doorkeeper> = started.into_iter().flatten().collect();
        let is_settled = are_all && self.intake.settle(JOIN_WAIT);
        let is_denied = self.intake.connection().subscriptions_denied() != denied_before;
        if is_settled && !is_denied {
            sharer.begin();
            return Ok(keepers);
        }
        keepers.iter().for_each(|keeper| keeper.leave(JOIN_WAIT));
        if !is_denied {
            return Err(keepers);
        }
        ALONE.warn(format_args!("this replica serves alone: its user may not subscribe to {}", subjects.all_intakes()));
        Ok(Vec::new())
    }

    fn keeper(
        &self,
        name: &str,
        subjects: &str,
        queue_group: Option<&str>,
        entrance: Arc<impl Entrance>,
    ) -> Option<Doorkeeper> {
        let group = self.intake.join(subjects, queue_group).ok()?;
        Doorkeeper::start(name, group, self.pulses.add(name), &self.poison, entrance).ok()
    }
}
