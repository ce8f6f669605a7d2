//! Small transactions over many tables leave the rows that they should, whether they are one statement or many.

use std::sync::Arc;

use anyhow::Context as _;
use e2e::postgres::Cluster;
use replicator::replica::Disposition;
use replicator::replica::apply::{Applier, Cutoffs};
use replicator::vocabulary::change::{Change, Operation};
use replicator::vocabulary::offset::{PartitionIndex, Place};
use replicator::vocabulary::parcel::Parcel;
use replicator::vocabulary::row::{Cell, Key, Row, RowBuilder};
use replicator::vocabulary::schema::{Catalog, Table};
use tokio_postgres::Client;

use crate::apply::transaction;
use crate::feed::applier;
use crate::forms::change_in_binary;
use crate::techniques::Random;

/// One of each sort that statements make a difference between.
const TABLES: &str = "
    CREATE TABLE keyed (id int PRIMARY KEY, word text);
    CREATE TABLE numbered (id int PRIMARY KEY, seq int GENERATED ALWAYS AS IDENTITY, word text);
    CREATE TABLE paired (id int, seq int GENERATED ALWAYS AS IDENTITY, word text, PRIMARY KEY (id, seq));
    CREATE TABLE twins (id int, word text);
    ALTER TABLE twins REPLICA IDENTITY FULL;
    CREATE TABLE numbered_twins (id int, seq int GENERATED ALWAYS AS IDENTITY, word text);
    ALTER TABLE numbered_twins REPLICA IDENTITY FULL;
    CREATE TABLE parent (id int PRIMARY KEY, word text);
    CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
    CREATE TABLE parted (id int PRIMARY KEY, word text) PARTITION BY HASH (id);
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);";

const NAMES: [&str; 8] =
    ["keyed", "numbered", "paired", "twins", "numbered_twins", "parent", "child", "parted"];

/// A replica with these tables.
struct World {
    applier: Applier,
    catalog: Catalog,
    superuser: Client,
    _cluster: Cluster,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let cluster = Cluster::replica("replica-1").await?;
        let superuser = cluster.superuser().await?;
        superuser.batch_execute(TABLES).await?;
        superuser.batch_execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO replicator").await?;
        let (applier, catalog) = applier(&cluster).await?;
        Ok(World { applier, catalog, superuser, _cluster: cluster })
    }

    fn table(&self, name: &str) -> anyhow::Result<Arc<Table>> {
        self.catalog.table("public", name).cloned().with_context(|| format!("table {name}"))
    }
}

/// A table of the leader's: what it holds.
struct Leader {
    table: Arc<Table>,
    rows: Vec<Vec<String>>,
    next_id: usize,
}

impl Leader {
    fn row(values: &[String]) -> Row {
        let mut row = RowBuilder::new(values.len());
        values.iter().enumerate().for_each(|(column, value)| row.set(column, Cell::Text(value)));
        row.finish()
    }

    fn key(&self, values: &[String]) -> Key {
        Self::row(values).project(&self.table.key)
    }

    fn word(random: &mut Random) -> String {
        ["a", "b", "c"][random.below(3)].to_owned()
    }

    /// Something happens on the leader.
    fn change(&mut self, random: &mut Random) -> Operation {
        let keyed = self.table.has_key();
        let word = self.table.columns.len() - 1;
        if random.below(60) == 0 {
            self.rows.clear();
            return Operation::Truncate;
        }
        let chosen = if self.rows.is_empty() { 9 } else { random.below(8) };
        let at = random.below(self.rows.len());
        match chosen {
            0 => {
                let gone = self.rows.swap_remove(at);
                if keyed {
                    Operation::Delete(self.key(&gone))
                } else {
                    Operation::DeleteKeyless(Self::row(&gone))
                }
            }
            1 if keyed => {
                let old = self.key(&self.rows[at]);
                self.rows[at][0] = self.new_id();
                Operation::Rekey { old, row: Self::row(&self.rows[at]) }
            }
            2..=4 => {
                let old = Self::row(&self.rows[at]);
                self.rows[at][word] = Self::word(random);
                let new = Self::row(&self.rows[at]);
                if keyed { Operation::Update(new) } else { Operation::UpdateKeyless { old, new } }
            }
            5 if keyed => {
                self.rows[at][word] = Self::word(random);
                Operation::Copy(Self::row(&self.rows[at]))
            }
            6 if keyed => {
                let mut older = self.rows[at].clone();
                older[word] = Self::word(random);
                Operation::Fill(Self::row(&older))
            }
            _ => {
                let id = if keyed { self.new_id() } else { random.below(3).to_string() };
                let mut row = vec![id, random.below(9).to_string(), Self::word(random)];
                row.drain(1..3 - word);
                self.rows.push(row);
                Operation::Insert(Self::row(&self.rows[self.rows.len() - 1]))
            }
        }
    }

    fn new_id(&mut self) -> String {
        self.next_id += 1;
        self.next_id.to_string()
    }

    fn text(&self) -> String {
        let mut rows: Vec<_> = self.rows.iter().map(|row| format!("({})", row.join(","))).collect();
        rows.sort();
        rows.join(" ")
    }
}

/// What a table of the replica holds, its own rows only.
async fn held(client: &Client, table: &Table) -> anyhow::Result<String> {
    let only = if table.inherited { "ONLY " } else { "" };
    let sql = format!(
        "SELECT coalesce(string_agg(t::text, ' ' ORDER BY t::text COLLATE \"C\"), '') FROM {only}{} t",
        table.name
    );
    Ok(client.query_one(&sql, &[]).await?.get(0))
}

#[tokio::test]
async fn one_statement_leaves_what_many_leave() -> anyhow::Result<()> {
    let world = World::new().await?;
    let tables = NAMES.into_iter().map(|name| world.table(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let World { mut applier, superuser, _cluster, .. } = world;
    let eager = Cutoffs { worth: 1, ..Cutoffs::default() };
    let manners = [Cutoffs { parts: 0, ..eager }, eager, Cutoffs { singly: 0, ..eager }, Cutoffs::default()];
    let mut lsn = 0x100;
    for (seed, cutoffs) in (0..).zip(manners) {
        for binary in [false, true] {
            applier = applier.with_cutoffs(cutoffs);
            superuser.batch_execute(&format!("TRUNCATE {}", NAMES.join(", "))).await?;
            let mut random = Random::new(seed);
            let of = |table: &Arc<Table>| Leader { table: Arc::clone(table), rows: vec![], next_id: 0 };
            let mut leader: Vec<_> = tables.iter().map(of).collect();
            for group in 0..300 {
                let mut changes = Vec::new();
                for _ in 0..=random.below(5) {
                    let of = &mut leader[random.below(NAMES.len())];
                    let (operation, table) = (of.change(&mut random), Arc::clone(&of.table));
                    let place = Place { partition: PartitionIndex(0), offset: group };
                    let change = Change { table, operation, place };
                    changes.push(if binary { change_in_binary(&superuser, change).await? } else { change });
                }
                lsn += 0x10;
                let parcel: Parcel = transaction(lsn, changes);
                let at = || format!("seed {seed}, binary {binary}, group {group}: {:?}", parcel.changes);
                let applied = applier.apply(&[&parcel]).await.with_context(at)?;
                assert!(!applied.in_source_order, "{}", at());
            }
            for of in &leader {
                let held = held(&superuser, &of.table).await?;
                assert_eq!(held, of.text(), "{}: {cutoffs:?}, binary {binary}", of.table.name);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn another_value_of_what_only_default_may_update_stops_the_replica_and_is_not_passed_over()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let row = |values: [&str; 3]| Leader::row(&values.map(str::to_owned));
    // What `UPDATE … SET seq = DEFAULT` does on the leader.
    let (before, after) = (row(["1", "5", "a"]), row(["1", "6", "a"]));
    let old = before.project(&[0, 1]);
    let changes = [
        ("paired", Operation::Rekey { old, row: after.clone() }),
        ("numbered_twins", Operation::UpdateKeyless { old: before.clone(), new: after.clone() }),
    ];
    for (lsn, (name, operation)) in (0x100..).step_by(0x100).zip(changes) {
        let table = world.table(name)?;
        let place = Place { partition: PartitionIndex(0), offset: 0 };
        let change = |operation| Change { table: Arc::clone(&table), operation, place };
        let (insert, update) = (change(Operation::Insert(before.clone())), change(operation));
        world.applier.apply(&[&transaction(lsn, vec![insert])]).await?;
        let refused = world.applier.apply(&[&transaction(lsn + 0x10, vec![update])]).await;
        let error = refused.expect_err("the replica can't follow");
        assert_eq!(error.disposition(), Disposition::Schema, "{error}");
        assert!(error.to_string().contains("another \"seq\", which is GENERATED ALWAYS"), "{error}");
        let mend = format!("ALTER TABLE \"public\".\"{name}\" ALTER COLUMN \"seq\" SET GENERATED BY DEFAULT");
        assert!(error.hint().ends_with(&mend), "{}", error.hint());
        assert_eq!(held(&world.superuser, &table).await?, "(1,5,a)");
    }
    Ok(())
}
