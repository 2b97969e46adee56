//! The load: for whom the commands are, and what they ask for.
//!
//! Persons are numbered; a person's id is a hash of the seed and the number, so that every run with the same seed means
//! the same persons and nobody has to remember them.

use std::str::FromStr;

use rand::distributions::{Distribution as _, WeightedIndex};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_distr::Zipf;
use uuid::Uuid;

use crate::domain::{
    Attribute, AttributeType, AttributeValue, Command, Confidence, NameComponents, NamingConvention, PersonId,
    PersonName, PhysicalType, Provenance, Temporal, ValueSource,
};
use crate::wire::subject::Subjects;

/// Zipf's exponent unless it is said: the second person gets half of what the first gets, the third a third.
const ZIPF_EXPONENT: f64 = 1.0;
/// The largest exponent; with it nearly everything is for one person.
const ZIPF_EXPONENT_MAX: f64 = 10.0;
/// The largest weight in a mix.
const WEIGHT_MAX: u32 = 1_000_000;
/// Heights that are told apart.
const HEIGHTS: u64 = 100_000;
/// What the records say about where they come from.
const SOURCE: &str = "person-service bench";

/// For whom the commands are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// Everybody alike.
    Uniform,
    /// The person of rank k gets 1 / k^exponent of what the first gets.
    Zipf(f64),
    /// One person gets them all.
    One,
    /// Every person once, in random order.
    Each,
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let exponent = |text: &str| text.parse().ok().filter(|e| (0.01..=ZIPF_EXPONENT_MAX).contains(e));
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            None if text == "zipf" => Ok(Self::Zipf(ZIPF_EXPONENT)),
            None if text == "one" => Ok(Self::One),
            None if text == "each" => Ok(Self::Each),
            Some(("zipf", text)) => exponent(text)
                .map(Self::Zipf)
                .ok_or_else(|| format!("the exponent is a number from 0.01 to {ZIPF_EXPONENT_MAX}")),
            _ => Err("allowed are uniform, zipf, zipf:EXPONENT, one and each".to_owned()),
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Self::One => f.write_str("one"),
            Self::Each => f.write_str("each"),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Update,
    Attribute,
    Array,
    Query,
}

const KINDS: [(&str, Kind); 5] = [
    ("create", Kind::Create),
    ("update", Kind::Update),
    ("attribute", Kind::Attribute),
    ("array", Kind::Array),
    ("query", Kind::Query),
];

/// What is asked for, by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    weights: [u32; KINDS.len()],
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || {
            let names = KINDS.map(|(name, _)| name).join(", ");
            format!(
                "allowed is a list such as update=8,attribute=1,create=1, of {names}, with weights up to {WEIGHT_MAX}"
            )
        };
        let mut weights = [0; KINDS.len()];
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let place = KINDS.iter().zip(&mut weights).find(|((known, _), _)| *known == name.trim());
            let weight = weight.trim().parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            let (Some((_, place)), Some(weight)) = (place, weight) else { return Err(allowed()) };
            *place = weight;
        }
        if weights.iter().all(|weight| *weight == 0) { Err(allowed()) } else { Ok(Self { weights }) }
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = KINDS.iter().zip(self.weights).filter(|(_, weight)| *weight > 0);
        let parts: Vec<String> = named.map(|((name, _), weight)| format!("{name}={weight}")).collect();
        f.write_str(&parts.join(","))
    }
}

/// One message to the service.
#[derive(Debug)]
pub struct Order {
    /// Where it goes.
    pub subject: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// The command's id; a query has none.
    pub id: Option<String>,
    /// The version that the person must be at.
    pub expected_version: Option<u64>,
}

/// The persons of a seed.
#[derive(Debug, Clone)]
pub struct Persons {
    subjects: Subjects,
    seed: u64,
}

impl Persons {
    /// Those of this seed.
    pub fn new(subjects: Subjects, seed: u64) -> Self {
        Self { subjects, seed }
    }

    /// The first commit of a person: the creation, and an attribute that updates find.
    pub fn first(&self, number: u64) -> Order {
        let person_id = self.id(number);
        let created = create(person_id);
        let recorded = Command::RecordAttribute { person_id, attribute: height(0) };
        self.order(person_id, &[created, recorded])
    }

    /// A further commit of a person in its history, decided only on the version that the earlier ones lead to.
    pub fn later(&self, number: u64, round: u64) -> Order {
        let person_id = self.id(number);
        let order = self.order(person_id, &[rename(person_id, &format!("Round-{round}"))]);
        // The first commit has two events, every other one.
        Order { expected_version: Some(round + 1), ..order }
    }

    fn id(&self, number: u64) -> PersonId {
        hashed(&format!("person-service bench {} {number}", self.seed))
    }

    fn order(&self, person: PersonId, commands: &[Command]) -> Order {
        // Commands are structs of strings and numbers: writing them as JSON cannot fail.
        let payload = match commands {
            [command] => serde_json::to_vec(command),
            several => serde_json::to_vec(several),
        };
        Order {
            subject: self.subjects.commands(person),
            payload: payload.unwrap_or_default(),
            id: Some(Uuid::now_v7().to_string()),
            expected_version: None,
        }
    }
}

/// Orders without end, or one for each person.
pub struct Load {
    persons: Persons,
    kinds: WeightedIndex<u32>,
    choice: Choice,
    rng: StdRng,
    /// Tells this connection of this run from every other one.
    run: Uuid,
    made: u64,
    part: u64,
    parts: u64,
}

enum Choice {
    Uniform(u64),
    Zipf(Zipf<f64>),
    One,
    Each(Vec<u32>),
}

impl Load {
    /// What connection `part` of `parts` has to send.
    pub fn new(
        persons: Persons,
        count: u64,
        distribution: Distribution,
        mix: &Mix,
        part: u64,
        parts: u64,
    ) -> Option<Self> {
        let seed = persons.seed;
        let choice = match distribution {
            Distribution::Uniform => Choice::Uniform(count),
            Distribution::Zipf(exponent) => Choice::Zipf(Zipf::new(count, exponent).ok()?),
            Distribution::One => Choice::One,
            Distribution::Each => {
                let mut all: Vec<u32> = (0..u32::try_from(count).ok()?).collect();
                // The same order for all connections, of which each takes its part.
                all.shuffle(&mut StdRng::seed_from_u64(seed));
                let mine = all.into_iter().zip((0..parts).cycle()).filter(|(_, of)| *of == part);
                Choice::Each(mine.map(|(person, _)| person).collect())
            }
        };
        let kinds = WeightedIndex::new(mix.weights).ok()?;
        let rng = StdRng::seed_from_u64(seed.wrapping_add(part).wrapping_add(1));
        Some(Self { persons, kinds, choice, rng, run: Uuid::now_v7(), made: 0, part, parts })
    }

    /// The next message; none when every person had one.
    pub fn next_order(&mut self) -> Option<Order> {
        let number = match &mut self.choice {
            Choice::Uniform(count) => self.rng.gen_range(0..*count),
            Choice::Zipf(zipf) => rank(zipf.sample(&mut self.rng)),
            Choice::One => 0,
            Choice::Each(left) => u64::from(left.pop()?),
        };
        self.made += 1;
        let (_, kind) = KINDS.get(self.kinds.sample(&mut self.rng))?;
        let person = self.persons.id(number);
        let name = || format!("{:x}-{:x}", self.run.as_u128() & 0xffff_ffff, self.made);
        Some(match kind {
            Kind::Create => {
                let somebody = hashed(&format!("{} {}", self.run, self.made));
                self.persons.order(somebody, &[create(somebody)])
            }
            Kind::Update => self.persons.order(person, &[rename(person, &name())]),
            Kind::Attribute => self.persons.order(person, &[measure(person, self.count())]),
            Kind::Array => self.persons.order(person, &[rename(person, &name()), measure(person, self.count())]),
            Kind::Query => Order {
                subject: self.persons.subjects.query("get"),
                payload: format!(r#"{{"person_id":"{person}"}}"#).into_bytes(),
                id: None,
                expected_version: None,
            },
        })
    }

    /// Which height the next attribute has: another one on each connection and at the beginning of each run, since one
    /// that is there already would be accepted without a commit.
    fn count(&self) -> u64 {
        let mine = HEIGHTS / self.parts.max(1);
        (self.run.as_u64_pair().1 % mine + self.made) % mine * self.parts + self.part
    }
}

/// A rank counts from 1, and is a whole number although it comes as a float.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to the number of persons")]
fn rank(sample: f64) -> u64 {
    (sample as u64).saturating_sub(1)
}

/// A UUID of version 8, as those are that somebody made by a rule of their own.
fn hashed(text: &str) -> PersonId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(blake3::hash(text.as_bytes()).as_bytes().split_at(16).0);
    PersonId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

fn name(family: &str) -> PersonName {
    PersonName {
        components: NameComponents {
            given_names: ["Bench".into()].into(),
            family_names: [family.into()].into(),
            ..NameComponents::default()
        },
        preferred_form: None,
        naming_convention: NamingConvention::Western,
    }
}

fn create(person_id: PersonId) -> Command {
    Command::CreatePerson { person_id, name: name("Person").into(), source: SOURCE.to_owned() }
}

fn rename(person_id: PersonId, family: &str) -> Command {
    Command::UpdateName { person_id, name: name(family).into(), reason: None }
}

fn measure(person_id: PersonId, count: u64) -> Command {
    let new_attribute = height(count);
    Command::UpdateAttribute { person_id, attribute_type: new_attribute.attribute_type.clone(), new_attribute }
}

/// Another height from one count to the next, up to some hundred metres.
fn height(count: u64) -> Attribute {
    let millimetres = u32::try_from(count % HEIGHTS).unwrap_or(0);
    Attribute {
        attribute_type: AttributeType::Physical(PhysicalType::Height),
        value: AttributeValue::Length(1.0 + f64::from(millimetres) / 1000.0),
        temporal: Temporal::default(),
        provenance: Provenance {
            source: ValueSource::Measured,
            confidence: Confidence::Likely,
            recorded_by: None,
            trace: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn load(distribution: &str, mix: &str, part: u64, parts: u64) -> Load {
        let persons = Persons::new(Subjects::new("bench"), 7);
        let (distribution, mix) = (distribution.parse().expect("one"), mix.parse().expect("a mix"));
        Load::new(persons, 100, distribution, &mix, part, parts).expect("a load")
    }

    /// How often each subject comes among 10,000 orders, the most frequent first.
    fn counts(mut load: Load) -> Vec<u32> {
        let mut counts = BTreeMap::<String, u32>::new();
        for order in (0..10_000).map_while(|_| load.next_order()) {
            *counts.entry(order.subject).or_default() += 1;
        }
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn orders_fall_upon_the_persons_as_told() {
        let uniform = counts(load("uniform", "update", 0, 1));
        assert!(uniform.len() == 100 && uniform[0] < 200 && uniform[99] > 50, "{uniform:?}");
        let zipf = counts(load("zipf", "update", 0, 1));
        // The first of 100 gets one in 5.19.
        assert!((1_700..2_200).contains(&zipf[0]) && zipf[1] < zipf[0] * 2 / 3, "{zipf:?}");
        assert_eq!(counts(load("one", "update", 0, 1)), [10_000]);
        assert_eq!(counts(load("each", "update", 0, 1)), [1; 100]);
        assert_eq!([0, 1, 2].map(|part| counts(load("each", "update", part, 3)).len()), [34, 33, 33]);
        assert_eq!(counts(load("one", "create", 0, 1)).len(), 10_000);
    }

    #[test]
    fn no_two_connections_send_the_same_height() {
        let payloads = |part: u64| {
            let mut load = load("one", "attribute", part, 3);
            (0..1_000).filter_map(|_| load.next_order()).map(|order| order.payload).collect::<BTreeSet<_>>()
        };
        let [a, b] = [0, 1].map(payloads);
        assert!(a.len() == 1_000 && b.len() == 1_000 && a.is_disjoint(&b));
    }

    #[test]
    fn a_mix_is_a_list_with_weights() {
        let mix = |text: &str| text.parse::<Mix>().map(|mix| mix.to_string());
        assert_eq!(mix("create=1, update=8,query"), Ok("create=1,update=8,query=1".to_owned()));
        for wrong in ["", "update=", "update=-1", "update=0", "delete=1", "update=1000001"] {
            assert!(mix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn distributions_are_named() {
        for text in ["uniform", "zipf:0.8", "one", "each"] {
            assert_eq!(text.parse::<Distribution>().map(|distribution| distribution.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["", "zipf:", "zipf:0", "zipf:NaN", "zipf:11", "one:2", "normal"] {
            assert!(wrong.parse::<Distribution>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_same_seed_means_the_same_persons() {
        let [a, b] = [7, 7].map(|seed| Persons::new(Subjects::new("bench"), seed));
        assert_eq!(a.first(3).subject, b.first(3).subject);
        assert_ne!(a.first(3).subject, a.first(4).subject);
        assert_ne!(a.first(3).subject, Persons::new(Subjects::new("bench"), 8).first(3).subject);
    }
}
