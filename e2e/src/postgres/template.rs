//! Prepared data directories, kept between runs: copying one is several times faster than `initdb` and `init.sh`.
//!
//! A template's name carries a hash of everything it is made from, so a changed schema makes a new one.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tempfile::TempDir;

use super::server::{self, Server};
use super::{Kind, Role, process};

/// A template that no run has made or used for this long is removed when a new one is made.
const STALE_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The template of `kind`, made now if no earlier run has left it.
pub(super) async fn of(kind: Kind) -> anyhow::Result<PathBuf> {
    // Two tests that need the same template at once: the second one waits for the first one's work.
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _making = MAKING.lock().await;

    let shelf = shelf()?;
    let template = shelf.join(format!("{}-{:016x}", kind.name(), fingerprint(kind)?));
    if template.exists() {
        return Ok(template);
    }
    remove_stale(&shelf);
    let workshop = tempfile::Builder::new().prefix("making-").tempdir_in(&shelf).context("make a folder")?;
    process::give(workshop.path())?;
    make(kind, workshop.path()).await.with_context(|| format!("prepare a {} database", kind.name()))?;
    put_in_place(&workshop, &template)?;
    Ok(template)
}

/// One folder per user for all templates.
fn shelf() -> anyhow::Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let shelf = std::env::temp_dir().join(format!("e2e-postgres-templates-{uid}"));
    fs::create_dir_all(&shelf).with_context(|| format!("make {}", shelf.display()))?;
    process::give(&shelf)?;
    Ok(shelf)
}

/// Hashes everything a template is made from.
fn fingerprint(kind: Kind) -> anyhow::Result<u64> {
    let mut hasher = DefaultHasher::new();
    include_str!("template.rs").hash(&mut hasher);
    include_str!("server.rs").hash(&mut hasher);
    process::run(process::command(process::binaries()?.join("postgres"))?.arg("--version"))?
        .hash(&mut hasher);
    if let Some(side) = kind.side() {
        let folder = crate::repository().join("postgres");
        let mut files = vec![folder.join("schema.sql"), folder.join("init.sh")];
        for entry in fs::read_dir(folder.join(side)).context("list the SQL files")? {
            files.push(entry?.path());
        }
        files.sort();
        for file in files {
            fs::read(&file).with_context(|| format!("read {}", file.display()))?.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

async fn make(kind: Kind, folder: &Path) -> anyhow::Result<()> {
    let password_file = folder.join("password");
    fs::write(&password_file, Role::Superuser.password())?;
    process::give(&password_file)?;
    process::run(
        process::command(process::binaries()?.join("initdb"))?
            .arg("--pgdata")
            .arg(folder.join("data"))
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg("--pwfile")
            .arg(&password_file),
    )?;
    server::write_settings(&folder.join("data"), kind)?;
    let mut server = Server::launch(folder, "template", &[]).await?;
    let (client, connection) =
        tokio_postgres::connect(&server.url(Role::Superuser, "postgres"), tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE DATABASE app").await.context("create the database app")?;
    drop(client);
    connection.await?.context("close the connection")?;
    if let Some(side) = kind.side() {
        server.initialise(side)?;
    }
    server.stop().await
}

/// Renames the finished folder, which is atomic. When another process was faster, its template is as good.
fn put_in_place(workshop: &TempDir, template: &Path) -> anyhow::Result<()> {
    match fs::rename(workshop.path().join("data"), template) {
        Err(error) if !template.exists() => Err(error).context("put the template in place"),
        _ => Ok(()),
    }
}

/// Removes what old runs left; failing to is harmless.
fn remove_stale(shelf: &Path) {
    let Ok(entries) = fs::read_dir(shelf) else { return };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .map(|time| SystemTime::now().duration_since(time));
        if matches!(age, Ok(Ok(age)) if age > STALE_AFTER) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
