//! What a seed makes of a run: how large it is, and which faults there are how often. Every run has other ones (swarm
//! testing): where everything goes wrong at once, much hides behind something else.

use std::sync::LazyLock;

use cim_domain_person::engine::id_spans::CLOCK_OFFSET_MAX_MICROS;

use super::chance::Chance;

const SECOND: u64 = 1_000_000;
/// How far a service's clock may be off where it takes commands.
pub const CLOCK_OFFSET_MAX: i64 = CLOCK_OFFSET_MAX_MICROS as i64;
/// How far services' clocks are off, at most: as is allowed, and more.
const RIGHT_CLOCKS: [i64; 4] = [0, 1_000, 400_000, CLOCK_OFFSET_MAX];
const WRONG_CLOCKS: [i64; 4] = [960_000_000, 3_600_000_000, 86_400_000_000, 40 * 86_400_000_000];

/// The plan of one run. Chances are in 1000.
#[derive(Debug, Clone)]
pub struct Plan {
    // Size.
    pub replicas: usize,
    pub workers: usize,
    pub persons: usize,
    /// Requests that are new; retries come on top.
    pub requests: usize,
    /// How often a request is for the first person.
    pub hot: u64,
    /// How often something is sent while there is also something to do.
    pub haste: u64,
    /// How many are sent at once, at most.
    pub burst: usize,
    /// The longest that a step takes, in microseconds.
    pub step_micros: u64,
    /// How often time passes where nothing is under way, and how much, in microseconds.
    pub lulls: u64,
    pub lull_micros: u64,

    // Requests.
    pub retries: u64,
    pub arrays: u64,
    pub merges: u64,
    /// How often several requests come at once that concern each other: two merges towards each other, or a merge and
    /// what happens to its target.
    pub entangled: u64,
    /// How often a merge is into one of the first two persons, who are deactivated and reactivated all the time.
    pub magnets: u64,
    pub ends: u64,
    pub expected_versions: u64,
    pub without_id: u64,
    pub reused_ids: u64,
    pub uuid_v7_ids: u64,
    /// How many clients there are, each with a clock of its own; how far it is off, and may jump, in microseconds.
    pub clients: usize,
    pub client_skew_micros: i64,
    pub client_jumps: u64,
    pub bad_requests: u64,
    pub short_deadlines: u64,
    pub queries: u64,

    // The network and the replicas.
    pub requests_lost: u64,
    pub requests_late: u64,
    pub replies_lost: u64,
    pub crashes: u64,
    pub drains: u64,
    pub sleeps: u64,
    pub rivals: u64,
    pub between: Between,
    /// How far the replicas' clocks are off, and may jump, in microseconds.
    pub clock_skew_micros: i64,
    pub clock_jumps: u64,

    // The store.
    pub acks_lost: u64,
    pub writes_lost: u64,
    pub lands_later: u64,
    pub append_unavailable: u64,
    pub append_refused: u64,
    pub vague_conflicts: u64,
    pub read_unavailable: u64,
    pub outages: u64,
    /// How often a read from any copy comes from one that lags.
    pub stale_reads: u64,
    pub snapshots_unread: u64,
    pub snapshots_harmed: u64,
    pub tails_lost: u64,
    /// How often what an append builds on is lost once that got no answer.
    pub foundations_lost: u64,

    // Bounds that bring the rare near.
    pub page_commits_max: usize,
    /// What a step of a turn may read.
    pub read_bytes_max: usize,
    pub payload_bytes_max: usize,
    pub cache_bytes: usize,
    pub snapshot_frequency: u64,
    pub queue_len_max: usize,
    pub turn_tasks_max: usize,
}

/// What becomes of what replicas say and hand to each other.
#[derive(Debug, Clone, Copy)]
pub struct Between {
    /// How often a replica says that it is there, and how often another one does not hear it.
    pub beats: u64,
    pub unheard: u64,
    /// Parcels, and the answers to them.
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
}

impl Between {
    fn of(chance: &mut Chance, fault: impl Fn(&mut Chance, u64) -> u64) -> Self {
        Self {
            beats: *chance.pick(&[0, 20, 100]),
            unheard: fault(chance, 500),
            lost: fault(chance, 300),
            doubled: fault(chance, 100),
            late: fault(chance, 300),
        }
    }
}

/// With `ALL_AGE` set every run is one in which a person ages: other runs than those of the same seeds without it.
static ALL_AGE: LazyLock<bool> = LazyLock::new(|| std::env::var_os("ALL_AGE").is_some());

impl Plan {
    pub fn of(chance: &mut Chance) -> Self {
        let loses_tails = chance.in_1000(250);
        // Most runs have about half of the faults, from rarely to often.
        let is_calm = chance.in_1000(30);
        let has_it = |chance: &mut Chance| chance.draw(2) == 0 && !is_calm;
        let fault = |chance: &mut Chance, often: u64| if has_it(chance) { 1 + chance.draw(often) } else { 0 };
        let (is_long, is_wild) = (chance.in_1000(60), chance.in_1000(300));
        // One person gets command after command for a quarter of an hour.
        let is_aging = *ALL_AGE || is_long && chance.in_1000(500);
        let is_entangled = !is_calm && !is_long && chance.in_1000(200);
        let plan = Self {
            replicas: if is_entangled { 2 + chance.place(3) } else { 1 + chance.place(4) },
            workers: 1 + chance.place(3),
            persons: match (is_long, is_entangled) {
                (true, _) => 1 + chance.place(2),
                (_, true) => 4 + chance.place(12),
                _ => 1 + chance.place(8),
            },
            requests: if is_long { 250 + chance.place(350) } else { 10 + chance.place(120) },
            hot: *chance.pick(&[0, 300, 700, 950]),
            haste: *chance.pick(&[100, 300, 600]),
            burst: *chance.pick(&[1, 2, 5, 20]),
            step_micros: *chance.pick(&[50, 500, 5_000, 20_000]),
            lulls: fault(chance, 100),
            lull_micros: *chance.pick(&[1_000_000, 10 * SECOND, 100 * SECOND]),
            retries: *chance.pick(&[100, 300, 500]),
            arrays: fault(chance, 300),
            merges: if is_entangled { 100 + chance.draw(200) } else { fault(chance, 150) },
            entangled: if is_entangled { 50 + chance.draw(200) } else { 0 },
            magnets: if is_entangled { *chance.pick(&[0, 500, 900]) } else { 0 },
            ends: fault(chance, 60),
            expected_versions: fault(chance, 300),
            without_id: fault(chance, 200),
            reused_ids: fault(chance, 50),
            uuid_v7_ids: *chance.pick(&[0, 500, 1000]),
            clients: 1 + chance.place(4),
            client_skew_micros: *chance.pick(&[0, 1_000, 2_000_000, 100_000_000, 3_600_000_000, 40 * 86_400_000_000]),
            client_jumps: fault(chance, 50),
            bad_requests: fault(chance, 40),
            short_deadlines: fault(chance, 400),
            queries: fault(chance, 100),
            requests_lost: fault(chance, 100),
            requests_late: fault(chance, 200),
            replies_lost: fault(chance, 150),
            crashes: fault(chance, 20),
            drains: fault(chance, 10),
            sleeps: fault(chance, 20),
            rivals: fault(chance, 60),
            between: Between::of(chance, fault),
            clock_skew_micros: *chance.pick(if is_wild { &WRONG_CLOCKS } else { &RIGHT_CLOCKS }),
            clock_jumps: fault(chance, 20),
            acks_lost: fault(chance, 250),
            writes_lost: fault(chance, 150),
            lands_later: fault(chance, 150),
            append_unavailable: fault(chance, 150),
            append_refused: fault(chance, 30),
            vague_conflicts: fault(chance, 300),
            read_unavailable: fault(chance, 150),
            outages: fault(chance, 10),
            stale_reads: if is_entangled { 100 + chance.draw(800) } else { fault(chance, 600) },
            snapshots_unread: fault(chance, 300),
            snapshots_harmed: fault(chance, 30),
            tails_lost: if loses_tails { fault(chance, 6) } else { 0 },
            foundations_lost: if loses_tails { fault(chance, 100) } else { 0 },
            page_commits_max: *chance.pick(&[1, 2, 5, 256]),
            read_bytes_max: *chance.pick(&[2_000, 20_000, 4 << 20]),
            payload_bytes_max: *chance.pick(&[6_000, 20_000, 512 * 1024]),
            cache_bytes: *chance.pick(&[0, 12_000, 1 << 20]),
            snapshot_frequency: *chance.pick(&[0, 1, 3, 10]),
            queue_len_max: *chance.pick(&[4, 64, 4096]),
            turn_tasks_max: *chance.pick(&[1, 4, 512]),
        };
        if is_aging { plan.aged(chance) } else { plan }
    }

    /// The same, so slowly that retries come many minutes later, to replicas that have nothing in memory.
    fn aged(self, chance: &mut Chance) -> Self {
        Self {
            replicas: 1 + chance.place(2),
            requests: 250 + chance.place(350),
            persons: 1,
            haste: 100,
            burst: *chance.pick(&[1, 2]),
            lulls: 500,
            lull_micros: *chance.pick(&[3 * SECOND, 6 * SECOND]),
            retries: 300,
            merges: 0,
            ends: 0,
            expected_versions: 0,
            without_id: 0,
            uuid_v7_ids: 1000,
            crashes: self.crashes.min(1),
            snapshots_unread: 0,
            clock_jumps: 0,
            cache_bytes: *chance.pick(&[0, 12_000]),
            snapshot_frequency: *chance.pick(&[1, 3, 10]),
            ..self
        }
    }

    /// The same without anything that goes wrong.
    pub fn healed(&self) -> Self {
        Self {
            arrays: 0,
            merges: 0,
            entangled: 0,
            magnets: 0,
            ends: 0,
            expected_versions: 0,
            without_id: 0,
            reused_ids: 0,
            bad_requests: 0,
            short_deadlines: 0,
            requests_lost: 0,
            requests_late: 0,
            replies_lost: 0,
            crashes: 0,
            drains: 0,
            sleeps: 0,
            rivals: 0,
            between: Between { unheard: 0, lost: 0, doubled: 0, late: 0, ..self.between },
            clock_jumps: 0,
            lulls: 0,
            acks_lost: 0,
            writes_lost: 0,
            lands_later: 0,
            append_unavailable: 0,
            append_refused: 0,
            vague_conflicts: 0,
            read_unavailable: 0,
            outages: 0,
            snapshots_unread: 0,
            snapshots_harmed: 0,
            tails_lost: 0,
            foundations_lost: 0,
            queue_len_max: 4096,
            ..self.clone()
        }
    }
}
