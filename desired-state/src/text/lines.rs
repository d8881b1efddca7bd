//! Lines, columns, and what of them may be shown.

/// A place in the text: one line, and a range of characters in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// In characters; 0 where nothing is written.
    pub length: u32,
}

impl Mark {
    /// The beginning of the document.
    pub(crate) const START: Self = Self { line: 1, column: 1, length: 1 };

    /// The character at this byte.
    pub(super) fn at(text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let (count, last) = lines(before).fold((0, ""), |(count, _), line| (count + 1, line));
        Self { line: count.max(1), column: characters(last).saturating_add(1), length: 1 }
    }

    /// The last character.
    pub(super) fn end_of(text: &str) -> Self {
        let before = text.char_indices().next_back().map_or(0, |(byte, _)| byte);
        Self::at(text, before)
    }
}

fn characters(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// Lines as YAML 1.2 counts them (section 5.4): ended by a line feed, a carriage return, or both. The part behind the last
/// break counts too, even when it is empty.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else { return rest.take() };
        let width = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + width..]);
        Some(&text[..end])
    })
}

/// Whether there is nothing but comments and white space.
pub(super) fn is_blank(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    lines(text)
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

/// Whether the last line that is neither blank nor a comment is YAML's document end marker (section 9.1.2).
pub(crate) fn ends_with_marker(text: &str) -> bool {
    lines(text).map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#')).last()
        == Some("...")
}

/// The lines of a document, for readers who ask for them in rising order.
pub(crate) struct Lines<'t> {
    rest: Box<dyn Iterator<Item = &'t str> + 't>,
    /// Number and text of the line that was read last.
    current: (u32, &'t str),
}

impl<'t> Lines<'t> {
    /// A byte order mark belongs to no line.
    pub(crate) fn of(text: &'t str) -> Self {
        Self { rest: Box::new(lines(text.trim_start_matches('\u{feff}'))), current: (0, "") }
    }

    /// The line of this number as it is written, without its break; empty behind the last one.
    pub(super) fn raw(&mut self, line: u32) -> &'t str {
        while self.current.0 < line {
            let Some(next) = self.rest.next() else { return "" };
            self.current = (self.current.0 + 1, next);
        }
        if self.current.0 == line { self.current.1 } else { "" }
    }

    /// The line of a mark, fit to be shown: one character for each one written, none of them a control character, what looks
    /// like a secret masked, and of a very long line only the part around the mark. The number is the column at which it starts.
    pub(crate) fn snippet(&mut self, mark: Mark) -> (String, u32) {
        let line = self.raw(mark.line);
        let skipped = mark.column.saturating_sub(1).saturating_sub(AROUND);
        // Long lines come from programs, which write no secrets for people to see; the whole line is looked at all the same.
        let secret = secret_value(line).map_or(u32::MAX, |start| characters(&line[..start]));
        let shown: String =
            line.chars().skip(skipped as usize).take(2 * AROUND as usize).map(visible).collect();
        (mask(&shown, secret.saturating_sub(skipped), u32::MAX), skipped + 1)
    }
}

/// Characters shown before and behind a problem.
const AROUND: u32 = 200;

/// Longest text of a message; what is longer quotes something that nobody wants to read.
const LONGEST: usize = 500;

/// A text that may quote the document, fit to be shown.
pub(crate) fn clean(text: &str) -> String {
    let mut clean: String = text.chars().take(LONGEST).map(visible).collect();
    if clean.len() < text.len() && text.chars().nth(LONGEST).is_some() {
        clean.push('…');
    }
    clean
}

fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() || is_invisible(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Characters that reorder or hide others on a screen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Where the value starts in a line such as `privateKey: …`. The document has no place for secrets, so whoever wrote one there
/// made a mistake that must not travel into logs.
fn secret_value(line: &str) -> Option<usize> {
    const WORDS: [&str; 7] =
        ["privatekey", "presharedkey", "secret", "token", "password", "passphrase", "apikey"];
    line.match_indices(':').map(|(colon, _)| colon).find_map(|colon| {
        let key: String = line[..colon]
            .chars()
            .rev()
            .take_while(|c| !matches!(c, '{' | ',' | ' '))
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let key: String = key.chars().rev().collect();
        // `apiKeySha256` holds a hash, which may be shown.
        let secret =
            WORDS.iter().any(|word| key.ends_with(word) || key.starts_with(word) && !key.ends_with("sha256"));
        secret.then_some(colon + 1)
    })
}

/// The line with `length` characters from `start`, counted from 0, replaced by stars, spaces and quotes excepted.
pub(crate) fn mask(line: &str, start: u32, length: u32) -> String {
    let (start, end) = (start as usize, start.saturating_add(length) as usize);
    if start >= line.len() {
        return line.to_owned();
    }
    line.chars()
        .enumerate()
        .map(|(at, c)| if (start..end).contains(&at) && !matches!(c, ' ' | '"' | '\'') { '*' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snippet(text: &str, line: u32) -> String {
        Lines::of(text).snippet(Mark { line, column: 1, length: 1 }).0
    }

    #[test]
    fn lines_end_with_any_of_the_three_breaks() {
        assert_eq!(lines("a\nb\r\nc\rd\n").collect::<Vec<_>>(), ["a", "b", "c", "d", ""]);
        assert_eq!(snippet("a\r\nb: 1\r\n", 2), "b: 1");
        assert_eq!(snippet("a\n", 9), "");
    }

    #[test]
    fn a_shown_line_keeps_its_columns_and_cannot_steer_a_terminal() {
        assert_eq!(snippet("a\tb\u{1b}[31m\u{202e}c", 1), "a b\u{fffd}[31m\u{fffd}c");
        assert_eq!(snippet("\u{feff}version: 1", 1), "version: 1");
    }

    #[test]
    fn what_looks_like_a_secret_is_masked_and_hashes_are_not() {
        for (line, shown) in [
            ("  privateKey: abc=", "  privateKey: ****"),
            ("  - { name: alice, preshared_key: 'abc' }", "  - { name: alice, preshared_key: '***' *"),
            ("githubToken: x", "githubToken: *"),
            ("apiKey: hunter2", "apiKey: *******"),
            ("    apiKeySha256: 0123", "    apiKeySha256: 0123"),
            ("    publicKey: abc=", "    publicKey: abc="),
            ("reason: \"token: lost\"", "reason: \"token: ****\""),
        ] {
            assert_eq!(snippet(line, 1), shown);
        }
    }

    #[test]
    fn of_a_very_long_line_only_the_part_around_the_problem_is_shown() {
        let line = format!("{}privateKey: {}", "x, ".repeat(10_000), "k".repeat(10_000));
        let at = |column| Lines::of(&line).snippet(Mark { line: 1, column, length: 5 });
        let (shown, start) = at(15_000);
        assert_eq!((shown.chars().count(), start), (400, 14_800));
        let (shown, _) = at(30_001);
        assert!(
            shown.contains("privateKey: ***") && !shown.contains('k'.to_string().repeat(2).as_str()),
            "{shown}"
        );
    }

    #[test]
    fn quoted_text_cannot_steer_a_terminal_or_fill_it() {
        assert_eq!(clean("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(clean(&"x".repeat(9999)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn the_end_marker_may_be_followed_by_comments_only() {
        for text in ["a: 1\n...\n", "a: 1\n...", "a: 1\r\n...  \r\n\n# end\n"] {
            assert!(ends_with_marker(text), "{text:?}");
        }
        for text in ["a: 1\n", "a: 1\n..", "a: 1\n ...\n", "...\na: 1\n", "a: ...", ""] {
            assert!(!ends_with_marker(text), "{text:?}");
        }
    }

    #[test]
    fn a_mark_counts_lines_and_characters() {
        assert_eq!(Mark::at("é\nab\0", 5), Mark { line: 2, column: 3, length: 1 });
        assert_eq!(Mark::end_of("ab\ncd"), Mark { line: 2, column: 2, length: 1 });
    }
}
