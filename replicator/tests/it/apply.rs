//! What a replica refuses, and what is left afterwards: nothing but whole transactions of the owner.

use std::sync::Arc;

use anyhow::Context as _;
use e2e::postgres::{Cluster, Role};
use replicator::replica::apply::Applier;
use replicator::replica::checkpoint::CheckpointWriter;
use replicator::replica::quarantine::{FailurePolicy, Quarantine};
use replicator::replica::session::Session;
use replicator::replica::{Disposition, ReplicaError, catalog};
use replicator::vocabulary::change::{Change, Operation};
use replicator::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use replicator::vocabulary::offset::{PartitionIndex, PartitionNames, Place, TopicPartition};
use replicator::vocabulary::parcel::{CommitPoint, Committed, Parcel, ParcelEnd, ReplicaPhase};
use replicator::vocabulary::row::{Cell, Row, RowBuilder};
use replicator::vocabulary::schema::{Catalog, Table};
use tokio_postgres::Client;

use crate::feed::acquire;

/// A replica that is owned, and what it takes to write to it.
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    pub(crate) applier: Applier,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) reader: Client,
}

impl Fixture {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        Self::with_policy(FailurePolicy::default()).await
    }

    pub(crate) async fn with_policy(policy: FailurePolicy) -> anyhow::Result<Self> {
        let cluster = Cluster::replica("replica-1").await?;
        let session = Session::connect(&cluster.url(Role::Replicator).parse()?).await?;
        let checkpoint = acquire(&session, "app").await?;
        let catalog = Arc::new(catalog::load(session.client()).await?);
        let quarantine = Quarantine::load(&session, &catalog, policy).await?;
        let writer = CheckpointWriter::prepare(&session, checkpoint.epoch).await?;
        let names = PartitionNames::default();
        names.add(TopicPartition { topic: "app.transaction".into(), partition: 0 });
        names.add(TopicPartition { topic: "app.public.accounts".into(), partition: 0 });
        let reader = cluster.connect(Role::AppReader).await?;
        let applier = Applier::new(session, writer, names).with_quarantine(quarantine);
        Ok(Fixture { applier, cluster, catalog, reader })
    }

    pub(crate) fn table(&self, name: &str) -> anyhow::Result<Arc<Table>> {
        self.catalog.table("public", name).cloned().with_context(|| format!("table {name}"))
    }

    /// An account; none for a column that the event does not carry.
    pub(crate) fn account(&self, id: &str, balance: Option<&str>) -> anyhow::Result<Row> {
        let mut row = RowBuilder::new(self.table("accounts")?.columns.len());
        row.set(0, Cell::Text(id));
        row.set(1, Cell::Text("owner"));
        row.set(2, balance.map_or(Cell::Absent, Cell::Text));
        row.set(3, Cell::Null);
        Ok(row.finish())
    }

    /// A transfer from account 1 to account 2.
    pub(crate) fn transfer(&self, id: i64, amount: &str) -> anyhow::Result<Row> {
        let mut row = RowBuilder::new(self.table("transfers")?.columns.len());
        let values = [&id.to_string(), "1", "2", amount, "2026-01-01 00:00:00+00"];
        values.iter().enumerate().for_each(|(column, value)| row.set(column, Cell::Text(value)));
        Ok(row.finish())
    }

    pub(crate) fn change(&self, table: &str, operation: Operation, offset: i64) -> anyhow::Result<Change> {
        let place = Place { partition: PartitionIndex(1), offset };
        Ok(Change { table: self.table(table)?, operation, place })
    }

    pub(crate) async fn sum(&self) -> anyhow::Result<String> {
        let row = self.reader.query_one("SELECT coalesce(sum(balance), 0)::text FROM accounts", &[]).await?;
        Ok(row.get(0))
    }

    /// Every account with its balance.
    pub(crate) async fn accounts(&self) -> anyhow::Result<String> {
        let sql = "SELECT coalesce(string_agg(id || '=' || balance, ' ' ORDER BY id), '') FROM accounts";
        Ok(self.reader.query_one(sql, &[]).await?.get(0))
    }

    pub(crate) async fn watermark(&self) -> anyhow::Result<String> {
        let row = self.reader.query_one("SELECT watermark::text FROM replicator.progress", &[]).await?;
        Ok(row.get(0))
    }
}

/// A replica on which no two accounts may have the same balance: account 1 has 1, account 2 has 2.
async fn with_unique_balances() -> anyhow::Result<(Fixture, Client)> {
    let mut f = Fixture::new().await?;
    let superuser = f.cluster.superuser().await?;
    superuser.batch_execute("CREATE UNIQUE INDEX ON accounts (balance)").await?;
    let accounts = vec![
        f.change("accounts", Operation::Insert(f.account("1", Some("1"))?), 0)?,
        f.change("accounts", Operation::Insert(f.account("2", Some("2"))?), 1)?,
    ];
    f.applier.apply(&[&transaction(0x100, accounts)]).await?;
    Ok((f, superuser))
}

pub(crate) fn transaction(lsn: u64, changes: Vec<Change>) -> Parcel {
    let committed = Committed { xid: Xid(7), lsn: CommitLsn(Lsn(lsn)), committed_at_ms: 1_700_000_000_000 };
    let point = CommitPoint {
        transaction: Some(committed),
        offsets: vec![(PartitionIndex(0), 2)],
        state: ReplicaPhase::Live,
        ..CommitPoint::default()
    };
    Parcel::new(changes, 0, ParcelEnd::Commit(Box::new(point)))
}

#[tokio::test]
async fn rows_and_checkpoint_become_visible_together() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let insert = f.change("accounts", Operation::Insert(f.account("1", Some("10.50"))?), 0)?;
    let applied = f.applier.apply(&[&transaction(0x100, vec![insert])]).await?;
    assert_eq!((applied.transactions, applied.changes, applied.phase), (1, 1, ReplicaPhase::Live));
    assert_eq!(f.sum().await?, "10.50");
    assert_eq!(f.watermark().await?, "0/100");
    let row = f.reader.query_one("SELECT offsets::text, xid, state FROM replicator.checkpoint", &[]).await?;
    assert_eq!(row.get::<_, &str>(0), "{\"app.transaction/0\": 2}");
    assert_eq!((row.get::<_, i64>(1), row.get::<_, &str>(2)), (7, "live"));
    Ok(())
}

#[tokio::test]
async fn an_owner_of_an_older_epoch_can_not_commit() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let superuser = f.cluster.superuser().await?;
    // What another daemon does once this one, paused, has lost its lock.
    superuser.batch_execute("UPDATE replicator.checkpoint SET epoch = epoch + 1, owner = 'another'").await?;
    let insert = f.change("accounts", Operation::Insert(f.account("1", Some("10"))?), 0)?;
    let error = f.applier.apply(&[&transaction(0x100, vec![insert])]).await.expect_err("it must be refused");
    assert_eq!(error.disposition(), Disposition::Yield, "{error}");
    assert_eq!(f.sum().await?, "0", "its rows went with its checkpoint");
    assert_eq!(f.watermark().await?, "0/0");
    Ok(())
}

#[tokio::test]
async fn a_watermark_never_goes_back() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.applier.apply(&[&transaction(0x200, vec![])]).await?;
    let error = f.applier.apply(&[&transaction(0x100, vec![])]).await.expect_err("it must be refused");
    assert_eq!(error.disposition(), Disposition::Halt, "{error}");
    assert_eq!(f.watermark().await?, "0/200");
    Ok(())
}

#[tokio::test]
async fn a_row_that_the_replica_refuses_is_named_and_takes_its_whole_group_with_it() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let good = f.change("accounts", Operation::Insert(f.account("1", Some("10"))?), 40)?;
    let bad = f.change("accounts", Operation::Insert(f.account("2", Some("99999999999999"))?), 41)?;
    let group = [transaction(0x100, vec![good]), transaction(0x200, vec![bad])];
    let group: Vec<&Parcel> = group.iter().collect();
    let error = f.applier.apply(&group).await.expect_err("numeric(14,2) can't hold it");
    assert_eq!(error.disposition(), Disposition::Data);
    assert_eq!(error.place(), Some(Place { partition: PartitionIndex(1), offset: 41 }));
    assert!(error.to_string().contains("insert on public.accounts"), "{error}");
    assert!(error.to_string().contains("SQLSTATE 22003"), "{error}");
    assert_eq!((f.sum().await?.as_str(), f.watermark().await?.as_str()), ("0", "0/0"));
    Ok(())
}

#[tokio::test]
async fn a_unique_value_that_moves_through_a_third_is_applied_in_source_order() -> anyhow::Result<()> {
    let (mut f, _superuser) = with_unique_balances().await?;
    let account = |id: &str, balance: &str| f.account(id, Some(balance));
    let swap = vec![
        f.change("accounts", Operation::Update(account("1", "3")?), 2)?,
        f.change("accounts", Operation::Update(account("2", "1")?), 3)?,
        f.change("accounts", Operation::Update(account("1", "2")?), 4)?,
    ];
    // Folded it is one statement that takes 1's value before 1 has given it up.
    let applied = f.applier.apply(&[&transaction(0x200, swap)]).await?;
    assert!(applied.in_source_order);
    assert_eq!(f.accounts().await?, "1=2.00 2=1.00");
    Ok(())
}

#[tokio::test]
async fn only_the_table_whose_values_move_stands_apart_and_one_pipeline_is_enough_for_it()
-> anyhow::Result<()> {
    let (mut f, superuser) = with_unique_balances().await?;
    let account = |id: &str, balance: &str| f.account(id, Some(balance));
    let mut group = Vec::new();
    for n in 0..600_i64 {
        let mut changes = vec![f.change("transfers", Operation::Insert(f.transfer(n, "1")?), n)?];
        if n % 30 == 0 {
            let (low, high) = if n % 60 == 0 { ("1", "2") } else { ("2", "1") };
            changes.push(f.change("accounts", Operation::Update(account("1", "3")?), n)?);
            changes.push(f.change("accounts", Operation::Update(account("2", low)?), n)?);
            changes.push(f.change("accounts", Operation::Update(account("1", high)?), n)?);
        }
        group.push(transaction(0x200 + u64::try_from(n)?, changes));
    }
    // Twenty swaps lead back to where they began, so that folding would go through; with one more it can't.
    let last = ["3", "1", "2"].into_iter().zip(["1", "2", "1"]);
    let last = last.map(|(balance, id)| f.change("accounts", Operation::Update(account(id, balance)?), 600));
    group.push(transaction(0x500, last.collect::<anyhow::Result<_>>()?));
    // Every subtransaction that writes has a number, too.
    let next_xid = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let before: i64 = superuser.query_one(next_xid, &[]).await?.get(0);
    let applied = f.applier.apply(&group.iter().collect::<Vec<_>>()).await?;
    assert!(applied.in_source_order);
    assert_eq!((applied.transactions, applied.changes), (601, 663));
    let used = superuser.query_one(next_xid, &[]).await?.get::<_, i64>(0) - before;
    // The group as a whole; then the group again, its transfers, its accounts folded, its accounts in source order.
    assert!(used <= 5, "{used} transactions and subtransactions");
    let transfers: i64 = f.reader.query_one("SELECT count(*) FROM transfers", &[]).await?.get(0);
    assert_eq!((f.accounts().await?.as_str(), transfers), ("1=2.00 2=1.00", 600));
    Ok(())
}

#[tokio::test]
async fn a_small_transaction_is_one_statement_over_all_its_tables_and_fails_as_one() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let superuser = f.cluster.superuser().await?;
    let new = |id: &str| f.change("accounts", Operation::Insert(f.account(id, Some("0"))?), 0);
    let accounts = vec![new("1")?, new("2")?];
    f.applier.apply(&[&transaction(0x100, accounts)]).await?;
    let transfer = |f: &Fixture, n: u32, payer: &str| -> anyhow::Result<Parcel> {
        let changes = vec![
            f.change("transfers", Operation::Insert(f.transfer(n.into(), "1")?), 1)?,
            f.change("accounts", Operation::Update(f.account(payer, Some(&n.to_string()))?), 2)?,
            f.change("accounts", Operation::Update(f.account("2", Some(&(n * 2).to_string()))?), 3)?,
        ];
        Ok(transaction(0x200 + u64::from(n), changes))
    };
    for n in 1..20 {
        let applied = f.applier.apply(&[&transfer(&f, n, "1")?]).await?;
        assert!(!applied.in_source_order, "transaction {n}");
    }
    let transfers = async |f: &Fixture| -> anyhow::Result<(String, i64)> {
        let row = f.reader.query_one("SELECT count(*) FROM transfers", &[]).await?;
        Ok((f.accounts().await?, row.get(0)))
    };
    assert_eq!(transfers(&f).await?, ("1=19.00 2=38.00".to_owned(), 19));
    let sql = "SELECT query FROM pg_stat_activity WHERE query LIKE '%replicator.advance%' AND pid <> pg_backend_pid()";
    let last: String = superuser.query_one(sql, &[]).await?.get(0);
    assert!(last.starts_with("WITH part_0 AS (") && last.contains("part_2 AS ("), "{last}");

    // Nobody has told of account 9: its row comes with the change, and the others must not be done twice.
    let applied = f.applier.apply(&[&transfer(&f, 20, "9")?]).await?;
    assert_eq!((applied.in_source_order, applied.inserted_for_missing), (true, 1));
    assert_eq!(transfers(&f).await?, ("1=19.00 2=40.00 9=20.00".to_owned(), 20));

    superuser.batch_execute("UPDATE replicator.checkpoint SET epoch = epoch + 1").await?;
    let error = f.applier.apply(&[&transfer(&f, 21, "1")?]).await.expect_err("another daemon owns it");
    assert_eq!(error.disposition(), Disposition::Yield, "{error}");
    assert_eq!(transfers(&f).await?, ("1=19.00 2=40.00 9=20.00".to_owned(), 20));
    Ok(())
}

#[tokio::test]
async fn an_update_of_a_missing_row_inserts_it_when_it_is_whole_and_halts_when_not() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let whole = f.change("accounts", Operation::Update(f.account("1", Some("5"))?), 8)?;
    let applied = f.applier.apply(&[&transaction(0x100, vec![whole])]).await?;
    assert_eq!(applied.inserted_for_missing, 1);
    assert_eq!(f.sum().await?, "5.00");
    let partial = f.change("accounts", Operation::Update(f.account("2", None)?), 9)?;
    let error =
        f.applier.apply(&[&transaction(0x200, vec![partial])]).await.expect_err("the balance is not known");
    assert!(matches!(error, ReplicaError::MissingRow { place: Place { offset: 9, .. }, .. }), "{error}");
    assert_eq!(error.disposition(), Disposition::Data);
    Ok(())
}

#[tokio::test]
async fn a_large_transaction_is_invisible_until_its_commit_and_leaves_nothing_when_discarded()
-> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    for (balance, lsn) in [("1", None), ("2", Some(0x300))] {
        for part in 0..3 {
            let id = part.to_string();
            let insert = f.change("accounts", Operation::Insert(f.account(&id, Some(balance))?), part)?;
            f.applier.apply_part(&Parcel::new(vec![insert], 0, ParcelEnd::Open)).await?;
            assert_eq!(f.sum().await?, "0", "a reader sees no part of it");
        }
        match lsn {
            None => f.applier.discard_open().await?,
            Some(lsn) => {
                let ParcelEnd::Commit(point) = transaction(lsn, vec![]).end else {
                    unreachable!("it commits")
                };
                let applied = f.applier.commit_open(&point).await?;
                assert_eq!(applied.changes, 3);
            }
        }
    }
    assert_eq!(f.sum().await?, "6.00");
    Ok(())
}

#[tokio::test]
async fn nobody_but_the_replicator_can_write() -> anyhow::Result<()> {
    let f = Fixture::new().await?;
    for statement in ["DELETE FROM accounts", "UPDATE replicator.checkpoint SET watermark = '0/1'"] {
        f.reader.batch_execute("SET default_transaction_read_only = off").await?;
        let error = f.reader.batch_execute(statement).await.expect_err("the reader must not write");
        assert_eq!(
            error.code().map(tokio_postgres::error::SqlState::code),
            Some("42501"),
            "{statement}: {error}"
        );
    }
    let superuser = f.cluster.connect(Role::Superuser).await?;
    let error = superuser.batch_execute("DELETE FROM accounts").await.expect_err("sessions begin read-only");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("25006"));
    Ok(())
}
