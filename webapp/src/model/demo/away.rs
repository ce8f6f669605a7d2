//! A replica that a run does without for a while. Pure: who is away, since which read, and what that came to in words.

use super::{Sample, ServerIndex, reads_of};
use crate::model::input::FieldError;

/// The part of a plan that takes a replica away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Which one.
    pub replica: String,
    /// After so many reads.
    pub after: usize,
    /// It comes back after so many; none: not in this run.
    pub back: Option<usize>,
}

impl Drain {
    /// The value of the field `drain` that takes nothing away.
    pub const NONE: &'static str = "none";

    /// What is proposed: the second replica is away for the middle half of the run.
    pub fn proposed(reads: usize, replicas: &[String]) -> Option<Self> {
        let replica = replicas.get(1).or(replicas.first())?.clone();
        let (after, back) = Self::middle_half(reads);
        Some(Self { replica, after, back: Some(back) })
    }

    /// The middle half of a run: it begins after so many reads, and ends after so many.
    pub fn middle_half(reads: usize) -> (usize, usize) {
        (reads / 4, reads * 3 / 4)
    }

    /// From the fields `drain`, `drain_after` and `drain_back` of a run with so many reads; what is missing is as proposed.
    /// A `drain_back` of 0 is never.
    ///
    /// # Errors
    /// For the first field that can't be.
    pub fn parse(
        field: impl Fn(&str) -> Option<String>,
        reads: usize,
        replicas: &[String],
    ) -> Result<Option<Self>, FieldError> {
        let named = field("drain");
        if named.as_deref() == Some(Self::NONE) {
            return Ok(None);
        }
        let Some(proposed) = Self::proposed(reads, replicas) else { return Ok(None) };
        let number = |name: &'static str, proposed: usize| {
            let text = field(name);
            let number = text.map_or(Ok(proposed), |text| text.parse::<usize>());
            let number = number.ok().filter(|&number| number <= reads);
            number.ok_or_else(|| {
                FieldError::new(name, format!("That is a number of reads, from 0 to {reads}."))
            })
        };
        let replica = named.unwrap_or(proposed.replica);
        if !replicas.contains(&replica) {
            return Err(FieldError::new("drain", "There is no such replica."));
        }
        let after = number("drain_after", proposed.after)?;
        let back = number("drain_back", proposed.back.unwrap_or(0).max(after))?;
        if back != 0 && back < after {
            return Err(FieldError::new("drain_back", "It can't come back before it is away."));
        }
        Ok(Some(Self { replica, after, back: (back != 0).then_some(back) }))
    }
}

/// A replica left a run, or came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The reads that had begun before.
    pub reads: usize,
    /// Who.
    pub server: ServerIndex,
    /// It came back.
    pub returns: bool,
}

/// Who is away, and who was.
#[derive(Clone, Debug, Default)]
pub struct Away {
    now: Option<ServerIndex>,
    turns: Vec<Turn>,
}

impl Away {
    /// Who is away now.
    pub fn now(&self) -> Option<ServerIndex> {
        self.now
    }

    /// When replicas left and came back, in order.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// From now on the run does without this one, and with the one that was away before; none: with all of them.
    pub fn change(&mut self, to: Option<ServerIndex>, reads: usize) {
        if self.now == to {
            return;
        }
        let back = self.now.map(|server| Turn { reads, server, returns: true });
        let left = to.map(|server| Turn { reads, server, returns: false });
        self.turns.extend([back, left].into_iter().flatten());
        self.now = to;
    }

    /// What happened, in a few sentences; nothing when nobody was away.
    pub fn words(&self, samples: &[Sample], names: &[String]) -> Option<String> {
        let mut sentences = Vec::new();
        for (index, left) in self.turns.iter().enumerate().filter(|(_, turn)| !turn.returns) {
            let came = self.turns[index..].iter().find(|turn| turn.returns && turn.server == left.server);
            let until = came.map_or(samples.len(), |turn| turn.reads).min(samples.len());
            let between = &samples[left.reads.min(until)..until];
            let others = (0..names.len().saturating_sub(1)).filter(|&server| server != left.server);
            let shares =
                others.map(|server| between.iter().filter(|s| s.server == Some(server)).count().to_string());
            let shares: Vec<String> = shares.collect();
            let name = &names[left.server];
            let end = match came {
                Some(turn) => format!("and returned after {}", turn.reads),
                None => "and did not return".to_owned(),
            };
            sentences.push(format!(
                "{name} left the rotation after {} {end}; meanwhile the others answered {}.",
                reads_of(left.reads),
                shares.join(" / ")
            ));
        }
        (!sentences.is_empty()).then(|| sentences.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names() -> Vec<String> {
        ["replica-1", "replica-2", "replica-3", "leader"].map(str::to_owned).to_vec()
    }

    fn parse(pairs: &[(&str, &str)]) -> Result<Option<Drain>, FieldError> {
        let field =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Drain::parse(field, 1000, &names()[..3])
    }

    #[test]
    fn the_second_replica_is_away_for_the_middle_half_unless_somebody_says_otherwise() {
        let drain = |replica: &str, after, back| Some(Drain { replica: replica.to_owned(), after, back });
        assert_eq!(parse(&[]).unwrap(), drain("replica-2", 250, Some(750)));
        assert_eq!(parse(&[("drain", "none")]).unwrap(), None);
        let given = [("drain", "replica-3"), ("drain_after", "900"), ("drain_back", "0")];
        assert_eq!(parse(&given).unwrap(), drain("replica-3", 900, None));
        assert_eq!(parse(&[("drain_after", "800")]).unwrap(), drain("replica-2", 800, Some(800)));
        let alone = Drain::proposed(8, &names()[..1]).unwrap();
        assert_eq!((alone.replica.as_str(), alone.after, alone.back), ("replica-1", 2, Some(6)));
        assert_eq!(Drain::proposed(8, &[]), None);
    }

    #[test]
    fn what_can_not_be_is_named_by_its_field() {
        for (field, value) in
            [("drain", "replica-9"), ("drain_after", "1001"), ("drain_after", "soon"), ("drain_back", "1001")]
        {
            assert_eq!(parse(&[(field, value)]).unwrap_err().field, field, "{field}={value}");
        }
        let backwards = parse(&[("drain_after", "500"), ("drain_back", "400")]).unwrap_err();
        assert_eq!(backwards.field, "drain_back");
    }

    #[test]
    fn who_left_and_came_back_is_told_with_what_the_others_did() {
        let sample = |server| Sample {
            server: Some(server),
            duration: Duration::from_millis(1),
            agrees: true,
            port: None,
            retried: false,
            lag: None,
            odd: None,
        };
        let mut away = Away::default();
        assert_eq!(away.words(&[], &names()), None);
        away.change(Some(1), 1);
        away.change(Some(1), 2);
        away.change(None, 5);
        assert_eq!((away.now(), away.turns().len()), (None, 2));
        let samples: Vec<Sample> = [1, 0, 2, 0, 2, 1].map(sample).to_vec();
        let words = away.words(&samples, &names()).unwrap();
        assert_eq!(
            words,
            "replica-2 left the rotation after 1 read and returned after 5; meanwhile the others answered 2 / 2."
        );
        // Another one takes its place: it comes back at the same moment.
        away.change(Some(0), 5);
        away.change(Some(2), 6);
        let words = away.words(&samples, &names()).unwrap();
        assert!(words.contains("replica-1 left the rotation after 5 reads and returned after 6"), "{words}");
        assert!(words.ends_with("replica-3 left the rotation after 6 reads and did not return; meanwhile the others answered 0 / 0."), "{words}");
    }
}
