//! The way to a host of the leader's url.

use std::io;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::error::PostgresSourceError;
use super::tls;
use super::wire::Transport;

/// PostgreSQL's own, when the url has none.
const DEFAULT_PORT: u16 = 5432;

/// A vanished leader is noticed within half a minute, as on the other connections of this program; the kernel's default is
/// two hours. The url's own times win where they are shorter.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The port of the url's host at this place: one for all, or one for each.
pub(super) fn port(config: &Config, index: usize) -> u16 {
    let ports = config.get_ports();
    ports.get(index).or_else(|| ports.first()).copied().unwrap_or(DEFAULT_PORT)
}

/// The host as messages call it.
pub(super) fn address(host: &Host, port: u16) -> String {
    match host {
        Host::Tcp(name) => format!("{name}:{port}"),
        Host::Unix(folder) => socket_file(folder, port),
    }
}

fn socket_file(folder: &Path, port: u16) -> String {
    folder.join(format!(".s.PGSQL.{port}")).display().to_string()
}

/// Connects to one host, and secures the way if the url asks for it.
pub(super) async fn connect(
    config: &Config,
    index: usize,
    host: &Host,
    port: u16,
    certificates: Option<&Path>,
) -> Result<Box<dyn Transport>, PostgresSourceError> {
    let failed = |error: io::Error| PostgresSourceError::Unreachable {
        address: address(host, port),
        reason: error.to_string(),
    };
    match host {
        Host::Unix(folder) => {
            let socket =
                UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await.map_err(failed)?;
            Ok(Box::new(socket))
        }
        Host::Tcp(name) => {
            // An address in the url spares the look-up; the name is then for certificates only.
            let stream = match config.get_hostaddrs().get(index) {
                Some(address) => TcpStream::connect((*address, port)).await,
                None => TcpStream::connect((name.as_str(), port)).await,
            };
            let stream = stream.map_err(failed)?;
            prepare(&stream, config).map_err(failed)?;
            if config.get_ssl_mode() == SslMode::Require {
                return Ok(Box::new(tls::secure(stream, name, certificates).await?));
            }
            Ok(Box::new(stream))
        }
    }
}

fn prepare(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let timeout = config.get_tcp_user_timeout().copied().unwrap_or(USER_TIMEOUT).min(USER_TIMEOUT);
    socket.set_tcp_user_timeout(Some(timeout))?;
    if config.get_keepalives() {
        let interval = config.get_keepalives_interval().unwrap_or(KEEPALIVE_INTERVAL).min(KEEPALIVE_INTERVAL);
        let keepalive = TcpKeepalive::new()
            .with_time(config.get_keepalives_idle().min(KEEPALIVE_IDLE))
            .with_interval(interval)
            .with_retries(config.get_keepalives_retries().unwrap_or(KEEPALIVE_RETRIES));
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}
