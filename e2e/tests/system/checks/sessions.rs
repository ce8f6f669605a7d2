//! Callers with tokens never miss their own write and never travel back, while replicas are stopped, killed and rebuilt; and
//! without tokens the same load sees both, so the check can fail.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::random::Random;
use serde_json::json;

use super::{command_line, web};
use crate::settings::{self, Source};
use crate::system::{REPLICAS, System};

const WRITERS: u64 = 8;
const READERS: u64 = 8;

/// Reads of a writer after each of its writes.
const READS_AFTER_WRITE: usize = 3;

/// How long a replica is away, and how long it is left alone after it is back.
const AWAY: Duration = Duration::from_secs(2);

/// From how long a run on, the share that the replicas answer is judged: a short one is mostly faults.
const JUDGED_FROM: Duration = Duration::from_secs(60);

pub(super) async fn keep_their_promise(system: Rc<System>) -> anyhow::Result<()> {
    let seconds: u64 = settings::number("E2E_CONSISTENCY_SECONDS", 20)?;
    let duration = Duration::from_secs(seconds);
    let seed = settings::seed()?;
    let posts = make_posts(&system).await?;

    let without = run(&system, &posts, seed, duration.min(Duration::from_secs(10)), false).await?;
    println!("  without tokens: {}", without.describe());
    ensure!(
        without.stale + without.back > 0,
        "nothing stale was read without tokens: this load proves nothing"
    );

    let by_xid = counter(&system, "web_reads_met_by_xid_total").await?;
    let (with, faults) =
        tokio::join!(run(&system, &posts, seed, duration, true), attack(&system, seed, duration));
    let (with, faults) = (with?, faults?);
    let by_xid = counter(&system, "web_reads_met_by_xid_total").await? - by_xid;
    println!("  with tokens, {faults} faults: {}", with.describe());
    println!("  {by_xid} of them by a replica that was known to have the write by its xid only");
    ensure!(with.stale == 0, "{} reads missed the caller's own write", with.stale);
    ensure!(with.back == 0, "{} reads showed an older state than before", with.back);
    ensure!(with.refused * 1000 <= with.checked, "{} requests were refused", with.refused);
    if system.source() == Source::Direct && duration >= JUDGED_FROM {
        ensure!(with.by_replica * 100 >= with.checked * 95, "the leader answered more than 5 % of the reads");
    }
    system.assert_equal().await.map(drop)
}

async fn make_posts(system: &System) -> anyhow::Result<Vec<String>> {
    let mut posts = Vec::new();
    for writer in 0..WRITERS {
        let body = json!({ "user_id": format!("writer-{writer}"), "content": "first" });
        let (status, body) = web::send(system, "POST", "/api/posts", &body).await?;
        ensure!(status == 201, "POST /api/posts answered {status}: {body}");
        posts.push(body["id"].as_str().context("find the id of the post")?.to_owned());
    }
    system.await_replicas().await?;
    Ok(posts)
}

/// All callers at once, for so long.
async fn run(
    system: &System,
    posts: &[String],
    seed: u64,
    duration: Duration,
    with_tokens: bool,
) -> anyhow::Result<Seen> {
    let until = Instant::now() + duration;
    let caller = |number: u64| -> anyhow::Result<Caller> {
        Ok(Caller {
            http: system.http().clone(),
            base: system.http_url("webapp", "/api/posts")?,
            with_tokens,
            token: None,
            versions: HashMap::new(),
            random: Random::part(seed, number),
            seen: Seen::default(),
        })
    };
    let mut callers = Vec::new();
    for (number, post) in (0..).zip(posts) {
        callers.push(tokio::spawn(caller(number)?.write(post.clone(), until)));
    }
    for number in 0..READERS {
        callers.push(tokio::spawn(caller(WRITERS + number)?.look(posts.to_vec(), until)));
    }
    let mut all = Seen::default();
    for caller in callers {
        all.add(caller.await.context("join a caller")??);
    }
    Ok(all)
}

/// Somebody who writes or reads over HTTP, one request after the other.
struct Caller {
    http: reqwest::Client,
    base: String,
    with_tokens: bool,
    token: Option<String>,
    /// The highest version of each post that this caller wrote or was shown.
    versions: HashMap<String, Known>,
    random: Random,
    seen: Seen,
}

#[derive(Clone, Copy, Default)]
struct Known {
    written: i64,
    shown: i64,
}

impl Caller {
    async fn write(mut self, post: String, until: Instant) -> anyhow::Result<Seen> {
        while Instant::now() < until {
            let body = json!({ "content": format!("number {}", self.random.below(1_000_000)) });
            let request = self.http.put(format!("{}/{post}", self.base)).json(&body);
            // A write of unknown outcome may have raised the version; it was not promised.
            if let Some((_, version)) = self.send(request).await? {
                self.seen.writes += 1;
                self.versions.entry(post.clone()).or_default().written = version;
            }
            for _ in 0..READS_AFTER_WRITE {
                self.read(&post).await?;
            }
        }
        Ok(self.seen)
    }

    async fn look(mut self, posts: Vec<String>, until: Instant) -> anyhow::Result<Seen> {
        while Instant::now() < until {
            let post = self.random.pick(&posts).clone();
            self.read(&post).await?;
        }
        Ok(self.seen)
    }

    async fn read(&mut self, post: &str) -> anyhow::Result<()> {
        let Some((served, version)) = self.send(self.http.get(format!("{}/{post}", self.base))).await? else {
            return Ok(());
        };
        let known = self.versions.entry(post.to_owned()).or_default();
        self.seen.checked += 1;
        self.seen.stale += u64::from(version < known.written);
        self.seen.back += u64::from(version < known.shown);
        known.shown = known.shown.max(version);
        self.seen.by_replica += u64::from(served.by_replica);
        self.seen.waits.push(served.waited_us);
        Ok(())
    }

    /// Who answered, and the post's version; none when the answer was 503.
    async fn send(&mut self, request: reqwest::RequestBuilder) -> anyhow::Result<Option<(Served, i64)>> {
        let request = match &self.token {
            Some(token) => request.header("x-consistency-token", token),
            None => request,
        };
        let response = request.send().await.context("send a request")?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let served = Served::of(&header("x-served-by"), &header("server-timing"));
        let token = header("x-consistency-token");
        if response.status() == 503 {
            self.seen.refused += 1;
            return Ok(None);
        }
        ensure!(response.status() == 200, "a request was answered with {}", response.status());
        if self.with_tokens {
            ensure!(!token.is_empty(), "an answer without a token");
            self.token = Some(token);
        }
        let body: serde_json::Value = response.json().await.context("read the post")?;
        Ok(Some((served, body["version"].as_i64().context("find the version")?)))
    }
}

struct Served {
    by_replica: bool,
    waited_us: u32,
}

impl Served {
    fn of(by: &str, timing: &str) -> Self {
        let wait = timing.split(", ").find_map(|entry| entry.strip_prefix("wait;dur="));
        let wait = wait.and_then(|millis| millis.parse::<f64>().ok()).unwrap_or_default();
        Self {
            by_replica: by.starts_with("replica"),
            waited_us: Duration::from_secs_f64(wait / 1000.0).as_micros().try_into().unwrap_or(u32::MAX),
        }
    }
}

/// What callers saw.
#[derive(Default)]
struct Seen {
    writes: u64,
    checked: u64,
    stale: u64,
    back: u64,
    by_replica: u64,
    refused: u64,
    /// How long each read waited for a replica, in microseconds.
    waits: Vec<u32>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.checked += other.checked;
        self.stale += other.stale;
        self.back += other.back;
        self.by_replica += other.by_replica;
        self.refused += other.refused;
        self.waits.extend(other.waits);
    }

    fn describe(&self) -> String {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let at = |percent: usize| {
            let rank = (waits.len() * percent).div_ceil(100).saturating_sub(1);
            Duration::from_micros(waits.get(rank).copied().unwrap_or_default().into())
        };
        let waited = waits.iter().filter(|wait| **wait > 0).count();
        format!(
            "{} writes, {} reads checked, {} stale, {} steps back; {:.2} % by replicas, {} refused; {waited} waited, \
             added wait p50 {:.1?}, p95 {:.1?}, p99 {:.1?}, most {:.1?}",
            self.writes,
            self.checked,
            self.stale,
            self.back,
            percent(self.by_replica, self.checked),
            self.refused,
            at(50),
            at(95),
            at(99),
            at(100),
        )
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    let of = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    of(part) * 100.0 / of(whole.max(1))
}

/// Stops, kills and rebuilds one replica after the other; returns how often.
async fn attack(system: &System, seed: u64, duration: Duration) -> anyhow::Result<usize> {
    let until = Instant::now() + duration;
    let mut random = Random::part(seed, WRITERS + READERS);
    let mut faults = 0;
    // The last one is healed before the callers stop, so that what comes after a fault is read, too.
    while Instant::now() + AWAY * 3 < until {
        let replica = *random.pick(&REPLICAS);
        match faults % 3 {
            0 => system.service("stop", replica).await?,
            1 => system.service("kill", replica).await?,
            _ => rebuild(system, replica).await?,
        }
        faults += 1;
        if faults % 3 != 0 {
            tokio::time::sleep(AWAY).await;
            system.service("start", replica).await?;
        }
        tokio::time::sleep(AWAY).await;
    }
    Ok(faults)
}

async fn rebuild(system: &System, replica: &str) -> anyhow::Result<()> {
    let mut command = command_line::command(system)?;
    command.args(["rebuild", replica, "--wait"]);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await?.context("run the replicator")?;
    ensure!(output.status.success(), "rebuild {replica}: {output:?}");
    Ok(())
}

/// A counter of the webapp; 0 when it was never raised.
async fn counter(system: &System, name: &str) -> anyhow::Result<u64> {
    let text = system.http().get(system.http_url("webapp", "/metrics")?).send().await?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    value.map_or(Ok(0), |value| value.parse().with_context(|| format!("read {name}: {value}")))
}
