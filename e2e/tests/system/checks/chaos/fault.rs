//! What is done to the system, in which order, and how often it was done.

use std::collections::BTreeMap;
use std::fmt;

use e2e::random::Random;

/// A part of the system that takes a fault. One fault at a time each; faults of different parts may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Whichever of the two replicators applies now.
    Replicator,
    Replica(usize),
    Connect,
    Broker,
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
    /// Every part that a fault can have.
    pub(super) const ALL: [Part; 6] =
        [Part::Replicator, Part::Replica(0), Part::Replica(1), Part::Replica(2), Part::Connect, Part::Broker];

    /// The service's name.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Replicator => "replicator",
            Self::Replica(index) => crate::system::REPLICAS[index],
            Self::Connect => "connect",
            Self::Broker => "broker",
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
    can_fill_disk: bool,
    left: Vec<Fault>,
}

impl Deck {
    pub(super) fn new(seed: u64, can_fill_disk: bool) -> Self {
        Self { random: Random::part(seed, 1000), can_fill_disk, left: Vec::new() }
    }

    pub(super) fn draw(&mut self) -> Fault {
        if let Some(fault) = self.left.pop() {
            return fault;
        }
        let replica = Part::Replica(self.random.index(3));
        let other = Part::Replica(self.random.index(3));
        self.left.extend(Part::ALL.map(Fault::Kill));
        self.left.extend([Part::Replicator, Part::Connect, Part::Broker, replica].map(Fault::Pause));
        self.left.extend([Fault::Cut(Part::Broker), Fault::Cut(other)]);
        self.left.extend([Fault::Freeze(Part::Broker), Fault::Freeze(replica)]);
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
