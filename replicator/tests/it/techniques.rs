//! Whatever technique the number of rows chooses, the table ends as it does change by change.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use e2e::postgres::Cluster;
use replicator::replica::apply::{Applier, Cutoffs};
use replicator::vocabulary::change::{Change, Operation};
use replicator::vocabulary::lsn::{CommitLsn, Lsn, Xid};
use replicator::vocabulary::offset::{PartitionIndex, Place};
use replicator::vocabulary::parcel::{CommitPoint, Committed, Parcel, ParcelEnd, ReplicaPhase};
use replicator::vocabulary::row::{Cell, Form, Row, RowBuilder};
use replicator::vocabulary::schema::Table;
use tokio_postgres::Client;

use crate::feed::applier;
use crate::forms;

/// Texts that a format might trip over.
const TEXTS: [&str; 6] = ["plain", "", "\\N", "a\tb\\c\r\nd", "\\.", "'\"ü{},\u{1}"];
const COLUMNS: usize = 7;

struct Fixture {
    applier: Option<Applier>,
    superuser: Client,
    table: Arc<Table>,
    lsn: u64,
    _cluster: Cluster,
}

impl Fixture {
    async fn new() -> anyhow::Result<Self> {
        let cluster = Cluster::replica("replica-1").await?;
        let superuser = cluster.superuser().await?;
        superuser
            .batch_execute(
                "CREATE TYPE public.mood AS ENUM ('sad', 'happy');
                 CREATE TABLE public.\"Mixed\" (
                     id int PRIMARY KEY, label varchar(20), amount numeric(12,2), mood public.mood,
                     at timestamptz, extra jsonb, tags text[], length int GENERATED ALWAYS AS (id * 2) STORED);
                 GRANT ALL ON public.\"Mixed\" TO replicator",
            )
            .await?;
        let (applier, catalog) = applier(&cluster).await?;
        let table = catalog.table("public", "Mixed").cloned().context("the table is in the catalog")?;
        let applier = Some(applier);
        Ok(Fixture { applier, superuser, table, lsn: 0x100, _cluster: cluster })
    }

    /// Applies with these cut-offs, from an empty table on; parcels and groups as the numbers say. Returns the rows, and
    /// how many groups had to be applied in source order.
    async fn apply(
        &mut self,
        history: &[Operation],
        cutoffs: Cutoffs,
        random: &mut Random,
    ) -> anyhow::Result<(String, usize)> {
        self.superuser.batch_execute("TRUNCATE public.\"Mixed\"").await?;
        let mut applier = self.applier.take().context("an applier")?.with_cutoffs(cutoffs);
        let mut rest = history;
        let mut in_source_order = 0;
        while !rest.is_empty() {
            let (taken, tail) = rest.split_at(1 + random.below(rest.len().min(60)));
            rest = tail;
            let applied = if random.below(2) == 0 {
                let (one, other) = taken.split_at(random.below(taken.len()));
                let group = [self.parcel(one), self.parcel(other)];
                applier.apply(&[&group[0], &group[1]]).await?
            } else {
                for part in taken.chunks(25) {
                    applier.apply_part(&Parcel { end: ParcelEnd::Open, ..self.parcel(part) }).await?;
                }
                let ParcelEnd::Commit(point) = self.parcel(&[]).end else { unreachable!("it commits") };
                applier.commit_open(&point).await?
            };
            in_source_order += usize::from(applied.in_source_order);
        }
        self.applier = Some(applier);
        let rows = "SELECT coalesce(string_agg(t::text, E'\n' ORDER BY id), '') FROM public.\"Mixed\" t";
        Ok((self.superuser.query_one(rows, &[]).await?.get(0), in_source_order))
    }

    async fn in_binary(&self, history: &[Operation]) -> anyhow::Result<Vec<Operation>> {
        let mut converted = Vec::with_capacity(history.len());
        for operation in history {
            converted.push(forms::in_binary(&self.superuser, &self.table, operation).await?);
        }
        Ok(converted)
    }

    fn parcel(&mut self, operations: &[Operation]) -> Parcel {
        self.lsn += 0x10;
        let committed =
            Committed { xid: Xid(7), lsn: CommitLsn(Lsn(self.lsn)), committed_at_ms: 1_700_000_000_000 };
        let point =
            CommitPoint { transaction: Some(committed), state: ReplicaPhase::Live, ..CommitPoint::default() };
        let change = |operation: &Operation| Change {
            table: Arc::clone(&self.table),
            operation: operation.clone(),
            place: Place { partition: PartitionIndex(0), offset: 0 },
        };
        Parcel::new(operations.iter().map(change).collect(), 0, ParcelEnd::Commit(Box::new(point)))
    }
}

/// SplitMix64: the same numbers from the same seed, for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or(0) % limit.max(1)
    }

    /// A row of this key; partial leaves the label or the extra away, as an unchanged TOAST value is.
    fn row(&mut self, id: usize, partial: bool) -> Row {
        let mut row = RowBuilder::new(COLUMNS + 1);
        row.set(0, Cell::Text(&id.to_string()));
        let absent = if partial { self.below(3) } else { 0 };
        if absent != 1 {
            row.set(1, Cell::Text(TEXTS[self.below(TEXTS.len())]));
        }
        let amount = format!("{}.{:02}", self.below(1_000_000), self.below(100));
        row.set(2, if self.below(4) == 0 { Cell::Null } else { Cell::Text(&amount) });
        row.set(3, Cell::Text(["sad", "happy"][self.below(2)]));
        row.set(4, Cell::Text(["infinity", "2024-02-29T12:00:00.123456Z"][self.below(2)]));
        if absent != 2 {
            row.set(5, Cell::Text(["{\"a\": \"\\\\ \\t\"}", "null"][self.below(2)]));
        }
        row.set(6, if self.below(3) == 0 { Cell::Null } else { Cell::Text("{\"x\\\\y\",NULL,\"\"}") });
        row.finish()
    }

    /// Operations that can follow one another on a leader.
    fn history(&mut self, length: usize) -> Vec<Operation> {
        let mut present = BTreeSet::new();
        let mut history = Vec::new();
        while history.len() < length {
            let id = self.below(120);
            let key = |id: usize| {
                let mut row = RowBuilder::new(1);
                row.set(0, Cell::Text(&id.to_string()));
                row.finish().project(&[0])
            };
            match (self.below(12), present.contains(&id)) {
                (0, _) if self.below(10) == 0 => {
                    present.clear();
                    history.push(Operation::Truncate);
                }
                (1, true) => {
                    let to = self.below(120);
                    if present.insert(to) {
                        present.remove(&id);
                        history.push(Operation::Rekey { old: key(id), row: self.row(to, true) });
                    }
                }
                (2 | 3, true) => {
                    present.remove(&id);
                    history.push(Operation::Delete(key(id)));
                }
                (4, known) => {
                    let row = self.row(id, false);
                    history.push(if known { Operation::Update(row) } else { Operation::Copy(row) });
                    present.insert(id);
                }
                (5, _) => {
                    history.push(Operation::Fill(self.row(id, false)));
                    present.insert(id);
                }
                (_, true) => history.push(Operation::Update(self.row(id, true))),
                (_, false) => {
                    present.insert(id);
                    history.push(Operation::Insert(self.row(id, false)));
                }
            }
        }
        history
    }
}

#[tokio::test]
async fn every_technique_leaves_the_rows_of_source_order_in_both_forms() -> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    let singly =
        Cutoffs { singly: usize::MAX, copy: usize::MAX, stage: usize::MAX, parts: 0, ..Cutoffs::default() };
    let techniques = [
        singly,
        Cutoffs { singly: 0, ..singly },
        Cutoffs { singly: 0, copy: 1, ..singly },
        Cutoffs { singly: 0, stage: 1, ..singly },
        Cutoffs { singly: 1, copy: 3, stage: 5, parts: 8, worth: 1 },
        Cutoffs::default(),
    ];
    for seed in 0..6 {
        let mut random = Random(seed);
        let history = random.history(400);
        let in_binary = f.in_binary(&history).await?;
        let mut expected: Option<String> = None;
        for (form, history) in [(Form::Text, &history), (Form::Binary, &in_binary)] {
            for cutoffs in techniques {
                let (rows, in_source_order) = f
                    .apply(history, cutoffs, &mut random)
                    .await
                    .with_context(|| format!("seed {seed}, {form:?}, {cutoffs:?}"))?;
                assert_eq!(
                    in_source_order, 0,
                    "seed {seed}, {form:?}, {cutoffs:?}: the technique itself worked"
                );
                assert!(!rows.is_empty(), "seed {seed} leaves rows");
                let expected = expected.get_or_insert_with(|| rows.clone());
                assert_eq!(&rows, expected, "seed {seed}, {form:?}, {cutoffs:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_statement_before_or_in_a_copy_leads_to_source_order_on_the_same_session()
-> anyhow::Result<()> {
    let mut f = Fixture::new().await?;
    f.superuser.batch_execute("CREATE UNIQUE INDEX ON public.\"Mixed\" (amount)").await?;
    let row = |id: &str, amount: &str| {
        let mut row = Random(1).row(0, false);
        let mut changed = RowBuilder::new(COLUMNS + 1);
        changed.set(0, Cell::Text(id));
        changed.set(2, Cell::Text(amount));
        row = row.overlaid_with(&changed.finish());
        row
    };
    // 1 and 2 swap their unique value through a third, then one takes what another has just given up.
    let history = [
        Operation::Insert(row("1", "1")),
        Operation::Insert(row("2", "2")),
        Operation::Update(row("1", "3")),
        Operation::Update(row("2", "1")),
        Operation::Update(row("1", "2")),
        Operation::Insert(row("5", "5")),
        Operation::Update(row("2", "9")),
        Operation::Insert(row("4", "1")),
    ];
    let everything_bulk = Cutoffs { singly: 0, copy: 1, stage: 1, ..Cutoffs::default() };
    let mut applier = f.applier.take().context("an applier")?.with_cutoffs(everything_bulk);
    let first = f.parcel(&history[..2]);
    applier.apply(&[&first]).await?;
    for open in [false, true] {
        let swap = f.parcel(&history[2..6]);
        let applied = if open {
            applier.apply_part(&Parcel { end: ParcelEnd::Open, ..swap }).await?;
            applier.apply_part(&Parcel { end: ParcelEnd::Open, ..f.parcel(&history[6..]) }).await?;
            let ParcelEnd::Commit(point) = f.parcel(&[]).end else { unreachable!("it commits") };
            applier.commit_open(&point).await?
        } else {
            applier.apply(&[&swap]).await?
        };
        assert!(applied.in_source_order, "open: {open}");
        let rows = "SELECT string_agg(id || '=' || amount, ' ' ORDER BY id) FROM public.\"Mixed\"";
        let rows: String = f.superuser.query_one(rows, &[]).await?.get(0);
        let expected = if open { "1=2.00 2=9.00 4=1.00 5=5.00" } else { "1=2.00 2=1.00 5=5.00" };
        assert_eq!(rows, expected, "open: {open}");
        if !open {
            f.superuser.batch_execute("TRUNCATE public.\"Mixed\"").await?;
            let first = f.parcel(&history[..2]);
            applier.apply(&[&first]).await?;
        }
    }
    Ok(())
}
