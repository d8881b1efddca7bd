//! Operations that take longer than an answer.

use std::time::Duration;

use azure_core::http::Url;
use ebb_core::outcome::{Class, Failure};
use serde::Deserialize;

use super::super::Answer;
use super::error::{Detail, Refusal};
use super::group::Event;

/// Something that Azure is doing ("Track asynchronous Azure operations").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Whom to ask.
    pub url: Url,
    /// How long to wait before asking.
    pub wait: Duration,
    announced_by: Header,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    AsyncOperation,
    Location,
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not at its end.
    Goes,
    /// Done.
    Done,
    /// Failed.
    Failed(Failure),
}

/// How often to ask when Azure does not say.
const UNSAID: Duration = Duration::from_secs(5);

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    status: String,
    error: Option<Detail>,
    #[serde(default)]
    properties: Properties,
}

#[derive(Deserialize, Default)]
struct Properties {
    #[serde(default)]
    events: Vec<Event>,
}

impl Operation {
    /// The operation that an answer announces. ACI announces some by `Azure-AsyncOperation`, some by `Location`, and some not at
    /// all; then the resource itself has to be looked at.
    pub(super) fn announced(answer: &Answer, own: impl Fn(&str) -> Option<Url>) -> Option<Self> {
        let wait = answer.retry_after().unwrap_or(UNSAID);
        let header = |name, announced_by| {
            let url = own(answer.header(name)?)?;
            Some(Self { url, wait, announced_by })
        };
        let location = || (answer.status != 200).then(|| header("location", Header::Location)).flatten();
        header("azure-asyncoperation", Header::AsyncOperation).or_else(location)
    }

    pub(super) fn progress(&self, answer: &Answer, what: &str) -> Result<Progress, Failure> {
        if answer.status == 202 && self.announced_by == Header::Location {
            return Ok(Progress::Goes);
        }
        if !answer.is_success() {
            let refusal = Refusal::of(answer);
            return match (self.announced_by, refusal.class()) {
                // The place itself answers with what became of the operation.
                (Header::Location, Class::Quota | Class::Stalled | Class::Fatal) => {
                    Ok(Progress::Failed(refusal.failure(what)))
                }
                _ => Err(refusal.failure(what)),
            };
        }
        if self.announced_by == Header::Location {
            return Ok(Progress::Done);
        }
        let status: Status = answer.json()?;
        Ok(match status.status.to_ascii_lowercase().as_str() {
            "succeeded" => Progress::Done,
            "failed" | "canceled" | "cancelled" => Progress::Failed(status.failure(what)),
            // Every other word, known or not, is one of going on.
            _ => Progress::Goes,
        })
    }
}

impl Status {
    /// A failed operation of ACI may say why in its events alone.
    fn failure(&self, what: &str) -> Failure {
        let event = self.properties.events.iter().rev().find(|event| !event.message.is_empty());
        let detail = match (&self.error, event) {
            (Some(error), _) if !error.code.is_empty() => error,
            (_, Some(event)) => {
                &Detail { code: event.name.clone(), message: event.message.clone(), details: Vec::new() }
            }
            _ => &Detail { code: self.status.clone(), ..Detail::default() },
        };
        Refusal::from_detail(409, detail).failure(what)
    }
}

#[cfg(test)]
mod tests {
    use azure_core::http::headers::Headers;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(*name, *value);
        }
        Answer { status, headers: all, body: body.as_bytes().to_vec() }
    }

    fn announced(status: u16, headers: &[(&'static str, &'static str)]) -> Option<Operation> {
        Operation::announced(&answer(status, headers, ""), |link| link.parse().ok())
    }

    #[test]
    fn operations_are_announced_in_three_ways() {
        let both =
            [("azure-asyncoperation", "https://a/op"), ("location", "https://a/place"), ("retry-after", "7")];
        let operation = announced(201, &both).unwrap();
        assert_eq!((operation.url.as_str(), operation.wait), ("https://a/op", Duration::from_secs(7)));
        assert_eq!(announced(202, &both[1..2]).unwrap().url.as_str(), "https://a/place");
        assert_eq!(announced(201, &[]), None);
    }

    #[test]
    fn a_failure_without_a_code_is_found_in_the_events() {
        let operation = announced(201, &[("azure-asyncoperation", "https://a/op")]).unwrap();
        let body = r#"{"status":"Failed","properties":{"events":[{"name":"InsufficientCapacity.","message":"none left"}]}}"#;
        let Ok(Progress::Failed(failure)) = operation.progress(&answer(200, &[], body), "create g") else {
            panic!()
        };
        assert_eq!(failure.class, Class::Quota);
        assert!(failure.message.contains("none left"), "{failure}");
    }

    #[test]
    fn an_unknown_status_goes_on() {
        let operation = announced(201, &[("azure-asyncoperation", "https://a/op")]).unwrap();
        for (status, expected) in
            [("Repairing", Progress::Goes), ("InProgress", Progress::Goes), ("Succeeded", Progress::Done)]
        {
            let body = format!(r#"{{"status":"{status}"}}"#);
            assert_eq!(operation.progress(&answer(200, &[], &body), "x"), Ok(expected));
        }
    }

    #[test]
    fn a_location_answers_202_until_it_is_done() {
        let operation = announced(202, &[("location", "https://a/place")]).unwrap();
        assert_eq!(operation.progress(&answer(202, &[], ""), "x"), Ok(Progress::Goes));
        assert_eq!(operation.progress(&answer(204, &[], ""), "x"), Ok(Progress::Done));
        assert!(operation.progress(&answer(503, &[], ""), "x").is_err());
    }
}
