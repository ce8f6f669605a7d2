//! The first page: what this is, how it all is, and what to try.

mod topology;

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::error::AppError;
use crate::handlers::status::Row;
use crate::model::status::{Level, Sample, Seen, words};
use crate::page::{Chrome, page};
use crate::state::AppState;
use crate::visit::Visit;
use topology::{BOX_HEIGHT, Flow, Part, Topology};

#[derive(Template)]
#[template(path = "home/show.html")]
struct HomePage {
    chrome: Chrome,
    replicas: usize,
    has_broker: bool,
    live: String,
}

/// The part of the page that changes.
#[derive(Template)]
#[template(path = "home/_live.html")]
struct Live {
    sample: Arc<Sample>,
    pictures: [(&'static str, Topology); 2],
    steps: Vec<(bool, String)>,
    figures: Vec<(&'static str, String)>,
}

/// `GET /`
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub async fn show(State(state): State<AppState>, visit: Visit) -> Result<Response, AppError> {
    let sample = state.sampler().latest();
    let template = HomePage {
        chrome: Chrome::new("home", &visit),
        replicas: sample.replicas.len(),
        has_broker: has_broker(&sample),
        live: live(sample)?,
    };
    Ok(page(StatusCode::OK, &template))
}

fn has_broker(sample: &Sample) -> bool {
    sample.connector.is_some() || sample.broker.is_some()
}

/// The part of the first page that changes, as HTML.
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub fn live(sample: Arc<Sample>) -> askama::Result<String> {
    let (chain, replicas) = (chain(&sample), branches(&sample));
    let pictures = [("wide", topology::wide(&chain, &replicas)), ("tall", topology::tall(&chain, &replicas))];
    let steps = if sample.has_begun() { vec![] } else { first_steps(&sample) };
    Live { pictures, steps, figures: figures(&sample), sample }.render()
}

/// The leader and all that is between it and the replicas.
fn chain(sample: &Sample) -> Vec<(Part, Flow)> {
    let rate = sample.leader_rate;
    let moves = rate.is_some_and(|rate| rate >= 0.05);
    let flow = || Flow {
        words: rate.map_or_else(|| "—".to_owned(), |rate| format!("{} /s", words::rate(rate))),
        moves,
    };
    let leader = match (&sample.leader.failure, sample.leader.now()) {
        (Some(_), _) => part("Leader", "Down", Level::Error),
        (None, Some(_)) => part("Leader", "Takes all writes", Level::Ok),
        (None, None) => part("Leader", "Not seen yet", Level::Init),
    };
    let mut chain = vec![(leader, flow())];
    if sample.connector.is_some() {
        let level = level_of(sample, "connector");
        let words = if level == Level::Ok { "Reads its log" } else { "Look at the status" };
        chain.push((part("Debezium", words, level), flow()));
    }
    if let Some(seen) = &sample.broker {
        chain.push((seen_part("Broker", "Carries changes", seen), flow()));
    }
    let replicator = sample.replicator.as_ref();
    let replicator = replicator.map_or_else(
        || part("Replicator", "Not watched", Level::Unknown),
        |seen| seen_part("Replicator", "Applies changes", seen),
    );
    chain.push((replicator, flow()));
    chain
}

fn seen_part<T>(name: &str, words: &str, seen: &Seen<T>) -> Part {
    match (&seen.failure, seen.last()) {
        (Some(_), _) => part(name, "Does not answer", Level::Error),
        (None, Some(_)) => part(name, words, Level::Ok),
        (None, None) => part(name, "Not seen yet", Level::Init),
    }
}

fn part(name: &str, words: &str, level: Level) -> Part {
    Part {
        name: name.to_owned(),
        words: words.to_owned(),
        level: level.label(),
        mark: level.mark(),
        href: "/status".to_owned(),
    }
}

fn level_of(sample: &Sample, slug: &str) -> Level {
    sample.checks.iter().find(|check| check.slug == slug).map_or(Level::Init, |check| check.level)
}

/// The replicas, with how long the newest change took to each.
fn branches(sample: &Sample) -> Vec<(Part, Flow)> {
    let branch = |row: Row| {
        let (level, state) = row.0.state();
        let part =
            Part { href: format!("/status/replicas/{}", row.0.name), ..part(&row.0.name, state, level) };
        let moves = level == Level::Ok && row.0.rate.is_some_and(|rate| rate >= 0.05);
        // What was known of one that does not answer is not so now, and its box says the rest.
        let behind = row.0.behind.filter(|behind| row.0.facts.now().is_some() && !behind.is_caught_up());
        let words = match behind {
            Some(behind) => words::span(behind.time),
            None if row.0.is_caught_up() => row.delay(),
            None => "—".to_owned(),
        };
        (part, Flow { words, moves })
    };
    sample.replicas.iter().cloned().map(Row).map(branch).collect()
}

fn figures(sample: &Sample) -> Vec<(&'static str, String)> {
    let unknown = || "—".to_owned();
    let applied: Option<f64> = sample.replicas.iter().map(|replica| replica.rate).sum();
    let worst = sample.replicas.iter().map(|replica| replica.behind).collect::<Option<Vec<_>>>();
    let worst = worst.and_then(|all| all.into_iter().max_by_key(|behind| behind.time));
    let behind = |behind: crate::model::status::Behind| {
        if behind.is_caught_up() { "Caught up".to_owned() } else { words::span(behind.time) }
    };
    // Nobody is slower than one that is away, whatever was known of it before.
    let is_one_down = sample.replicas.iter().any(|replica| replica.facts.failure.is_some());
    let slowest = if is_one_down { "Down".to_owned() } else { worst.map_or_else(unknown, behind) };
    vec![
        (
            "Row changes on the leader",
            sample.leader_rate.map_or_else(unknown, |rate| format!("{} /s", words::rate(rate))),
        ),
        ("Applied, all replicas", applied.map_or_else(unknown, |rate| format!("{} /s", words::rate(rate)))),
        ("The slowest replica", slowest),
        ("Replicas that answer reads", format!("{} of {}", sample.in_rotation(), sample.replicas.len())),
    ]
}

/// What has to happen before there is anything to see, and whether it has.
fn first_steps(sample: &Sample) -> Vec<(bool, String)> {
    let all = sample.replicas.len();
    let filled = sample.replicas.iter().filter(|r| r.facts.now().is_some_and(|f| f.state == "live")).count();
    let mut steps = vec![
        (sample.leader.now().is_some(), "The leader takes writes".to_owned()),
        (
            sample.leader.now().is_some_and(|l| !l.slots.is_empty()),
            "A slot keeps its log for the replicas".to_owned(),
        ),
    ];
    if sample.connector.is_some() {
        steps.push((
            level_of(sample, "connector") == Level::Ok,
            "The connector and its task are running".to_owned(),
        ));
    }
    if let Some(seen) = &sample.replicator {
        steps.push((seen.now().is_some(), "The replicator answers".to_owned()));
    }
    steps.push((filled == all, format!("{filled} of {all} replicas have their first rows")));
    steps.push((
        sample.in_rotation() == all,
        format!("{} of {all} replicas answer reads", sample.in_rotation()),
    ));
    steps
}
