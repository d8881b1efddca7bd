//! Private keys in Azure Key Vault.
//!
//! Every name has one secret, which is never deleted: a vault keeps deleted secrets for weeks, and their names with them. One
//! that somebody else has deleted is recovered, since configurations that people hold depend on it.

use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::headers::CONTENT_TYPE;
use azure_core::http::{Method, Request, Url};
use ebb_wire::PrivateKey;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{SecretError, SecretName, Secrets};
use crate::azure::{Answer, Azure, AzureError, Client, address};

/// Version of the vault's API.
const API_VERSION: &str = "7.4";

/// What tokens for vaults are for.
const SCOPE: &str = "https://vault.azure.net/.default";

/// A recovered secret can be read after some seconds.
const RECOVERY: [Duration; 6] = [Duration::from_secs(1); 6];

/// A [`Secrets`] in a vault.
pub struct VaultSecrets {
    client: Client,
    vault: Url,
}

#[derive(Deserialize)]
struct Bundle {
    value: String,
}

#[derive(Deserialize)]
struct Envelope {
    error: Refusal,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    code: String,
    innererror: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
}

impl VaultSecrets {
    /// Uses the vault at `url`. Nothing is sent before the first call.
    ///
    /// # Errors
    /// When it is no address that a token may be sent to.
    pub fn open(azure: &Azure, variable: &'static str, url: &str) -> Result<Self, AzureError> {
        Ok(Self { client: azure.client(SCOPE), vault: address(variable, url.to_owned())? })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        name: &SecretName,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, SecretError> {
        let mut url = self.vault.clone();
        url.set_path(path);
        url.set_query(Some(&format!("api-version={API_VERSION}")));
        let mut request = Request::new(url, method);
        if let Some(body) = body {
            request.insert_header(CONTENT_TYPE, "application/json");
            request.set_body(body);
        }
        self.client.send(request).await.map_err(|error| self.error(name, error))
    }

    fn error(&self, name: &SecretName, why: impl ToString) -> SecretError {
        SecretError {
            name: name.clone(),
            place: format!("{}{}", self.vault, path(name)),
            why: why.to_string(),
        }
    }

    /// Never quotes a body: it may be a secret.
    fn refused(&self, name: &SecretName, answer: &Answer) -> SecretError {
        let code = refusal(answer).code;
        let advice = match answer.status {
            401 | 403 => {
                "; give the daemon's identity the role Key Vault Secrets Officer, and let it through the vault's firewall"
            }
            429 => "; the vault has too many requests, it is tried again",
            _ => "",
        };
        self.error(name, format!("HTTP status {} {code}{advice}", answer.status))
    }

    async fn read(&self, name: &SecretName) -> Result<Option<PrivateKey>, SecretError> {
        let answer = self.ask(Method::Get, &path(name), name, None).await?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            _ => return Err(self.refused(name, &answer)),
        }
        let body = Zeroizing::new(answer.body);
        let bundle: Bundle =
            serde_json::from_slice(&body).map_err(|_| self.error(name, "the answer is no secret"))?;
        Zeroizing::new(bundle.value).trim().parse().map(Some).map_err(|error| self.error(name, error))
    }

    /// Gets back a secret that somebody has deleted; whether there is one.
    async fn recover(&self, name: &SecretName) -> Result<bool, SecretError> {
        let answer = self.ask(Method::Post, &format!("deleted{}/recover", path(name)), name, None).await?;
        match answer.status {
            200 => tracing::warn!("somebody has deleted the key {name} from the vault; it is recovered"),
            404 => return Ok(false),
            _ => return Err(self.refused(name, &answer)),
        }
        for pause in RECOVERY {
            if self.read(name).await?.is_some() {
                return Ok(true);
            }
            tokio::time::sleep(pause).await;
        }
        Err(self.error(name, "it was deleted and is being recovered, which takes longer than usual"))
    }

    async fn write(&self, name: &SecretName, key: &PrivateKey) -> Result<Answer, SecretError> {
        let value = key.reveal();
        let body = serde_json::json!({ "value": value.as_str(), "contentType": "WireGuard private key" })
            .to_string();
        self.ask(Method::Put, &path(name), name, Some(body.into_bytes())).await
    }
}

fn path(name: &SecretName) -> String {
    format!("secrets/{name}")
}

fn refusal(answer: &Answer) -> Refusal {
    let envelope: Option<Envelope> = serde_json::from_slice(&answer.body).ok();
    envelope.map(|envelope| envelope.error).unwrap_or_default()
}

fn was_deleted(answer: &Answer) -> bool {
    let refusal = refusal(answer);
    let code = refusal.innererror.map(|inner| inner.code).unwrap_or(refusal.code);
    answer.status == 409 && code == "ObjectIsDeletedButRecoverable"
}

#[async_trait]
impl Secrets for VaultSecrets {
    async fn get(&self, name: &SecretName) -> Result<Option<PrivateKey>, SecretError> {
        self.read(name).await
    }

    async fn ensure(&self, name: &SecretName, fresh: PrivateKey) -> Result<PrivateKey, SecretError> {
        if let Some(key) = self.read(name).await? {
            return Ok(key);
        }
        let written = self.write(name, &fresh).await?;
        if was_deleted(&written) {
            self.recover(name).await?;
        } else if !written.is_success() {
            return Err(self.refused(name, &written));
        }
        self.read(name).await?.ok_or_else(|| self.error(name, "it was written and is not there"))
    }
}
