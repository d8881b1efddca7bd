//! `ebb config`: a user's configuration, as text or QR code.

use std::process::ExitCode;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;

use super::api::Api;
use super::args::{Daemon, Output};
use super::target::Target;
use super::{Failure, Outcome};

pub(super) async fn config(
    daemon: &Daemon,
    target: &Target,
    qr: bool,
    mtu: Option<u16>,
    output: Output,
) -> Outcome {
    let mtu = mtu.map(|mtu| format!("?mtu={mtu}")).unwrap_or_default();
    let path = format!("/api/sessions/{}/users/{}/config{mtu}", target.session, target.user);
    let text = Api::open(daemon)?.text(&path).await?;
    if output == Output::Json {
        super::output::json(&json!({ "session": target.session, "user": target.user, "config": *text }))?;
    } else if qr {
        // Official apps scan the plain text. The lowest correction keeps the code small enough for a terminal.
        let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L)
            .map_err(|error| Failure::new(format!("the configuration does not fit a QR code: {error}")))?;
        println!("{}", code.render::<Dense1x2>().build());
    } else {
        print!("{}", *text);
    }
    Ok(ExitCode::SUCCESS)
}
