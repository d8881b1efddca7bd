//! `azure_data_tables` 0.21.

use azure_core::RetryOptions;
use azure_data_tables::clients::TableServiceClientBuilder;
use azure_storage::{CloudLocation, StorageCredentials};
use serde_json::json;

use crate::Shown;
use crate::server::Server;

/// What the Table service answers when an operation of a batch was refused, and all of them undone ("Performing entity group
/// transactions").
const REFUSED: &str = "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n\
--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\n\r\n\
{\"odata.error\":{\"code\":\"EntityAlreadyExists\",\"message\":{\"value\":\"1:The specified entity already exists.\"}}}\r\n\
--changesetresponse_1--\r\n--batchresponse_1--\r\n";

const HEADERS: &str = "x-ms-request-id: 00000000-0000-0000-0000-000000000001\r\nx-ms-version: 2019-12-12\r\n\
                       date: Sat, 21 Nov 2026 00:00:00 GMT\r\nserver: fake";

pub async fn show() -> Vec<Shown> {
    vec![batch().await, quote().await]
}

fn client(server: &Server) -> azure_data_tables::clients::TableServiceClient {
    let location = CloudLocation::Custom { account: "account".into(), uri: server.url.clone() };
    TableServiceClientBuilder::with_location(location, StorageCredentials::anonymous()).retry(RetryOptions::none()).build()
}

async fn batch() -> Shown {
    let head: &'static str = Box::leak(format!("HTTP/1.1 202 Accepted\r\n{HEADERS}").into_boxed_str());
    let server = Server::start(vec![(head, REFUSED.to_owned())]).await;
    let row = |key: &str| json!({ "PartitionKey": "p", "RowKey": key });
    let partition = client(&server).table_client("T").partition_key_client("p");
    let batch = partition.transaction().insert(row("1")).and_then(|batch| batch.insert(row("2")));
    let outcome = batch.expect("a batch").into_future().await;
    let (seen, holds) = match &outcome {
        Ok(answer) => {
            let statuses: Vec<u16> = answer.operation_responses.iter().map(|one| u16::from(one.status_code)).collect();
            (format!("Ok, with operations {statuses:?}"), statuses == [409])
        }
        Err(error) => (format!("Err: {error}"), false),
    };
    Shown { claim: "azure_data_tables: a batch that was refused as a whole is Ok", seen, holds }
}

async fn quote() -> Shown {
    let server = Server::start(vec![("HTTP/1.1 404 Not Found", "{}".to_owned())]).await;
    let entity = client(&server).table_client("T").partition_key_client("p").entity_client("o'brien");
    let _ = entity.get::<serde_json::Value>().await;
    let asked = server.asked().join("; ");
    Shown {
        claim: "azure_data_tables: a single quote in a key is not doubled, so the key ends there",
        holds: asked.contains("o'brien'") || asked.contains("o%27brien'"),
        seen: asked,
    }
}
