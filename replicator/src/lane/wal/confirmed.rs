//! What the leader may forget: that which every replica has stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::vocabulary::lsn::Lsn;

/// How far each replica is. The leader's slot never moves past the last of them, known or not.
#[derive(Debug)]
pub(in crate::lane) struct Confirmed(Mutex<BTreeMap<String, Option<Lsn>>>);

impl Confirmed {
    /// Nothing is known of these replicas yet.
    pub(in crate::lane) fn new(replicas: impl IntoIterator<Item = String>) -> Self {
        Confirmed(Mutex::new(replicas.into_iter().map(|name| (name, None)).collect()))
    }

    /// A replica has stored everything up to here. A lower position than before counts, too: the replica was restored.
    pub(in crate::lane) fn stored(&self, replica: &str, position: Lsn) {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = positions.get_mut(replica) {
            *known = Some(position);
        }
    }

    /// What every replica has stored; none as long as one of them has not said how far it is.
    pub(in crate::lane) fn by_all(&self) -> Option<Lsn> {
        let positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        positions.values().copied().min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_replica_decides_and_an_unknown_one_forbids() {
        let confirmed = Confirmed::new(["a", "b"].map(str::to_owned));
        confirmed.stored("a", Lsn(7));
        assert_eq!(confirmed.by_all(), None);
        confirmed.stored("b", Lsn(5));
        assert_eq!(confirmed.by_all(), Some(Lsn(5)));
        confirmed.stored("b", Lsn(9));
        assert_eq!(confirmed.by_all(), Some(Lsn(7)));
        confirmed.stored("somebody else", Lsn(1));
        assert_eq!(confirmed.by_all(), Some(Lsn(7)));
    }
}
