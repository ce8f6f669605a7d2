//! The running system: where its parts are, and the few things that every check does with them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use e2e::compare::{self, Contents};
use e2e::{postgres, wait};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::settings::{self, Settings, Source};

pub(crate) const REPLICAS: [&str; 3] = ["replica-1", "replica-2", "replica-3"];

/// How long a change may take to reach every replica: far more than it does, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Signs in to operate.
pub(crate) const ADMIN_TOKEN: &str = "what-an-operator-knows";

pub(crate) struct System {
    settings: Settings,
    source: Source,
    http: reqwest::Client,
}

/// A login, with the setting that holds its password.
#[derive(Clone, Copy)]
pub(crate) enum Login {
    Owner,
    Writer,
    Reader,
}

impl System {
    /// The system that the settings describe, running or not.
    pub(crate) fn from_settings() -> anyhow::Result<Self> {
        let settings = Settings::load(settings::number("E2E_PORT_OFFSET", 3000)?);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { settings, source: Source::from_environment()?, http })
    }

    /// Another system on the same source, with every port so much higher.
    pub(crate) fn beside(&self, offset: u16) -> anyhow::Result<Self> {
        let offset = self.settings.offset().checked_add(offset).context("add to the port offset")?;
        Ok(Self { settings: Settings::load(offset), source: self.source, http: self.http.clone() })
    }

    /// Where its changes come from.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// Starts everything from empty data, as the README tells a user to.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        let started =
            script(self.command("start-system.sh").args(["--mode", self.source.mode(), "--fresh"])).await;
        if started.is_err() {
            // Whatever a failed start left is not left to the user of the tests.
            self.stop().await.ok();
        }
        started
    }

    /// Stops everything and deletes its data.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        script(self.command("stop-system.sh").arg("--volumes")).await
    }

    /// `scripts/service.sh VERB SERVICE`.
    pub(crate) async fn service(&self, verb: &str, service: &str) -> anyhow::Result<()> {
        script(self.command("service.sh").args([verb, service])).await
    }

    /// The process of a service.
    pub(crate) fn pid(&self, service: &str) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(self.state().join(format!("pids/{service}.pid")));
        let pid = text.with_context(|| format!("find the pid of {service}"))?;
        pid.trim().parse().with_context(|| format!("read the pid of {service}"))
    }

    /// Stops a service and starts it again.
    pub(crate) async fn restart(&self, service: &str) -> anyhow::Result<()> {
        self.service("stop", service).await?;
        self.service("start", service).await
    }

    /// `scripts/service.sh VERB SERVICE`, without waiting until the service is ready.
    pub(crate) async fn service_without_waiting(&self, verb: &str, service: &str) -> anyhow::Result<()> {
        script(self.command("service.sh").args([verb, service, "--no-wait"])).await
    }

    /// Waits until nothing listens on the port of a killed service: the threads of a large process end one by one, and the
    /// last of them closes the port.
    pub(crate) async fn await_closed(&self, service: &str) -> anyhow::Result<()> {
        let port = self.port(service)?;
        wait::until(&format!("the port of {service} to be closed"), PATIENCE, async || {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                Ok(_) => Err(format!("something listens on {port}")),
                Err(_) => Ok(()),
            }
        })
        .await
    }

    /// A script of the repository, told which system is meant.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(e2e::repository().join("scripts").join(name));
        command.arg("--port-offset").arg(self.settings.offset().to_string());
        // Off as shipped; the checks operate, too.
        command.env("WEB_ADMIN_TOKEN", ADMIN_TOKEN);
        command.env("REPLICATOR_ADMIN_TOKEN", "what-the-webapp-tells-the-replicator");
        command
    }

    pub(crate) fn port(&self, service: &str) -> anyhow::Result<u16> {
        self.settings.port(service)
    }

    /// The folder with the services' data, logs and pids.
    pub(crate) fn state(&self) -> PathBuf {
        let name = match self.settings.offset() {
            0 => "system".to_owned(),
            offset => format!("system-{offset}"),
        };
        e2e::repository().join(".run").join(name)
    }

    /// A program that the scripts started.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        // Beside this test's folder: both are made by the same build.
        let here = std::env::current_exe().context("find this program")?;
        let build = here.parent().and_then(|deps| deps.parent()).context("find the build folder")?;
        Ok(build.join(name))
    }

    /// A password of the settings.
    pub(crate) fn password(&self, name: &str) -> anyhow::Result<&str> {
        self.settings.get(name)
    }

    /// The URL of an HTTP service.
    pub(crate) fn http_url(&self, service: &str, path: &str) -> anyhow::Result<String> {
        Ok(format!("http://localhost:{}{path}", self.port(service)?))
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// `GET path` of a service: status and JSON body (`null` when it is none).
    pub(crate) async fn get(&self, service: &str, path: &str) -> anyhow::Result<(u16, Value)> {
        answer(self.http.get(self.http_url(service, path)?)).await
    }

    /// The database URL of a service.
    pub(crate) fn database_url(&self, service: &str, login: Login) -> anyhow::Result<String> {
        let (user, password) = match login {
            Login::Owner => ("postgres", "POSTGRES_PASSWORD"),
            Login::Writer => ("app_writer", "APP_WRITER_PASSWORD"),
            Login::Reader => ("app_reader", "APP_READER_PASSWORD"),
        };
        let password = self.settings.get(password)?;
        Ok(format!("postgres://{user}:{password}@127.0.0.1:{}/app", self.port(service)?))
    }

    /// The owner on a replica, who may write there.
    pub(crate) async fn repair(&self, replica: &str) -> anyhow::Result<Client> {
        let client = self.connect(replica, Login::Owner).await?;
        client.batch_execute("SET default_transaction_read_only = off").await.context("allow writes")?;
        Ok(client)
    }

    pub(crate) async fn connect(&self, service: &str, login: Login) -> anyhow::Result<Client> {
        let client = postgres::connect(&self.database_url(service, login)?).await;
        client.with_context(|| format!("connect to {service}"))
    }

    /// Waits until every replica holds everything that the leader has committed by now; returns how long that took.
    pub(crate) async fn await_replicas(&self) -> anyhow::Result<Duration> {
        self.await_replicas_for(PATIENCE).await
    }

    /// The same with a patience of its own.
    pub(crate) async fn await_replicas_for(&self, patience: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let leader = self.connect("leader", Login::Owner).await?;
        // Taken after the commits in question, so it is above their commit LSNs; the next heartbeat, or the leader's next sign of
        // life, passes it.
        let lsn: String = leader.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
        for name in REPLICAS {
            let query = format!(
                "SELECT watermark >= '{lsn}' AND state = 'live', watermark::text, state FROM replicator.progress"
            );
            let mut kept = None;
            let reached = wait::until(&format!("{name} to reach {lsn}"), patience, async || {
                // A server that goes away meanwhile takes its connection with it.
                let replica = match kept.take() {
                    Some(replica) => replica,
                    None => self.connect(name, Login::Reader).await.map_err(|error| format!("{error:#}"))?,
                };
                let row = replica.query_one(&query, &[]).await.map_err(|error| error.to_string())?;
                kept = Some(replica);
                let (is_there, watermark, state): (bool, &str, &str) = (row.get(0), row.get(1), row.get(2));
                if is_there { Ok(()) } else { Err(format!("{state} at {watermark}")) }
            })
            .await;
            if let Err(error) = reached {
                // Now: what a check puts back when it ends is gone afterwards.
                let whereabouts = tokio::time::timeout(Duration::from_secs(30), self.whereabouts()).await;
                bail!(
                    "{error}; {}",
                    whereabouts.unwrap_or_else(|_| "where the rest is can't be found out".to_owned())
                );
            }
        }
        Ok(started.elapsed())
    }

    /// Where each part has got to, in few words, for an error that may be all that is seen of a failed run.
    async fn whereabouts(&self) -> String {
        let unknown = |error: anyhow::Error| format!("{error:#}");
        let mut parts = vec![self.slots().await.unwrap_or_else(unknown)];
        if self.source == Source::Kafka {
            parts.push(format!("connector {}", self.connector_state().await.unwrap_or_else(unknown)));
        }
        for replica in REPLICAS {
            parts.push(self.applied(replica).await.unwrap_or_else(|error| format!("{replica}: {error:#}")));
        }
        // A check may run a second one beside the system's.
        for (daemon, above) in [("replicator", 0), ("second replicator", 1)] {
            if let Ok(states) = self.states(above).await {
                parts.push(format!("{daemon}: {states}"));
            }
        }
        parts.join("; ")
    }

    /// What the leader's slots hold back.
    async fn slots(&self) -> anyhow::Result<String> {
        let leader = self.connect("leader", Login::Owner).await?;
        let query =
            "SELECT slot_name || CASE WHEN active THEN ' at ' ELSE ' unused at ' END || coalesce(confirmed_flush_lsn::text, '?')
             FROM pg_replication_slots WHERE NOT temporary";
        let rows = leader.query(query, &[]).await.context("read the slots")?;
        let slots: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok(format!("slots: {}", slots.join(", ")))
    }

    /// Where a replica is, by itself.
    async fn applied(&self, replica: &str) -> anyhow::Result<String> {
        let asked = async {
            let client = self.connect(replica, Login::Reader).await?;
            let row =
                client.query_one("SELECT state || ' at ' || watermark FROM replicator.progress", &[]).await?;
            anyhow::Ok(format!("{replica} {}", row.get::<_, String>(0)))
        };
        tokio::time::timeout(Duration::from_secs(5), asked).await.context("no answer in 5 s")?
    }

    /// What a replicator says of each replica; `above` the port of the system's own.
    async fn states(&self, above: u16) -> anyhow::Result<String> {
        let url = format!("http://localhost:{}/v1/replicas", self.port("replicator")? + above);
        let (_, body) = answer(self.http.get(url)).await?;
        let replicas = body["replicas"].as_array().context("find the replicas")?;
        let state = |replica: &Value| {
            let words = ["name", "state", "cause", "waiting_for"].map(|field| replica[field].as_str());
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        Ok(replicas.iter().map(state).collect::<Vec<_>>().join(", "))
    }

    /// Waits for the replicas and then demands that each equals the leader, at once, in every table that it publishes.
    pub(crate) async fn assert_equal(&self) -> anyhow::Result<Contents> {
        self.await_replicas().await?;
        let (expected, differences) = self.compare().await?;
        ensure!(differences.is_empty(), "differences: {}", differences.join("; "));
        Ok(expected)
    }

    /// What the leader publishes, and how each replica differs from it now.
    pub(crate) async fn compare(&self) -> anyhow::Result<(Contents, Vec<String>)> {
        let leader = self.connect("leader", Login::Owner).await?;
        let tables = compare::published(&leader).await?;
        let expected = compare::contents_of(&leader, &tables).await?;
        let mut differences = Vec::new();
        for name in REPLICAS {
            let replica = self.connect(name, Login::Reader).await?;
            let found = compare::contents_of(&replica, &tables).await?;
            for (table, how) in expected.differences(&found) {
                let rows = compare::unequal_rows(&leader, &replica, &table).await;
                let rows = rows.unwrap_or_else(|error| format!("{error:#}"));
                differences.push(format!("the leader against {name}: {table}: {how}; {rows}"));
            }
        }
        Ok((expected, differences))
    }

    /// The state of the connector, or of its task when the connector itself runs: RUNNING, FAILED, …
    pub(crate) async fn connector_state(&self) -> anyhow::Result<String> {
        let (_, status) = self.get("connect", "/connectors/postgres-connector/status").await?;
        let states = [&status["connector"]["state"], &status["tasks"][0]["state"]];
        let unusual = states.into_iter().find(|state| *state != "RUNNING");
        Ok(unusual.map_or("RUNNING", |state| state.as_str().unwrap_or("no state")).to_owned())
    }

    /// Waits until the connector and its task are RUNNING.
    pub(crate) async fn await_connector(&self) -> anyhow::Result<()> {
        wait::until("the connector and its task to be RUNNING", PATIENCE, async || {
            match self.connector_state().await {
                Ok(state) if state == "RUNNING" => Ok(()),
                Ok(state) => Err(state),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// The connector's settings.
    pub(crate) async fn connector_config(&self) -> anyhow::Result<Value> {
        let (status, config) = self.get("connect", "/connectors/postgres-connector/config").await?;
        ensure!(status == 200, "the connector's configuration: {status} {config}");
        Ok(config)
    }

    /// Gives the connector other settings and waits until a new task reads the slot with them: the old one, which is RUNNING for
    /// a while, passes new tables and signals over.
    pub(crate) async fn configure(&self, config: &Value) -> anyhow::Result<()> {
        let leader = self.connect("leader", Login::Owner).await?;
        let reader = async || {
            let query = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'cdc'";
            anyhow::Ok(leader.query_one(query, &[]).await?.get::<_, Option<i32>>(0))
        };
        let old = reader().await?;
        let url = self.http_url("connect", "/connectors/postgres-connector/config")?;
        wait::until("the settings to be accepted", PATIENCE, async || {
            // While the worker distributes its work anew it answers 409.
            match answer(self.http.put(&url).json(config)).await {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
        wait::until("a new task to read the slot", PATIENCE, async || match reader().await {
            Ok(Some(pid)) if Some(pid) != old => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        self.await_connector().await
    }

    /// What the replicator and the connector, if there is one, say about themselves, for a failed run.
    pub(crate) async fn describe(&self) -> String {
        let mut text = String::new();
        let mut services = vec![("replicator", "/v1/replicas")];
        if self.source == Source::Kafka {
            services.push(("connect", "/connectors/postgres-connector/status"));
        }
        for (service, path) in services {
            let answer = self.get(service, path).await.map(|(status, body)| format!("{status} {body:#}"));
            text.push_str(&format!(
                "{service} {path}: {}\n",
                answer.unwrap_or_else(|error| format!("{error:#}"))
            ));
        }
        text
    }
}

/// Sends a request; status and JSON body (`null` when it is none).
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<(u16, Value)> {
    let response = request.send().await.context("send the request")?;
    let status = response.status().as_u16();
    let body = response.text().await.context("read the answer")?;
    Ok((status, serde_json::from_str(&body).unwrap_or_default()))
}

/// Runs a script with its output shown.
pub(crate) async fn script(command: &mut Command) -> anyhow::Result<()> {
    command.stdin(Stdio::null());
    let name = format!("{:?}", command.get_program());
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let status = tokio::task::spawn_blocking(move || child.wait())
        .await?
        .with_context(|| format!("wait for {name}"))?;
    if !status.success() {
        bail!("{name} failed with {status}");
    }
    Ok(())
}
