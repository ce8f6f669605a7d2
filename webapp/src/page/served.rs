//! Who answered a page, and why it was that one: the two sentences that each page shows. Pure.

use crate::db::Served;
use crate::db::leader::Leader;
use crate::db::route::FallbackReason;
use crate::db::route::strategy::Strategy;

/// "Read from replica-2 · 0.8 ms · complete up to 0.4 s ago".
pub(super) fn who(served: &Served) -> String {
    let took = format!("{:.1} ms", served.duration.as_secs_f64() * 1000.0);
    let mut words = match (served.fallback, served.lag) {
        (Some(reason), _) => format!("Read from the leader: {} · {took}", reason.sentence()),
        (None, Some(_)) if is_leader(served) => format!("Answered by the leader · {took} · up to date"),
        (None, lag) => {
            let fresh = lag.map_or_else(
                || "age unknown".to_owned(),
                |lag| format!("complete up to {}", super::ago(lag)),
            );
            format!("Read from {} · {took} · {fresh}", served.by)
        }
    };
    if !served.waited.is_zero() {
        words.push_str(&format!(" · waited {} ms for your write to arrive", served.waited.as_millis()));
    }
    words
}

/// Why it was this one. `strategy` is how replicas are chosen; `has_written`: the caller's own writes are known, so the
/// answer has them.
pub(super) fn why(served: &Served, strategy: Strategy, has_written: bool) -> String {
    let reason = match served.fallback {
        Some(FallbackReason::Behind) => {
            return "The leader always has it. Replicas answer again as soon as they do.".to_owned();
        }
        Some(_) => return "Replicas answer again as soon as one of them can.".to_owned(),
        None if is_leader(served) => {
            return "Why the leader? It takes all writes, so nothing is newer.".to_owned();
        }
        None if served.retried => "another one did not answer",
        None if !served.waited.is_zero() => "it was waited for until it had what you wrote or saw before",
        None => match strategy {
            Strategy::RoundRobin => "it was next in turn",
            Strategy::Random => "it was drawn at random",
            Strategy::LeastInFlight => "none had fewer reads under way",
            Strategy::PowerOfTwo => "two were drawn at random, and it was not the busier one",
            Strategy::Sticky => "one replica is kept as long as it answers",
        },
    };
    let own = if has_written { ". It has everything that you wrote" } else { "" };
    format!("Why {}? Because {reason}{own}.", served.by)
}

fn is_leader(served: &Served) -> bool {
    served.by == Leader::NAME
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn served() -> Served {
        Served {
            by: "replica-2".to_owned(),
            fallback: None,
            duration: Duration::from_micros(800),
            waited: Duration::ZERO,
            lag: Some(Duration::from_millis(400)),
            retried: false,
        }
    }

    #[test]
    fn who_answered_is_said_in_words() {
        assert_eq!(who(&served()), "Read from replica-2 · 0.8 ms · complete up to 0.4 s ago");
        let waited = Served { waited: Duration::from_millis(12), lag: None, ..served() };
        assert_eq!(
            who(&waited),
            "Read from replica-2 · 0.8 ms · age unknown · waited 12 ms for your write to arrive"
        );
        let behind = Served { fallback: Some(FallbackReason::Behind), ..served() };
        assert_eq!(who(&behind), "Read from the leader: no replica had your write yet · 0.8 ms");
    }

    #[test]
    fn why_it_answered_is_said_in_words() {
        let turn = |served: &Served, has_written| why(served, Strategy::RoundRobin, has_written);
        assert_eq!(turn(&served(), false), "Why replica-2? Because it was next in turn.");
        assert_eq!(
            turn(&served(), true),
            "Why replica-2? Because it was next in turn. It has everything that you wrote."
        );
        let retried = Served { retried: true, ..served() };
        assert_eq!(turn(&retried, false), "Why replica-2? Because another one did not answer.");
        let waited = Served { waited: Duration::from_millis(12), ..served() };
        assert!(turn(&waited, true).contains("it was waited for until it had what"));
        let asked = Served { by: Leader::NAME.to_owned(), ..served() };
        assert!(turn(&asked, true).starts_with("Why the leader? It takes all writes"));
        let down = Served { fallback: Some(FallbackReason::AllDown), ..asked };
        assert!(turn(&down, false).starts_with("Replicas answer again"));
    }

    #[test]
    fn each_strategy_gives_a_reason_of_its_own() {
        let reasons = Strategy::ALL.map(|strategy| why(&served(), strategy, false));
        let others = |index: usize| reasons[..index].contains(&reasons[index]);
        assert!(!(0..reasons.len()).any(others), "{reasons:?}");
    }
}
