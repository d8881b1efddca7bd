//! How long a large document takes, and how much memory: `cargo bench -p ebb-desired-state`.
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use ebb_desired_state::{diff, parse};

/// As many sessions and users as a document may have, with the settings that people write.
fn large(sessions: usize) -> String {
    let mut text =
        String::from("version: 1\ndeployment: large\ndefaults: { routes: [0.0.0.0/0, \"::/0\"] }\nusers:\n");
    for n in 0..sessions {
        let _ = write!(text, "  - name: user{n}\n    sourceIps: [203.0.113.0/24]\n");
    }
    text.push_str("sessions:\n");
    for n in 0..sessions {
        let _ = write!(
            text,
            "  - name: session{n}\n    users: [user{n}]\n    region: eastus2\n    idleTimeout: 10m\n    maxLifetime: 12h\n    \
             schedule: {{ days: Mon-Fri, hours: \"06:00-22:00\", timezone: America/New_York }}\n    \
             dns: {{ names: {{ wiki: 10.0.0.7 }}, upstream: [1.1.1.1] }}\n    port: 41820\n"
        );
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn measure(what: &str, mut run: impl FnMut()) {
    let mut runs: Vec<_> = (0..5)
        .map(|_| {
            let (start, cpu) = (Instant::now(), cpu_ms());
            run();
            (start.elapsed().as_millis(), cpu.zip(cpu_ms()).map(|(before, after)| after - before))
        })
        .collect();
    runs.sort();
    let (wall, cpu) = runs[2];
    let cpu = cpu.map(|cpu| format!(", {cpu} ms of it on a processor")).unwrap_or_default();
    println!("{what}: median {wall} ms{cpu}");
}

/// Time that this thread has spent on a processor, where the system tells it: what remains when others use the machine too.
fn cpu_ms() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<u64>().ok()? / 1_000_000)
}

/// Peak memory of this process in MiB, where the system tells it.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

fn main() {
    let text = large(10_000);
    println!("document: 10,000 sessions, {} bytes", text.len());
    measure("parse and validate", || {
        assert_eq!(parse(black_box(&text)).map_or(0, |d| d.sessions.len()), 10_000);
    });
    let wrong = text.replace("41820", "51820");
    measure("refuse, every session wrong", || {
        assert_eq!(parse(black_box(&wrong)).err().map(|problems| problems.count()), Some(10_000));
    });
    let unknown = text.replace("users: [user", "users: [usr");
    measure("refuse, every user unknown", || {
        assert_eq!(parse(black_box(&unknown)).err().map(|problems| problems.count()), Some(10_000));
    });
    if let Ok(document) = parse(&text) {
        let mut other = document.clone();
        for session in &mut other.sessions {
            session.port += 1;
        }
        measure("compare, every session changed", || {
            assert_eq!(diff(&document, &other).changes.len(), 10_000);
        });
    }
    if let Some(peak) = peak_mib() {
        println!("peak memory: {peak} MiB");
    }
}
