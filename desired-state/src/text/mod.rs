//! The document as text: what can be said about it before any setting is looked at.

mod lines;
mod node;
mod yaml;

pub(crate) use lines::{Lines, Mark, clean, ends_with_marker, mask};
pub(crate) use node::{Kind, Node};

use crate::problem::{Fault, Problem};

/// Largest document in bytes. 10,000 sessions with 10,000 users need about 3 MB.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A problem with the text as such.
fn problem(text: &str, mark: Mark, message: impl AsRef<str>, help: impl AsRef<str>) -> Problem {
    Problem::new(mark, "", message.as_ref(), help.as_ref()).shown_in(&mut Lines::of(text))
}

/// Checks what does not need YAML: encoding, size, leftovers of a crash.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > MAX_BYTES {
        let message = format!("the document has {} bytes; at most {MAX_BYTES} are read", bytes.len());
        let help = "split it into several deployments";
        return Err(problem("", Mark::START, message, help).of(Fault::TooLarge));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        // The part before the first bad byte is valid by the contract of `valid_up_to`.
        let valid = std::str::from_utf8(valid).unwrap_or_default();
        let shown = format!("{valid}{}", char::REPLACEMENT_CHARACTER);
        let help = match rest {
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] if valid.is_empty() => "the file is UTF-16; save it as UTF-8",
            _ => "save the file as UTF-8",
        };
        problem(&shown, Mark::end_of(&shown), "the document is not UTF-8 text", help).of(Fault::NotText)
    })?;
    if let Some(at) = text.find('\0') {
        return Err(problem(
            text,
            Mark::at(text, at),
            "the document contains a zero byte",
            "a crash while the file was being written can leave zeros behind; restore the file",
        )
        .of(Fault::NotText));
    }
    Ok(text)
}

/// Reads the text as one YAML document.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    let node = yaml::read(text)?;
    if matches!(node.kind, Kind::Null) && lines::is_blank(text) {
        return Err(problem(
            text,
            Mark::START,
            "the document is empty",
            "to end all sessions on purpose, write the document with `sessions: []`",
        )
        .of(Fault::Empty));
    }
    Ok(node)
}
