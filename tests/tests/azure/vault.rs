//! Keys in a vault, of which there is an imitation here: versions, and deletes that can be undone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use ebb::secrets::{SecretName, Secrets, VaultSecrets};
use ebb_tests::fake_arm::TOKEN;
use ebb_wire::PrivateKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::azure;

#[derive(Default)]
struct Vault {
    secrets: BTreeMap<String, Vec<String>>,
    deleted: BTreeMap<String, Vec<String>>,
    open: bool,
}

type Shared = Arc<Mutex<Vault>>;
type Answer = (StatusCode, Json<Value>);

fn refused(status: StatusCode, code: &str, inner: Option<&str>) -> Answer {
    let inner = inner.map(|code| json!({ "code": code }));
    (status, Json(json!({ "error": { "code": code, "message": "no", "innererror": inner } })))
}

fn may(headers: &HeaderMap, vault: &Vault) -> Result<(), Answer> {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    if authorization != Some(&format!("Bearer {TOKEN}")) {
        return Err(refused(StatusCode::UNAUTHORIZED, "Unauthorized", None));
    }
    if vault.open {
        Ok(())
    } else {
        Err(refused(StatusCode::FORBIDDEN, "Forbidden", Some("ForbiddenByRbac")))
    }
}

async fn read(State(vault): State<Shared>, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let vault = vault.lock().unwrap();
    if let Err(refusal) = may(&headers, &vault) {
        return refusal;
    }
    match vault.secrets.get(&name).and_then(|versions| versions.last()) {
        Some(value) => {
            (StatusCode::OK, Json(json!({ "value": value, "id": name, "attributes": { "enabled": true } })))
        }
        None => refused(StatusCode::NOT_FOUND, "SecretNotFound", None),
    }
}

async fn write(
    State(vault): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Answer {
    let mut vault = vault.lock().unwrap();
    if let Err(refusal) = may(&headers, &vault) {
        return refusal;
    }
    if vault.deleted.contains_key(&name) {
        return refused(StatusCode::CONFLICT, "Conflict", Some("ObjectIsDeletedButRecoverable"));
    }
    let value = body["value"].as_str().unwrap().to_owned();
    vault.secrets.entry(name).or_default().push(value.clone());
    (StatusCode::OK, Json(json!({ "value": value })))
}

async fn recover(State(vault): State<Shared>, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let mut vault = vault.lock().unwrap();
    if let Err(refusal) = may(&headers, &vault) {
        return refusal;
    }
    match vault.deleted.remove(&name) {
        Some(versions) => {
            vault.secrets.insert(name, versions);
            (StatusCode::OK, Json(json!({})))
        }
        None => refused(StatusCode::NOT_FOUND, "SecretNotFound", None),
    }
}

/// Starts one that answers or, unless it is `open`, refuses; where it is.
pub async fn serve(open: bool) -> String {
    let (vault, url) = listen().await;
    vault.lock().unwrap().open = open;
    url
}

async fn start() -> (Shared, VaultSecrets) {
    let (shared, url) = listen().await;
    let secrets = VaultSecrets::open(&azure("https://unused.example").0, "EBB_SECRETS", &url).unwrap();
    (shared, secrets)
}

async fn listen() -> (Shared, String) {
    let shared = Shared::default();
    shared.lock().unwrap().open = true;
    let router = Router::new()
        .route("/secrets/{name}", get(read).put(write))
        .route("/deletedsecrets/{name}/recover", post(recover))
        .with_state(Arc::clone(&shared));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (shared, url)
}

fn key(byte: u8) -> PrivateKey {
    PrivateKey::from_random([byte; 32])
}

#[tokio::test]
async fn a_name_keeps_its_first_key_and_has_one_version() {
    let (vault, secrets) = start().await;
    let name = SecretName::User("alice".parse().unwrap());
    assert!(secrets.get(&name).await.unwrap().is_none());
    let first = secrets.ensure(&name, key(1)).await.unwrap();
    assert_eq!(secrets.ensure(&name, key(2)).await.unwrap().public(), first.public());
    assert_eq!(vault.lock().unwrap().secrets["user-alice"].len(), 1);
}

#[tokio::test]
async fn a_key_that_somebody_has_deleted_is_recovered_and_not_replaced() {
    let (vault, secrets) = start().await;
    let name = SecretName::Gateway("home".parse().unwrap());
    let first = secrets.ensure(&name, key(1)).await.unwrap();
    {
        let mut vault = vault.lock().unwrap();
        let versions = vault.secrets.remove("gateway-home").unwrap();
        vault.deleted.insert("gateway-home".into(), versions);
    }
    assert_eq!(secrets.ensure(&name, key(2)).await.unwrap().public(), first.public());
}

#[tokio::test]
async fn an_error_names_the_role_that_is_missing_and_never_a_key() {
    let (vault, secrets) = start().await;
    let name = SecretName::Control;
    let first = secrets.ensure(&name, key(1)).await.unwrap();
    vault.lock().unwrap().open = false;
    let error = secrets.ensure(&name, key(2)).await.unwrap_err().to_string();
    assert!(error.contains("403") && error.contains("Key Vault Secrets Officer"), "{error}");
    vault.lock().unwrap().open = true;
    vault.lock().unwrap().secrets.insert("control".into(), vec!["hush-hush".into()]);
    let error = secrets.get(&name).await.unwrap_err().to_string();
    let key = first.reveal();
    assert!(!error.contains("hush") && !error.contains(key.as_str()), "{error}");
}
