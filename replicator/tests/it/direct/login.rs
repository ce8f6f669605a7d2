//! Ways in, and refusals.

use std::path::{Path, PathBuf};

use e2e::postgres::Role;
use replicator::source::postgres::{PostgresSourceError, ReplicationConnection};
use replicator::vocabulary::lsn::Lsn;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

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
    let error = ReplicationConnection::connect(&silent, &[]).await.expect_err("not so");
    assert!(matches!(error, PostgresSourceError::Unusable(_)), "{error}");
    assert!(error.to_string().contains("password"), "{error}");
    Ok(())
}

#[tokio::test]
async fn sslmode_require_encrypts_and_trusts_only_a_certificate_for_the_host() -> anyhow::Result<()> {
    let leader = Leader::start().await?;
    let mut config = leader.config()?;
    config.ssl_mode(SslMode::Require);
    let refused = async |config: &Config, certificates: &Path, reason: &str| {
        let connected = ReplicationConnection::connect_trusting(config, &[], certificates).await;
        let error = connected.expect_err("no TLS, no connection");
        assert!(matches!(error, PostgresSourceError::Tls(_)), "{error}");
        assert!(error.to_string().contains(reason) && error.hint().contains("ssl"), "{error}");
    };
    // The server makes them, in its own folder and with the owner that it insists on.
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=leader \
                -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout server.key \
                -out server.crt 2>/dev/null";
    leader
        .sql
        .batch_execute(&format!("CREATE TEMP TABLE none (line text); COPY none FROM PROGRAM '{make}'"))
        .await?;
    let certificate = PathBuf::from(leader.text("SHOW data_directory").await?).join("server.crt");
    refused(&config, &certificate, "switched off").await;

    leader.sql.batch_execute("ALTER SYSTEM SET ssl = on").await?;
    leader.sql.batch_execute("SELECT pg_reload_conf()").await?;
    let sql = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let mut connection = e2e::wait::until("TLS", super::PATIENCE, async || {
        let connected = ReplicationConnection::connect_trusting(&config, &[], &certificate).await;
        connected.map_err(|error| error.to_string())
    })
    .await?;
    assert_eq!(connection.simple_query("ask", sql).await?, [[Some("true".to_owned())]]);
    leader
        .sql
        .batch_execute(
            "INSERT INTO items SELECT i, repeat('x', 1000), 1, NULL FROM generate_series(1, 2000) i",
        )
        .await?;
    let mut reader = super::Reader::new(connection.start(super::SLOT, Lsn(0), &super::options()).await?);
    assert_eq!(reader.until("commit").await?.len(), 2002);
    reader.stream.stop().await?.close().await;

    let error = ReplicationConnection::connect(&config, &[]).await.expect_err("nobody vouches for it");
    assert!(matches!(error, PostgresSourceError::Tls(_)), "{error}");
    let mut another = Config::new();
    another.host("localhost").port(leader.cluster.port()).user("postgres").ssl_mode(SslMode::Require);
    refused(&another, &certificate, "certificate").await;
    refused(&config, Path::new("/nowhere"), "/nowhere").await;
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
