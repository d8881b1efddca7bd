//! `serde_yaml` 0.9.34, beside serde-saphyr.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::Shown;

type Map = BTreeMap<String, u32>;

pub fn show() -> Vec<Shown> {
    vec![twice(), nested(), abandoned()]
}

/// A map with one key twice.
fn twice() -> Shown {
    let text = "a: 1\nb: 2\na: 3\n";
    let (old, new) = (serde_yaml::from_str::<Map>(text), serde_saphyr::from_str::<Map>(text));
    let silent = old.as_ref().is_ok_and(|map| map["a"] == 3);
    let place = new.as_ref().err().and_then(|error| error.location()).map(|at| (at.line(), at.column()));
    Shown {
        claim: "serde_yaml: a key that is there twice counts once, the last one, without a word",
        seen: format!("{old:?}; serde-saphyr refuses it at {place:?}"),
        holds: silent && place == Some((3, 1)),
    }
}

/// What a hostile document costs.
fn nested() -> Shown {
    let text = "[".repeat(20_000);
    let time = |parse: &dyn Fn(&str) -> bool| {
        let began = Instant::now();
        (parse(&text), began.elapsed())
    };
    let (old, of_old) = time(&|text| serde_yaml::from_str::<serde_yaml::Value>(text).is_ok());
    let (new, of_new) = time(&|text| serde_saphyr::from_str::<Vec<u32>>(text).is_ok());
    Shown {
        claim: "serde_yaml: 20,000 brackets take more than a hundred times as long to refuse as with serde-saphyr",
        seen: format!("{of_old:?} and {of_new:?}"),
        holds: !old && !new && of_old > of_new * 100,
    }
}

/// What its author says.
fn abandoned() -> Shown {
    let lock = include_str!("../Cargo.lock");
    let after = lock.split("name = \"serde_yaml\"").nth(1).unwrap_or_default();
    let version = after.lines().find(|line| line.starts_with("version")).unwrap_or_default().to_owned();
    Shown {
        claim: "serde_yaml: the last version is marked as deprecated by its author",
        holds: version.contains("+deprecated"),
        seen: version,
    }
}
