//! Requests one after the other on each of some connections, from one thread, as pgbench makes its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::random::Random;
use tokio::task::JoinSet;

use super::http::Connection;
use crate::stats::Percentiles;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question {
    /// One post of so many, any of them: its row alone.
    Row {
        /// How many there are.
        posts: u64,
    },
    /// The same with its comments and likes.
    Post {
        /// How many there are.
        posts: u64,
    },
    /// The newest 20 posts.
    List,
}

impl Question {
    fn path(self, random: &mut Random) -> String {
        match self {
            // As `sql/posts.sql` numbers them.
            Self::Row { posts } => {
                format!("/api/posts/00000000-0000-4000-8000-{:012x}/row", random.between(1, posts))
            }
            Self::Post { posts } => {
                format!("/api/posts/00000000-0000-4000-8000-{:012x}", random.between(1, posts))
            }
            Self::List => "/api/posts".to_owned(),
        }
    }

    /// Whether this is an answer to it: the post that was asked for, or a list.
    fn is_answered_by(self, path: &str, body: &[u8]) -> bool {
        let (start, mark) = match self {
            Self::Row { .. } | Self::Post { .. } => ("{\"id\":\"", path.split('/').nth(3)),
            Self::List => ("{", Some("\"posts\":[")),
        };
        let rest = body.strip_prefix(start.as_bytes()).zip(mark);
        rest.is_some_and(|(rest, mark)| match self {
            Self::List => rest.windows(mark.len()).any(|part| part == mark.as_bytes()),
            _ => rest.starts_with(mark.as_bytes()),
        })
    }
}

/// When it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After so long.
    Time(Duration),
    /// After so many requests on all connections together.
    Requests(i64),
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    /// In milliseconds.
    pub(crate) latency: Percentiles,
}

/// Makes requests on `connections` connections. Every answer has to be one; the first other one is an error.
pub(crate) async fn run(
    port: u16,
    question: Question,
    connections: u64,
    until: Until,
) -> anyhow::Result<Load> {
    // A runtime of one thread: no request wakes another thread, as none of pgbench's does.
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(on_this_thread(port, question, connections, until))
    };
    tokio::task::spawn_blocking(work).await?
}

async fn on_this_thread(
    port: u16,
    question: Question,
    connections: u64,
    until: Until,
) -> anyhow::Result<Load> {
    let mut ready = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(port).await?;
        connection.get("/livez").await?;
        ready.push(connection);
    }
    let (limit, left) = match until {
        Until::Time(limit) => (limit, i64::MAX),
        Until::Requests(requests) => (Duration::MAX, requests),
    };
    let left = Arc::new(AtomicI64::new(left));
    let started = Instant::now();
    let mut running = JoinSet::new();
    for (part, mut connection) in (0..).zip(ready) {
        let left = Arc::clone(&left);
        let mut random = Random::part(1, part);
        running.spawn(async move {
            let mut took = Vec::new();
            while left.fetch_sub(1, Ordering::Relaxed) > 0 && started.elapsed() < limit {
                let path = question.path(&mut random);
                let asked = Instant::now();
                let answer = connection.get(&path).await?;
                ensure!(answer.by_replica, "{path}: not answered by a replica");
                ensure!(question.is_answered_by(&path, answer.body), "{path}: answered with something else");
                took.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(ended) = running.join_next().await {
        took.extend(ended??);
    }
    let seconds = started.elapsed().as_secs_f64();
    let latency = Percentiles::of(took).context("make a request")?;
    #[expect(clippy::cast_precision_loss, reason = "requests of a benchmark stay far below 2^53")]
    let requests = latency.count as f64;
    Ok(Load { requests, seconds, latency })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_post_has_an_address_of_its_number() {
        let mut random = Random::new(1);
        let last = Question::Post { posts: 1 }.path(&mut random);
        assert_eq!(last, "/api/posts/00000000-0000-4000-8000-000000000001");
        assert_eq!(Question::Row { posts: 1 }.path(&mut random), format!("{last}/row"));
        assert_eq!(Question::List.path(&mut random), "/api/posts");
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let row = Question::Row { posts: 2 };
        let body = br#"{"id":"00000000-0000-4000-8000-000000000001","user_id":"ada"}"#;
        let path = |number| format!("/api/posts/00000000-0000-4000-8000-00000000000{number}/row");
        assert!(row.is_answered_by(&path(1), body));
        assert!(!row.is_answered_by(&path(2), body));
        assert!(!row.is_answered_by(&path(1), b"{}"));
        assert!(Question::List.is_answered_by("/api/posts", br#"{"next":null,"posts":[]}"#));
        assert!(!Question::List.is_answered_by("/api/posts", body));
    }
}
