//! From text to nodes, by serde-saphyr.

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, NonFiniteFloatPolicy, Options};

use super::{Lines, Mark, Node, problem};
use crate::problem::{Fault, Problem};

/// Values in a document, aliases expanded. Settings need about 10 bytes per value, so 4 MiB of them hold some 400,000.
const MAX_NODES: usize = 1_000_000;
/// Deepest nesting; the deepest setting, `sessions[].dns.names.NAME[]`, needs 7.
const MAX_DEPTH: usize = 32;
/// Events that aliases may add. 10,000 sessions that all merge one anchor of 20 settings need 400,000.
const MAX_REPLAYED: usize = 500_000;

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
            max_depth: MAX_DEPTH,
            max_merge_keys: 50_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        // The reader of maps reports them itself, all of them and not only the first.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // Only what YAML 1.2 calls a truth value or a number is one; everything else stays the text it is.
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        // Problems are shown with their lines by this crate, which masks secrets.
        with_snippet: false,
    }
}

pub(super) fn read(text: &str) -> Result<Node, Problem> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| explain(text, &error))
}

fn explain(text: &str, error: &Error) -> Problem {
    let mark = error.location().map_or(Mark::START, |at| Mark {
        line: u32::try_from(at.line()).unwrap_or(u32::MAX).max(1),
        column: u32::try_from(at.column()).unwrap_or(u32::MAX).max(1),
        length: u32::try_from(at.span().len()).unwrap_or(1),
    });
    let raw = Lines::of(text).raw(mark.line);
    if ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|marker| raw.starts_with(marker)) {
        let mark = Mark { column: 1, length: 7, ..mark };
        return problem(text, mark, "a merge conflict was left in the document", "keep one of the two sides");
    }
    if let Some(tab) = indenting_tab(text, mark.line) {
        return problem(text, tab, "a tab indents this line", "YAML allows only spaces there");
    }
    let (message, help) = match original(error) {
        Error::MultipleDocuments { .. } => (
            "a second YAML document starts here".to_owned(),
            "a file holds one deployment; remove `---`, or put the second one into its own file",
        ),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            (format!("the document is nested more than {MAX_DEPTH} levels deep"), "no setting needs that")
        }
        Error::Budget { .. } => (
            format!("the document has more than {MAX_NODES} values, aliases included"),
            "split it into several deployments",
        ),
        Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => (
            format!("aliases make the document grow by more than {MAX_REPLAYED} values"),
            "put common settings into `defaults` instead of anchors",
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("an anchor contains itself".to_owned(), "remove the alias")
        }
        Error::UnknownAnchor { .. } => {
            ("this alias has no anchor".to_owned(), "`*name` stands for a value above that is marked `&name`")
        }
        Error::UnsupportedTag { tag, .. } => (format!("the tag {tag} has no meaning here"), "remove it"),
        other => {
            let message = sentence(other);
            let help = HELP.iter().find(|(part, _)| message.contains(part)).map_or("", |(_, help)| *help);
            (format!("this is not valid YAML: {message}"), help)
        }
    };
    let fault = match original(error) {
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::RecursiveReferencesRequireWeakTypes { .. } => Fault::TooComplex,
        _ => Fault::Invalid,
    };
    problem(text, mark, message, help).of(fault)
}

/// What usually is the matter when the scanner says so.
const HELP: [(&str, &str); 7] = [
    (
        "mapping values are not allowed",
        "check the indentation, and that every colon in the lines above has a space behind it",
    ),
    ("illegal placement of ':'", "a bracket or brace above may not be closed"),
    ("unclosed", "close it, or put it in quotes if it is text"),
    ("multiline quoted", "a quote above may not be closed"),
    ("quoted scalar", "a quote may not be closed"),
    ("unexpected character", "put the value in quotes"),
    ("simple key", "every setting is written as `name: value`"),
];

fn original(error: &Error) -> &Error {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => original(error),
        other => other,
    }
}

/// The library's message without the place, which is shown anyway.
fn sentence(error: &Error) -> String {
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    message
}

/// Scanners notice a tab late or early; it is the cause when the line with the error, or the next one, is indented by one.
fn indenting_tab(text: &str, line: u32) -> Option<Mark> {
    let mut lines = Lines::of(text);
    (line..=line.saturating_add(1)).find_map(|number| {
        let raw = lines.raw(number);
        let indent = raw.len() - raw.trim_start_matches([' ', '\t']).len();
        let tab = raw[..indent].find('\t')?;
        let column = u32::try_from(tab).unwrap_or(u32::MAX).saturating_add(1);
        (indent < raw.len()).then_some(Mark { line: number, column, length: 1 })
    })
}
