//! Which transaction comes next.

use std::collections::VecDeque;

use super::shape::Table;
use super::{Lab, statement};
use crate::random::Random;

/// Rows of a large transaction: more than one parcel of the replicator holds.
const LARGE: u64 = 10_000;

/// Rows that a table keeps when it is trimmed.
const KEPT: u64 = 250;

/// One transaction for the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    statements: Vec<String>,
    commits: bool,
}

impl Transaction {
    fn of(statements: Vec<String>) -> Self {
        Self { statements, commits: true }
    }

    /// The whole of it, as one script.
    pub fn sql(&self) -> String {
        let end = if self.commits { "COMMIT" } else { "ROLLBACK" };
        format!("BEGIN; {}; {end}", self.statements.join("; "))
    }

    /// Whether it ends with COMMIT.
    pub fn commits(&self) -> bool {
        self.commits
    }
}

/// The kinds of transaction and how often each comes, in parts of the sum. A large one is as much work for the connector as
/// a thousand others, so it comes as seldom as makes both matter.
const MIX: &[(Kind, u64)] = &[
    (Kind::Mixed, 120),
    (Kind::Savepoint, 32),
    (Kind::RolledBack, 16),
    (Kind::Bag, 56),
    (Kind::Rekey, 32),
    (Kind::Swap, 24),
    (Kind::DeferredSwap, 16),
    (Kind::Shift, 24),
    (Kind::SameRow, 24),
    (Kind::Family, 24),
    (Kind::TruncateFamily, 4),
    (Kind::TruncateBag, 4),
    (Kind::Documents, 32),
    (Kind::Wide, 12),
    (Kind::Large, 1),
    (Kind::LargeInParts, 3),
    (Kind::Trim, 24),
    (Kind::Empty, 12),
    (Kind::Message, 12),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Mixed,
    Savepoint,
    RolledBack,
    Bag,
    Rekey,
    Swap,
    DeferredSwap,
    Shift,
    SameRow,
    Family,
    TruncateFamily,
    TruncateBag,
    Documents,
    Wide,
    Large,
    LargeInParts,
    Trim,
    Empty,
    Message,
}

/// Makes transactions from a seed.
#[derive(Debug)]
pub struct Writer<'a> {
    lab: &'a Lab,
    random: Random,
    planned: VecDeque<Transaction>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(lab: &'a Lab, random: Random) -> Self {
        // Parents before the children that refer to them: the tables come in that order.
        let first = lab.tables.iter().map(|table| Transaction::of(vec![statement::insert(table, 30)]));
        let planned = first.collect();
        Self { lab, random, planned }
    }

    /// The next transaction; the first ones fill the tables.
    pub fn next_transaction(&mut self) -> Transaction {
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        let mut ticket = self.random.below(MIX.iter().map(|(_, share)| share).sum());
        let kind = MIX.iter().find(|(_, share)| {
            let is_hit = ticket < *share;
            ticket = ticket.saturating_sub(*share);
            is_hit
        });
        self.of_kind(kind.map_or(Kind::Mixed, |(kind, _)| *kind))
    }

    fn of_kind(&mut self, kind: Kind) -> Transaction {
        match kind {
            Kind::Mixed => Transaction::of(self.mixed()),
            Kind::Savepoint => Transaction::of(self.savepoints()),
            Kind::RolledBack => Transaction { statements: self.mixed(), commits: false },
            Kind::Bag => Transaction::of(self.bag()),
            Kind::Rekey => Transaction::of(self.rekey()),
            Kind::Swap => Transaction::of(vec![SWAP.to_owned()]),
            Kind::DeferredSwap => Transaction::of(vec![DEFERRED_SWAP.to_owned()]),
            Kind::Shift => Transaction::of(self.shift()),
            Kind::SameRow => Transaction::of(self.same_row()),
            Kind::Family => Transaction::of(self.family()),
            Kind::TruncateFamily => Transaction::of(self.truncate_family()),
            Kind::TruncateBag => {
                let bag = self.one_of(Table::is_keyless);
                Transaction::of(vec![format!("TRUNCATE {}", bag.sql_name()), statement::insert(bag, 20)])
            }
            Kind::Documents => Transaction::of(self.documents()),
            Kind::Wide => {
                let wide = self.named("wide");
                let update = statement::update(wide, 5, &mut self.random);
                Transaction::of(vec![statement::insert(wide, 3), update])
            }
            Kind::Large => self.large(),
            Kind::LargeInParts => self.large_in_parts(),
            Kind::Trim => Transaction::of(vec![statement::trim(self.any(), KEPT)]),
            // An xid without a change: the connector reports it, or not, and the watermark passes it.
            Kind::Empty => Transaction::of(vec!["SELECT pg_current_xact_id()".to_owned()]),
            Kind::Message => Transaction::of(self.message()),
        }
    }

    /// Several statements on several tables.
    fn mixed(&mut self) -> Vec<String> {
        (0..self.random.between(1, 5)).map(|_| self.statement()).collect()
    }

    fn statement(&mut self) -> String {
        let table = self.any();
        let count = self.random.between(1, 12);
        match self.random.below(10) {
            0..=3 => statement::insert(table, count),
            4..=6 => statement::update(table, count, &mut self.random),
            7 if !table.is_keyless() => statement::rekey(table, 1, &mut self.random),
            7 => statement::touch(table, count),
            _ => statement::delete(table, count),
        }
    }

    /// Subtransactions have xids of their own; only what stays may arrive.
    fn savepoints(&mut self) -> Vec<String> {
        let mut statements = vec![self.statement(), "SAVEPOINT first".to_owned()];
        statements.extend(self.mixed());
        statements.push("ROLLBACK TO SAVEPOINT first".to_owned());
        statements.push(self.statement());
        statements.push("SAVEPOINT second".to_owned());
        statements.push(self.statement());
        statements.push("RELEASE SAVEPOINT second".to_owned());
        statements
    }

    /// Equal rows come, one of them changes, some of them go.
    fn bag(&mut self) -> Vec<String> {
        let bag = self.one_of(Table::is_keyless);
        let copies = self.random.between(2, 6);
        vec![
            statement::insert_equal(bag, copies),
            statement::touch(bag, 1),
            statement::update(bag, 3, &mut self.random),
            statement::delete(bag, self.random.between(1, 5)),
        ]
    }

    fn rekey(&mut self) -> Vec<String> {
        let table = self.one_of(|table| !table.is_keyless());
        let count = self.random.between(1, 4);
        vec![
            statement::rekey(table, count, &mut self.random),
            statement::touch(table, 3),
            statement::rekey(table, 1, &mut self.random),
        ]
    }

    /// Every key of a line moves by one, through keys that nobody has; then two rows change places through a third key.
    fn shift(&mut self) -> Vec<String> {
        let line = self.random.below(5);
        vec![
            statement::insert(self.named("shift"), 3),
            format!("UPDATE lab.shift SET position = -position - 2 WHERE line = {line}"),
            format!("UPDATE lab.shift SET position = -position - 1 WHERE line = {line} AND position < 0"),
        ]
    }

    /// One row inserted, changed, given another key and back, deleted and inserted again.
    fn same_row(&mut self) -> Vec<String> {
        let id = -self.random.between(1, 5).cast_signed();
        let swap = "lab.swap";
        vec![
            format!("DELETE FROM {swap} WHERE id = {id}"),
            format!("INSERT INTO {swap} VALUES ({id}, {id}, 'first', 1)"),
            format!("UPDATE {swap} SET label = 'second', weight = weight + 1 WHERE id = {id}"),
            format!("UPDATE {swap} SET id = id - 1000 WHERE id = {id}"),
            format!("UPDATE {swap} SET id = id + 1000, label = NULL WHERE id = {id} - 1000"),
            format!("DELETE FROM {swap} WHERE id = {id}"),
            format!("INSERT INTO {swap} VALUES ({id}, {id}, 'third', 2)"),
        ]
    }

    fn family(&mut self) -> Vec<String> {
        let (parent, child) = (self.named("parent"), self.named("child"));
        let mut statements = vec![statement::insert(parent, 2), statement::insert(child, 4)];
        if self.random.chance(50) {
            statements.push(statement::delete(parent, 1));
        }
        if self.random.chance(30) {
            statements.push(statement::rekey(parent, 1, &mut self.random));
        }
        statements
    }

    /// Truncates both tables, in one of three ways, and fills them again.
    fn truncate_family(&mut self) -> Vec<String> {
        let (parent, child) = (self.named("parent"), self.named("child"));
        let ways = [
            "TRUNCATE lab.parent, lab.child",
            "TRUNCATE lab.parent CASCADE",
            "TRUNCATE lab.child, lab.parent",
        ];
        vec![
            statement::insert(child, 2),
            (*self.random.pick(&ways)).to_owned(),
            statement::insert(parent, 20),
            statement::insert(child, 40),
        ]
    }

    /// Long values: mostly left unchanged, once in a while written, carried along by a new key.
    fn documents(&mut self) -> Vec<String> {
        let docs = self.one_of(|table| table.name().starts_with("docs"));
        let mut statements = vec![statement::touch(docs, 5), statement::touch(docs, 2)];
        match self.random.below(4) {
            0 => statements.push(statement::insert(docs, 2)),
            1 => statements.push(statement::rekey(docs, 1, &mut self.random)),
            2 => statements.push(statement::update(docs, 2, &mut self.random)),
            _ => statements.push(statement::delete(docs, 1)),
        }
        statements
    }

    /// Some ten thousand rows come at once, half of them change, and in the next transaction most of them go.
    fn large(&mut self) -> Transaction {
        let is_large = |table: &Table| table.name().starts_with("random") || table.is_keyless();
        let table = self.one_of(is_large);
        // Rows without a key are found one by one.
        let (rows, changed) = if table.is_keyless() { (LARGE / 10, 50) } else { (LARGE, LARGE / 2) };
        self.planned.push_back(Transaction::of(vec![statement::trim(table, KEPT)]));
        Transaction::of(vec![statement::insert(table, rows), statement::touch(table, changed)])
    }

    /// Large enough that the leader sends it while it runs, in parts of which some are rolled back; every third one as a whole.
    fn large_in_parts(&mut self) -> Transaction {
        let table = self.one_of(|table| table.name().starts_with("random"));
        let rows = LARGE / 10;
        let statements = vec![
            statement::insert(table, rows),
            "SAVEPOINT first".to_owned(),
            statement::insert(table, rows),
            "SAVEPOINT second".to_owned(),
            statement::touch(table, rows / 2),
            "ROLLBACK TO SAVEPOINT first".to_owned(),
            statement::delete(table, 5),
            "SAVEPOINT third".to_owned(),
            statement::insert(table, rows),
            "RELEASE SAVEPOINT third".to_owned(),
            statement::touch(table, rows / 2),
            statement::rekey(table, 3, &mut self.random),
        ];
        self.planned.push_back(Transaction::of(vec![statement::trim(table, KEPT)]));
        Transaction { statements, commits: !self.random.chance(33) }
    }

    fn message(&mut self) -> Vec<String> {
        let is_transactional = self.random.chance(70);
        let message = format!("SELECT pg_logical_emit_message({is_transactional}, 'lab', 'a message')");
        if self.random.chance(50) { vec![message, self.statement()] } else { vec![message] }
    }

    fn any(&mut self) -> &'a Table {
        self.random.pick(&self.lab.tables)
    }

    fn one_of(&mut self, is_meant: impl Fn(&Table) -> bool) -> &'a Table {
        let tables: Vec<_> = self.lab.tables.iter().filter(|table| is_meant(table)).collect();
        tables[self.random.index(tables.len())]
    }

    fn named(&self, name: &str) -> &'a Table {
        let found = self.lab.tables.iter().find(|table| table.name() == name);
        found.unwrap_or(&self.lab.tables[0])
    }
}

/// Two rows swap their unique values through a third.
const SWAP: &str = "
DO $$ DECLARE a lab.swap; b lab.swap; BEGIN
    SELECT * INTO a FROM lab.swap ORDER BY random() LIMIT 1 FOR UPDATE;
    SELECT * INTO b FROM lab.swap WHERE id <> a.id ORDER BY random() LIMIT 1 FOR UPDATE;
    IF b.id IS NULL THEN RETURN; END IF;
    UPDATE lab.swap SET tag = -9e15 - a.id WHERE id = a.id;
    UPDATE lab.swap SET tag = a.tag WHERE id = b.id;
    UPDATE lab.swap SET tag = b.tag WHERE id = a.id;
END $$";

/// Three rows pass their unique values on in one statement, which only a deferred constraint allows.
const DEFERRED_SWAP: &str = "
WITH some_rows AS (
    SELECT id, tag, row_number() OVER (ORDER BY id) AS n, count(*) OVER () AS count
    FROM (SELECT id, tag FROM lab.deferred_swap ORDER BY random() LIMIT 3) AS picked)
UPDATE lab.deferred_swap AS t SET tag = other.tag, weight = weight + 1
FROM some_rows JOIN some_rows AS other ON other.n = some_rows.n % some_rows.count + 1
WHERE t.id = some_rows.id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_transactions_and_no_kind_is_left_out() {
        let lab = Lab::new(5);
        let sql = |number| {
            let mut writer = lab.writer(number);
            (0..3000).map(|_| writer.next_transaction().sql()).collect::<Vec<_>>()
        };
        assert_eq!(sql(1), sql(1));
        assert_ne!(sql(1), sql(2));
        let all = sql(1).join("\n");
        for needed in
            ["TRUNCATE lab.", "SAVEPOINT third", "ROLLBACK", "emit_message", "10000", "'third'", "CASCADE"]
        {
            assert!(all.contains(needed), "{needed}");
        }
    }
}
