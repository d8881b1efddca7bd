//! `ebb measure-azure` on an imitation whose containers run the probe: every part has a result, and nothing stays behind.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, ToName as _, Ttl};
use domain::rdata::A;
use ebb_tests::fake_arm::{Behaviour, FakeArm, Fault, Image, Kind, RESOURCE_GROUP, SUBSCRIPTION};
use serde_json::json;

fn probes(directory: &Path) -> FakeArm {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../reconciler/src/cli/measure/probe.py");
    let command = ["python3", "-u", script].map(str::to_owned).to_vec();
    let spawn = Arc::new(|mut command: Command| command.spawn());
    let image = Image { command, logs: directory.to_owned(), spawn };
    FakeArm::start(TcpListener::bind("127.0.0.1:0").unwrap(), Behaviour::default(), Some(image))
}

fn measure(fake: &FakeArm, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebb-under-test"));
    command.arg("measure-azure").args(arguments).env_clear().envs(fake.environment()).stdin(Stdio::null());
    command.output().unwrap()
}

fn free_port() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// A resolver that gives every name the same address for a minute; its address.
fn resolver() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = Message::from_octets(&buffer[..length]).unwrap();
            let name = question.sole_question().unwrap().qname().to_vec();
            let mut answer = MessageBuilder::new_vec().start_answer(&question, Rcode::NOERROR).unwrap();
            answer.push((name, Class::IN, Ttl::from_secs(60), A::from_octets(127, 0, 0, 1))).unwrap();
            socket.send_to(&answer.finish(), from).unwrap();
        }
    });
    address
}

fn left_over(fake: &FakeArm) -> usize {
    fake.groups().iter().filter(|group| group["properties"]["provisioningState"] != "Deleting").count()
}

#[test]
fn every_question_gets_an_answer_and_nothing_stays_behind() {
    let directory = tempfile::tempdir().unwrap();
    let fake = probes(directory.path());
    let port = loop {
        // The system gives out ports that Azure keeps for itself, too.
        let port = free_port();
        if (30_001..49_152).contains(&port.parse::<u16>().unwrap()) {
            break port;
        }
    };
    let ports = format!("51820,{port}");
    let resolver = resolver();
    let arguments = ["--yes", "--ports", &ports, "--idle", "2", "--patience", "4", "--resolver", &resolver];
    let output = measure(&fake, &arguments);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "- port 51820/udp: refused with 400: InvalidRequestContent: the port 51820 is reserved",
        &format!("- port {port}/udp: passes"),
        "- source address that the container sees: 127.0.x.x (private)",
        "- bytes of payload that come back whole: 1200 yes",
        "- answers after a pause: 0.1 s yes, 0.2 s yes, 0.4 s yes, 0.8 s yes, 1.4 s yes, 2.0 s yes",
        "- securityContext with NET_ADMIN on the SKU Standard: accepted, 201 (headers: azure-asyncoperation, retry-after); device",
        "- round 3: PUT 201",
        "- different names in all rounds (ResourceGroupReuse): 1",
        "- TTL of the name, by round: 60 s, 60 s, 60 s",
        "- PATCH of a tag: 200 (headers: none); does not restart, keeps the address",
        "- PUT of the same properties: 200 (headers: azure-asyncoperation, retry-after); restarts",
        "- a changed value: not seen within 4 s",
        "- a value of 64 KiB: ",
        "- stop: 204 (headers: none); ",
        "- delete: 202 (headers: azure-asyncoperation, retry-after); ",
    ] {
        assert!(report.contains(line), "{line:?} is missing in\n{report}");
    }
    assert_eq!(left_over(&fake), 0);
}

#[test]
fn nothing_is_made_before_somebody_has_said_yes() {
    let directory = tempfile::tempdir().unwrap();
    let fake = probes(directory.path());
    let output = measure(&fake, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("US dollar"));
    assert_eq!((fake.count(Kind::Put), fake.count(Kind::Delete)), (0, 0));
}

#[test]
fn what_an_interrupted_measurement_has_left_is_deleted_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let fake = probes(directory.path());
    let scope = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}");
    for (name, tags) in
        [("ebb-measure-1-x", json!({ "ebb-measure": "1" })), ("theirs", json!({ "Owner": "o" }))]
    {
        let id = format!("{scope}/providers/Microsoft.ContainerInstance/containerGroups/{name}");
        let ports = json!([{ "protocol": "UDP", "port": 31820 }]);
        fs::create_dir_all(directory.path()).unwrap();
        let body = json!({ "location": "eastus2", "tags": tags, "properties": { "containers": [{ "name": "c", "properties": {
            "image": "i", "ports": ports, "environmentVariables": [{ "name": "PORT", "value": "0" }] } }],
            "ipAddress": { "type": "Public", "ports": ports } } });
        fake.place(&id, &body);
    }
    fake.fail(Kind::Delete, Fault::Refuse { status: 503, code: "ServiceUnavailable", retry_after: None });
    assert_eq!(measure(&fake, &["--clean-up"]).status.code(), Some(1));
    assert_eq!(left_over(&fake), 2);
    assert!(measure(&fake, &["--clean-up"]).status.success());
    let left: Vec<_> = fake
        .groups()
        .into_iter()
        .filter(|group| group["properties"]["provisioningState"] != "Deleting")
        .collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["name"], "theirs");
}
