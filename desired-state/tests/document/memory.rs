//! What the largest and the worst documents take: a daemon with little memory must live through any of them.

use std::fmt::Write as _;
use std::process::Command;

use ebb_desired_state::{MAX_BYTES, parse, parse_bytes};

/// Bytes of data that a process may have here, the test's own copies of the documents included.
const LIMIT: u64 = 256 << 20;

fn ten_thousand_sessions() -> String {
    let mut text = String::from("version: 1\ndeployment: large\nusers:\n");
    (0..10_000).for_each(|n| writeln!(text, "  - name: user{n}\n    sourceIps: [203.0.113.0/24]").unwrap());
    text.push_str("sessions:\n");
    for n in 0..10_000 {
        let _ = write!(
            text,
            "  - name: session{n}\n    users: [user{n}]\n    region: eastus2\n    idleTimeout: 10m\n    \
             dns: {{ names: {{ wiki: 10.0.0.7 }} }}\n"
        );
    }
    text
}

#[test]
fn the_largest_and_the_worst_documents_are_judged() {
    let large = ten_thousand_sessions();
    assert_eq!(parse(&large).unwrap().sessions.len(), 10_000);
    let wrong = large.replace("[user", "[usr");
    assert_eq!(parse(&wrong).unwrap_err().count(), 10_000);
    let fill =
        |head: &str, piece: &str| head.to_owned() + &piece.repeat((MAX_BYTES - head.len() - 8) / piece.len());
    let worst = [
        include_str!("../reject/alias-bomb.yaml").to_owned(),
        fill("version: 1\nusers: [", "x,") + "x]\n",
        fill("version: 1\nusers: ", "["),
        fill("version: 1\n", "? a\n"),
        fill("version: 1\nusers:\n", "- {}\n"),
        fill("version: 1\nname: \"", "\\u0041"),
        fill("", "&a *a "),
        "\0".repeat(MAX_BYTES + 1),
    ];
    for (number, text) in worst.iter().enumerate() {
        assert!(parse_bytes(text.as_bytes()).is_err(), "{number}");
    }
}

#[test]
fn they_are_judged_in_a_process_with_little_memory() {
    let test = "memory::the_largest_and_the_worst_documents_are_judged";
    let mut judging = Command::new("prlimit");
    judging.arg(format!("--data={LIMIT}")).arg(std::env::current_exe().unwrap());
    let output = judging.args(["--exact", test, "--test-threads=1"]).output();
    let output = output.expect("prlimit of util-linux is there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
