//! What a page shows of one replica on request.

use jiff::Timestamp;

/// A table's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCounters {
    /// As `schema.table`.
    pub table: String,
    /// Rows inserted since the server's statistics began.
    pub inserted: i64,
    /// Rows updated.
    pub updated: i64,
    /// Rows deleted.
    pub deleted: i64,
    /// Rows there are, about.
    pub rows_about: i64,
}

/// A table and how many rows it has.
pub type RowCount = (String, i64);

/// A change that a replica refused and that nobody has decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number in the replica's quarantine.
    pub id: i64,
    /// Since when.
    pub at: Timestamp,
    /// As `schema.table`.
    pub table: String,
    /// `insert`, `update`, …
    pub operation: String,
    /// By which the row is found, as JSON.
    pub key: Option<String>,
    /// PostgreSQL's code, when it was PostgreSQL that refused.
    pub sqlstate: Option<String>,
    /// Why.
    pub message: String,
    /// Where the record is, as `topic/partition at offset`.
    pub place: String,
    /// The leader's transaction.
    pub xid: Option<i64>,
    /// How often it was tried again in vain.
    pub retries: i32,
}

/// A table on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// As `schema.table`.
    pub table: String,
    /// Rows on the leader.
    pub leader: i64,
    /// Rows on the replica.
    pub replica: Option<i64>,
}

impl Compared {
    /// Whether both have the same number of rows.
    pub fn agrees(&self) -> bool {
        self.replica == Some(self.leader)
    }
}

/// Puts both sides beside each other, by the leader's tables: those that its login may read. One that the replica lacks has
/// no number there.
pub fn compare(leader: &[RowCount], replica: &[RowCount]) -> Vec<Compared> {
    let compared = |(table, rows): &RowCount| Compared {
        table: table.clone(),
        leader: *rows,
        replica: replica.iter().find(|(name, _)| name == table).map(|(_, rows)| *rows),
    };
    leader.iter().map(compared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_the_replica_lacks_does_not_agree() {
        let side =
            |tables: &[(&str, i64)]| tables.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect::<Vec<_>>();
        let compared =
            compare(&side(&[("a", 1), ("b", 2), ("c", 0)]), &side(&[("a", 1), ("b", 3), ("secret", 7)]));
        let agrees: Vec<_> = compared.iter().map(|c| (c.table.as_str(), c.agrees())).collect();
        assert_eq!(agrees, [("a", true), ("b", false), ("c", false)]);
        assert_eq!((compared[2].leader, compared[2].replica), (0, None));
    }
}
