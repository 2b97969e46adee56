//! What arrives where replicas say that they are there, and where the answers to parcels arrive. The input: the payload.

use cim_domain_person::engine::sharing::Sharing;
use cim_domain_person::engine::turn::Moment;
use cim_domain_person::wire::beacon::{BEACON_BYTES_MAX, Beacon, ReplicaId};
use cim_domain_person::wire::parcel::Receipt;

/// What holds of every payload.
pub fn hold(input: &[u8]) {
    if let Some(receipt) = Receipt::decode(input) {
        assert_eq!(Receipt::decode(&receipt.encode()), Some(receipt));
    }
    let Some(beacon) = Beacon::decode(input) else { return };
    assert!(input.len() <= BEACON_BYTES_MAX);
    let written = beacon.encode();
    // In place of an object the members may stand in an array, without their names: no replica writes that.
    if written.len() <= BEACON_BYTES_MAX {
        assert_eq!(Beacon::decode(&written).as_ref(), Some(&beacon));
    }
    assert_alone_counts_nobody(&beacon);
}

/// Nobody counts for whoever does not hear itself, and one beacon is one replica at most.
fn assert_alone_counts_nobody(beacon: &Beacon) {
    let mut sharing = Sharing::new(ReplicaId::from_u128(7), &beacon.cluster, u64::MAX);
    let members = &mut sharing.members;
    let is_newcomer = members.hear(beacon, Moment(1));
    assert!(members.is_alone());
    let own = members.beat(beacon.cluster.clone(), Moment(2));
    members.hear(&own, Moment(2));
    assert_eq!(members.is_alone(), !is_newcomer || beacon.replica == own.replica);
    assert!(!is_newcomer || beacon.is_of(&own.cluster));
}
