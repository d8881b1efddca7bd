//! Documents damaged at random: whatever happens to one, it is either understood or explained.

use std::collections::BTreeSet;
use std::fs;

use ebb_desired_state::{Document, Signal, diff, parse, parse_bytes};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::examples::{COMPLETE, files};
use crate::schema::Schema;

#[derive(Debug, Clone)]
enum Mutation {
    Delete { at: prop::sample::Index, length: usize },
    Insert { at: prop::sample::Index, piece: String },
    Replace { at: prop::sample::Index, byte: u8 },
    DropLine { at: prop::sample::Index },
    RepeatLine { at: prop::sample::Index },
    SwapLines { one: prop::sample::Index, two: prop::sample::Index },
    Indent { at: prop::sample::Index, by: usize },
    Cut { at: prop::sample::Index },
}

/// Texts with a meaning in YAML or in the format.
const PIECES: &[&str] = &[
    ":",
    ": ",
    "- ",
    "\n",
    "\t",
    " ",
    "#",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!x ",
    "|\n",
    ">",
    "---\n",
    "...\n",
    "null",
    "~",
    "true",
    "yes",
    "0",
    "-1",
    "1e999",
    ".nan",
    "0x1F",
    "999999999999999999999999",
    "none",
    "always",
    "10.0.0.0/8",
    "::/0",
    "2026-12-31",
    "daily",
    "\0",
    "\u{feff}",
    "\u{1b}[2J",
    "é",
    "日本",
    "\r",
    "\r\n",
    "%YAML 1.1\n",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || any::<prop::sample::Index>();
    prop_oneof![
        (at(), 1..40_usize).prop_map(|(at, length)| Mutation::Delete { at, length }),
        (at(), prop::sample::select(PIECES))
            .prop_map(|(at, piece)| Mutation::Insert { at, piece: piece.to_owned() }),
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace { at, byte }),
        at().prop_map(|at| Mutation::DropLine { at }),
        at().prop_map(|at| Mutation::RepeatLine { at }),
        (at(), at()).prop_map(|(one, two)| Mutation::SwapLines { one, two }),
        (at(), 0..9_usize).prop_map(|(at, by)| Mutation::Indent { at, by }),
        at().prop_map(|at| Mutation::Cut { at }),
    ]
}

fn apply(document: &mut Vec<u8>, mutation: &Mutation) {
    if document.is_empty() {
        return;
    }
    let size = document.len();
    let lines =
        |document: &[u8]| document.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    match mutation {
        Mutation::Delete { at, length } => {
            let start = at.index(size);
            document.drain(start..(start + length).min(size));
        }
        Mutation::Insert { at, piece } => {
            let at = at.index(size);
            document.splice(at..at, piece.bytes());
        }
        Mutation::Replace { at, byte } => document[at.index(size)] = *byte,
        Mutation::DropLine { at } => {
            let mut lines = lines(document);
            lines.remove(at.index(lines.len()));
            *document = lines.concat();
        }
        Mutation::RepeatLine { at } => {
            let mut lines = lines(document);
            let index = at.index(lines.len());
            lines.insert(index, lines[index].clone());
            *document = lines.concat();
        }
        Mutation::SwapLines { one, two } => {
            let mut lines = lines(document);
            let count = lines.len();
            lines.swap(one.index(count), two.index(count));
            *document = lines.concat();
        }
        Mutation::Indent { at, by } => {
            let mut lines = lines(document);
            let index = at.index(lines.len());
            let text = lines[index].trim_ascii_start().to_vec();
            lines[index] = [vec![b' '; *by], text, b"\n".to_vec()].concat();
            *document = lines.concat();
        }
        Mutation::Cut { at } => document.truncate(at.index(size)),
    }
}

/// What everybody who gets a document relies on.
fn sound(document: &Document) -> Result<(), TestCaseError> {
    let users: BTreeSet<_> = document.users.iter().map(|user| &user.name).collect();
    prop_assert_eq!(users.len(), document.users.len());
    let keys: Vec<_> = document.users.iter().filter_map(|user| user.public_key).collect();
    prop_assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    let sessions: BTreeSet<_> = document.sessions.iter().map(|session| &session.name).collect();
    prop_assert_eq!(sessions.len(), document.sessions.len());
    for session in &document.sessions {
        let members: BTreeSet<_> = session.users.iter().collect();
        prop_assert!(
            !members.is_empty() && members.len() == session.users.len() && members.is_subset(&users)
        );
        prop_assert!((5..=86_400).contains(&session.idle.timeout.as_secs()));
        prop_assert!(session.idle.signal == Signal::Traffic || session.idle.timeout.as_secs() >= 180);
        prop_assert!(session.max_lifetime.is_none_or(|lifetime| lifetime > session.idle.timeout));
        prop_assert!(!session.routes.is_empty() && !session.region.is_empty());
        prop_assert!(session.port == 443 || (1024..49152).contains(&session.port) || session.port == 65535);
        for own in [IpNet::from(session.addresses.ipv4), IpNet::from(session.addresses.ipv6)] {
            let collides =
                |route: &&IpNet| route.prefix_len() > 1 && (route.contains(&own) || own.contains(*route));
            prop_assert_eq!(session.routes.iter().find(collides), None);
            prop_assert_eq!(own, own.trunc());
        }
        prop_assert!(members.len() <= (1 << (32 - session.addresses.ipv4.prefix_len())) - 3);
    }
    Ok(())
}

/// Damages documents `cases` times and returns how many of them were still valid.
fn damage(cases: u32, seed: u8) -> u32 {
    let originals: Vec<Vec<u8>> =
        files().iter().map(|path| fs::read(path).unwrap()).chain([COMPLETE.as_bytes().to_vec()]).collect();
    let strategy = (prop::sample::select(originals), prop::collection::vec(mutation(), 1..6));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let valid = std::cell::Cell::new(0);
    let schema = Schema::new();
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |(original, mutations)| {
            let mut document = original.clone();
            mutations.iter().for_each(|mutation| apply(&mut document, mutation));
            match parse_bytes(&document) {
                Ok(read) => {
                    valid.set(valid.get() + 1);
                    sound(&read)?;
                    let json = serde_json::to_string(&read).unwrap();
                    prop_assert_eq!(&parse(&json).map_err(|e| TestCaseError::fail(e.to_string()))?, &read);
                    prop_assert!(diff(&read, &read).is_empty());
                    let text = std::str::from_utf8(&document).unwrap();
                    let objection = schema.objection(text);
                    prop_assert!(
                        objection.is_none(),
                        "an editor would object to a valid document: {:?}",
                        objection
                    );
                }
                Err(problems) => {
                    prop_assert!(problems.count() > 0);
                    let shown = problems.to_string();
                    prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{:?}", shown);
                    for problem in &problems {
                        prop_assert!(problem.line >= 1 && problem.column >= 1);
                        prop_assert!(!problem.message.is_empty());
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    valid.get()
}

/// Documents of one test; five of them make the 100,000.
const CASES: u32 = 20_000;

fn understood_or_explained(seed: u8) {
    let valid = damage(CASES, seed);
    // Both must happen, or the mutations are too strong or too weak to show anything.
    assert!((500..CASES - 500).contains(&valid), "{valid} of {CASES} damaged documents were valid");
}

macro_rules! shards {
    ($($name:ident: $seed:literal)*) => {
        $(
            #[test]
            fn $name() {
                understood_or_explained($seed);
            }
        )*
    };
}

shards! {
    a_damaged_document_is_either_understood_or_explained_1: 1
    a_damaged_document_is_either_understood_or_explained_2: 2
    a_damaged_document_is_either_understood_or_explained_3: 3
    a_damaged_document_is_either_understood_or_explained_4: 4
    a_damaged_document_is_either_understood_or_explained_5: 5
}
