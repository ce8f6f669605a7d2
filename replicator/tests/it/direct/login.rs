//! Ways in, and refusals.

use e2e::postgres::Role;
use replicator::source::postgres::{PostgresSourceError, ReplicationConnection};
use tokio_postgres::Config;

use super::Leader;

/// Lets everybody in from this machine by one method only.
async fn admit_by(leader: &Leader, method: &str) -> anyhow::Result<()> {
    let file = leader.text("SHOW hba_file").await?;
    let line = format!("host all all 127.0.0.1/32 {method}");
    leader.sql.batch_execute(&format!("COPY (SELECT '{line}') TO '{file}'")).await?;
    leader.sql.batch_execute("SELECT pg_reload_conf()").await?;
    // The reload is a signal: it is done when the file's new line is in force, as its own view shows only once it was read.
    e2e::wait::until("the method to be in force", super::PATIENCE, async || {
        let sql = format!("SELECT '{method}' = ALL (SELECT auth_method FROM pg_hba_file_rules)");
        let row = leader.sql.query_one(&sql, &[]).await.map_err(|e| e.to_string())?;
        if row.get(0) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await
}

#[tokio::test]
async fn every_way_of_giving_a_password_works() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader
        .sql
        .batch_execute(
            "SET password_encryption = md5;
             CREATE ROLE older LOGIN REPLICATION PASSWORD 'old secret'",
        )
        .await?;
    let mut older = leader.config()?;
    older.user("older").password("old secret");
    for (method, config) in
        [("scram-sha-256", leader.config()?), ("password", leader.config()?), ("md5", older.clone())]
    {
        admit_by(&leader, method).await?;
        ReplicationConnection::connect(&config, &[]).await?.identify_system().await?;
        let mut wrong = config.clone();
        wrong.password("wrong");
        let error = ReplicationConnection::connect(&wrong, &[]).await.expect_err("a wrong password");
        assert!(matches!(&error, PostgresSourceError::LoginRefused(said) if said.code == "28P01"), "{error}");
        assert!(error.hint().contains("password"), "{}", error.hint());
        assert!(!error.to_string().contains("wrong"), "no password in messages: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let folder = leader.text("SHOW unix_socket_directories").await?;
    let mut config = Config::new();
    config.host_path(folder).port(leader.cluster.port()).user("postgres").dbname("app");
    let identity = ReplicationConnection::connect(&config, &[]).await?.identify_system().await?;
    assert_eq!(identity.database, "app");
    Ok(())
}

#[tokio::test]
async fn the_first_host_that_accepts_is_taken() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    // Nobody listens at port 1.
    let two = |attributes: &str| {
        let (port, password) = (leader.cluster.port(), Role::Superuser.password());
        format!(
            "host=127.0.0.1,127.0.0.1 port=1,{port} user=postgres password={password} dbname=app \
             target_session_attrs={attributes}"
        )
    };
    ReplicationConnection::connect(&two("read-write").parse()?, &[]).await?.identify_system().await?;
    let refused = ReplicationConnection::connect(&two("read-only").parse()?, &[]).await;
    let error = refused.expect_err("it is no standby");
    assert!(matches!(error, PostgresSourceError::Unreachable { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_refused_login_says_why_and_what_it_takes() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    leader.sql.batch_execute("CREATE ROLE plain LOGIN PASSWORD 'secret'").await?;
    let mut plain = leader.config()?;
    plain.user("plain").password("secret");
    let mut nowhere = leader.config()?;
    nowhere.dbname("nowhere");
    for (config, code) in [(plain, "42501"), (nowhere, "3D000")] {
        let error = ReplicationConnection::connect(&config, &[]).await.expect_err("not so");
        assert!(matches!(&error, PostgresSourceError::LoginRefused(said) if said.code == code), "{error}");
        assert!(error.hint().contains("REPLICATION"), "{}", error.hint());
    }
    let mut silent = Config::new();
    silent.host("127.0.0.1").port(leader.cluster.port()).user("postgres").dbname("app");
    let mut encrypted = leader.config()?;
    encrypted.ssl_mode(tokio_postgres::config::SslMode::Require);
    for (config, reason) in [(silent, "password"), (encrypted, "TLS")] {
        let error = ReplicationConnection::connect(&config, &[]).await.expect_err("not so");
        assert!(matches!(error, PostgresSourceError::Unusable(_)), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_of_the_session_are_those_that_were_asked_for() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let mut connection = leader.connect(&[("logical_decoding_work_mem", "3MB")]).await?;
    let sql = "SELECT current_setting('logical_decoding_work_mem'), current_setting('application_name')";
    let rows = connection.simple_query("ask", sql).await?;
    assert_eq!(rows, [[Some("3MB".to_owned()), Some("replicator".to_owned())]]);
    let error = leader.connect(&[("no_such_setting", "1")]).await.expect_err("a typo is not passed over");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    Ok(())
}
