//! The nemesis: faults drawn from a seed, each with its beginning and its end, many of them at the same time.
//!
//! To add a fault: a variant of [`Fault`], its place in [`Fault::all`], what it does in `begin`, and what undoes that in
//! `end`. What `end` forgets, [`Rig::heal`] has to mend.

use std::time::Duration;

use serde_json::json;

use super::rig::{BUCKET, Form, REPLICAS, Rig, STREAM, mend};
use crate::engine::chance::Chance;
use crate::support::proxy::Proxy;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, started again at the end.
    ReplicaKilled,
    /// SIGSTOP for longer than a command's deadline: it wakes up with commands that others have carried out since.
    ReplicaFrozen,
    /// SIGTERM, one replica after the other, each started again.
    RollingRestart,
    /// SIGKILL of a server, started again at the end; alone, or one of the three.
    ServerKilled,
    /// SIGSTOP of a server: its connections stay, and it says nothing.
    ServerFrozen,
    /// A replica's connections are cut, again and again.
    ConnectionsCut,
    /// The same with the connection alone on which commands, beacons and parcels arrive: others hand it what it cannot hear,
    /// while it goes on handing over.
    IntakeCut,
    /// Nothing passes between a replica and its server, and nothing is lost.
    ConnectionStalled,
    /// What the server says to a replica is lost, and then the connection is cut.
    AnswersLost,
    /// Acknowledgements to a replica are lost, and they alone.
    AcknowledgementsLost,
    /// Acknowledgements to a replica are held back, and come late.
    AcknowledgementsLate,
    /// Everything between a replica and its server takes longer.
    ConnectionSlow,
    /// The stream has room for a few commits and then for none.
    DiskFull,
    /// The bucket of the snapshots is deleted.
    BucketDeleted,
    /// The service's password is another one for a while, and all replicas are thrown out.
    WrongPassword,
    /// The stream's leader is asked to step down.
    LeaderStepsDown,
    /// The stream's leader is moved to a server that is named.
    LeaderMoved,
    /// SIGKILL of the server that leads the stream.
    LeaderKilled,
    /// SIGSTOP of the server that leads the stream: it wakes up and still believes that it leads.
    LeaderFrozen,
    /// A server and the two others do not hear each other; clients and replicas reach all of them.
    ServerParted,
    /// The same with the leader.
    LeaderParted,
}

impl Fault {
    /// All that can happen to these servers.
    pub fn all(form: Form) -> Vec<Self> {
        use Fault::*;
        let mut all = vec![
            ReplicaKilled,
            ReplicaFrozen,
            RollingRestart,
            ServerKilled,
            ServerFrozen,
            ConnectionsCut,
            IntakeCut,
            ConnectionStalled,
            AnswersLost,
            AcknowledgementsLost,
            AcknowledgementsLate,
            ConnectionSlow,
            DiskFull,
            BucketDeleted,
            WrongPassword,
        ];
        if form == Form::Cluster {
            all.extend([LeaderStepsDown, LeaderMoved, LeaderKilled, LeaderFrozen, ServerParted, LeaderParted]);
        }
        all
    }
}

/// A fault, when it begins, how long it lasts, and whom it meets.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub fault: Fault,
    pub begins: Duration,
    pub lasts: Duration,
    /// Which replica.
    pub replica: usize,
    /// Which server, where no leader is meant.
    pub node: usize,
}

/// A plan for so much time, drawn from the seed alone: every kind once, in some order, and again where there is time.
pub fn plan(form: Form, seed: u64, time: Duration, pause: Duration, frozen: Duration) -> Vec<Planned> {
    let mut chance = Chance::new(seed);
    let nodes = if form == Form::Cluster { 3 } else { 1 };
    let (mut plan, mut deck, mut begins) = (Vec::new(), Vec::new(), pause);
    while begins < time {
        if deck.is_empty() {
            deck = Fault::all(form);
        }
        let fault = deck.swap_remove(usize::try_from(chance.draw(deck.len() as u64)).unwrap());
        let lasts = match fault {
            Fault::ReplicaFrozen => frozen + pause.mul_f64(fraction(&mut chance)),
            _ => pause / 4 + pause.mul_f64(1.5 * fraction(&mut chance)),
        };
        let replica = usize::try_from(chance.draw(REPLICAS as u64)).unwrap();
        let node = usize::try_from(chance.draw(nodes)).unwrap();
        plan.push(Planned { fault, begins, lasts, replica, node });
        begins += pause / 2 + pause.mul_f64(fraction(&mut chance));
    }
    plan
}

fn fraction(chance: &mut Chance) -> f64 {
    f64::from(u32::try_from(chance.draw(1000)).unwrap()) / 1000.0
}

/// Carries the plan out on the rig, until its time is over.
pub fn rage(rig: &mut Rig, plan: &[Planned], time: Duration) {
    let start = rig.diary.now();
    let mut waiting = plan.iter().copied().peekable();
    let mut going: Vec<Going> = Vec::new();
    while rig.diary.now() - start < time {
        let now = rig.diary.now() - start;
        while let Some(planned) = waiting.next_if(|planned| now >= planned.begins) {
            rig.diary.note(format!(
                "{:?} for {:.1?} (replica {}, server {})",
                planned.fault, planned.lasts, planned.replica, planned.node
            ));
            going.extend(begin(rig, planned, now + planned.lasts));
        }
        for one in &going {
            let ways = rig.ways(one.planned.replica).iter();
            match one.planned.fault {
                Fault::ConnectionsCut => ways.for_each(Proxy::cut),
                Fault::IntakeCut => ways.for_each(|way| {
                    way.cut_who_said("person-service intake");
                }),
                _ => {}
            }
        }
        let (over, still): (Vec<Going>, Vec<Going>) = going.into_iter().partition(|one| now >= one.ends);
        over.iter().for_each(|one| end(rig, one));
        going = still;
        rig.supervise();
        std::thread::sleep(Duration::from_millis(50));
    }
    going.iter().for_each(|one| end(rig, one));
}

struct Going {
    planned: Planned,
    node: usize,
    ends: Duration,
}

fn begin(rig: &mut Rig, planned: Planned, ends: Duration) -> Option<Going> {
    let Planned { fault, replica, mut node, .. } = planned;
    if matches!(fault, Fault::LeaderKilled | Fault::LeaderFrozen | Fault::LeaderParted) {
        node = rig.leader().unwrap_or(node);
    }
    match fault {
        Fault::ReplicaKilled => rig.kill_replica(replica),
        Fault::ReplicaFrozen => rig.freeze_replica(replica),
        Fault::RollingRestart => {
            (0..REPLICAS).for_each(|replica| rig.roll_replica(replica));
            return None;
        }
        Fault::ServerKilled | Fault::LeaderKilled => rig.kill_node(node),
        Fault::ServerFrozen | Fault::LeaderFrozen => rig.freeze_node(node),
        Fault::ServerParted | Fault::LeaderParted => rig.part(node, true),
        Fault::ConnectionsCut | Fault::IntakeCut => {}
        Fault::ConnectionStalled => rig.ways(replica).iter().for_each(|way| way.stall(true)),
        Fault::AnswersLost => rig.ways(replica).iter().for_each(|way| way.lose_answers(true)),
        Fault::AcknowledgementsLost => rig.ways(replica).iter().for_each(|way| way.lose_acknowledgements(true)),
        Fault::AcknowledgementsLate => rig.ways(replica).iter().for_each(|way| way.hold_acknowledgements(true)),
        Fault::ConnectionSlow => rig.ways(replica).iter().for_each(|way| way.delay(Duration::from_millis(40))),
        Fault::DiskFull => {
            let room = |state: &serde_json::Value| state["bytes"].as_u64().unwrap_or(0) + 4096;
            let done = rig.update_stream(|state, config| config["max_bytes"] = json!(room(state)));
            rig.diary.note(format!("room for 4096 bytes more: {done}"));
        }
        Fault::BucketDeleted => {
            let answer = rig.api(&format!("STREAM.DELETE.{BUCKET}"), &json!(null));
            rig.diary
                .note(format!("the bucket is deleted: {}", answer.is_some_and(|answer| answer["success"] == true)));
            return None;
        }
        Fault::WrongPassword => rig.set_password(false),
        Fault::LeaderStepsDown => {
            let answer = rig.api(&format!("STREAM.LEADER.STEPDOWN.{STREAM}"), &json!(null));
            rig.diary.note(format!("it steps down: {}", answer.is_some_and(|answer| answer["success"] == true)));
            return None;
        }
        Fault::LeaderMoved => {
            let to = json!({"placement": {"preferred": format!("node-{node}")}});
            let answer = rig.api(&format!("STREAM.LEADER.STEPDOWN.{STREAM}"), &to);
            rig.diary.note(format!("to server {node}: {}", answer.is_some_and(|answer| answer["success"] == true)));
            return None;
        }
    }
    Some(Going { planned, node, ends })
}

fn end(rig: &mut Rig, going: &Going) {
    let replica = going.planned.replica;
    match going.planned.fault {
        Fault::ReplicaKilled => rig.revive_replica(replica),
        Fault::ReplicaFrozen => rig.thaw_replica(replica),
        Fault::ServerKilled | Fault::LeaderKilled => rig.revive_node(going.node),
        Fault::ServerFrozen | Fault::LeaderFrozen => rig.thaw_node(going.node),
        Fault::ServerParted | Fault::LeaderParted => rig.part(going.node, false),
        Fault::AnswersLost => {
            rig.ways(replica).iter().for_each(Proxy::cut);
            rig.ways(replica).iter().for_each(mend);
        }
        Fault::ConnectionStalled
        | Fault::AcknowledgementsLost
        | Fault::AcknowledgementsLate
        | Fault::ConnectionSlow => rig.ways(replica).iter().for_each(mend),
        Fault::DiskFull => {
            let done = rig.update_stream(|_, config| config["max_bytes"] = json!(-1));
            rig.diary.note(format!("room without limit again: {done}"));
        }
        Fault::WrongPassword => rig.set_password(true),
        Fault::ConnectionsCut
        | Fault::IntakeCut
        | Fault::RollingRestart
        | Fault::BucketDeleted
        | Fault::LeaderStepsDown
        | Fault::LeaderMoved => {}
    }
    rig.diary.note(format!("{:?} is over", going.planned.fault));
}
