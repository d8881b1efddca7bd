//! Deliveries of Azure Event Grid: a blob was written or deleted.
//!
//! Event Grid signs nothing, so a sender shows the webhook secret itself, in the query of the address that it was given or in a
//! header (<https://learn.microsoft.com/azure/event-grid/security-authentication>). Before it delivers anything it wants to be sure
//! that this is no victim of its: by an event with a code in its own schema, by an OPTIONS request in that of CloudEvents
//! (<https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema>, CloudEvents "HTTP 1.1 Web Hooks for
//! Event Delivery", section 4).

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Accepted;
use super::{App, Problem, count, hooks, take, text, too_large};

/// Deliveries in a minute; no sender is admitted more often for long.
const RATE: &str = "60";

const ORIGIN: &str = "webhook-request-origin";
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

#[derive(Deserialize)]
pub(in crate::http) struct Credentials {
    secret: Option<String>,
}

/// Events in either schema, one or a batch.
#[derive(Deserialize)]
#[serde(untagged)]
enum Delivery {
    Batch(Vec<Event>),
    One(Event),
}

#[derive(Deserialize)]
struct Event {
    /// `eventType` in Event Grid's schema, `type` in that of CloudEvents.
    #[serde(rename = "eventType", alias = "type")]
    kind: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    data: Value,
}

/// What a delivery asks for.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// To send this code back.
    Validate(String),
    /// To look at the document, if any of these blobs is it: container and name.
    Written(Vec<(String, String)>),
}

/// A delivery, or the event by which Event Grid asks whether deliveries are wanted here.
pub(in crate::http) async fn deliver(
    State(app): State<App>,
    Query(credentials): Query<Credentials>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|error| too_large(&app, &error))?;
    check(&app, &credentials, &headers)?;
    let said = read(&body).map_err(|error| {
        count(&app, "refused");
        Problem::invalid(format!("this is no delivery of Event Grid: {error}"))
    })?;
    match said {
        Said::Validate(code) => {
            tracing::info!("Event Grid has asked whether its events are wanted here, and was told so");
            count(&app, "validated");
            Ok(Json(json!({ "validationResponse": code })).into_response())
        }
        Said::Written(blobs) => {
            let is_news = blobs.iter().any(|(container, blob)| app.source.is_blob(container, blob));
            // Whatever it is, it has arrived: any other answer would bring it again.
            take(&app, Accepted::New, is_news).await.map(axum::response::IntoResponse::into_response)
        }
    }
}

/// The question of CloudEvents whether deliveries are wanted here.
pub(in crate::http) async fn validate(
    State(app): State<App>,
    Query(credentials): Query<Credentials>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check(&app, &credentials, &headers)?;
    let origin = headers.get(ORIGIN).cloned();
    let origin = origin.ok_or_else(|| Problem::invalid("the header WebHook-Request-Origin is missing"))?;
    count(&app, "validated");
    Ok((
        StatusCode::OK,
        [(ALLOWED_ORIGIN, origin), (ALLOWED_RATE, axum::http::HeaderValue::from_static(RATE))],
    )
        .into_response())
}

fn check(app: &App, credentials: &Credentials, headers: &HeaderMap) -> Result<(), Problem> {
    let secret = text(headers, "x-ebb-secret").or(credentials.secret.as_deref()).unwrap_or_default();
    if hooks(app)?.with(|guard| guard.knows(secret)) {
        return Ok(());
    }
    count(app, "refused");
    let text = "the webhook secret is missing or wrong; give the subscription the address …/hooks/eventgrid?secret=SECRET, or the \
                header X-Ebb-Secret as a delivery property";
    tracing::warn!("webhook refused: {text}");
    Err(Problem::new(StatusCode::UNAUTHORIZED, "BAD_SECRET", text))
}

fn read(body: &[u8]) -> Result<Said, serde_json::Error> {
    let events = match serde_json::from_slice(body)? {
        Delivery::Batch(events) => events,
        Delivery::One(event) => vec![event],
    };
    let mut blobs = Vec::new();
    for event in events {
        match event.kind.as_str() {
            "Microsoft.EventGrid.SubscriptionValidationEvent" => {
                if let Some(code) = event.data["validationCode"].as_str() {
                    return Ok(Said::Validate(code.to_owned()));
                }
            }
            "Microsoft.Storage.BlobCreated" | "Microsoft.Storage.BlobDeleted" => {
                blobs.extend(blob(&event.subject));
            }
            _ => {}
        }
    }
    Ok(Said::Written(blobs))
}

/// Container and name in the subject of an event of Blob storage.
fn blob(subject: &str) -> Option<(String, String)> {
    let (container, blob) =
        subject.strip_prefix("/blobServices/default/containers/")?.split_once("/blobs/")?;
    Some((container.to_owned(), blob.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of Microsoft's pages "Endpoint validation with Event Grid event schema" and "Azure Blob Storage as Event Grid
    /// source".
    const VALIDATION: &str = include_str!("event_grid/validation.json");
    const CREATED: &str = include_str!("event_grid/blob-created.json");
    const DELETED: &str = include_str!("event_grid/blob-deleted.json");
    const CREATED_CLOUD: &str = include_str!("event_grid/blob-created.cloudevents.json");

    fn said(body: &str) -> Said {
        read(body.as_bytes()).unwrap()
    }

    #[test]
    fn the_code_of_a_validation_is_found() {
        assert_eq!(said(VALIDATION), Said::Validate("512d38b6-c7b8-40c8-89fe-f46f9e9622b6".to_owned()));
    }

    #[test]
    fn a_blob_that_was_written_or_deleted_is_found_in_both_schemas() {
        let file = |container: &str, name: &str| Said::Written(vec![(container.to_owned(), name.to_owned())]);
        let created = file("test-container", "new-file.txt");
        assert_eq!(said(CREATED), created);
        assert_eq!(said(CREATED_CLOUD), created);
        assert_eq!(said(DELETED), file("testcontainer", "file-to-delete.txt"));
        let one: Vec<Value> = serde_json::from_str(CREATED_CLOUD).unwrap();
        assert_eq!(said(&one[0].to_string()), created, "CloudEvents come one by one too");
    }

    #[test]
    fn events_of_other_kinds_say_nothing_and_what_is_no_event_is_refused() {
        for body in [
            "[]",
            r#"[{ "eventType": "Microsoft.Storage.BlobTierChanged", "subject": "/blobServices/default/containers/c/blobs/b" }]"#,
            r#"[{ "eventType": "Microsoft.Storage.BlobCreated", "subject": "/elsewhere" }]"#,
            r#"[{ "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": null }]"#,
        ] {
            assert_eq!(said(body), Said::Written(Vec::new()), "{body}");
        }
        for body in ["", "x", "1", "{}", r#"[{ "subject": "a" }]"#, r#"[{ "eventType": 1 }]"#] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
