//! Each document under `reject/` is refused, and the file beside it shows what people get to read.

use std::fs;
use std::path::PathBuf;

use ebb_desired_state::{Fault, MAX_BYTES, Problems, parse, parse_bytes};

const VALID: &str = "version: 1\ndeployment: home\nusers: []\nsessions: []\n";

pub(crate) fn corpus() -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir("tests/reject").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn refuse(bytes: &[u8]) -> Problems {
    parse_bytes(bytes).expect_err("the document must be refused")
}

#[test]
fn every_refused_document_is_explained_as_recorded() {
    let files = corpus();
    assert!(files.len() > 40, "the corpus is missing");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let problems = refuse(text.as_bytes());
        problems_point_at_something_that_is_there(&text, &problems);
        problems_come_in_the_order_of_the_text_and_none_twice(&problems);
        let name = path.file_name().unwrap().to_str().unwrap();
        expectorate::assert_contents(path.with_extension("txt"), &(problems.render(name, false) + "\n"));
    }
}

fn problems_point_at_something_that_is_there(text: &str, problems: &Problems) {
    let lines: Vec<_> = text.split('\n').collect();
    for problem in problems {
        let width = lines[problem.line as usize - 1].chars().count();
        assert_eq!(problem.snippet.chars().count(), width, "{problem}");
        assert!((1..=width + 1).contains(&(problem.column as usize)), "{problem}");
    }
}

fn problems_come_in_the_order_of_the_text_and_none_twice(problems: &Problems) {
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.column, &p.message)).collect();
    assert!(places.windows(2).all(|pair| (pair[0].0, pair[0].1) <= (pair[1].0, pair[1].1)), "{problems}");
    let unique: std::collections::BTreeSet<_> = places.iter().collect();
    assert_eq!(unique.len(), places.len(), "{problems}");
}

#[test]
fn a_damaged_document_is_told_from_a_wrong_one() {
    let fault = |name: &str| refuse(&fs::read(format!("tests/reject/{name}.yaml")).unwrap()).fault();
    for (name, expected) in [
        ("comments-only", Fault::Empty),
        ("alias-bomb", Fault::TooComplex),
        ("deep-nesting", Fault::TooComplex),
        ("recursive-anchor", Fault::TooComplex),
        ("end-marker-missing", Fault::Truncated),
        ("ports", Fault::Invalid),
        ("unclosed-bracket", Fault::Invalid),
    ] {
        assert_eq!(fault(name), expected, "{name}");
    }
    assert_eq!(refuse(b"").fault(), Fault::Empty);
    assert_eq!(refuse(b"version: 1\0").fault(), Fault::NotText);
    assert_eq!(refuse(b"version: \xff").fault(), Fault::NotText);
    assert_eq!(refuse(&vec![b' '; MAX_BYTES + 1]).fault(), Fault::TooLarge);
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let text = fs::read_to_string("tests/reject/secrets.yaml").unwrap();
    let problems = refuse(text.as_bytes());
    let everything = format!("{problems} {problems:?} {}", serde_json::to_string(&problems).unwrap());
    for secret in ["4GhX", "hunter2"] {
        assert!(text.contains(secret));
        assert!(!everything.contains(secret), "{everything}");
    }
}

#[test]
fn an_empty_document_is_refused() {
    for text in ["", "\n\n", "   ", "\u{feff}", "# only a comment", "---\n", "---\n...\n"] {
        let problems = refuse(text.as_bytes());
        assert_eq!(problems.iter().next().unwrap().message, "the document is empty", "{text:?}");
    }
}

#[test]
fn text_that_is_not_utf_8_is_refused_at_the_first_bad_byte() {
    let problems = refuse(b"version: 1\ndeployment: h\xFFme\n");
    let problem = problems.iter().next().unwrap();
    assert_eq!((problem.line, problem.column), (2, 14));
    let utf16: Vec<u8> = "\u{feff}version: 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(refuse(&utf16).to_string().contains("UTF-16"));
}

#[test]
fn the_zeros_that_a_crash_leaves_behind_are_recognised() {
    let problems = refuse(format!("{VALID}\0\0\0\0").as_bytes());
    let problem = problems.iter().next().unwrap();
    assert_eq!((problem.line, problem.column), (5, 1));
    assert!(problem.message.contains("zero byte"));
}

#[test]
fn a_document_beyond_the_size_limit_is_refused_unread() {
    let comment = "#".repeat(MAX_BYTES - VALID.len() - 1);
    assert!(parse(&format!("{VALID}{comment}\n")).is_ok());
    assert!(refuse(format!("{VALID}{comment}#\n").as_bytes()).to_string().contains("4194304"));
}

#[test]
fn a_document_of_millions_of_values_is_refused_by_their_number() {
    let problems = refuse(format!("version: 1\nusers: [{}x]\n", "x,".repeat(2_000_000)).as_bytes());
    assert!(problems.to_string().contains("more than 1000000 values"));
}

#[test]
fn a_byte_order_mark_and_foreign_line_ends_are_read() {
    let expected = parse(VALID).unwrap();
    for text in [
        format!("\u{feff}{VALID}"),
        VALID.replace('\n', "\r\n"),
        VALID.replace('\n', "\r"),
        format!("---\n{VALID}...\n"),
    ] {
        assert_eq!(parse(&text).unwrap(), expected, "{text:?}");
    }
    let wrong = VALID.replace('\n', "\r\n").replace("[]", "[x]");
    let problems = refuse(format!("\u{feff}{wrong}").as_bytes());
    let problem = problems.iter().next().unwrap();
    assert_eq!((problem.line, problem.column, problem.snippet.as_str()), (3, 9, "users: [x]"));
}

#[test]
fn after_a_hundred_problems_the_rest_is_only_counted() {
    let sessions: String =
        (0..500).map(|n| format!("  - {{ name: s{n}, users: [nobody{n}], region: r }}\n")).collect();
    let problems =
        refuse(format!("version: 1\ndeployment: home\nusers: []\nsessions:\n{sessions}").as_bytes());
    assert_eq!(problems.iter().count(), Problems::MAX);
    assert_eq!(problems.count(), 500);
    assert!(problems.to_string().ends_with("500 problems, 400 of them not shown"));
}

#[test]
fn a_key_with_escape_codes_reaches_no_terminal() {
    let text = VALID.replace("[]", "[{ name: a }]").replace(
        "sessions: [{ name: a }]",
        "sessions: [{ name: a, users: [a], region: r, dns: { names: { \"x\\e[2J\\t\": 10.0.0.7 } } }]",
    );
    let problems = refuse(text.as_bytes());
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.field, "sessions[0].dns.names.x\u{fffd}[2J ");
    assert!(!problems.to_string().contains(|c: char| c.is_control() && c != '\n'));
}

#[test]
fn a_document_in_one_long_line_is_explained_briefly() {
    let users: Vec<_> = (0..10_000).map(|n| format!("{{\"name\":\"User{n}\"}}")).collect();
    let text =
        format!("{{\"version\":1,\"deployment\":\"home\",\"users\":[{}],\"sessions\":[]}}", users.join(","));
    let problems = refuse(text.as_bytes());
    assert_eq!(problems.count(), 10_000);
    let shown = problems.to_string();
    assert!(shown.len() < 100_000, "{}", shown.len());
    let problem = problems.iter().last().unwrap();
    assert!(shown.contains(&format!("desired-state.yaml:1:{}", problem.column)));
    assert_eq!(&text[problem.column as usize - 1..][..8], "\"User99\"");
}

#[test]
fn colour_is_added_only_on_request() {
    let problems = refuse(b"version: 2\n");
    assert!(problems.render("x.yaml", true).contains("\u{1b}["));
    assert!(!problems.render("x.yaml", false).contains('\u{1b}'));
}
