//! The document itself: reading, replacing and bringing back.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use ebb_core::plan::Revision;
use serde::{Deserialize, Serialize};

use super::auth::Admin;
use super::routes::{Answer, BY, snapshot};
use super::{App, Problem};
use crate::engine::renames;
use crate::source::{Provenance, ReplaceError};
use crate::store::{Accepted, Found};

/// Versions in one answer, unless another number is asked for.
const DEFAULT_VERSIONS: usize = 20;
const MOST_VERSIONS: usize = 1000;

const MEDIA_TYPE: &str = "application/yaml";

/// The document in force.
pub(super) async fn get(_: Admin, State(app): State<App>) -> Answer<impl IntoResponse> {
    let newest = app.store.accepted(1).await?.pop();
    let accepted =
        newest.ok_or_else(|| Problem::not_found("no document is in force; `ebb status` says why"))?;
    let headers = [(header::CONTENT_TYPE, MEDIA_TYPE.to_owned()), (header::ETAG, etag(&accepted.revision))];
    Ok((headers, accepted.text))
}

fn etag(revision: &Revision) -> String {
    format!("\"{revision}\"")
}

/// Answer of the routes that put a document into force.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replaced {
    /// The revision in force.
    pub revision: Revision,
    /// Its generation.
    pub generation: u64,
}

/// Puts a document where the source has it, and waits until it is in force.
pub(super) async fn put(
    _: Admin,
    State(app): State<App>,
    headers: HeaderMap,
    text: String,
) -> Answer<impl IntoResponse> {
    let expected = match expected(&headers)? {
        Some(revision) => revision,
        None => newest(&app).await?,
    };
    let provenance = Provenance { by: Some(BY.to_owned()), ..Provenance::default() };
    let replaced = replace(&app, &text, &expected, provenance).await?;
    Ok(([(header::ETAG, etag(&replaced.revision))], Json(replaced)))
}

/// The revision that `If-Match` names; `None` for `*`, any.
fn expected(headers: &HeaderMap) -> Answer<Option<Revision>> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "IF_MATCH_REQUIRED",
            "send If-Match with the ETag of the document that you have changed, so that nobody else's change is lost",
        ));
    };
    let value = value.to_str().unwrap_or_default().trim();
    if value == "*" {
        return Ok(None);
    }
    let revision = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let revision = revision.filter(|revision| !revision.contains('"')).ok_or_else(|| {
        Problem::invalid("If-Match has to be one ETag in quotes as GET /api/desired-state sends it, or *")
    })?;
    Ok(Some(Revision(revision.to_owned())))
}

/// The newest version that the source has, whatever it says.
async fn newest(app: &App) -> Answer<Revision> {
    let fetched = app.source.fetch(None).await;
    fetched.map(|fetched| fetched.revision).map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "SOURCE_UNAVAILABLE", error.to_string()).retry_after(5)
    })
}

async fn replace(app: &App, text: &str, expected: &Revision, provenance: Provenance) -> Answer<Replaced> {
    let refused = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_DOCUMENT", why);
    let document =
        ebb_desired_state::parse(text).map_err(|problems| refused(problems.render("the document", false)))?;
    let in_force = snapshot(app).await?.desired;
    if let Some(why) = in_force.and_then(|in_force| renames(&in_force.document, &document)) {
        return Err(refused(why));
    }
    let revision = app.source.replace(text, expected).await?;
    let announced = Some((revision.clone(), provenance));
    let snapshot = app.engine.fetch(announced).await.ok_or_else(Problem::shutting_down)?;
    match snapshot.desired {
        Some(desired) if desired.revision == revision => {
            Ok(Replaced { revision, generation: snapshot.source.generation })
        }
        _ => {
            let why = snapshot.source.error.unwrap_or_else(|| "somebody has replaced it again".to_owned());
            let text = format!("revision {revision} was written but is not in force: {why}");
            Err(Problem::new(StatusCode::CONFLICT, "NOT_IN_FORCE", text))
        }
    }
}

#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    limit: Option<usize>,
}

/// Answer of `GET /api/desired-state/history`, newest first.
pub type Revisions = Vec<Accepted>;

/// What was in force, without the texts.
pub(super) async fn history(
    _: Admin,
    State(app): State<App>,
    Query(query): Query<HistoryQuery>,
) -> Answer<Json<Revisions>> {
    let mut accepted = app.store.accepted(query.limit.unwrap_or(DEFAULT_VERSIONS).min(MOST_VERSIONS)).await?;
    accepted.iter_mut().for_each(|accepted| accepted.text.clear());
    Ok(Json(accepted))
}

/// One version with its text.
pub(super) async fn revision(
    _: Admin,
    State(app): State<App>,
    Path(wanted): Path<String>,
) -> Answer<Json<Accepted>> {
    find(&app, &wanted).await.map(Json)
}

async fn find(app: &App, wanted: &str) -> Answer<Accepted> {
    match app.store.accepted_as(wanted).await? {
        Found::One(accepted) => Ok(*accepted),
        Found::Several(revisions) => {
            let revisions: Vec<_> = revisions.iter().map(ToString::to_string).collect();
            Err(Problem::invalid(format!(
                "{wanted} is the beginning of several revisions: {}",
                revisions.join(", ")
            )))
        }
        Found::None => Err(Problem::not_found(format!(
            "no revision {wanted} was ever in force; `ebb history` lists them. Give at least 4 digits, or # and a generation"
        ))),
    }
}

/// Body of `POST /api/desired-state/rollback`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The revision to bring back.
    pub revision: String,
}

/// Brings the text of an earlier version back, as a new generation.
pub(super) async fn rollback(
    _: Admin,
    State(app): State<App>,
    Json(restore): Json<Restore>,
) -> Answer<Json<Replaced>> {
    let earlier = find(&app, &restore.revision).await?;
    let in_force = snapshot(&app).await?.desired;
    if in_force.is_some_and(|in_force| in_force.revision == earlier.revision) {
        let text = format!("revision {} is in force", earlier.revision);
        return Err(Problem::new(StatusCode::CONFLICT, "IN_FORCE", text));
    }
    let commands = app.source.restore_commands(&earlier.revision);
    if !commands.is_empty() {
        let text = format!(
            "the document comes from {}; bring revision {} back there:\n  {}",
            app.source.origin(),
            earlier.revision,
            commands.join("\n  ")
        );
        return Err(Problem::new(StatusCode::CONFLICT, "SOURCE_CONNECTED", text));
    }
    let provenance = Provenance {
        by: Some(BY.to_owned()),
        restores: Some(earlier.revision.clone()),
        ..Provenance::default()
    };
    replace(&app, &earlier.text, &newest(&app).await?, provenance).await.map(Json)
}

impl From<ReplaceError> for Problem {
    fn from(error: ReplaceError) -> Self {
        let (status, code) = match &error {
            ReplaceError::Connected { .. } => (StatusCode::CONFLICT, "SOURCE_CONNECTED"),
            ReplaceError::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "CHANGED_MEANWHILE"),
            ReplaceError::Failed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "SOURCE_UNAVAILABLE"),
        };
        Self::new(status, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(value: Option<&'static str>) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        headers.extend(value.map(|value| (header::IF_MATCH, HeaderValue::from_static(value))));
        expected(&headers).map(|revision| revision.map(|revision| revision.0)).map_err(|_| ())
    }

    #[test]
    fn a_change_names_the_version_that_it_changes() {
        assert_eq!(read(Some("\"abc\"")), Ok(Some("abc".to_owned())));
        assert_eq!(read(Some("*")), Ok(None));
        for wrong in [None, Some(""), Some("abc"), Some("\"a\", \"b\""), Some("W/\"abc\"")] {
            assert_eq!(read(wrong), Err(()), "{wrong:?}");
        }
    }
}
