//! CPU time of a system, by part.

use std::collections::BTreeMap;

use super::carrier::Carrier;
use super::stage::Stage;
use crate::daemon::Daemon;
use crate::process;
use crate::system::server_name;

/// The parts, in the order in which changes pass them: every process of the servers, of the broker and Connect where they take
/// part, and the replicator.
const PARTS: [&str; 6] = ["leader", "walsenders", "connect", "broker", "daemon", "replicas"];

/// CPU seconds so far.
#[derive(Debug, Clone)]
pub(crate) struct Usage(BTreeMap<&'static str, f64>);

impl Usage {
    /// Of everything but `lookers`, the backends that this process looks at the replicas with.
    ///
    /// A backend that has ended is counted with its server: a walsender that ended in between, with the leader.
    pub(crate) fn now(
        stage: &Stage<'_>,
        carrier: Carrier,
        daemon: Option<&Daemon>,
        lookers: &[u32],
    ) -> anyhow::Result<Self> {
        let mut parts = BTreeMap::from([("leader", 0.0), ("walsenders", 0.0), ("replicas", 0.0)]);
        for server in 0..=stage.servers() {
            for share in process::shares(stage.system.pid(&server_name(server))?)? {
                if lookers.contains(&share.pid) {
                    continue;
                }
                let part = match server {
                    0 if share.title.contains("walsender") => "walsenders",
                    0 => "leader",
                    _ => "replicas",
                };
                *parts.entry(part).or_default() += share.seconds;
            }
        }
        if carrier.uses_broker() {
            for part in ["connect", "broker"] {
                parts.insert(part, process::cpu_seconds(stage.system.pid(part)?)?);
            }
        }
        if let Some(daemon) = daemon {
            parts.insert("daemon", daemon.cpu_seconds()?);
        }
        Ok(Self(parts))
    }

    /// What was used since an earlier moment, by part and as `all`, divided by `units` and in microseconds.
    pub(crate) fn since(&self, earlier: &Self, units: f64) -> BTreeMap<&'static str, f64> {
        let used = |part| self.0.get(part).unwrap_or(&0.0) - earlier.0.get(part).unwrap_or(&0.0);
        let known = PARTS.into_iter().filter(|part| self.0.contains_key(part));
        let mut each: BTreeMap<_, _> = known.map(|part| (part, used(part) * 1e6 / units)).collect();
        let all = each.values().sum();
        each.insert("all", all);
        each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_per_unit_and_has_a_sum() {
        let before = Usage(BTreeMap::from([("leader", 1.0), ("replicas", 2.0)]));
        let after = Usage(BTreeMap::from([("leader", 1.5), ("replicas", 4.0), ("daemon", 0.5)]));
        let each = after.since(&before, 1000.0);
        assert_eq!(each["leader"], 500.0);
        assert_eq!(each["daemon"], 500.0);
        assert_eq!(each["all"], 3000.0);
        assert_eq!(each.get("broker"), None);
    }
}
