//! Tables of Azure Storage: as much of the REST API as a store needs ("Table service REST API").

use azure_core::http::{Method, Request};
use serde_json::{Map, Value};

use super::storage::{Storage, encoded, error_code, header, words};
use super::{Answer, Azure, AzureError};

/// Entities in one batch ("Performing entity group transactions").
pub const MOST_IN_BATCH: usize = 100;

/// A row: properties by name, with `PartitionKey` and `RowKey` among them.
pub type Entity = Map<String, Value>;

/// The tables of an account.
#[derive(Debug, Clone)]
pub struct Tables {
    storage: Storage,
}

/// Why a table did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Somebody else has written the entity: it exists, is gone, or has another ETag.
    #[error("it was changed by somebody else")]
    Conflict,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A change of one entity in a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It must not exist.
    Insert(Entity),
    /// Whatever there is becomes this.
    Put(Entity),
    /// What has this ETag becomes this.
    Replace(Entity, String),
    /// It goes.
    Delete {
        /// Its `RowKey`.
        row: String,
        /// Its ETag; [`ANY`] for whatever there is.
        etag: String,
    },
}

/// The ETag of whatever there is.
pub const ANY: &str = "*";

impl Tables {
    /// The tables of the account at `url`.
    ///
    /// # Errors
    /// When it is no address that a token may be sent to.
    pub fn open(azure: &Azure, variable: &'static str, url: &str) -> Result<Self, AzureError> {
        Ok(Self { storage: Storage::open(azure, variable, url)? })
    }

    /// Where they are.
    #[must_use]
    pub fn place(&self) -> &str {
        self.storage.place()
    }

    /// Makes a table if there is none.
    ///
    /// # Errors
    /// When nobody knows whether there is one.
    pub async fn ensure(&self, table: &str) -> Result<(), TableError> {
        let body = serde_json::json!({ "TableName": table });
        let mut request = self.request(Method::Post, "Tables", &[]);
        header(&mut request, "prefer", "return-no-content");
        let answer = self.ask(with_json(request, &body)).await?;
        match answer.status {
            409 if error_code(&answer) == "TableAlreadyExists" => Ok(()),
            _ => done(&answer).map(drop),
        }
    }

    /// One entity and its ETag.
    ///
    /// # Errors
    /// When nobody knows whether there is one.
    pub async fn get(
        &self,
        table: &str,
        partition: &str,
        row: &str,
    ) -> Result<Option<(Entity, String)>, TableError> {
        let answer = self.ask(self.request(Method::Get, &place(table, partition, row), &[])).await?;
        if answer.status == 404 && error_code(&answer) == "ResourceNotFound" {
            return Ok(None);
        }
        let answer = done(&answer)?;
        let etag = etag(answer).ok_or_else(|| TableError::Other("an entity came without an ETag".into()))?;
        Ok(Some((read(answer)?, etag)))
    }

    /// Inserts an entity; its ETag.
    ///
    /// # Errors
    /// [`TableError::Conflict`] when it exists.
    pub async fn insert(&self, table: &str, entity: &Entity) -> Result<String, TableError> {
        let mut request = self.request(Method::Post, table, &[]);
        header(&mut request, "prefer", "return-no-content");
        self.changed(with_json(request, entity)).await
    }

    /// Replaces an entity if it still has this ETag; its new ETag.
    ///
    /// # Errors
    /// [`TableError::Conflict`] when it has another one or is gone.
    pub async fn replace(&self, table: &str, entity: &Entity, etag: &str) -> Result<String, TableError> {
        let mut request =
            self.request(Method::Put, &place(table, key(entity, "PartitionKey"), key(entity, "RowKey")), &[]);
        header(&mut request, "if-match", etag);
        self.changed(with_json(request, entity)).await
    }

    /// Makes an entity what it should be, whatever it was.
    ///
    /// # Errors
    /// When nobody knows whether it is.
    pub async fn put(&self, table: &str, entity: &Entity) -> Result<String, TableError> {
        let request =
            self.request(Method::Put, &place(table, key(entity, "PartitionKey"), key(entity, "RowKey")), &[]);
        self.changed(with_json(request, entity)).await
    }

    /// Removes an entity if it still has this ETag.
    ///
    /// # Errors
    /// [`TableError::Conflict`] when it has another one or is gone.
    pub async fn delete(
        &self,
        table: &str,
        partition: &str,
        row: &str,
        etag: &str,
    ) -> Result<(), TableError> {
        let mut request = self.request(Method::Delete, &place(table, partition, row), &[]);
        header(&mut request, "if-match", etag);
        done(&self.ask(request).await?).map(drop)
    }

    /// Entities in the order of their keys, until `want` says that it has enough.
    ///
    /// # Errors
    /// When any page cannot be had.
    pub async fn query(
        &self,
        table: &str,
        filter: &str,
        mut want: impl FnMut(Entity) -> bool,
    ) -> Result<(), TableError> {
        #[derive(serde::Deserialize)]
        struct Page {
            value: Vec<Entity>,
        }
        let mut from: Option<(String, Option<String>)> = None;
        loop {
            let mut query = Vec::new();
            if !filter.is_empty() {
                query.push(("$filter", filter));
            }
            if let Some((partition, row)) = &from {
                query.push(("NextPartitionKey", partition));
                query.extend(row.as_deref().map(|row| ("NextRowKey", row)));
            }
            let answer = self.ask(self.request(Method::Get, &format!("{table}()"), &query)).await?;
            let page: Page = read(done(&answer)?)?;
            // A page may be empty and not the last one.
            if !page.value.into_iter().all(&mut want) {
                return Ok(());
            }
            let next = answer.header("x-ms-continuation-nextpartitionkey").map(str::to_owned);
            from = next.map(|next| (next, answer.header("x-ms-continuation-nextrowkey").map(str::to_owned)));
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Makes up to [`MOST_IN_BATCH`] changes in one partition, all of them or none; the new ETags, as far as they are told.
    ///
    /// # Errors
    /// When any of them was refused; the status of the batch itself says nothing about that.
    pub async fn batch(
        &self,
        table: &str,
        partition: &str,
        changes: &[Change],
    ) -> Result<Vec<Option<String>>, TableError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut request = self.request(Method::Post, "$batch", &[]);
        header(&mut request, "content-type", "multipart/mixed; boundary=batch_ebb");
        request.set_body(self.batch_body(table, partition, changes));
        let answer = self.ask(request).await?;
        let parts = parts(&String::from_utf8_lossy(&done(&answer)?.body));
        match parts.iter().map(|(status, _)| status).find(|status| !(200..300).contains(*status)) {
            Some(404 | 409 | 412) => Err(TableError::Conflict),
            Some(status) => {
                Err(TableError::Other(format!("an operation of a batch was refused with status {status}")))
            }
            None if parts.len() == changes.len() => Ok(parts.into_iter().map(|(_, etag)| etag).collect()),
            None => {
                let (answered, asked) = (parts.len(), changes.len());
                Err(TableError::Other(format!(
                    "{answered} of the {asked} operations of a batch were answered"
                )))
            }
        }
    }

    fn batch_body(&self, table: &str, partition: &str, changes: &[Change]) -> String {
        let mut body =
            "--batch_ebb\r\nContent-Type: multipart/mixed; boundary=changeset_ebb\r\n\r\n".to_owned();
        for change in changes {
            let of = |entity| place(table, partition, key(entity, "RowKey"));
            let if_match = |etag: &str| format!("If-Match: {etag}\r\n");
            let (method, path, json, more) = match change {
                Change::Insert(entity) => {
                    ("POST", table.to_owned(), Some(entity), "Prefer: return-no-content\r\n".to_owned())
                }
                Change::Put(entity) => ("PUT", of(entity), Some(entity), String::new()),
                Change::Replace(entity, etag) => ("PUT", of(entity), Some(entity), if_match(etag)),
                Change::Delete { row, etag } => {
                    ("DELETE", place(table, partition, row), None, if_match(etag))
                }
            };
            let url = format!("{}/{path}", self.storage.place());
            let json =
                json.map(|entity| ascii(&Value::Object(entity.clone()).to_string())).unwrap_or_default();
            body.push_str(&format!(
                "--changeset_ebb\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
                 {method} {url} HTTP/1.1\r\nAccept: application/json;odata=nometadata\r\nContent-Type: application/json\r\n\
                 DataServiceVersion: 3.0;\r\n{more}\r\n{json}\r\n"
            ));
        }
        body.push_str("--changeset_ebb--\r\n--batch_ebb--\r\n");
        body
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Request {
        let mut request = self.storage.request(method, path, query);
        header(&mut request, "accept", "application/json;odata=nometadata");
        header(&mut request, "dataserviceversion", "3.0;NetFx");
        header(&mut request, "maxdataserviceversion", "3.0;NetFx");
        request
    }

    async fn ask(&self, request: Request) -> Result<Answer, TableError> {
        self.storage.send(request).await.map_err(|error| TableError::Other(error.to_string()))
    }

    async fn changed(&self, request: Request) -> Result<String, TableError> {
        let answer = self.ask(request).await?;
        etag(done(&answer)?).ok_or_else(|| TableError::Other("a change was answered without an ETag".into()))
    }
}

fn with_json(mut request: Request, body: &impl serde::Serialize) -> Request {
    header(&mut request, "content-type", "application/json");
    // Maps with text as keys always serialise.
    request.set_body(ascii(&serde_json::to_string(body).unwrap_or_default()));
    request
}

/// JSON without a character outside ASCII: Azurite decodes a body piece by piece, as it arrives, and breaks characters that lie
/// in two of them.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

fn place(table: &str, partition: &str, row: &str) -> String {
    format!("{table}(PartitionKey='{}',RowKey='{}')", encoded(&quoted(partition)), encoded(&quoted(row)))
}

/// A text between single quotes of OData.
#[must_use]
pub fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

fn key<'a>(entity: &'a Entity, name: &str) -> &'a str {
    entity.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn etag(answer: &Answer) -> Option<String> {
    answer.header("etag").map(str::to_owned)
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, TableError> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| TableError::Other(format!("the answer cannot be read: {error}")))
}

fn done(answer: &Answer) -> Result<&Answer, TableError> {
    match (answer.status, error_code(answer).as_str()) {
        (200..300, _) => Ok(answer),
        (412, _) | (409, "EntityAlreadyExists") | (404, "ResourceNotFound") => Err(TableError::Conflict),
        _ => Err(TableError::Other(words(answer))),
    }
}

/// The status and the ETag of each operation in the answer to a batch.
fn parts(body: &str) -> Vec<(u16, Option<String>)> {
    let mut parts: Vec<(u16, Option<String>)> = Vec::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            let status = rest.split_whitespace().next().and_then(|status| status.parse().ok());
            parts.extend(status.map(|status| (status, None)));
        } else if let (Some((name, value)), Some((_, etag))) = (line.split_once(':'), parts.last_mut())
            && name.eq_ignore_ascii_case("etag")
        {
            *etag = Some(value.trim().to_owned());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_their_quotes() {
        assert_eq!(place("T", "o'b", "a/b"), "T(PartitionKey='o%27%27b',RowKey='a%2Fb')");
    }

    #[test]
    fn what_is_sent_is_ascii_and_means_the_same() {
        let text = "ß€😀 \\ \" plain";
        let json = ascii(&serde_json::to_string(text).unwrap());
        assert!(json.is_ascii());
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn every_operation_of_a_batch_is_looked_at() {
        let body = "--batchresponse\r\nContent-Type: multipart/mixed\r\n\r\n--changeset\r\n\r\nHTTP/1.1 204 No Content\r\n\
                    ETag: W/\"datetime'2026'\"\r\n\r\n--changeset\r\n\r\nHTTP/1.1 412 Precondition Failed\r\n\r\n{}\r\n";
        assert_eq!(parts(body), [(204, Some("W/\"datetime'2026'\"".to_owned())), (412, None)]);
    }
}
