//! A running application with a leader and three replicas of its own.
//!
//! The servers are shared by the tests that run at the same time, the databases are not; each database is reached through
//! a proxy of its own, so a test can take one away without disturbing the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::postgres::{Cluster, Role, connect};
use e2e::proxy::ChaosProxy;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use webapp::AppState;
use webapp::config::Config;
use webapp::db::lsn::Lsn;

/// The replicas of every site.
pub(crate) const REPLICAS: [&str; 3] = ["replica-1", "replica-2", "replica-3"];

/// Long beside everything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A post that is there from the start.
pub(crate) const SEED: &str = "018f0000-0000-7000-8000-000000000001";

struct Servers {
    leader: Cluster,
    replicas: Vec<Cluster>,
}

/// The servers, as long as some test uses them: a static that held them would never end them.
static SERVERS: Mutex<Weak<Servers>> = Mutex::const_new(Weak::new());
static SITES: AtomicUsize = AtomicUsize::new(0);

impl Servers {
    async fn shared() -> anyhow::Result<Arc<Self>> {
        let mut shared = SERVERS.lock().await;
        if let Some(servers) = shared.upgrade() {
            return Ok(servers);
        }
        let mut replicas = Vec::new();
        for name in REPLICAS {
            replicas.push(Cluster::replica(name).await?);
        }
        let servers = Arc::new(Self { leader: Cluster::leader().await?, replicas });
        *shared = Arc::downgrade(&servers);
        Ok(servers)
    }
}

/// A database of one site, and the way to it.
struct Database {
    url: String,
    proxy: ChaosProxy,
    application_url: String,
}

impl Database {
    async fn new(cluster: &Cluster, name: &str, reader: Role) -> anyhow::Result<Self> {
        let server = connect(&in_database(&cluster.url(Role::Superuser), "postgres")).await?;
        server
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE app"))
            .await
            .context("copy the database")?;
        let proxy = ChaosProxy::start(cluster.port()).await?;
        let application_url = in_database(&cluster.url_through(reader, proxy.port()), name);
        let url = in_database(&cluster.url(Role::Replicator), name);
        Ok(Self { url, proxy, application_url })
    }
}

/// The same URL with another database.
fn in_database(url: &str, name: &str) -> String {
    format!("{}/{name}", url.strip_suffix("/app").unwrap_or(url))
}

/// A running application and its databases.
pub(crate) struct Site {
    name: String,
    address: String,
    http: reqwest::Client,
    state: AppState,
    leader: Database,
    replicas: Vec<Database>,
    epochs: Vec<(Client, i64)>,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    servers: Arc<Servers>,
}

impl Site {
    /// A site whose replicas are live and have what the leader has.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let site = Self::start_empty(&[]).await?;
        site.replicate(&[0, 1, 2]).await?;
        site.await_rotation(3).await?;
        Ok(site)
    }

    /// A site whose replicas have never been filled, with settings of its own.
    pub(crate) async fn start_empty(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let servers = Servers::shared().await?;
        let name = format!("site_{}", SITES.fetch_add(1, Ordering::Relaxed));
        let leader = Database::new(&servers.leader, &name, Role::AppWriter).await?;
        let mut replicas = Vec::new();
        let mut epochs = Vec::new();
        for cluster in &servers.replicas {
            let replica = Database::new(cluster, &name, Role::AppReader).await?;
            let client = connect(&replica.url).await?;
            let row = client.query_one("SELECT replicator.acquire('test', 'a test')", &[]).await?;
            epochs.push((client, row.get(0)));
            replicas.push(replica);
        }
        let config = config(&leader, &replicas, settings)?;
        let shutdown = CancellationToken::new();
        let state = AppState::new(&config, shutdown.clone())?;
        state.start(&config).await;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(webapp::serve(listener, state.clone(), shutdown.clone()));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { name, address, http, state, leader, replicas, epochs, shutdown, server, servers })
    }

    /// Makes these replicas equal to the leader, as the replicator does: rows and watermark in one transaction.
    pub(crate) async fn replicate(&self, replicas: &[usize]) -> anyhow::Result<()> {
        let (rows, watermark) = self.leader_state().await?;
        for index in replicas {
            let (client, epoch) = &self.epochs[*index];
            let advance = advance(*epoch, "live", Some(&watermark), None);
            client.batch_execute(&format!("BEGIN; {rows} {advance} COMMIT;")).await.context("replicate")?;
        }
        Ok(())
    }

    /// The same for one replica, with a watermark and a last transaction of the test's own.
    pub(crate) async fn replicate_at(
        &self,
        index: usize,
        watermark: Lsn,
        xid: Option<u32>,
    ) -> anyhow::Result<()> {
        let (rows, _) = self.leader_state().await?;
        let (client, epoch) = &self.epochs[index];
        let advance = advance(*epoch, "live", Some(&watermark.to_string()), xid);
        client.batch_execute(&format!("BEGIN; {rows} {advance} COMMIT;")).await.context("replicate")
    }

    /// The same in the transaction of [`Site::lock_posts`], which ends with it.
    pub(crate) async fn replicate_within(&self, index: usize, lock: &Client) -> anyhow::Result<()> {
        let (rows, watermark) = self.leader_state().await?;
        let advance = advance(self.epochs[index].1, "live", Some(&watermark), None);
        lock.batch_execute(&format!("{rows} {advance} COMMIT;")).await.context("replicate")
    }

    /// Waits until a session on this replica waits for a lock.
    pub(crate) async fn await_blocked(&self, index: usize) -> anyhow::Result<()> {
        blocked(&self.epochs[index].0).await
    }

    /// The same on the leader.
    pub(crate) async fn await_leader_blocked(&self) -> anyhow::Result<()> {
        blocked(&connect(&self.leader.url).await?).await
    }

    /// Says of which history of the leader a replica is.
    pub(crate) async fn set_history(&self, index: usize, history: &str) -> anyhow::Result<()> {
        let (client, epoch) = &self.epochs[index];
        let recognise = format!("SELECT replicator.recognise({epoch}, '{history}', clock_timestamp())");
        Ok(client.batch_execute(&recognise).await?)
    }

    /// A script that makes a replica's rows the leader's, and a position up to which they are complete.
    async fn leader_state(&self) -> anyhow::Result<(String, String)> {
        let leader = connect(&self.leader.url).await?;
        // Taken before the rows are read: everything up to here is in them.
        let watermark: String =
            leader.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
        let mut rows = Vec::new();
        for table in ["posts", "comments", "likes"] {
            let all = format!("SELECT coalesce(json_agg(t), '[]')::text FROM {table} t");
            rows.push((table, leader.query_one(&all, &[]).await?.get::<_, String>(0)));
        }
        let mut script = "SET LOCAL session_replication_role = replica;".to_owned();
        for (table, json) in &rows {
            script.push_str(&format!(
                "DELETE FROM {table}; INSERT INTO {table} SELECT * FROM \
                 json_populate_recordset(null::{table}, $json${json}$json$);"
            ));
        }
        Ok((script, watermark))
    }

    /// Puts so many comments on a post, "number 1" first, one second after the other.
    pub(crate) async fn comment_many(&self, post: &str, count: i32) -> anyhow::Result<()> {
        let leader = connect(&in_database(&self.servers.leader.url(Role::Superuser), &self.name)).await?;
        let script = format!(
            "INSERT INTO comments (id, post_id, user_id, content, created_at)
             SELECT gen_random_uuid(), '{post}', 'bulk', 'number ' || n, now() + n * interval '1 second'
             FROM generate_series(1, {count}) n"
        );
        Ok(leader.batch_execute(&script).await?)
    }

    /// Keeps reads of the posts waiting on one replica, as long as the connection that comes back is held.
    pub(crate) async fn lock_posts(&self, index: usize) -> anyhow::Result<Client> {
        self.lock(&self.servers.replicas[index]).await
    }

    /// The same on the leader.
    pub(crate) async fn lock_leader_posts(&self) -> anyhow::Result<Client> {
        self.lock(&self.servers.leader).await
    }

    async fn lock(&self, cluster: &Cluster) -> anyhow::Result<Client> {
        let client = connect(&in_database(&cluster.url(Role::Superuser), &self.name)).await?;
        client.batch_execute("BEGIN READ WRITE; LOCK TABLE posts IN ACCESS EXCLUSIVE MODE").await?;
        Ok(client)
    }

    /// Sets the state of one replica and nothing else.
    pub(crate) async fn set_state(&self, index: usize, state: &str) -> anyhow::Result<()> {
        let (client, epoch) = &self.epochs[index];
        Ok(client.batch_execute(&advance(*epoch, state, None, None)).await?)
    }

    /// Has a replica say where it stands in Kafka's topics: an object of offsets by `topic/partition`.
    pub(crate) async fn set_offsets(&self, index: usize, offsets: &Value) -> anyhow::Result<()> {
        let (client, epoch) = &self.epochs[index];
        let advance = format!(
            "SELECT replicator.advance({epoch}, 'live', NULL, NULL, clock_timestamp(), '{offsets}', 0, 0)"
        );
        Ok(client.batch_execute(&advance).await?)
    }

    /// Puts a change into the quarantine of one replica, as the replicator does with one that is refused.
    pub(crate) async fn refuse_a_change(&self, index: usize) -> anyhow::Result<()> {
        let (client, _) = &self.epochs[index];
        let script = "INSERT INTO replicator.quarantine (topic, partition, \"offset\", xid, table_schema, table_name, operation,
                          key, sqlstate, message)
                      VALUES ('app.public.posts', 0, 7, 815, 'public', 'posts', 'insert', '{\"id\":\"1\"}', '23505',
                              'duplicate key value')";
        Ok(client.batch_execute(script).await?)
    }

    /// The way to a replica.
    pub(crate) fn replica(&self, index: usize) -> &ChaosProxy {
        &self.replicas[index].proxy
    }

    /// Puts other replicas in the place of the present ones, as a reload of the configuration does.
    pub(crate) async fn reload(&self, replicas: &[usize], settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut config = config(&self.leader, &self.replicas, settings)?;
        let named = |replica: &webapp::config::ReplicaConfig| {
            replicas.iter().any(|index| REPLICAS[*index] == replica.name)
        };
        config.replicas.retain(named);
        Ok(self.state.reload(&config).await?)
    }

    /// Where the application of this site finds the leader.
    pub(crate) fn leader_url(&self) -> String {
        self.leader.application_url.clone()
    }

    /// Where the application of this site finds a replica.
    pub(crate) fn replica_url(&self, index: usize) -> String {
        self.replicas[index].application_url.clone()
    }

    /// The way to the leader.
    pub(crate) fn leader(&self) -> &ChaosProxy {
        &self.leader.proxy
    }

    /// Returns when so many replicas take part.
    pub(crate) async fn await_rotation(&self, count: usize) -> anyhow::Result<()> {
        e2e::wait::until(&format!("{count} replicas in rotation"), PATIENCE, async || {
            let text = self.get("/readyz").await.map_err(|error| error.to_string())?.text;
            if text.matches("Answers reads").count() == count { Ok(()) } else { Err(text) }
        })
        .await
    }

    /// Returns when a page shows this.
    pub(crate) async fn await_text(&self, path: &str, part: &str) -> anyhow::Result<()> {
        e2e::wait::until(&format!("{path} to show '{part}'"), PATIENCE, async || {
            let page = self.get(path).await.map_err(|error| error.to_string())?;
            if page.text.contains(part) { Ok(()) } else { Err(format!("{}", page.status)) }
        })
        .await
    }

    /// What the application itself knows.
    pub(crate) fn state(&self) -> &AppState {
        &self.state
    }

    /// The host and port at which the application is reached.
    pub(crate) fn host(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// A request, to be filled in.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.address))
    }

    /// A plain read.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        Reply::of(self.request(Method::GET, path)).await
    }

    /// A request with a JSON body.
    pub(crate) async fn json(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Reply> {
        Reply::of(self.request(method, path).json(body)).await
    }

    /// Writes a post by the API.
    pub(crate) async fn post(&self, content: &str) -> anyhow::Result<Reply> {
        let body = serde_json::json!({ "user_id": "tester", "content": content });
        let reply = self.json(Method::POST, "/api/posts", &body).await?;
        ensure!(reply.status == StatusCode::CREATED, "{reply:?}");
        Ok(reply)
    }

    /// Stops the application and returns when it has ended.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(tokio::time::timeout(PATIENCE, self.server).await.context("the server did not end")???)
    }
}

async fn blocked(client: &Client) -> anyhow::Result<()> {
    e2e::wait::until("a read to wait for the lock", PATIENCE, async || {
        let waiting = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                       WHERE d.datname = current_database() AND NOT granted";
        let row = client.query_one(waiting, &[]).await.map_err(|error| error.to_string())?;
        if row.get::<_, i64>(0) > 0 { Ok(()) } else { Err("nobody waits".to_owned()) }
    })
    .await
}

fn advance(epoch: i64, state: &str, watermark: Option<&str>, xid: Option<u32>) -> String {
    let watermark = watermark.map_or_else(|| "NULL".to_owned(), |lsn| format!("'{lsn}'"));
    let xid = xid.map_or_else(|| "NULL".to_owned(), |xid| xid.to_string());
    format!(
        "SELECT replicator.advance({epoch}, '{state}', {watermark}, {xid}, clock_timestamp(), '{{}}', 1, 1);"
    )
}

fn config(leader: &Database, replicas: &[Database], settings: &[(&str, &str)]) -> anyhow::Result<Config> {
    let mut variables = HashMap::from([
        ("WEBAPP__LEADER__URL".to_owned(), leader.application_url.clone()),
        // Short, so that a test that takes something away need not wait long.
        ("WEBAPP__HEALTH__PROBE_MS".to_owned(), "50".to_owned()),
        ("WEBAPP__STATUS__INTERVAL_MS".to_owned(), "500".to_owned()),
        ("WEBAPP__HEALTH__TIMEOUT_MS".to_owned(), "1500".to_owned()),
        // A busy machine takes its time to start a session; only the frozen replicas of these tests need short limits.
        ("WEBAPP__TIMEOUTS__CONNECT_MS".to_owned(), "1500".to_owned()),
        ("WEBAPP__TIMEOUTS__READ_MS".to_owned(), "400".to_owned()),
        ("WEBAPP__TIMEOUTS__WRITE_MS".to_owned(), "800".to_owned()),
    ]);
    for (index, replica) in replicas.iter().enumerate() {
        variables.insert(format!("WEBAPP__REPLICAS__{index}__NAME"), REPLICAS[index].to_owned());
        variables.insert(format!("WEBAPP__REPLICAS__{index}__URL"), replica.application_url.clone());
    }
    variables.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Ok(Config::parse(None, variables)?)
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    headers: reqwest::header::HeaderMap,
}

impl Reply {
    /// Sends the request and reads all of the answer.
    pub(crate) async fn of(request: RequestBuilder) -> anyhow::Result<Self> {
        let response: Response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A header that may come more than once.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Who answered.
    pub(crate) fn served_by(&self) -> &str {
        self.header("x-served-by")
    }

    /// The cookies that came with it, as a browser sends them back.
    pub(crate) fn cookies(&self) -> String {
        let pairs = self
            .headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// The body as JSON.
    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The status as a number.
    pub(crate) fn code(&self) -> u16 {
        self.status.as_u16()
    }
}
