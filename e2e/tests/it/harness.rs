//! The harness does what the tests that build on it take for granted.

use std::time::Duration;

use e2e::postgres::{Cluster, Role, connect};
use e2e::proxy::ChaosProxy;
use e2e::wait;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_leader_is_the_demos_leader() {
    let leader = Cluster::leader().await.unwrap();
    let writer = leader.connect(Role::AppWriter).await.unwrap();
    let accounts = writer.query_one("SELECT count(*), sum(balance)::text FROM accounts", &[]).await.unwrap();
    assert_eq!((accounts.get::<_, i64>(0), accounts.get::<_, &str>(1)), (100, "100000.00"));
    let owner = leader.connect(Role::Superuser).await.unwrap();
    let settings = owner
        .query_one("SELECT current_setting('wal_level'), current_setting('cluster_name')", &[])
        .await
        .unwrap();
    assert_eq!((settings.get::<_, &str>(0), settings.get::<_, &str>(1)), ("logical", "leader"));
    leader.connect(Role::Debezium).await.unwrap();
    leader.connect(Role::Replicator).await.unwrap();
}

#[tokio::test]
async fn a_replica_names_itself_and_refuses_the_readers_writes() {
    let replica = Cluster::replica("replica-7").await.unwrap();
    let reader = replica.connect(Role::AppReader).await.unwrap();
    let name = reader.query_one("SELECT replica FROM replicator.progress", &[]).await.unwrap();
    assert_eq!(name.get::<_, &str>(0), "replica-7");
    let refused = reader.batch_execute("INSERT INTO accounts VALUES (1, 'x')").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006", "read-only transaction");

    let replicator = replica.connect(Role::Replicator).await.unwrap();
    replicator
        .batch_execute("SET session_replication_role = replica; INSERT INTO accounts VALUES (1, 'x')")
        .await
        .unwrap();
}

#[tokio::test]
async fn data_survives_a_stop_and_a_kill_and_the_port_stays() {
    let mut cluster = Cluster::plain("plain").await.unwrap();
    let url = cluster.url(Role::Superuser);
    let client = cluster.connect(Role::Superuser).await.unwrap();
    client.batch_execute("CREATE TABLE t AS SELECT 1 AS n").await.unwrap();

    cluster.stop().await.unwrap();
    assert!(connect(&url).await.is_err(), "a stopped server answers");
    assert!(client.batch_execute("SELECT 1").await.is_err(), "a session survived the stop");
    cluster.start().await.unwrap();
    connect(&url).await.unwrap().batch_execute("INSERT INTO t VALUES (2)").await.unwrap();

    cluster.kill().unwrap();
    assert!(connect(&url).await.is_err(), "a killed server answers");
    cluster.start().await.unwrap();
    let row = connect(&url).await.unwrap().query_one("SELECT sum(n) FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 3);
}

#[tokio::test]
async fn a_paused_server_is_silent_and_goes_on_after_resume() {
    let cluster = Cluster::plain("plain").await.unwrap();
    let client = cluster.connect(Role::Superuser).await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();
    cluster.pause().unwrap();
    let answer = client.batch_execute("SELECT 2");
    tokio::pin!(answer);
    let silence = tokio::time::timeout(Duration::from_millis(200), &mut answer).await;
    assert!(silence.is_err(), "a paused backend answered");
    cluster.resume().unwrap();
    tokio::time::timeout(SOON, answer).await.unwrap().unwrap();
}

#[tokio::test]
async fn dropping_a_cluster_ends_its_server() {
    let cluster = Cluster::plain("plain").await.unwrap();
    let url = cluster.url(Role::Superuser);
    cluster.pause().unwrap();
    drop(cluster);
    assert!(connect(&url).await.is_err(), "the server outlived its cluster");
}

#[tokio::test]
async fn the_proxy_forwards_cuts_freezes_and_restores() {
    let cluster = Cluster::plain("plain").await.unwrap();
    let proxy = ChaosProxy::start(cluster.port()).await.unwrap();
    let url = cluster.url_through(Role::Superuser, proxy.port());
    let client = connect(&url).await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();

    proxy.pause();
    let answer = client.batch_execute("SELECT 2");
    tokio::pin!(answer);
    let silence = tokio::time::timeout(Duration::from_millis(200), &mut answer).await;
    assert!(silence.is_err(), "an answer passed a frozen proxy");
    proxy.restore();
    tokio::time::timeout(SOON, answer).await.unwrap().unwrap();

    proxy.cut();
    wait::until("the connection to break", SOON, async || match client.batch_execute("SELECT 3").await {
        Err(_) => Ok(()),
        Ok(()) => Err("it answers".to_owned()),
    })
    .await
    .unwrap();
    assert!(connect(&url).await.is_err(), "a new connection passed a cut proxy");
    proxy.restore();
    connect(&url).await.unwrap().batch_execute("SELECT 4").await.unwrap();
}
