//! What people want of a replica: it stands in the replica, and no daemon can commit against it.

use std::process::Command;
use std::time::Duration;

use axum::http::StatusCode;
use e2e::postgres::{Cluster, Role};
use e2e::wait::until;
use replicator::admin::events::Streams;
use replicator::admin::{self, AdminState, Managed};
use replicator::config::Secret;
use replicator::events::Feed;
use replicator::replica::checkpoint::{self, Claim};
use replicator::replica::control;
use replicator::replica::copy::{self, CopyScope};
use replicator::replica::session::Session;
use replicator::replica::{Disposition, ReplicaError};
use replicator::snapshot::LeaderSettings;
use replicator::status::StatusCell;
use replicator::vocabulary::change::Operation;
use replicator::vocabulary::schema::TableName;
use tokio::net::TcpListener;

use crate::apply::{Fixture, transaction};

async fn session(cluster: &Cluster) -> anyhow::Result<Session> {
    Ok(Session::connect(&cluster.url(Role::Replicator).parse()?).await?)
}

async fn claim(session: &Session) -> Result<i64, ReplicaError> {
    let claim = Claim { source: "debezium:app", owner: "test", lease: Duration::from_secs(60) };
    checkpoint::acquire(session, claim).await.map(|checkpoint| checkpoint.epoch)
}

#[tokio::test]
async fn a_paused_replica_takes_nothing_until_it_is_resumed() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let url = f.cluster.url(Role::Replicator).parse()?;
    assert!(control::pause(&url, "ada@host").await?);
    assert!(!control::pause(&url, "bob@host").await?, "it is paused already");
    let insert = f.change("accounts", Operation::Insert(f.account("1", Some("10"))?), 0)?;
    let error = f.applier.apply(&[&transaction(0x100, vec![insert])]).await.expect_err("it is paused");
    assert_eq!(error.disposition(), Disposition::Pause, "{error}");
    assert!(error.to_string().contains("paused by ada@host since"), "{error}");
    assert!(error.hint().contains("replicator resume"), "{}", error.hint());
    assert_eq!((f.sum().await?.as_str(), f.watermark().await?.as_str()), ("0", "0/0"));

    // Whoever wants to own it is told before it opens anything, and holds no lock.
    let Fixture { applier, cluster, .. } = f;
    drop(applier);
    let error = claim(&session(&cluster).await?).await.expect_err("it is paused");
    assert_eq!(error.disposition(), Disposition::Pause, "{error}");

    assert!(control::resume(&url).await?);
    assert!(!control::resume(&url).await?, "nothing is left to resume");
    let owner = session(&cluster).await?;
    let epoch = until("the replica to be free", Duration::from_secs(10), async || {
        claim(&owner).await.map_err(|error| error.to_string())
    })
    .await?;
    assert_eq!(epoch, 2);
    Ok(())
}

#[tokio::test]
async fn a_pause_waits_for_the_commit_under_way_and_lets_no_later_one_through() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    let under_way = session(&f.cluster).await?;
    let advance =
        |lsn: &str| format!("SELECT replicator.advance(1, 'live', '{lsn}', 1, now(), '{{}}', 1, 0)");
    under_way.client().batch_execute(&format!("BEGIN; {}", advance("0/100"))).await?;
    let url: tokio_postgres::Config = f.cluster.url(Role::Replicator).parse()?;
    let pausing = tokio::spawn(async move { control::pause(&url, "test").await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let superuser = f.cluster.connect(Role::Superuser).await?;
    until("the pause to wait", Duration::from_secs(10), async || {
        let row = superuser.query_one(waits, &[]).await.map_err(|error| error.to_string())?;
        if row.get::<_, i64>(0) == 1 { Ok(()) } else { Err("nobody waits".to_owned()) }
    })
    .await?;
    assert!(!pausing.is_finished());
    // A second commit gets in line behind the pause, with a snapshot from before it.
    let later = session(&f.cluster).await?;
    let committing = tokio::spawn(async move { later.client().batch_execute(&advance("0/200")).await });
    until("the commit to wait, too", Duration::from_secs(10), async || {
        let row = superuser.query_one(waits, &[]).await.map_err(|error| error.to_string())?;
        if row.get::<_, i64>(0) == 2 { Ok(()) } else { Err("one waits".to_owned()) }
    })
    .await?;
    under_way.client().batch_execute("COMMIT").await?;
    assert!(pausing.await??);
    let error = committing.await?.expect_err("the replica is paused");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("RP004"), "{error}");
    assert_eq!(f.watermark().await?, "0/100");
    Ok(())
}

#[tokio::test]
async fn a_rebuild_that_is_asked_for_ends_the_attempt_and_is_seen_by_the_next() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let other = session(&f.cluster).await?;
    copy::ask(&other, "test", &[TableName::new("public", "accounts")]).await?;
    let error = f.applier.apply(&[&transaction(0x100, vec![])]).await.expect_err("a rebuild comes first");
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
    let Fixture { applier, cluster, .. } = f;
    drop(applier);
    until("the replica to be free", Duration::from_secs(10), async || {
        claim(&other).await.map_err(|error| error.to_string())
    })
    .await?;
    assert_eq!(copy::asked(&other).await?, CopyScope::Tables);
    assert_eq!(copy::wanted(&other).await?, [TableName::new("public", "accounts")]);
    drop(cluster);
    Ok(())
}

#[tokio::test]
async fn verbs_over_http_need_the_token() -> anyhow::Result<()> {
    let cluster = Cluster::replica("replica-1").await?;
    let leader = Cluster::leader().await?;
    let owner = leader.connect(Role::Superuser).await?;
    // Stands for the connector's: without it a copy would have no stream to go on with.
    owner.query("SELECT pg_create_logical_replication_slot('connector', 'pgoutput')", &[]).await?;
    let token: Secret = serde_json::from_value("a-token-of-some-length".into())?;
    let metrics = crate::events::recorder()?;
    let serve = async |token: Option<Secret>| -> anyhow::Result<String> {
        let managed =
            Managed { status: StatusCell::new("replica-1"), url: cluster.url(Role::Replicator).parse()? };
        let (replicas, streams) = (vec![managed], Streams::new(Feed::default()));
        let router = admin::router(AdminState {
            replicas,
            streams,
            metrics: metrics.clone(),
            token,
            leader: leader_settings(&leader)?,
            ends: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}/v1/replicas", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    };
    let http = reqwest::Client::builder().no_proxy().build()?;
    let post = async |address: &str, path: &str, token: &str| {
        http.post(format!("{address}/{path}")).bearer_auth(token).send().await
    };

    let without = serve(None).await?;
    let refused = post(&without, "replica-1/pause", "a-token-of-some-length").await?;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let address = serve(Some(token)).await?;
    let refused = post(&address, "replica-1/pause", "another-token-of-some-length").await?;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(claim(&session(&cluster).await?).await.is_ok(), "nothing was paused");

    let unknown = post(&address, "replica-9/pause", "a-token-of-some-length").await?;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let paused = post(&address, "replica-1/pause", "a-token-of-some-length").await?;
    assert_eq!(paused.status(), StatusCode::OK);
    assert_eq!(paused.text().await?, "{\"replica\":\"replica-1\",\"paused\":true,\"changed\":true}");
    let error = claim(&session(&cluster).await?).await.expect_err("it is paused");
    assert!(error.to_string().contains("the admin API"), "{error}");
    let resumed = post(&address, "replica-1/resume", "a-token-of-some-length").await?;
    assert_eq!(resumed.status(), StatusCode::OK);

    let rebuild = async |body: &str| {
        let request = http.post(format!("{address}/replica-1/rebuild")).bearer_auth("a-token-of-some-length");
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let answer = request.send().await?;
        anyhow::Ok((answer.status(), answer.text().await?))
    };
    let (status, text) = rebuild(r#"{"tables":["public.nothing"]}"#).await?;
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && text.contains("public.nothing"), "{status} {text}");
    let replica = session(&cluster).await?;
    assert_eq!(copy::asked(&replica).await?, CopyScope::None, "nothing was asked for");
    let (status, text) = rebuild(r#"{"tables":["public.posts"]}"#).await?;
    assert_eq!(text, "{\"replica\":\"replica-1\",\"tables\":[\"public.posts\"]}", "{status}");
    let asked = copy::asked(&replica).await?;
    assert_eq!(asked, CopyScope::Tables);
    let all = post(&address, "replica-1/rebuild", "a-token-of-some-length").await?;
    assert_eq!(all.status(), StatusCode::OK);
    assert_eq!(copy::asked(&replica).await?, CopyScope::All);
    Ok(())
}

fn leader_settings(leader: &Cluster) -> anyhow::Result<Option<LeaderSettings>> {
    Ok(Some(LeaderSettings {
        url: leader.url(Role::Replicator).parse()?,
        publication: Some("cdc".to_owned()),
        exclude_tables: vec![],
        parallel_tables: 2,
        stream: None,
    }))
}

#[tokio::test]
async fn the_command_line_pauses_shows_it_and_resumes() -> anyhow::Result<()> {
    let cluster = Cluster::replica("replica-1").await?;
    let replicator = |arguments: &[&str]| -> anyhow::Result<(bool, String)> {
        let output = Command::new(env!("CARGO_BIN_EXE_replicator"))
            .args(arguments)
            .env("REPLICATOR__SOURCE__BROKERS", "127.0.0.1:1")
            .env("REPLICATOR__SOURCE__TOPIC_PREFIX", "app")
            .env("REPLICATOR__REPLICAS__0__NAME", "replica-1")
            .env("REPLICATOR__REPLICAS__0__URL", cluster.url(Role::Replicator))
            // Nothing listens there.
            .env("REPLICATOR__HTTP__BIND", "127.0.0.1:1")
            .env("USER", "ada")
            .output()?;
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok((output.status.success(), text.concat()))
    };
    let (good, text) = replicator(&["pause", "replica-1"])?;
    assert!(good && text.contains("stands still until `replicator resume replica-1`"), "{text}");
    let (_, text) = replicator(&["status"])?;
    assert!(text.contains("replica-1    paused"), "{text}");
    assert!(text.contains("replica-1 cause: paused by ada@"), "{text}");
    assert!(text.contains("replica-1 way out: replicator resume replica-1"), "{text}");
    let (good, text) = replicator(&["resume", "replica-1"])?;
    assert!(good && text.contains("goes on"), "{text}");
    let (good, text) = replicator(&["resume", "replica-2"])?;
    assert!(!good && text.contains("there is no replica replica-2; there are: replica-1"), "{text}");
    let (good, text) = replicator(&["quarantine", "list"])?;
    assert!(good && text.contains("nothing is in the quarantine"), "{text}");
    Ok(())
}
