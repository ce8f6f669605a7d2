//! What a leader did and a connector wrote of it, killed again and again.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Out, begin, change, end};
use crate::decode::debezium::Boundary;

/// A row's transaction, its numbers in the transaction and in the table, and its position.
type Numbered = (u32, (u64, u64), u64);

/// A run of the leader and the connector: what stands in each partition, and what must come out.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) spine: Vec<Boundary>,
    /// Per table.
    pub(super) rows: Vec<Vec<Numbered>>,
    /// Per table: how many of its rows had been stored for sure before the connector was started again.
    pub(super) stored: Vec<usize>,
    pub(super) expected: Vec<Out>,
}

pub(super) const TABLES: u32 = 3;

/// What the connector writes, one after the other.
#[derive(Debug, Clone)]
enum Written {
    Boundary(Boundary),
    Row { xid: u32, lsn: u64, table: u32 },
}

/// How a connector that was killed within a transaction numbers the events that it writes from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// As before.
    On,
    /// From 1, after another BEGIN.
    Anew,
    /// On from the event that it sends first, which it had counted already. Observed with connector 3.7 where a truncate of two
    /// tables makes two events of one position.
    Twice,
}

/// The numbering of one transaction's events from `from` on, as (number before it, number before it of each table).
#[derive(Debug, Clone)]
struct Numbers {
    xid: u32,
    from: u64,
    before: (u64, BTreeMap<u32, u64>),
}

impl Numbers {
    /// The numbers of the event at `lsn`, and how many of each table there are by then. `tables`: the table of each event.
    fn at(&self, lsn: u64, tables: &[u32]) -> ((u64, u64), BTreeMap<u32, u64>) {
        let (mut total, mut counts) = self.before.clone();
        let mut last = 0;
        for (&table, at) in tables.iter().zip(1..).filter(|(_, at)| (self.from..=lsn).contains(at)) {
            let count = counts.entry(table).or_insert(0);
            *count += 1;
            (total, last) = (total + 1, if at == lsn { *count } else { last });
        }
        ((total, last), counts)
    }
}

/// The leader's transactions as the connector writes them, from `transactions`: the table of each event.
///
/// `kills`: after so many records the connector is killed, and goes back by so many: to any record, since its offset may
/// have been flushed anywhere. Observed with connector 3.7: back to a BEGIN, into the middle of the open transaction or of
/// an applied one, without another BEGIN. Within a transaction, the third says how the rest is counted. The fourth are the
/// tables of which nothing is left that was sent behind where it goes back to, although END may be there.
pub(super) fn history(transactions: &[Vec<u32>], kills: &[(usize, usize, Counting, u8)]) -> History {
    let rows = vec![Vec::new(); TABLES as usize];
    let mut h = History { spine: Vec::new(), rows, stored: vec![0; TABLES as usize], expected: Vec::new() };
    let mut records = Vec::new();
    let mut tables_of = BTreeMap::new();
    for (number, tables) in transactions.iter().enumerate() {
        // Transactions that overlap on the leader have xids in another order than their commits.
        let xid = 1000 + (u32::try_from(number).unwrap() ^ 1);
        tables_of.insert(xid, tables.clone());
        records.push(Written::Boundary(begin(xid)));
        records.extend(tables.iter().zip(1..).map(|(&table, lsn)| Written::Row { xid, lsn, table }));
        records.push(Written::Boundary(end(xid, 10 * (number as u64 + 1), &[])));
        h.expected.extend(tables.iter().zip(1..).map(|(t, order)| change(*t, order)));
        h.expected.push(Out::Commit(xid));
    }
    let plain = |xid| Numbers { xid, from: 1, before: (0, BTreeMap::new()) };
    let mut position = 0;
    // How the transaction is numbered within which the connector was killed last, and from where on.
    let mut special: Option<(Numbers, usize)> = None;
    let mut stops: Vec<_> =
        kills.iter().map(|(after, back, counting, lost)| (*after, Some((*back, *counting, *lost)))).collect();
    stops.push((records.len(), None));
    for (after, kill) in stops {
        let killed_at = (position + after).min(records.len());
        for record in &records[position..killed_at] {
            let numbers = |of: u32| match &special {
                Some((numbers, _)) if numbers.xid == of => numbers.clone(),
                _ => plain(of),
            };
            match record {
                Written::Boundary(Boundary::End { xid, lsn, .. }) => {
                    let (_, counts) = numbers(xid.0).at(u64::MAX, &tables_of[&xid.0]);
                    h.spine.push(end(xid.0, lsn.0.0, &counts.into_iter().collect::<Vec<_>>()));
                }
                Written::Boundary(boundary) => h.spine.push(boundary.clone()),
                Written::Row { xid, lsn, table } => {
                    let (orders, _) = numbers(*xid).at(*lsn, &tables_of[xid]);
                    h.rows[*table as usize].push((*xid, orders, *lsn));
                }
            }
        }
        let Some((back, counting, lost)) = kill else { break };
        let written = position..killed_at;
        // Stored positions never go back.
        position = killed_at.saturating_sub(back).max(special.as_ref().map_or(0, |(_, floor)| *floor));
        for (table, stored) in (0..).zip(&mut h.stored) {
            let is_of = |r: &&Written| matches!(r, Written::Row { table: of, .. } if *of == table);
            let behind = position.max(written.start).min(killed_at)..killed_at;
            let again = records[behind].iter().filter(is_of).count();
            let rows = &mut h.rows[table as usize];
            let kept = rows.len() - again;
            if lost & (1 << table) != 0 {
                rows.truncate(kept);
            }
            *stored = (*stored).max(kept);
        }
        let Some(&Written::Row { xid, lsn, table }) = records.get(position) else { continue };
        let before = match &special {
            Some((numbers, _)) if numbers.xid == xid => numbers.clone(),
            _ => plain(xid),
        };
        let last = h.rows[table as usize].last();
        let before = match counting {
            Counting::Anew => {
                h.spine.push(begin(xid));
                (0, BTreeMap::new())
            }
            // Only what was sent was counted. With nothing behind it, it looks like one more row of the same record.
            Counting::Twice
                if written.contains(&position)
                    && last.is_some_and(|(x, _, furthest)| *x == xid && *furthest > lsn) =>
            {
                let ((total, _), counts) = before.at(lsn, &tables_of[&xid]);
                (total, counts)
            }
            Counting::On | Counting::Twice => continue,
        };
        special = Some((Numbers { xid, from: lsn, before }, position));
    }
    h
}

pub(super) fn counting() -> impl Strategy<Value = Counting> {
    prop_oneof![Just(Counting::On), Just(Counting::Anew), Just(Counting::Twice)]
}
