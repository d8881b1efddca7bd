//! `ebb doctor` in front of imitations of Azure, of a vault and of a registry, and of Azurite: each fault that is planted is found,
//! told with what to do, and alone.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use ebb_tests::azurite::Azurite;
use ebb_tests::e2e::Output;
use ebb_tests::fake_arm::{
    ACTIONS, Behaviour, FakeArm, IDENTITY_HEADER, LOAD_BALANCER, RESOURCE_GROUP, SUBNET, SUBSCRIPTION, TOKEN,
};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::storage::with_container;
use super::{notice, vault};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The daemon's surroundings: everything works until a test breaks something.
struct Bed {
    fake: FakeArm,
    _azurite: Azurite,
    directory: TempDir,
    variables: BTreeMap<&'static str, String>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    check: String,
    level: String,
    message: String,
    fix: Option<String>,
}

fn document(region: &str, sessions: usize) -> String {
    let sessions: String = (0..sessions)
        .map(|n| {
            format!(
                "  - {{ name: s{n}, users: [alice], region: {region}, port: {}, network: {{ mode: vnet, subnet: {SUBNET}, \
                 loadBalancer: {LOAD_BALANCER} }} }}\n",
                41820 + n
            )
        })
        .collect();
    format!("version: 1\ndeployment: home\nusers:\n  - name: alice\nsessions:\n{sessions}")
}

impl Bed {
    async fn new() -> Option<Self> {
        let azurite = match Azurite::start() {
            Ok(azurite) => azurite,
            Err(why) => {
                notice(&why);
                return None;
            }
        };
        let fake = FakeArm::on_loopback(Behaviour::default());
        fake.add_load_balancer("198.51.100.1");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("document.yaml"), document("eastus2", 2)).unwrap();
        with_container(&azurite, "leader").await;
        let mut variables: BTreeMap<_, _> = fake.environment().into_iter().collect();
        let identity = format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/pull"
        );
        variables.extend([
            ("EBB_PROVIDER", "aci".to_owned()),
            ("EBB_DOCUMENT", directory.path().join("document.yaml").display().to_string()),
            ("EBB_STATE", directory.path().join("state").display().to_string()),
            ("EBB_STORE", azurite.tables()),
            ("EBB_LOCK", azurite.blob("leader/lock")),
            ("EBB_SECRETS", vault::serve(true).await),
            ("EBB_GATEWAY_IMAGE", format!("{}/ebb-gateway@{DIGEST}", registry().await)),
            ("EBB_GATEWAY_IDENTITY", identity),
            ("EBB_API", "127.0.0.1:1".to_owned()),
        ]);
        Some(Self { fake, _azurite: azurite, directory, variables })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebb-under-test"));
        command.arg("doctor").args(arguments).env_clear().envs(&self.variables).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output {
            line: "ebb doctor".to_owned(),
            status: output.status,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn findings(&self, code: i32) -> Vec<Finding> {
        let output = self.run(&["-o", "json"]).failure(code);
        self.is_discreet(&output);
        output.json()
    }

    /// Neither tokens nor signatures nor keys.
    fn is_discreet(&self, output: &Output) {
        let shown = output.to_string();
        let signature = self.variables["EBB_STORE"].split_once("sig=").unwrap().1;
        for secret in [TOKEN, IDENTITY_HEADER, signature] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    /// Exactly this check says so, at this level, with what to do.
    fn expect(&self, check: &str, level: &str, part: &str) {
        let findings = self.findings(i32::from(level == "fail"));
        let bad: Vec<_> = findings.iter().filter(|one| one.level == "warn" || one.level == "fail").collect();
        let [one] = bad.as_slice() else { panic!("not one finding about {check}: {bad:#?}") };
        assert_eq!((one.check.as_str(), one.level.as_str()), (check, level), "{one:#?}");
        assert!(one.message.contains(part), "{one:#?}");
        assert!(one.fix.as_ref().is_some_and(|fix| !fix.is_empty()), "{one:#?}");
    }
}

/// A registry with one image, as the Distribution Specification has it, that wants a token as those of Azure do.
async fn registry() -> String {
    async fn answer(State(own): State<String>, uri: Uri, headers: HeaderMap, body: String) -> Response {
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
        match (uri.path(), bearer) {
            ("/oauth2/exchange", _) if body.contains(&format!("access_token={TOKEN}")) => {
                r#"{"refresh_token":"for-refreshing"}"#.into_response()
            }
            ("/oauth2/token", _) if body.contains("refresh_token=for-refreshing") => {
                r#"{"access_token":"for-reading"}"#.into_response()
            }
            (path, Some("Bearer for-reading")) if !path.starts_with("/v2/closed/") => {
                match path.strip_prefix("/v2/ebb-gateway/manifests/") {
                    Some("arm") => r#"{"manifests":[{"platform":{"os":"linux","architecture":"arm64"}}]}"#
                        .into_response(),
                    Some("tagged") => "{}".into_response(),
                    Some(DIGEST) => r#"{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}}]}"#
                        .into_response(),
                    _ => StatusCode::NOT_FOUND.into_response(),
                }
            }
            ("/v2/closed/manifests/1", _) | (_, None) => {
                let challenge = format!("Bearer realm=\"http://{own}/oauth2/token\",service=\"{own}\"");
                (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let router = Router::new().fallback(answer).with_state(own.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_where_everything_works() {
    let Some(bed) = Bed::new().await else { return };
    let findings = bed.findings(0);
    let levels: BTreeMap<_, _> =
        findings.iter().map(|one| (one.check.as_str(), one.level.as_str())).collect();
    let checks = [
        "document",
        "state",
        "clock",
        "identity",
        "resource group",
        "permissions",
        "provider",
        "quota",
        "subnet",
        "load balancer",
        "image",
        "secrets",
        "tables",
        "lock",
    ];
    for check in checks {
        assert_eq!(levels.get(check), Some(&"ok"), "{check}: {findings:#?}");
    }
    assert_eq!(levels["UDP to gateways"], "skipped");
    let text = bed.run(&[]).success();
    bed.is_discreet(&text);
    assert!(text.stdout.contains("0 failed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_rights_and_of_the_subscription_are_found() {
    let Some(mut bed) = Bed::new().await else { return };
    bed.fake.behave(|behaviour| behaviour.registered = false);
    bed.expect("provider", "fail", "NotRegistered");
    bed.fake.behave(|behaviour| behaviour.registered = true);

    let without =
        |action: &str| ACTIONS.iter().filter(|one| **one != action).map(|one| (*one).to_owned()).collect();
    bed.fake.behave(|behaviour| {
        behaviour.actions = without("Microsoft.ContainerInstance/containerGroups/*");
        behaviour.actions.extend(
            ["read", "write", "containers/logs/read"]
                .map(|verb| format!("Microsoft.ContainerInstance/containerGroups/{verb}")),
        );
    });
    bed.expect("permissions", "fail", "may not Microsoft.ContainerInstance/containerGroups/delete");
    bed.fake.behave(|behaviour| behaviour.actions = without("Microsoft.Network/loadBalancers/*"));
    bed.expect("permissions", "fail", "on lb the identity may not");
    bed.fake.behave(|behaviour| {
        behaviour.actions = without("Microsoft.ManagedIdentity/userAssignedIdentities/assign/action");
    });
    bed.expect("permissions", "fail", "on pull the identity may not");
    bed.fake.behave(|behaviour| behaviour.actions = ACTIONS.map(str::to_owned).to_vec());

    bed.fake.behave(|behaviour| behaviour.quota = 0);
    bed.expect("quota", "fail", "ContainerGroups 0 of 0");
    bed.fake.behave(|behaviour| behaviour.quota = 1);
    bed.expect("quota", "warn", "too little for 2 session(s)");
    bed.fake.behave(|behaviour| behaviour.quota = 100);

    bed.fake.behave(|behaviour| behaviour.delegated = false);
    bed.expect("subnet", "fail", "is not delegated");
    bed.fake.behave(|behaviour| behaviour.delegated = true);

    bed.variables.insert("EBB_AZURE_RESOURCE_GROUP", "rg-missing".into());
    let findings = bed.findings(1);
    let missing = findings.iter().find(|one| one.check == "resource group").unwrap();
    assert!(
        missing.message.contains("rg-missing") && missing.fix.as_ref().unwrap().contains("create"),
        "{missing:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_clock_and_of_the_identity_are_found() {
    let Some(mut bed) = Bed::new().await else { return };
    bed.fake.behave(|behaviour| behaviour.ahead = 60);
    bed.expect("clock", "warn", "s behind Azure's");
    bed.fake.behave(|behaviour| behaviour.ahead = -3600);
    bed.expect("clock", "fail", "s ahead of Azure's");
    bed.fake.behave(|behaviour| behaviour.ahead = 0);

    bed.variables.insert("IDENTITY_HEADER", "another".into());
    let findings = bed.findings(1);
    let identity = findings.iter().find(|one| one.check == "identity").unwrap();
    assert!(
        identity.level == "fail" && identity.fix.as_ref().unwrap().contains("EBB_AZURE_CLIENT_ID"),
        "{identity:?}"
    );
    bed.variables.remove("EBB_GATEWAY_IMAGE");
    let settings = bed.findings(1).into_iter().find(|one| one.check == "settings").unwrap();
    assert!(settings.message.contains("EBB_GATEWAY_IMAGE is not set"), "{settings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_storage_vault_image_and_document_are_found() {
    let Some(mut bed) = Bed::new().await else { return };
    let good = bed.variables.clone();
    let registry = good["EBB_GATEWAY_IMAGE"].split('/').next().unwrap().to_owned();
    let forged = |url: &str| url.replace("sig=", "sig=AAAA");

    bed.variables.insert("EBB_STORE", forged(&good["EBB_STORE"]));
    bed.expect("tables", "fail", "403");
    bed.variables = good.clone();
    bed.variables.insert("EBB_LOCK", good["EBB_LOCK"].replace("leader/", "missing/"));
    bed.expect("lock", "fail", "ContainerNotFound");
    bed.variables = good.clone();
    bed.variables.insert("EBB_SECRETS", vault::serve(false).await);
    let secrets = bed.findings(1).into_iter().find(|one| one.check == "secrets").unwrap();
    assert!(secrets.message.contains("Key Vault Secrets Officer"), "{secrets:?}");
    bed.variables = good.clone();

    for (name, level, part) in [
        ("ebb-gateway:nothing", "fail", "has no such image"),
        ("ebb-gateway:arm", "fail", "linux/arm64"),
        ("ebb-gateway:tagged", "warn", "by a tag"),
        ("closed:1", "warn", "may not read it"),
    ] {
        bed.variables.insert("EBB_GATEWAY_IMAGE", format!("{registry}/{name}"));
        bed.expect("image", level, part);
    }
    bed.variables = good;
    fs::write(bed.directory.path().join("document.yaml"), document("eastus2", 2).replace("alice]", "bob]"))
        .unwrap();
    let findings = bed.findings(1);
    let document = findings.iter().find(|one| one.check == "document").unwrap();
    assert!(document.level == "fail" && document.message.contains("document.yaml:6:"), "{document:?}");
}
