//! TLS to the leader, by rustls.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::PostgresSourceError;

/// Asks for TLS and sets it up; `name` is what the leader's certificate has to be for.
pub(super) async fn secure(
    mut stream: TcpStream,
    name: &str,
    certificates: Option<&Path>,
) -> Result<TlsStream<TcpStream>, PostgresSourceError> {
    let failed = |what: String| PostgresSourceError::Tls(what);
    let server = ServerName::try_from(name.to_owned()).map_err(|e| failed(format!("{name}: {e}")))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(e.to_string()))?
        .with_root_certificates(roots(certificates).map_err(failed)?)
        .with_no_client_auth();
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let unasked = |e: std::io::Error| failed(e.to_string());
    stream.write_all(&request).await.map_err(unasked)?;
    // One byte and no more: what somebody on the way puts behind it must not count as said by the leader.
    if stream.read_u8().await.map_err(unasked)? != b'S' {
        return Err(failed("the leader has it switched off".to_owned()));
    }
    TlsConnector::from(Arc::new(config)).connect(server, stream).await.map_err(unasked)
}

/// The certificates that vouch for the leader.
fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match file {
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            read.map_err(|e| format!("{}: {e}", path.display()))?
        }
        // Some of a platform's many may be unreadable; those that are left decide.
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        Err("no certificate that could vouch for the leader".to_owned())
    } else {
        Ok(roots)
    }
}
