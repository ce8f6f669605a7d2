//! A target transaction that takes several parcels: what it has done so far, and its savepoints.
//!
//! ```text
//! BEGIN ─ part ─ part ─ SAVEPOINT sub_1 ─ part ─ SAVEPOINT sub_2 ─ part ─ …
//! ```
//!
//! Each part is behind a savepoint, to which it is taken back when folding it fails; only the last part's is kept. A streamed
//! transaction has one more for each subtransaction that the leader may still roll back.

use crate::replica::ReplicaError;

/// What a transaction has done that is written and not committed.
#[derive(Debug, Default, Clone)]
pub(super) struct Done {
    pub(super) changes: usize,
    pub(super) inserted_for_missing: u64,
    pub(super) fetched_for_missing: u64,
    pub(super) in_source_order: bool,
    /// Ids of its changes that are in the quarantine.
    pub(super) kept: Vec<i64>,
}

/// A transaction that has begun.
#[derive(Debug, Default)]
pub(super) struct OpenTransaction {
    pub(super) done: Done,
    /// What had been done before each of the subtransactions around the next change.
    outer: Vec<Done>,
    /// Whether there is a savepoint of a part.
    has_part: bool,
}

impl OpenTransaction {
    /// The statements that lead to a part within `depth` subtransactions.
    ///
    /// # Errors
    /// When one of them has never begun.
    pub(super) fn begin_part(&mut self, depth: usize) -> Result<String, ReplicaError> {
        let mut sql = String::new();
        if self.has_part {
            sql.push_str("RELEASE SAVEPOINT part; ");
        }
        if depth < self.outer.len() {
            // Those within it go with it.
            sql.push_str(&format!("RELEASE SAVEPOINT sub_{}; ", depth + 1));
            self.outer.truncate(depth);
        } else if depth == self.outer.len() + 1 {
            sql.push_str(&format!("SAVEPOINT sub_{depth}; "));
            self.outer.push(self.done.clone());
        } else if depth > self.outer.len() {
            return Err(ReplicaError::Plan("a subtransaction within one that has not begun"));
        }
        sql.push_str("SAVEPOINT part");
        self.has_part = true;
        Ok(sql)
    }

    /// The statements that take the subtransaction at `depth`, which is not 0, and all within it back.
    ///
    /// # Errors
    /// When it has never begun.
    pub(super) fn take_back(&mut self, depth: usize) -> Result<String, ReplicaError> {
        let before = depth.checked_sub(1).and_then(|around| self.outer.get(around).cloned());
        self.done = before.ok_or(ReplicaError::Plan("the end of a subtransaction that has not begun"))?;
        self.outer.truncate(depth - 1);
        self.has_part = false;
        Ok(format!("ROLLBACK TO SAVEPOINT sub_{depth}; RELEASE SAVEPOINT sub_{depth}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn savepoints_follow_the_subtransactions_and_counts_go_back_with_them() {
        let mut open = OpenTransaction::default();
        let part = |open: &mut OpenTransaction, depth| {
            let sql = open.begin_part(depth).unwrap();
            open.done.changes += 1;
            sql
        };
        assert_eq!(part(&mut open, 0), "SAVEPOINT part");
        assert_eq!(part(&mut open, 0), "RELEASE SAVEPOINT part; SAVEPOINT part");
        assert_eq!(part(&mut open, 1), "RELEASE SAVEPOINT part; SAVEPOINT sub_1; SAVEPOINT part");
        assert_eq!(part(&mut open, 2), "RELEASE SAVEPOINT part; SAVEPOINT sub_2; SAVEPOINT part");
        assert_eq!(open.take_back(1).unwrap(), "ROLLBACK TO SAVEPOINT sub_1; RELEASE SAVEPOINT sub_1");
        assert_eq!(open.done.changes, 2);
        assert_eq!(part(&mut open, 1), "SAVEPOINT sub_1; SAVEPOINT part");
        assert_eq!(part(&mut open, 2), "RELEASE SAVEPOINT part; SAVEPOINT sub_2; SAVEPOINT part");
        assert_eq!(part(&mut open, 0), "RELEASE SAVEPOINT part; RELEASE SAVEPOINT sub_1; SAVEPOINT part");
        assert_eq!(open.done.changes, 5);
    }

    #[test]
    fn what_has_not_begun_is_a_mistake_of_this_program() {
        let mut open = OpenTransaction::default();
        assert!(matches!(open.begin_part(2), Err(ReplicaError::Plan(_))));
        assert!(matches!(open.take_back(1), Err(ReplicaError::Plan(_))));
        assert!(matches!(open.take_back(0), Err(ReplicaError::Plan(_))));
    }
}
