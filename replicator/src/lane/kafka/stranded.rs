//! Records that are there and don't come.
//!
//! A client of librdkafka can lose its brokers for good: after an answer that names topics and no broker, which a broker may give
//! while it is fenced, librdkafka 2.12 gives all of them up and cancels its own new beginning (its issues 5301 and 5606). Other
//! defects leave single partitions behind (5153). Such a client complains once, or not at all, and its lane would wait for ever
//! while another client could read on. So a lane that gives nothing out asks with a client of its own whether there is anything; and one
//! without transactions, in which a partition that gives nothing holds up no other, asks all the time.

use crate::vocabulary::offset::TopicPartition;

/// After how many ticks without a parcel it is asked.
const FIRST_LOOK: u32 = 10;

/// Then again after so many while something is waited for, and while nothing is.
const NEXT_LOOK: u32 = 10;
const IDLE_LOOK: u32 = 60;

/// How many ticks records that were found have to come: far more than it takes.
const GRACE: u32 = 3;

/// What is to be done at a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// To ask which partitions hold records that have not come, for [`Watch::suspect`].
    Look,
    /// To see whether they have come meanwhile, by [`Watch::stranded`].
    Judge,
}

/// Watches a lane that gives nothing out. Pure.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Ticks without a parcel.
    quiet: u32,
    looked_at: u32,
    /// Partitions with the offset from which on they held records that had not come.
    suspects: Vec<(TopicPartition, i64)>,
}

impl Watch {
    /// A parcel was given out.
    pub(super) fn moves(&mut self) {
        if self.quiet > 0 {
            *self = Watch::default();
        }
    }

    /// A tick has passed. `waits`: something is waited for.
    pub(super) fn tick(&mut self, waits: bool) -> Step {
        self.quiet += 1;
        let since = self.quiet - self.looked_at;
        if !self.suspects.is_empty() {
            return if since >= GRACE { Step::Judge } else { Step::Nothing };
        }
        let pause = match (self.looked_at, waits) {
            (0, _) => FIRST_LOOK,
            (_, true) => NEXT_LOOK,
            (_, false) => IDLE_LOOK,
        };
        if since < pause {
            return Step::Nothing;
        }
        self.looked_at = self.quiet;
        Step::Look
    }

    /// These hold records from this offset on.
    pub(super) fn suspect(&mut self, found: Vec<(TopicPartition, i64)>) {
        (self.suspects, self.looked_at) = (found, self.quiet);
    }

    /// A suspect that still wants its records. `wanted`: what each partition with room wants next.
    pub(super) fn stranded(&mut self, wanted: &[(TopicPartition, i64)]) -> Option<(TopicPartition, i64)> {
        std::mem::take(&mut self.suspects).into_iter().find(|suspect| wanted.contains(suspect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> (TopicPartition, i64) {
        (TopicPartition { topic: "app.public.items".into(), partition: 0 }, offset)
    }

    fn looks(watch: &mut Watch, waits: bool, ticks: u32) -> Vec<u32> {
        (1..=ticks).filter(|_| watch.tick(waits) == Step::Look).collect()
    }

    #[test]
    fn what_gives_nothing_out_is_looked_at_seldom_and_more_often_while_something_is_waited_for() {
        assert_eq!(looks(&mut Watch::default(), false, 140), [10, 70, 130]);
        assert_eq!(looks(&mut Watch::default(), true, 40), [10, 20, 30, 40]);
        let mut watch = Watch::default();
        assert!(looks(&mut watch, true, 9).is_empty());
        watch.moves();
        assert!(looks(&mut watch, true, 9).is_empty(), "from the beginning");
    }

    #[test]
    fn records_that_come_a_moment_later_are_not_stranded() {
        let mut watch = Watch::default();
        looks(&mut watch, true, 10);
        watch.suspect(vec![at(7)]);
        assert_eq!(
            [watch.tick(true), watch.tick(true), watch.tick(true)],
            [Step::Nothing, Step::Nothing, Step::Judge]
        );
        assert_eq!(watch.stranded(&[at(8)]), None);
        assert_eq!(looks(&mut watch, true, 10), [7], "ten ticks after the last look");
        watch.suspect(vec![at(7)]);
        assert!(looks(&mut watch, true, 3).is_empty());
        assert_eq!(watch.stranded(&[at(7)]), Some(at(7)));
    }

    #[test]
    fn a_partition_without_room_is_not_stranded() {
        let mut watch = Watch::default();
        looks(&mut watch, true, 10);
        watch.suspect(vec![at(7)]);
        assert_eq!(watch.stranded(&[]), None);
    }
}
