//! Connections to Azure.

use std::sync::Arc;
use std::time::Duration;

use azure_core::http::Transport;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::settings::AzureError;

/// A connection is made within this or not at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The whole of an answer is there within this. ARM answers within seconds; the largest answers are a page of a listing and the
/// 4 MB of a log.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Connections are kept for this long: longer than the pause between two listings, so that a daemon at rest makes no handshakes.
const KEEP_IDLE: Duration = Duration::from_secs(90);

/// Which certificates are trusted.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those that the machine trusts, or the file and directory that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    OfMachine,
    /// These and no others.
    Only(Vec<CertificateDer<'static>>),
}

pub(super) fn open(trust: Trust) -> Result<Transport, AzureError> {
    Ok(Transport::new(Arc::new(http_client(trust)?)))
}

/// A client of HTTP with this crate's TLS, for services of others as well.
pub(crate) fn http_client(trust: Trust) -> Result<reqwest::Client, AzureError> {
    let tls = |error: &dyn std::fmt::Display| AzureError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::OfMachine => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                return Err(AzureError::Tls(format!(
                    "this machine trusts no certificate; install ca-certificates or name a file in SSL_CERT_FILE. {}",
                    errors.join("; ")
                )));
            }
        }
        Trust::Only(certificates) => {
            for certificate in certificates {
                roots.add(certificate).map_err(|error| tls(&error))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        // A redirect would carry a token to somebody else.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .pool_idle_timeout(KEEP_IDLE)
        .build()
        .map_err(|error| tls(&error))
}
