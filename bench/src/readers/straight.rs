//! The same statements straight on one replica, by pgbench.

use std::time::Duration;

use anyhow::Context;

use crate::pgbench::{self, Figures};
use crate::process;
use crate::stats::Percentiles;
use crate::system::System;

/// The replica that is asked.
const REPLICA: usize = 1;

/// Of the transactions, so many are logged: a log of all would cost the generator time.
const LOGGED: f64 = 0.2;

/// What pgbench repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// The statement of a post alone.
    Row,
    /// The statement of a post with its comments and likes.
    Post,
    /// The statement of a list.
    List,
    /// The statement of the demo's reads.
    Demo,
    /// Its own: one column of one row by its key, as the text of a statement each time (`pgbench -S`).
    SelectOnly,
    /// The same, prepared.
    SelectPrepared,
}

impl Script {
    fn arguments(self) -> Vec<String> {
        let file = |name: &str| {
            let path = e2e::repository().join("bench/sql").join(name);
            vec![format!("--file={}", path.display())]
        };
        match self {
            Self::Row => file("row.sql"),
            Self::Post => file("post.sql"),
            Self::List => file("list.sql"),
            Self::Demo => file("demo.sql"),
            Self::SelectOnly | Self::SelectPrepared => vec!["--select-only".to_owned()],
        }
    }

    fn protocol(self) -> &'static str {
        if self == Self::SelectOnly { "--protocol=simple" } else { "--protocol=prepared" }
    }
}

/// Makes pgbench's own accounts on the replica.
pub(crate) async fn prepare(system: &System) -> anyhow::Result<()> {
    let mut pgbench = system.client_program("pgbench", REPLICA)?;
    pgbench.env("PGOPTIONS", "-c default_transaction_read_only=off").args([
        "--initialize",
        "--quiet",
        "--scale=1",
    ]);
    process::output(pgbench).await.context("fill pgbench's tables")?;
    Ok(())
}

/// Repeats a statement on `connections` connections for so long.
pub(crate) async fn for_time(
    system: &System,
    script: Script,
    posts: u64,
    connections: u64,
    time: Duration,
) -> anyhow::Result<(Figures, Percentiles)> {
    let limit = format!("--time={}", time.as_secs());
    run(system, script, posts, &[format!("--client={connections}"), limit], LOGGED).await
}

/// Repeats a statement so many times on one connection.
pub(crate) async fn times(
    system: &System,
    script: Script,
    times: u64,
) -> anyhow::Result<(Figures, Percentiles)> {
    run(system, script, 1, &[format!("--transactions={times}")], 1.0).await
}

async fn run(
    system: &System,
    script: Script,
    posts: u64,
    limits: &[String],
    logged: f64,
) -> anyhow::Result<(Figures, Percentiles)> {
    let mut pgbench = system.client_program("pgbench", REPLICA)?;
    pgbench
        .args(["--no-vacuum", script.protocol(), &format!("--define=posts={posts}")])
        .args(limits)
        .args(script.arguments());
    let folder = system.state_file("pgbench-log");
    pgbench::logged(pgbench, &folder, logged).await.with_context(|| format!("run pgbench: {script:?}"))
}

#[cfg(test)]
mod tests {
    use webapp::db::queries::demo::WhoAnswers;
    use webapp::db::queries::posts::{NewestPosts, PostById, StoredPost};
    use webapp::db::statement::Read;

    /// The words of a statement, without what pgbench wants around them.
    fn words(script: &str) -> String {
        let statement = script.lines().filter(|line| !line.starts_with('\\') && !line.starts_with("--"));
        let text = statement.collect::<Vec<_>>().join(" ");
        text.trim().trim_end_matches(';').split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pgbench_asks_what_the_web_application_asks() {
        let id = "('00000000-0000-4000-8000-' || lpad(to_hex(:n::int), 12, '0'))::uuid";
        let (row, post) = (StoredPost::SQL.replace("$1", id), PostById::SQL.replace("$1", id));
        assert_eq!(words(include_str!("../../sql/row.sql")), words(&row), "a post alone");
        assert_eq!(words(include_str!("../../sql/post.sql")), words(&post), "a post");
        // The first page, and one more row than it shows.
        let first = NewestPosts::SQL.replace("$1", "NULL").replace("$2", "NULL").replace("$3", "21");
        assert_eq!(words(include_str!("../../sql/list.sql")), words(&first), "the list");
        assert_eq!(words(include_str!("../../sql/demo.sql")), words(WhoAnswers::SQL), "the demo's read");
    }
}
