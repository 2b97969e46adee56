//! Merges that lead nowhere: in a circle, or to a person who does not exist.
//!
//! The two persons of a merge are not locked against each other, so two merges at the same moment can point at each other.

use std::collections::{HashMap, HashSet};

use crate::domain::PersonId;

/// The circles among merges, each with all its persons, beginning with the smallest id.
pub fn circles(merged: &HashMap<PersonId, PersonId>) -> Vec<Vec<PersonId>> {
    let mut done: HashSet<PersonId> = HashSet::with_capacity(merged.len());
    let mut circles = Vec::new();
    for start in merged.keys() {
        let mut path: Vec<PersonId> = Vec::new();
        let mut places: HashMap<PersonId, usize> = HashMap::new();
        let mut next = Some(*start);
        while let Some(person) = next.filter(|person| !done.contains(person)) {
            if let Some(place) = places.get(&person) {
                circles.push(path.split_off(*place));
                break;
            }
            places.insert(person, path.len());
            path.push(person);
            next = merged.get(&person).copied();
        }
        done.extend(places.into_keys());
    }
    for circle in &mut circles {
        let first = circle.iter().enumerate().min_by_key(|(_, person)| person.uuid()).map_or(0, |(place, _)| place);
        circle.rotate_left(first);
    }
    circles.sort_by_key(|circle| circle.first().map(|person| person.uuid()));
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(merges: &[(u128, u128)]) -> Vec<Vec<u128>> {
        let person = |number: u128| PersonId::from_uuid(uuid::Uuid::from_u128(number));
        let merged = merges.iter().map(|(from, into)| (person(*from), person(*into))).collect();
        let numbers = |circle: Vec<PersonId>| circle.iter().map(|person| person.uuid().as_u128()).collect();
        circles(&merged).into_iter().map(numbers).collect()
    }

    #[test]
    fn circles_of_any_length_are_found_once_and_chains_are_none() {
        for (merges, circles) in [
            (&[][..], &[][..]),
            (&[(1, 2), (2, 3)], &[]),
            (&[(1, 2), (2, 1)], &[&[1, 2][..]]),
            (&[(1, 1)], &[&[1]]),
            (&[(7, 5), (5, 9), (9, 7), (1, 7), (2, 1)], &[&[5, 9, 7]]),
            (&[(1, 2), (2, 1), (3, 4), (4, 3), (5, 1)], &[&[1, 2], &[3, 4]]),
        ] {
            assert_eq!(found(merges), circles, "{merges:?}");
        }
    }
}
