//! What is done to the system, in which order, and how often it was done.

use std::collections::BTreeMap;
use std::fmt;

use e2e::random::Random;

use crate::settings::Source;

/// A part of the system that takes a fault. One fault at a time each; faults of different parts may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Whichever of the two replicators applies now.
    Replicator,
    Replica(usize),
    Connect,
    Broker,
    Leader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL, and a start after a while.
    Kill(Part),
    /// SIGSTOP, and SIGCONT after a while.
    Pause(Part),
    /// The connections to the part of the replicator that applies now are closed, and new ones too.
    Cut(Part),
    /// They stay open, and nothing passes.
    Freeze(Part),
    /// No room is left for the tables of the last replica.
    FillDisk,
}

impl Fault {
    pub(super) fn part(self) -> Part {
        match self {
            Self::Kill(part) | Self::Pause(part) | Self::Cut(part) | Self::Freeze(part) => part,
            Self::FillDisk => Part::Replica(2),
        }
    }
}

impl Part {
    /// Every part of a system with this source that a fault can have. The leader's clients see its faults, so it has them only
    /// where changes come from it.
    pub(super) fn all(source: Source) -> Vec<Part> {
        let parts = [Part::Replicator, Part::Replica(0), Part::Replica(1), Part::Replica(2)];
        parts.into_iter().chain(Part::upstream(source).iter().copied()).collect()
    }

    /// What stands between a change and the replicator.
    pub(super) fn upstream(source: Source) -> &'static [Part] {
        match source {
            Source::Kafka => &[Part::Connect, Part::Broker],
            Source::Direct => &[Part::Leader],
        }
    }

    /// What the replicator itself reads from.
    fn read_from(source: Source) -> Part {
        match source {
            Source::Kafka => Part::Broker,
            Source::Direct => Part::Leader,
        }
    }

    /// The service's name.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Replicator => "replicator",
            Self::Replica(index) => crate::system::REPLICAS[index],
            Self::Connect => "connect",
            Self::Broker => "broker",
            Self::Leader => "leader",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(part) => write!(f, "kill {}", part.service()),
            Self::Pause(part) => write!(f, "pause {}", part.service()),
            Self::Cut(part) => write!(f, "cut off {}", part.service()),
            Self::Freeze(part) => write!(f, "freeze the way to {}", part.service()),
            Self::FillDisk => write!(f, "fill the disk of {}", self.part().service()),
        }
    }
}

/// All faults in a random order, again and again: each kind comes once before one comes twice.
pub(super) struct Deck {
    random: Random,
    source: Source,
    can_fill_disk: bool,
    left: Vec<Fault>,
}

impl Deck {
    pub(super) fn new(seed: u64, source: Source, can_fill_disk: bool) -> Self {
        Self { random: Random::part(seed, 1000), source, can_fill_disk, left: Vec::new() }
    }

    pub(super) fn draw(&mut self) -> Fault {
        if let Some(fault) = self.left.pop() {
            return fault;
        }
        let replica = Part::Replica(self.random.index(3));
        let other = Part::Replica(self.random.index(3));
        let upstream = Part::upstream(self.source);
        let read_from = Part::read_from(self.source);
        self.left.extend(Part::all(self.source).into_iter().map(Fault::Kill));
        self.left.extend([Part::Replicator].iter().chain(upstream).copied().map(Fault::Pause));
        self.left.push(Fault::Pause(replica));
        self.left.extend([Fault::Cut(read_from), Fault::Cut(other)]);
        self.left.extend([Fault::Freeze(read_from), Fault::Freeze(replica)]);
        // What matters most comes most often.
        self.left.push(Fault::Kill(Part::Replicator));
        if self.can_fill_disk {
            self.left.push(Fault::FillDisk);
        }
        self.random.shuffle(&mut self.left);
        self.left.pop().unwrap_or(Fault::Kill(Part::Replicator))
    }

    /// For how long a fault holds, in milliseconds.
    pub(super) fn hold_ms(&mut self, fault: Fault) -> u64 {
        match fault {
            Fault::Kill(_) => self.random.between(200, 5_000),
            // Longer than a lease is worth, once in a while.
            Fault::Pause(Part::Replicator) => self.random.between(1_000, 20_000),
            Fault::Freeze(_) => self.random.between(1_000, 14_000),
            Fault::Pause(_) => self.random.between(1_000, 8_000),
            Fault::Cut(_) => self.random.between(200, 4_000),
            Fault::FillDisk => self.random.between(6_000, 12_000),
        }
    }

    /// Until the next fault, in milliseconds.
    pub(super) fn gap_ms(&mut self) -> u64 {
        self.random.between(4_000, 12_000)
    }
}

/// How often each fault was injected.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<Fault, u32>);

impl Tally {
    pub(super) fn add(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    pub(super) fn total(&self) -> u32 {
        self.0.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.iter().map(|(fault, count)| format!("{fault} {count}"));
        write!(f, "{}", counts.collect::<Vec<_>>().join(", "))
    }
}
