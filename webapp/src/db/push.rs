//! What the replicator pushes: a stream of watermarks (`GET /v1/events`), so that a read that waits for its write wakes when
//! the write arrives, and the router knows where each replica stands without asking.
//!
//! A hint and nothing more: the check that counts is made with each read, on its own connection. While nothing is heard,
//! the monitors look more often as long as somebody waits.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Database;
use super::lsn::Lsn;

/// The pause before the next attempt to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest that listening may take to begin.
const CONNECT: Duration = Duration::from_secs(1);

/// The replicator gives a sign of life every second; one that gives none for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(3);

/// The longest line of the stream. An event has a few hundred bytes; a transaction of many tables some thousand.
const MAX_LINE: usize = 256 * 1024;

/// What an event about a watermark says, as far as it is needed here.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Watermark {
    replica: String,
    state: String,
    watermark: Option<String>,
    xid: Option<u32>,
}

/// Listens to the replicator at `url` until `shutdown`, and begins again whenever that ends. What is not about a watermark
/// goes to `other`: the event's name and its data.
pub async fn listen(
    database: Arc<Database>,
    other: impl Fn(&str, &str) + Send + Sync,
    url: String,
    shutdown: CancellationToken,
) {
    // Only its defaults can fail to be built, and those are plain HTTP without a proxy.
    let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build().unwrap_or_default();
    let mut was_heard = true;
    while !shutdown.is_cancelled() {
        let heard = tokio::select! {
            () = shutdown.cancelled() => return,
            heard = hear(&database, &other, &http, &url) => heard,
        };
        database.replicas().silence();
        // An outage is logged when it begins, not at every attempt.
        let was_up = heard.is_ok();
        if was_up || was_heard {
            let why = heard.err().unwrap_or_else(|| "the stream ended".to_owned());
            tracing::info!(url, why, "the replicator pushes nothing; replicas are asked instead");
        }
        was_heard = was_up;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Listens once; `Err` when nothing was heard at all.
async fn hear(
    database: &Database,
    other: &(impl Fn(&str, &str) + Send + Sync),
    http: &reqwest::Client,
    url: &str,
) -> Result<(), String> {
    let asked = tokio::time::timeout(SILENCE, http.get(url).send()).await;
    let answer = asked.map_err(|_| "no answer".to_owned())?.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(|error| super::error::reason(&error))?;
    tracing::info!(url, "listening to the replicator");
    let mut lines = Lines::default();
    let mut event = String::new();
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(SILENCE, answer.chunk()).await {
        lines.push(&chunk);
        while let Some(line) = lines.next() {
            match line.split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut event),
                Some(("data", data)) if event == "watermark" => note(database, data),
                Some(("data", data)) => other(&event, data),
                _ => {}
            }
        }
        if lines.rest.len() > MAX_LINE {
            return Ok(());
        }
    }
    Ok(())
}

fn note(database: &Database, data: &str) {
    let Ok(watermark) = serde_json::from_str::<Watermark>(data) else { return };
    let set = database.replicas();
    let Some(replica) = set.find(&watermark.replica) else { return };
    let position = watermark.watermark.as_deref().and_then(|text| text.parse::<Lsn>().ok());
    // Of a replica that another daemon feeds, or that is halted, this one does not know where it stands.
    replica.hint(position.filter(|_| watermark.state == "live"), watermark.xid);
}

/// Cuts what comes into lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
    }

    fn next(&mut self) -> Option<String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.rest.drain(..=end).collect();
        Some(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_chunks_are_cut() {
        let stream = "event: watermark\ndata: {\"replica\":\"é\"}\n\n: \n".as_bytes();
        for cut in 0..stream.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                lines.push(part);
                while let Some(line) = lines.next() {
                    found.push(line);
                }
            }
            assert_eq!(found, ["event: watermark", "data: {\"replica\":\"é\"}", "", ": "], "{cut}");
        }
    }

    #[test]
    fn an_event_is_read_as_the_replicator_writes_it() {
        let text = r#"{"replica":"replica-1","state":"live","watermark":"0/3E8","xid":7,"applied_at_ms":5,"lag_ms":1}"#;
        let watermark: Watermark = serde_json::from_str(text).unwrap();
        assert_eq!((watermark.replica.as_str(), watermark.xid), ("replica-1", Some(7)));
        let unknown =
            r#"{"replica":"r","state":"starting","watermark":null,"xid":null,"applied_at_ms":null}"#;
        assert_eq!(serde_json::from_str::<Watermark>(unknown).unwrap().watermark, None);
    }
}
