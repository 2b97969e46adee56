//! Names written for each use, by convention.

use cim_domain_person::domain::{DisplayNames, PersonName};
use serde_json::{Value, json};

/// A name and its formal, informal, legal, alphabetical and cultural form.
type Case = (Value, [&'static str; 5]);

fn check(convention: &str, cases: &[Case]) {
    for (components, [formal, informal, legal, alphabetical, cultural]) in cases {
        let preferred = components.get("preferred").cloned();
        let mut components = components.clone();
        components.as_object_mut().unwrap().remove("preferred");
        let name: PersonName = serde_json::from_value(json!({
            "components": components, "preferred_form": preferred, "naming_convention": convention,
        }))
        .unwrap();
        let expected = DisplayNames {
            formal: (*formal).to_owned(),
            informal: (*informal).to_owned(),
            legal: (*legal).to_owned(),
            alphabetical: (*alphabetical).to_owned(),
            cultural: (*cultural).to_owned(),
        };
        assert_eq!(DisplayNames::of(&name), expected, "{components}");
    }
}

#[test]
fn western() {
    check(
        "Western",
        &[
            (
                json!({"given_names": ["Ann"], "family_names": ["Lee"]}),
                ["Ann Lee", "Ann", "Ann Lee", "Lee, Ann", "Ann Lee"],
            ),
            (
                json!({"given_names": ["Martin", "Luther"], "family_names": ["King"], "prefixes": ["Rev.", "Dr."], "suffixes": ["Jr.", "PhD"]}),
                [
                    "Rev. Dr. Martin Luther King, Jr., PhD",
                    "Martin",
                    "Martin Luther King, Jr.",
                    "King, Martin Luther, Jr.",
                    "Martin Luther King",
                ],
            ),
            (
                json!({"given_names": ["William"], "family_names": ["Gates"], "suffixes": ["III"], "preferred": "Bill"}),
                ["William Gates III", "Bill", "William Gates III", "Gates, William, III", "William Gates"],
            ),
            (
                json!({"given_names": ["Ludwig"], "family_names": ["van Beethoven"]}),
                [
                    "Ludwig van Beethoven",
                    "Ludwig",
                    "Ludwig van Beethoven",
                    "Beethoven, Ludwig van",
                    "Ludwig van Beethoven",
                ],
            ),
            (
                json!({"given_names": ["Jan"], "family_names": ["van", "der", "Berg"]}),
                ["Jan van der Berg", "Jan", "Jan van der Berg", "Berg, Jan van der", "Jan van der Berg"],
            ),
            (
                json!({"given_names": ["Martin"], "family_names": ["Van Buren"]}),
                ["Martin Van Buren", "Martin", "Martin Van Buren", "Van Buren, Martin", "Martin Van Buren"],
            ),
            (
                json!({"given_names": ["Jean"], "family_names": ["de La Fontaine"]}),
                ["Jean de La Fontaine", "Jean", "Jean de La Fontaine", "La Fontaine, Jean de", "Jean de La Fontaine"],
            ),
            (
                json!({"given_names": ["Max"], "family_names": ["von"]}),
                ["Max von", "Max", "Max von", "von, Max", "Max von"],
            ),
            (json!({"given_names": ["Ann"]}), ["Ann", "Ann", "Ann", "Ann", "Ann"]),
            (
                json!({"family_names": ["Lee"], "prefixes": ["Mrs."], "suffixes": ["PhD"]}),
                ["Mrs. Lee, PhD", "Lee", "Lee", "Lee", "Lee"],
            ),
            (
                json!({"given_names": [" Ann ", " "], "family_names": [" ", "Lee"], "prefixes": [" "], "suffixes": [" "], "preferred": " "}),
                ["Ann Lee", "Ann", "Ann Lee", "Lee, Ann", "Ann Lee"],
            ),
        ],
    );
}

#[test]
fn spanish() {
    check(
        "Spanish",
        &[
            (
                json!({"given_names": ["Gabriel", "José"], "family_names": ["García", "Márquez"], "prefixes": ["D."]}),
                [
                    "D. Gabriel José García Márquez",
                    "Gabriel",
                    "Gabriel José García Márquez",
                    "García Márquez, Gabriel José",
                    "Gabriel José García Márquez",
                ],
            ),
            (
                json!({"given_names": ["José"], "family_names": ["Ortega", "y", "Gasset"]}),
                [
                    "José Ortega y Gasset",
                    "José",
                    "José Ortega y Gasset",
                    "Ortega y Gasset, José",
                    "José Ortega y Gasset",
                ],
            ),
            (
                json!({"given_names": ["Juan"], "family_names": ["de la Cruz", "Ruiz"], "suffixes": ["hijo"]}),
                [
                    "Juan de la Cruz Ruiz hijo",
                    "Juan",
                    "Juan de la Cruz Ruiz hijo",
                    "Cruz Ruiz, Juan de la, hijo",
                    "Juan de la Cruz Ruiz",
                ],
            ),
            (
                json!({"given_names": ["Ana"], "family_names": ["Gil"], "matronymic": "Soto", "preferred": "Anita"}),
                ["Ana Gil Soto", "Anita", "Ana Gil Soto", "Gil Soto, Ana", "Ana Gil Soto"],
            ),
            (
                json!({"given_names": ["Ana"], "patronymic": "Gil", "matronymic": "Soto"}),
                ["Ana Gil Soto", "Ana", "Ana Gil Soto", "Gil Soto, Ana", "Ana Gil Soto"],
            ),
            (
                json!({"given_names": ["Ana"], "family_names": ["Gil", "Soto"], "patronymic": "Gil", "matronymic": "Soto"}),
                ["Ana Gil Soto", "Ana", "Ana Gil Soto", "Gil Soto, Ana", "Ana Gil Soto"],
            ),
            (json!({"given_names": ["Ana"]}), ["Ana", "Ana", "Ana", "Ana", "Ana"]),
        ],
    );
}

#[test]
fn east_asian() {
    check(
        "EastAsian",
        &[
            (
                json!({"given_names": ["太郎"], "family_names": ["山田"], "suffixes": ["様"]}),
                ["山田太郎様", "太郎", "山田太郎", "山田太郎", "山田太郎"],
            ),
            (
                json!({"given_names": ["さくら"], "family_names": ["佐々木"], "prefixes": ["Dr."]}),
                ["Dr. 佐々木さくら", "さくら", "佐々木さくら", "佐々木さくら", "佐々木さくら"],
            ),
            (
                json!({"given_names": ["민준"], "family_names": ["김"], "suffixes": ["씨"]}),
                ["김민준 씨", "민준", "김민준", "김민준", "김민준"],
            ),
            (
                json!({"given_names": ["Zedong"], "family_names": ["Mao"]}),
                ["Mao Zedong", "Zedong", "Mao Zedong", "Mao Zedong", "Mao Zedong"],
            ),
            (
                json!({"given_names": ["Hiroshi"], "family_names": ["Tanaka"], "suffixes": ["-san"]}),
                ["Tanaka Hiroshi-san", "Hiroshi", "Tanaka Hiroshi", "Tanaka Hiroshi", "Tanaka Hiroshi"],
            ),
            (
                json!({"given_names": ["Văn", "A"], "family_names": ["Nguyễn"]}),
                ["Nguyễn Văn A", "Văn A", "Nguyễn Văn A", "Nguyễn Văn A", "Nguyễn Văn A"],
            ),
            (
                json!({"given_names": ["小", "明"], "family_names": ["Wang"], "preferred": "Ming"}),
                ["Wang 小明", "Ming", "Wang 小明", "Wang 小明", "Wang 小明"],
            ),
            (json!({"family_names": ["山田"]}), ["山田", "山田", "山田", "山田", "山田"]),
        ],
    );
}

#[test]
fn patronymic() {
    check(
        "Patronymic",
        &[
            (
                json!({"given_names": ["Лев"], "patronymic": "Николаевич", "family_names": ["Толстой"], "prefixes": ["граф"]}),
                [
                    "граф Лев Николаевич Толстой",
                    "Лев",
                    "Лев Николаевич Толстой",
                    "Толстой, Лев Николаевич",
                    "Лев Николаевич",
                ],
            ),
            (
                json!({"given_names": ["Vigdís"], "patronymic": "Finnbogadóttir"}),
                [
                    "Vigdís Finnbogadóttir",
                    "Vigdís",
                    "Vigdís Finnbogadóttir",
                    "Vigdís Finnbogadóttir",
                    "Vigdís Finnbogadóttir",
                ],
            ),
            (
                json!({"given_names": ["Heiðar"], "matronymic": "Helguson", "suffixes": ["PhD"]}),
                ["Heiðar Helguson PhD", "Heiðar", "Heiðar Helguson", "Heiðar Helguson", "Heiðar Helguson"],
            ),
            (
                json!({"given_names": ["Björk"], "family_names": ["Lund"]}),
                ["Björk Lund", "Björk", "Björk Lund", "Lund, Björk", "Björk Lund"],
            ),
        ],
    );
}

#[test]
fn mononymic() {
    check(
        "Mononymic",
        &[
            (
                json!({"given_names": ["Sukarno"], "prefixes": ["Ir."]}),
                ["Ir. Sukarno", "Sukarno", "Sukarno", "Sukarno", "Sukarno"],
            ),
            (json!({"family_names": ["Teller"]}), ["Teller", "Teller", "Teller", "Teller", "Teller"]),
            (
                json!({"given_names": ["Suharto"], "preferred": "Pak Harto", "suffixes": ["II"]}),
                ["Suharto II", "Pak Harto", "Suharto II", "Suharto", "Suharto"],
            ),
        ],
    );
}

#[test]
fn other() {
    check(
        "Other",
        &[
            (
                json!({"given_names": ["محمد"], "patronymic": "بن سلمان", "family_names": ["آل سعود"]}),
                [
                    "محمد بن سلمان آل سعود",
                    "محمد",
                    "محمد بن سلمان آل سعود",
                    "آل سعود, محمد بن سلمان",
                    "محمد بن سلمان آل سعود",
                ],
            ),
            (
                json!({"given_names": ["Maria"], "family_names": ["de Souza"], "suffixes": ["PhD"]}),
                ["Maria de Souza PhD", "Maria", "Maria de Souza", "de Souza, Maria", "Maria de Souza"],
            ),
        ],
    );
}
