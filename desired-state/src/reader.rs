//! From YAML nodes to typed settings. Whatever cannot be read is reported, and reading goes on, so that one look at a document
//! finds everything that is wrong with it.

use crate::problem::{Fault, Problem, Problems};
use crate::similar::closest;
use crate::text::{Kind, Lines, Mark, Node};

/// A value and where it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<T> {
    pub value: T,
    pub mark: Mark,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, mark: Mark) -> Self {
        Self { value, mark }
    }
}

/// What a setting can hold.
pub(crate) trait Value: Sized {
    /// Completes "expected …".
    const EXPECTED: &'static str;

    /// Reads a node. `None` means that a problem was reported.
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self>;

    /// The JSON Schema of such a value.
    #[cfg(test)]
    fn schema() -> serde_json::Value;
}

/// Where reading has got to, and what it has found wrong.
pub(crate) struct Cx<'t> {
    text: &'t str,
    path: String,
    /// Without their lines, which are looked up at the end.
    problems: Vec<Found>,
    omitted: usize,
}

struct Found {
    problem: Problem,
    masked: bool,
}

impl<'t> Cx<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, path: String::new(), problems: Vec::new(), omitted: 0 }
    }

    /// Everything reported, in the order of lines.
    pub(crate) fn finish(self) -> Problems {
        let Self { text, mut problems, omitted, .. } = self;
        problems.sort_by_key(|found| (found.problem.line, found.problem.column));
        let mut lines = Lines::of(text);
        let show = |Found { problem, masked }| {
            let problem = problem.shown_in(&mut lines);
            if masked { problem.masked() } else { problem }
        };
        Problems { problems: problems.into_iter().map(show).collect(), omitted }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether something was reported about this setting, given by its whole path.
    pub(crate) fn is_reported(&self, field: &str) -> bool {
        self.problems.iter().any(|found| found.problem.field == field)
    }

    /// Whether something was reported where reading has got to.
    pub(crate) fn is_reported_here(&self) -> bool {
        self.is_reported(&self.path)
    }

    pub(crate) fn report(&mut self, mark: Mark, message: impl Into<String>, help: impl Into<String>) {
        let help = help.into();
        self.report_with(mark, || (message.into(), help));
    }

    /// Reports a problem whose text is expensive to make; it is made only while there is room for it.
    pub(crate) fn report_with(&mut self, mark: Mark, text: impl FnOnce() -> (String, String)) {
        if self.problems.len() >= Problems::MAX {
            self.omitted += 1;
            return;
        }
        let (message, help) = text();
        let problem = Problem::new(mark, &self.path, &message, &help);
        let same = |known: &Problem| {
            (known.line, known.column, &known.message) == (problem.line, problem.column, &problem.message)
        };
        // An anchor that is wrong is wrong once, however many aliases it has.
        if !self.problems.iter().any(|found| same(&found.problem)) {
            self.problems.push(Found { problem, masked: false });
        }
    }

    /// As [`Self::report`], for a value that may be a secret by mistake and must not be shown.
    pub(crate) fn report_masked(&mut self, mark: Mark, message: impl Into<String>, help: impl Into<String>) {
        let kept = self.problems.len();
        self.report(mark, message, help);
        for found in self.problems.iter_mut().skip(kept) {
            found.masked = true;
        }
    }

    /// As [`Self::report`], for a document of which a part is missing.
    pub(crate) fn report_truncated(&mut self, mark: Mark, message: &str, help: &str) {
        let kept = self.problems.len();
        self.report(mark, message, help);
        for found in self.problems.iter_mut().skip(kept) {
            found.problem.fault = Fault::Truncated;
        }
    }

    /// Reports that `node` is something else than `expected`.
    pub(crate) fn expected(&mut self, node: &Node, expected: &str) {
        let help = match node.kind {
            Kind::Null => "give it a value or remove the line",
            Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_) => {
                "text that looks like something else needs quotes"
            }
            _ => "",
        };
        self.report(node.mark, format!("expected {expected}, found {}", node.kind), help);
    }

    /// The text of a node; everything else is reported.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n str> {
        if let Kind::Text(text) = &node.kind {
            return Some(text);
        }
        if matches!(node.kind, Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_)) {
            let help = "text that looks like something else needs quotes";
            self.report(node.mark, format!("expected {expected}, found {}", node.kind), help);
        } else {
            self.expected(node, expected);
        }
        None
    }

    /// Runs `read` with the path one field deeper.
    pub(crate) fn field<R>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    /// Runs `read` with the path at an element of the list it points to.
    pub(crate) fn index<R>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let result = read(self);
        self.path.truncate(length);
        result
    }
}

impl<T: Value> Value for At<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        T::read(node, cx).map(|value| Self::new(value, node.mark))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        T::schema()
    }
}

/// A map with known keys.
pub(crate) trait Record: Sized {
    /// All keys, in the order in which they are documented.
    fn keys() -> Vec<&'static str>;

    /// Takes the settings out of a map.
    fn take(fields: &mut Fields<'_>, cx: &mut Cx<'_>) -> Self;

    /// Descriptions of all settings.
    #[cfg(test)]
    fn fields() -> Vec<crate::schema::Field>;
}

/// The entries of a map that is read as a [`Record`].
pub(crate) struct Fields<'n> {
    entries: Vec<(&'n str, &'n Node)>,
    mark: Mark,
}

impl<'n> Fields<'n> {
    /// Opens a map. Unknown and duplicate keys are reported.
    pub(crate) fn open<R: Record>(node: &'n Node, expected: &str, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(map) = &node.kind else {
            cx.expected(node, expected);
            return None;
        };
        let keys = R::keys();
        let mut entries: Vec<(&str, &Node)> = Vec::with_capacity(map.len());
        let mut seen: Vec<(&str, Mark)> = Vec::with_capacity(map.len());
        for (key, value) in map {
            let Some(name) = cx.text(key, "the name of a setting") else { continue };
            if let Some((_, first)) = seen.iter().find(|(known, _)| *known == name) {
                duplicate(cx, name, key.mark, *first);
                continue;
            }
            // A hostile map of a million keys is reported once per key, not compared a million times.
            if seen.len() < 2 * keys.len() {
                seen.push((name, key.mark));
            }
            if keys.contains(&name) {
                entries.push((name, value));
            } else {
                cx.report_with(key.mark, || {
                    (format!("there is no setting {name:?} here"), unknown_help(name, &keys))
                });
            }
        }
        Some(Self { entries, mark: node.mark })
    }

    /// A setting that may be absent. `null` is not the same as absent: it is what a lost value looks like.
    pub(crate) fn optional<T: Value>(&mut self, name: &'static str, cx: &mut Cx<'_>) -> Option<At<T>> {
        let (_, node) = self.entries.iter().find(|(key, _)| *key == name)?;
        cx.field(name, |cx| At::read(node, cx))
    }

    /// A setting that must be there.
    pub(crate) fn required<T: Value>(&mut self, name: &'static str, cx: &mut Cx<'_>) -> Option<At<T>> {
        if self.entries.iter().all(|(key, _)| *key != name) {
            let mark = Mark { length: 1, ..self.mark };
            cx.report(
                mark,
                format!("`{name}` is missing here"),
                format!("add `{name}:` with {}", T::EXPECTED),
            );
        }
        self.optional(name, cx)
    }
}

pub(crate) fn duplicate(cx: &mut Cx<'_>, name: &str, mark: Mark, first: Mark) {
    let message = format!("{name:?} is set twice, first on line {}", first.line);
    cx.report(
        mark,
        message,
        "remove one of the two; if the file was merged, a conflict may have been resolved wrongly",
    );
}

fn unknown_help(name: &str, keys: &[&str]) -> String {
    if name.to_lowercase().replace(['_', '-'], "").contains("privatekey") {
        return "a document never holds private keys; anybody who saw this one should be considered to have it".to_owned();
    }
    match closest(name, keys.iter().copied()) {
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("the settings here are {}", keys.join(", ")),
    }
}

/// Declares a [`Record`]: one place for the name, the type, the default and the description of each setting. Parser, JSON
/// Schema and documentation all come from it.
macro_rules! record {
    (
        $(#[doc = $about:literal])*
        $record:ident {
            $(
                $(#[doc = $doc:literal])*
                $need:ident $field:ident $key:literal: $type:ty $(= $default:expr)?,
            )*
        }
        $(flatten $inner:ident: $inner_type:ty)?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        pub(crate) struct $record {
            $(
                $(#[doc = $doc])*
                pub $field: Option<$crate::reader::At<$type>>,
            )*
            $(pub $inner: $inner_type,)?
        }

        impl $crate::reader::Record for $record {
            fn keys() -> Vec<&'static str> {
                #[allow(unused_mut, reason = "only a record with a flattened part adds to it")]
                let mut keys = vec![$($key),*];
                $(keys.extend(<$inner_type as $crate::reader::Record>::keys());)?
                keys
            }

            fn take(fields: &mut $crate::reader::Fields<'_>, cx: &mut $crate::reader::Cx<'_>) -> Self {
                Self {
                    $($field: fields.$need($key, cx),)*
                    $($inner: <$inner_type as $crate::reader::Record>::take(fields, cx),)?
                }
            }

            #[cfg(test)]
            fn fields() -> Vec<$crate::schema::Field> {
                #[allow(unused_mut, reason = "only a record with a flattened part adds to it")]
                let mut fields = vec![$({
                    #[allow(unused_mut, unused_assignments, reason = "not every setting has a default")]
                    let mut default = None;
                    $(default = Some(serde_json::json!($default));)?
                    $crate::schema::Field {
                        key: $key,
                        about: [$($doc),*].concat(),
                        required: stringify!($need) == "required",
                        default,
                        schema: <$type as $crate::reader::Value>::schema(),
                    }
                }),*];
                $(fields.extend(<$inner_type as $crate::reader::Record>::fields());)?
                fields
            }
        }

        impl $crate::reader::Value for $record {
            const EXPECTED: &'static str = "a map of settings";

            fn read(node: &$crate::text::Node, cx: &mut $crate::reader::Cx<'_>) -> Option<Self> {
                let mut fields = $crate::reader::Fields::open::<Self>(node, Self::EXPECTED, cx)?;
                Some(<Self as $crate::reader::Record>::take(&mut fields, cx))
            }

            #[cfg(test)]
            fn schema() -> serde_json::Value {
                let about = [$($about),*].concat();
                $crate::schema::record(&about, <Self as $crate::reader::Record>::fields())
            }
        }
    };
}

pub(crate) use record;
