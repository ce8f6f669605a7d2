//! HTTP/1.1 with one connection that is kept, by hand: a full client would take more of the two cores than what is measured.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer heads than this are of no answer that is expected here.
const LONGEST_HEAD: usize = 16 * 1024;

/// A connection that asks one question at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects to a server on this machine.
    pub(crate) async fn open(port: u16) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).await.context("connect to the web application")?;
        stream.set_nodelay(true).context("send without delay")?;
        // Room for any answer from the start: it comes with one system call.
        Ok(Self { stream, request: Vec::new(), answer: Vec::with_capacity(4 * LONGEST_HEAD) })
    }

    /// Asks for `path`. An error unless the answer's status is 200.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Answer<'_>> {
        self.request.clear();
        for part in ["GET ", path, " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"] {
            self.request.extend_from_slice(part.as_bytes());
        }
        self.stream.write_all(&self.request).await.context("send a request")?;
        self.answer.clear();
        let head = loop {
            self.read().await?;
            if let Some(head) = Head::of(&self.answer)? {
                break head;
            }
            ensure!(self.answer.len() <= LONGEST_HEAD, "{path}: the answer has no end of its head");
        };
        while self.answer.len() < head.length + head.body {
            self.read().await?;
        }
        let body = &self.answer[head.length..];
        ensure!(head.status == 200, "{path}: status {}: {}", head.status, String::from_utf8_lossy(body));
        Ok(Answer { body, by_replica: head.by_replica })
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.answer).await.context("read an answer")?;
        ensure!(read > 0, "the web application has closed the connection");
        Ok(())
    }
}

/// An answer, as long as nothing else is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) body: &'a [u8],
    /// `X-Served-By` names a replica.
    pub(crate) by_replica: bool,
}

/// What has to be known of an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes, with the empty line at the end.
    length: usize,
    /// Bytes of the body.
    body: usize,
    by_replica: bool,
}

impl Head {
    /// `None` as long as its end has not come.
    fn of(answer: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&answer[..end]).context("read the head of an answer")?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let (mut body, mut by_replica) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("x-served-by") {
                by_replica = value.trim().starts_with("replica-");
            } else if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
                bail!("the web application does not keep its connections");
            }
        }
        let status = status.with_context(|| format!("read the status of {first:?}"))?;
        let body = body.context("an answer without content-length")?;
        Ok(Some(Self { status, length: end + 4, body, by_replica }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length:  5\r\nx: y\r\n\r\nhello";
        let head = Head { status: 200, length: answer.len() - 5, body: 5, by_replica: false };
        assert_eq!(Head::of(answer).unwrap(), Some(head));
        assert_eq!(Head::of(&answer[..answer.len() - 6]).unwrap(), None);
    }

    #[test]
    fn a_head_tells_whether_a_replica_answered() {
        for (by, expected) in [("replica-2", true), ("leader", false)] {
            let answer = format!("HTTP/1.1 200 OK\r\nX-Served-By: {by}\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(Head::of(answer.as_bytes()).unwrap().unwrap().by_replica, expected, "{by}");
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_an_error() {
        for head in
            ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"]
        {
            assert!(Head::of(head.as_bytes()).is_err(), "{head:?}");
        }
    }

    #[tokio::test]
    async fn answers_come_in_pieces_and_one_connection_serves_them_all() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            for answer in [
                &["HTTP/1.1 200 OK\r\ncontent-", "length: 4\r\n\r", "\nab", "cd"][..],
                &["HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\nlater"],
            ] {
                assert!(stream.read(&mut request).await.unwrap() > 0);
                for piece in answer {
                    stream.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut connection = Connection::open(port).await.unwrap();
        assert_eq!(connection.get("/a").await.unwrap().body, b"abcd");
        let refused = connection.get("/b").await.unwrap_err().to_string();
        assert!(refused.contains("503") && refused.contains("later"), "{refused}");
        server.await.unwrap();
    }
}
