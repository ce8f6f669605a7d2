//! A TCP proxy inside the test that can take the network away.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What the proxy does with the bytes it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Working,
    /// Connections stay open and nothing passes, as with a cable pulled out.
    Frozen,
    /// Connections are closed, new ones at once after they were accepted.
    Cut,
}

/// Forwards connections from a port of its own to an upstream address until told otherwise. Dropping it closes all.
#[derive(Debug)]
pub struct ChaosProxy {
    port: u16,
    network: watch::Sender<Network>,
    acceptor: JoinHandle<()>,
}

impl ChaosProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `127.0.0.1:upstream`.
    pub async fn start(upstream: u16) -> anyhow::Result<Self> {
        Self::start_with(upstream, |_| None).await
    }

    /// The same in front of a Kafka broker. Clients connect to the address that the broker tells them, so the proxy puts
    /// its own port in the place of the broker's.
    pub async fn start_for_broker(upstream: u16) -> anyhow::Result<Self> {
        Self::start_with(upstream, |port| Some(Swap::of_ports(upstream, port))).await
    }

    async fn start_with(upstream: u16, swap: impl FnOnce(u16) -> Option<Swap>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for the proxy")?;
        let port = listener.local_addr().context("read the proxy's port")?.port();
        let (network, state) = watch::channel(Network::Working);
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
        let acceptor = tokio::spawn(accept(listener, upstream, swap(port), state));
        Ok(Self { port, network, acceptor })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection and each new one.
    pub fn cut(&self) {
        self.network.send_replace(Network::Cut);
    }

    /// Stops all bytes; connections stay open.
    pub fn pause(&self) {
        self.network.send_replace(Network::Frozen);
    }

    /// Ends [`ChaosProxy::cut`] and [`ChaosProxy::pause`]; bytes held back by a pause are delivered.
    pub fn restore(&self) {
        self.network.send_replace(Network::Working);
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        // The connections are in a set that the acceptor owns, so they end with it.
        self.acceptor.abort();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    swap: Option<Swap>,
    state: watch::Receiver<Network>,
) {
    let mut connections = JoinSet::new();
    // An error of accept is one connection's; the listener stays.
    loop {
        if let Ok((downstream, _)) = listener.accept().await {
            connections.spawn(forward(downstream, upstream, swap.clone(), state.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    downstream: TcpStream,
    upstream: SocketAddr,
    swap: Option<Swap>,
    mut state: watch::Receiver<Network>,
) {
    if *state.borrow() == Network::Cut {
        return;
    }
    let Ok(upstream) = TcpStream::connect(upstream).await else { return };
    // Small packets must not wait for each other, or the proxy would add latency of its own.
    if downstream.set_nodelay(true).and_then(|()| upstream.set_nodelay(true)).is_err() {
        return;
    }
    let (down_read, down_write) = downstream.into_split();
    let (up_read, up_write) = upstream.into_split();
    let upwards = pump(down_read, up_write, None, state.clone());
    let downwards = pump(up_read, down_write, swap, state.clone());
    // Whichever way this ends, all halves are dropped, and both ends see the connection closed.
    tokio::select! {
        _ = state.wait_for(|network| *network == Network::Cut) => {}
        _ = async { tokio::join!(upwards, downwards) } => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    swap: Option<Swap>,
    mut state: watch::Receiver<Network>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || state.wait_for(|network| *network == Network::Working).await.is_err() {
            break;
        }
        if let Some(swap) = &swap {
            swap.apply(&mut buffer[..length]);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    // Passes the end of one direction on, so that a half-closed connection stays one.
    to.shutdown().await.ok();
}

/// Puts a broker's address into the place of another. A broker sends its addresses in one small write, which arrives as
/// one piece; were it cut, the client would connect past the proxy, and a fault would pass it by.
#[derive(Debug, Clone)]
struct Swap {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Swap {
    /// An address as Kafka's protocol writes it: the host's bytes, then the port in four.
    fn of_ports(from: u16, to: u16) -> Self {
        let address = |port: u16| [b"127.0.0.1".as_slice(), &u32::from(port).to_be_bytes()].concat();
        Self { from: address(from), to: address(to) }
    }

    fn apply(&self, bytes: &mut [u8]) {
        let mut start = 0;
        while let Some(found) = bytes[start..].windows(self.from.len()).position(|window| window == self.from)
        {
            let end = start + found + self.from.len();
            bytes[start + found..end].copy_from_slice(&self.to);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_changes_the_brokers_address_and_nothing_else() {
        let mut bytes = *b"x127.0.0.1\0\0\x04\xd2y127.0.0.1\0\0\x04\xd3127127.0.0.1\0\0\x04\xd2";
        Swap::of_ports(1234, 4321).apply(&mut bytes);
        assert_eq!(&bytes, b"x127.0.0.1\0\0\x10\xe1y127.0.0.1\0\0\x04\xd3127127.0.0.1\0\0\x10\xe1");
    }
}
