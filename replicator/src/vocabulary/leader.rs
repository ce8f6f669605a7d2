//! Which leader a position is of.

use std::fmt;
use std::str::FromStr;

/// A history of WAL positions: the same position of another one is another place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct History {
    /// The cluster's identifier, made by `initdb` and the same on every physical copy.
    pub system_id: u64,
    /// Counts failovers and recoveries to a point in time.
    pub timeline: u32,
}

/// One run of a leader's server, from its start to its end. Within it no commit is ever taken back; the next run may be of
/// data that were restored to an older state, which neither the identifier nor the timeline tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaderRun {
    /// The history that its positions belong to.
    pub history: History,
    /// When the server was started, in microseconds since 1970 by its clock.
    pub started_at_us: i64,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system_id, self.timeline)
    }
}

/// The text is not `ID/TIMELINE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a history is written as the system's identifier, a slash, and the timeline")]
pub struct HistoryParseError;

impl FromStr for History {
    type Err = HistoryParseError;

    fn from_str(text: &str) -> Result<Self, HistoryParseError> {
        let (system_id, timeline) = text.split_once('/').ok_or(HistoryParseError)?;
        let system_id = system_id.parse().map_err(|_| HistoryParseError)?;
        Ok(History { system_id, timeline: timeline.parse().map_err(|_| HistoryParseError)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_as_it_is_written() {
        let history = History { system_id: 7_312_345_678_901_234_567, timeline: 2 };
        assert_eq!(history.to_string(), "7312345678901234567/2");
        assert_eq!(history.to_string().parse(), Ok(history));
        for wrong in ["", "1", "1/", "/1", "1/x", "1/2/3", "-1/1"] {
            assert_eq!(wrong.parse::<History>(), Err(HistoryParseError), "{wrong}");
        }
    }
}
