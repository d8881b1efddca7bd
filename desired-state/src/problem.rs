//! What is wrong with a document, for the person who has to repair it.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::text::{Lines, Mark, clean, mask};

/// What is the matter with a document, as far as its sender is concerned: what arrived is damaged, or it is what was meant and
/// wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// A setting is wrong, or the text is no YAML.
    #[default]
    Invalid,
    /// More values or deeper nesting than any document needs; aliases that multiply each other are counted as what they become.
    TooComplex,
    /// The promised end is missing.
    Truncated,
    /// Not UTF-8, or with zero bytes in it.
    NotText,
    /// More than [`crate::MAX_BYTES`].
    TooLarge,
    /// Nothing but white space and comments.
    Empty,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What kind of thing is wrong.
    pub fault: Fault,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Characters that the problem spans, at least 1.
    pub length: u32,
    /// The setting, for example `sessions[1].port`; empty when the problem is with the text as such.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line as it is written, of a very long one the part around the problem. What looks like a secret is masked, and
    /// control characters are replaced.
    pub snippet: String,
    /// The column at which the snippet starts, 1 unless the line is very long.
    pub snippet_column: u32,
}

impl Problem {
    /// A problem without its line.
    pub(crate) fn new(mark: Mark, field: &str, message: &str, help: &str) -> Self {
        Self {
            fault: Fault::Invalid,
            line: mark.line,
            column: mark.column,
            length: mark.length.max(1),
            field: clean(field),
            message: clean(message),
            help: (!help.is_empty()).then(|| clean(help)),
            snippet: String::new(),
            snippet_column: 1,
        }
    }

    /// The same as another kind of fault.
    pub(crate) fn of(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    fn mark(&self) -> Mark {
        Mark { line: self.line, column: self.column, length: self.length }
    }

    /// The same with its line.
    pub(crate) fn shown_in(mut self, lines: &mut Lines<'_>) -> Self {
        (self.snippet, self.snippet_column) = lines.snippet(self.mark());
        self
    }

    /// The same with what it points at made unreadable.
    pub(crate) fn masked(mut self) -> Self {
        self.snippet = mask(&self.snippet, self.column.saturating_sub(self.snippet_column), self.length);
        self
    }
}

impl fmt::Display for Problem {
    /// One line without the snippet, for logs and conditions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

/// Everything that is wrong with a document, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    pub(crate) problems: Vec<Problem>,
    /// Problems beyond [`Problems::MAX`], counted but not kept.
    pub(crate) omitted: usize,
}

impl Problems {
    /// Problems kept of one document. Whoever has repaired so many asks again.
    pub const MAX: usize = 100;

    pub(crate) fn one(problem: Problem) -> Self {
        Self { problems: vec![problem], omitted: 0 }
    }

    /// The problems, at most [`Self::MAX`].
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }

    /// What is the matter with the document as a whole: the gravest fault of any of its problems.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.problems.iter().map(|problem| problem.fault).max().unwrap_or_default()
    }

    /// How many there are, including those beyond [`Self::MAX`].
    #[must_use]
    pub fn count(&self) -> usize {
        self.problems.len() + self.omitted
    }

    /// All problems with the lines they are in, as a compiler shows them. `file_name` is what people call the document;
    /// `color` adds ANSI escape codes.
    #[must_use]
    pub fn render(&self, file_name: &str, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for problem in &self.problems {
            text.push_str(&problem.render(file_name, &renderer));
            text.push_str("\n\n");
        }
        let count = self.count();
        let (noun, rest) = match (count, self.omitted) {
            (1, _) => ("problem", String::new()),
            (_, 0) => ("problems", String::new()),
            (_, omitted) => ("problems", format!(", {omitted} of them not shown")),
        };
        text.push_str(&format!("{file_name}: {count} {noun}{rest}"));
        text
    }
}

impl Problem {
    fn render(&self, file_name: &str, renderer: &Renderer) -> String {
        let byte = |column: usize| {
            self.snippet.char_indices().nth(column).map_or(self.snippet.len(), |(byte, _)| byte)
        };
        let start = self.column.saturating_sub(self.snippet_column) as usize;
        let span = byte(start)..byte(start.saturating_add(self.length.max(1) as usize));
        let annotation =
            AnnotationKind::Primary.span(span).label((!self.field.is_empty()).then_some(&*self.field));
        let snippet = Snippet::source(&*self.snippet).line_start(self.line as usize).annotation(annotation);
        let title = Level::ERROR.primary_title(&*self.message);
        let mut group = if self.snippet_column == 1 {
            title.element(snippet.path(file_name))
        } else {
            // The renderer would count columns from the start of what it is given.
            let origin = Origin::path(file_name).line(self.line as usize).char_column(self.column as usize);
            title.element(origin).element(snippet)
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(&**help));
        }
        renderer.render(&[group])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    /// As [`Problems::render`] shows them, without colour.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render("desired-state.yaml", false))
    }
}

impl std::error::Error for Problems {}
