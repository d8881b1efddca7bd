//! What each route does.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use ebb_core::ended::EndedRun;
use ebb_core::note::Note;
use ebb_core::operator::{Wish, check_reason};
use ebb_core::plan::Revision;
use ebb_desired_state::{SessionName, Suspension, User, UserName};
use ebb_wire::PrivateKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::auth::Admin;
use super::{App, Problem};
use crate::client_config::{ClientFile, DEFAULT_MTU};
use crate::clock;
use crate::engine::{Snapshot, renames};
use crate::metrics;
use crate::preview::{self, Preview};
use crate::secrets::SecretName;
use crate::store::NoteQuery;
use crate::view::{self, SessionView, StatusView};

/// Lines of history in one answer, unless another number is asked for.
const DEFAULT_EVENTS: usize = 50;
const MOST_EVENTS: usize = 1000;

/// Ended runs in one answer, unless another number is asked for.
const DEFAULT_RUNS: usize = 20;
const MOST_RUNS: usize = 1000;

/// Documents that are searched for the one that changed a session last.
const LOOKED_BACK: usize = 100;

/// Whoever has the admin key, in the words of the history.
pub(super) const BY: &str = "admin";

pub(super) type Answer<T> = Result<T, Problem>;

pub(super) async fn snapshot(app: &App) -> Answer<Snapshot> {
    app.engine.snapshot().await.ok_or_else(Problem::shutting_down)
}

/// The process lives and its loop turns.
pub(super) async fn livez(State(app): State<App>) -> Answer<&'static str> {
    snapshot(&app).await.map(|_| "ok\n")
}

/// A document is in force and provider and store can be reached.
pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, (StatusCode, String)> {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    let Some(snapshot) = app.engine.snapshot().await else {
        return Err(unready("shutting down\n".to_owned()));
    };
    let mut failing = Vec::new();
    if snapshot.desired.is_none() {
        let why = snapshot.source.error.as_deref().unwrap_or("not fetched yet");
        failing.push(format!("no document is in force: {why}"));
    }
    if snapshot.observed.is_none() {
        let why = snapshot.provider_error.as_deref().unwrap_or("not asked yet");
        failing.push(format!("provider: {why}"));
    }
    failing.extend(snapshot.store_error.map(|why| format!("store: {why}")));
    if failing.is_empty() { Ok("ok\n") } else { Err(unready(failing.join("\n") + "\n")) }
}

pub(super) async fn metrics(State(app): State<App>) -> Answer<impl IntoResponse> {
    let snapshot = snapshot(&app).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], app.counters.render(&snapshot)))
}

pub(super) async fn metrics_of_session(
    State(app): State<App>,
    Path(session): Path<SessionName>,
) -> Answer<impl IntoResponse> {
    let snapshot = snapshot(&app).await?;
    if !snapshot.records.contains_key(&session) {
        return Err(no_session(&session));
    }
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], app.counters.render_session(&snapshot, &session)))
}

pub(super) async fn sessions(_: Admin, State(app): State<App>) -> Answer<Json<StatusView>> {
    Ok(Json(view::status(&snapshot(&app).await?)))
}

pub(super) async fn session(
    _: Admin,
    State(app): State<App>,
    Path(name): Path<SessionName>,
) -> Answer<Json<SessionView>> {
    let snapshot = snapshot(&app).await?;
    let mut view = view::session(&snapshot, &name).ok_or_else(|| no_session(&name))?;
    let accepted = app.store.accepted(LOOKED_BACK).await?;
    view.because.extend(accepted.iter().find_map(|accepted| accepted.about(&name)));
    Ok(Json(view))
}

#[derive(Deserialize)]
pub(super) struct RunQuery {
    limit: Option<usize>,
}

/// Runs of a session that have ended, also of one that the document no longer has.
pub(super) async fn runs(
    _: Admin,
    State(app): State<App>,
    Path(session): Path<SessionName>,
    Query(query): Query<RunQuery>,
) -> Answer<Json<Vec<EndedRun>>> {
    let limit = query.limit.unwrap_or(DEFAULT_RUNS).min(MOST_RUNS);
    let runs = app.store.runs(&session, limit).await?;
    if runs.is_empty() && !snapshot(&app).await?.records.contains_key(&session) {
        return Err(no_session(&session));
    }
    Ok(Json(runs))
}

pub(super) async fn start(_: Admin, app: State<App>, session: Path<SessionName>) -> Answer<StatusCode> {
    wish(app, session, Wish::Start).await
}

pub(super) async fn stop(_: Admin, app: State<App>, session: Path<SessionName>) -> Answer<StatusCode> {
    wish(app, session, Wish::Stop).await
}

/// Body of the routes that let a session rest, or take it out of Ebb's hands.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rest {
    /// Why: one line of at most 200 characters.
    pub reason: String,
    /// Until when. Needed for a suspension, which has to end by itself, and for nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

pub(super) async fn suspend(
    _: Admin,
    app: State<App>,
    session: Path<SessionName>,
    Json(Rest { reason, until }): Json<Rest>,
) -> Answer<StatusCode> {
    check(&reason)?;
    let until = until.filter(|until| *until > clock::now()).ok_or_else(|| {
        Problem::invalid("a suspension needs a moment `until` which it lasts, and that is in the future")
    })?;
    wish(app, session, Wish::Suspend(Suspension { reason, until })).await
}

pub(super) async fn resume(_: Admin, app: State<App>, session: Path<SessionName>) -> Answer<StatusCode> {
    wish(app, session, Wish::Resume).await
}

pub(super) async fn detach(
    _: Admin,
    app: State<App>,
    session: Path<SessionName>,
    Json(Rest { reason, until }): Json<Rest>,
) -> Answer<StatusCode> {
    check(&reason)?;
    if until.is_some() {
        return Err(Problem::invalid("a session is detached until it is adopted; there is no `until`"));
    }
    wish(app, session, Wish::Detach { reason }).await
}

pub(super) async fn adopt(_: Admin, app: State<App>, session: Path<SessionName>) -> Answer<StatusCode> {
    wish(app, session, Wish::Adopt).await
}

fn check(reason: &str) -> Answer<()> {
    check_reason(reason).map_or(Ok(()), |wrong| Err(Problem::invalid(wrong)))
}

async fn wish(State(app): State<App>, Path(session): Path<SessionName>, wish: Wish) -> Answer<StatusCode> {
    app.engine.wish(session, wish, BY.to_owned()).await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
pub(super) struct ConfigQuery {
    mtu: Option<u16>,
}

/// A user's client configuration. It may hold a private key, so it is never cached.
pub(super) async fn config(
    _: Admin,
    State(app): State<App>,
    Path((session, user)): Path<(SessionName, UserName)>,
    Query(query): Query<ConfigQuery>,
) -> Answer<impl IntoResponse> {
    let file = client_file(&app, &session, &user, query.mtu).await?;
    let disposition = format!("attachment; filename=\"{session}.conf\"");
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, file.render().to_string()))
}

/// The same for programs.
pub(super) async fn connection(
    _: Admin,
    State(app): State<App>,
    Path((session, user)): Path<(SessionName, UserName)>,
    Query(query): Query<ConfigQuery>,
) -> Answer<impl IntoResponse> {
    let file = client_file(&app, &session, &user, query.mtu).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(file.connection())))
}

async fn client_file(
    app: &App,
    session: &SessionName,
    user: &UserName,
    mtu: Option<u16>,
) -> Answer<ClientFile> {
    let snapshot = snapshot(app).await?;
    let desired = snapshot.desired.as_ref().ok_or_else(|| no_session(session))?;
    let declared = desired.document.session(session).ok_or_else(|| no_session(session))?;
    let member = declared.users.contains(user);
    let user = desired.document.user(user).filter(|_| member).ok_or_else(|| {
        let users: Vec<_> = declared.users.iter().map(UserName::as_str).collect();
        Problem::not_found(format!(
            "{user} is no user of session {session}; its users are {}",
            users.join(", ")
        ))
    })?;
    let mtu = mtu.unwrap_or(DEFAULT_MTU);
    if !(1280..=1500).contains(&mtu) {
        return Err(Problem::invalid(format!("an MTU is between 1280 and 1500, not {mtu}")));
    }
    let record = snapshot.records.get(session);
    let endpoint = record.and_then(|record| record.endpoint.as_ref());
    let host = record.and_then(|record| record.hosts.get(&user.name));
    let gateway_key = snapshot.keys.gateways.get(session);
    let (Some(endpoint), Some(host), Some(gateway_key)) = (endpoint, host, gateway_key) else {
        let text = format!(
            "session {session} has never run, so its address is not known; `ebb start {session}` first"
        );
        return Err(Problem::new(StatusCode::CONFLICT, "NOT_READY", text).retry_after(5));
    };
    let private_key = private_key(app, user).await?;
    Ok(ClientFile {
        session: declared.clone(),
        user: user.clone(),
        addresses: ebb_core::spec::addresses(&declared.addresses, *host),
        private_key,
        gateway_key: *gateway_key,
        endpoint: endpoint.clone(),
        mtu,
    })
}

/// The private key of a user who does not keep it alone.
async fn private_key(app: &App, user: &User) -> Answer<Option<PrivateKey>> {
    if user.public_key.is_some() {
        return Ok(None);
    }
    let name = SecretName::User(user.name.clone());
    let unavailable = |text: String| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "SECRETS_UNAVAILABLE", text).retry_after(5)
    };
    let key = app.secrets.get(&name).await.map_err(|error| unavailable(error.to_string()))?;
    key.map(Some).ok_or_else(|| unavailable(format!("the key {name} has not been made yet")))
}

#[derive(Deserialize)]
pub(super) struct PlanQuery {
    until: Option<Timestamp>,
}

/// What the next pass would do.
pub(super) async fn plan(
    _: Admin,
    State(app): State<App>,
    Query(query): Query<PlanQuery>,
) -> Answer<Json<Preview>> {
    let snapshot = snapshot(&app).await?;
    let desired = snapshot.desired.clone();
    let desired = desired.ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "NO_DOCUMENT", "no document is in force; `ebb status` says why")
    })?;
    Ok(Json(preview::of(&snapshot, &desired, query.until)))
}

/// What the passes after accepting this document would do.
pub(super) async fn plan_candidate(
    _: Admin,
    State(app): State<App>,
    Query(query): Query<PlanQuery>,
    text: String,
) -> Answer<Json<Preview>> {
    let document = ebb_desired_state::parse(&text).map_err(|problems| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "INVALID_DOCUMENT",
            problems.render("candidate", false),
        )
    })?;
    let snapshot = snapshot(&app).await?;
    let in_force = snapshot.desired.as_ref().map(|desired| &desired.document);
    if let Some(message) = in_force.and_then(|in_force| renames(in_force, &document)) {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_DOCUMENT", message));
    }
    Ok(Json(preview::of_candidate(&snapshot, document, query.until)))
}

/// Body of `POST /api/approve`.
#[derive(Deserialize, Serialize)]
pub struct Approval {
    /// The revision that is meant.
    pub revision: String,
}

pub(super) async fn approve(
    _: Admin,
    State(app): State<App>,
    Json(approval): Json<Approval>,
) -> Answer<StatusCode> {
    app.engine.approve(Revision(approval.revision)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Answer of `POST /api/reconcile`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconciling {
    /// When it was asked; `handledAt` of the status reaches this once that has been done.
    pub requested_at: Timestamp,
}

pub(super) async fn reconcile(_: Admin, State(app): State<App>) -> Answer<impl IntoResponse> {
    let requested_at = app.engine.reconcile().await.ok_or_else(Problem::shutting_down)?;
    Ok((StatusCode::ACCEPTED, Json(Reconciling { requested_at })))
}

#[derive(Deserialize)]
pub(super) struct EventQuery {
    session: Option<SessionName>,
    #[serde(rename = "type")]
    kind: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn events(
    _: Admin,
    State(app): State<App>,
    Query(query): Query<EventQuery>,
) -> Answer<Json<Vec<Note>>> {
    let limit = query.limit.unwrap_or(DEFAULT_EVENTS).min(MOST_EVENTS);
    let query = NoteQuery { session: query.session, kind: query.kind, limit };
    Ok(Json(app.store.notes(&query).await?))
}

fn no_session(session: &SessionName) -> Problem {
    Problem::not_found(format!("there is no session {session}; `ebb status` lists the sessions"))
}
