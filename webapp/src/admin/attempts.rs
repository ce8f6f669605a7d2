//! How often somebody may be wrong. Pure: the time is a parameter.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong tokens from one place within [`WINDOW`].
pub const LIMIT: u32 = 5;

/// After so long without another one, the wrong ones are forgotten.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Places that are remembered; those beyond share one count, so that many of them need no memory and gain no attempts.
const PLACES: usize = 1024;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The token is right.
    Right,
    /// It is not.
    Wrong,
    /// Whether it is right is not said, for so long.
    TooMany(Duration),
}

/// The wrong attempts of the last minute, by the place that they came from.
#[derive(Default)]
pub struct Attempts {
    places: HashMap<IpAddr, (u32, Instant)>,
}

impl Attempts {
    /// Notes an attempt. The token's being right counts only where there were not too many wrong ones before, so that the
    /// limit can't be told from a wrong token by trying on.
    pub fn note(&mut self, from: IpAddr, is_right: bool, now: Instant) -> Attempt {
        let place = self.place(from, now);
        if let Some((count, last)) = self.places.get(&place)
            && *count >= LIMIT
        {
            let left = WINDOW.saturating_sub(now.duration_since(*last));
            if !left.is_zero() {
                return Attempt::TooMany(left);
            }
            self.places.remove(&place);
        }
        if is_right {
            self.places.remove(&place);
            return Attempt::Right;
        }
        let wrong = self.places.entry(place).or_insert((0, now));
        *wrong = (wrong.0 + 1, now);
        Attempt::Wrong
    }

    fn place(&mut self, from: IpAddr, now: Instant) -> IpAddr {
        let place = match from {
            // A host has a whole network of these to choose from.
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            IpAddr::V4(_) => from,
        };
        if self.places.len() >= PLACES && !self.places.contains_key(&place) {
            self.places.retain(|_, (_, last)| now.duration_since(*last) < WINDOW);
            if self.places.len() >= PLACES {
                return IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn after_five_wrong_ones_even_the_right_one_has_to_wait() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        for _ in 0..LIMIT {
            assert_eq!(attempts.note(HERE, false, start), Attempt::Wrong);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(attempts.note(HERE, true, later), Attempt::TooMany(Duration::from_secs(40)));
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(attempts.note(elsewhere, true, later), Attempt::Right, "others are not locked out");
        assert_eq!(attempts.note(HERE, true, start + WINDOW), Attempt::Right);
        assert_eq!(attempts.note(HERE, false, start + WINDOW), Attempt::Wrong, "it counts from one again");
    }

    #[test]
    fn a_right_one_forgets_the_wrong_ones() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..3 * LIMIT {
            assert_eq!(attempts.note(HERE, false, now), Attempt::Wrong);
            assert_eq!(attempts.note(HERE, true, now), Attempt::Right);
        }
    }

    #[test]
    fn many_places_need_no_more_memory_and_share_one_count() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let place = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, n, 0, 0, 0, 0, 0, 1));
        for n in 0..2000 {
            attempts.note(place(n), false, now);
        }
        assert_eq!(attempts.places.len(), PLACES + 1);
        assert!(matches!(attempts.note(place(3000), true, now), Attempt::TooMany(_)));
        let neighbour = IpAddr::V6(Ipv6Addr::new(0x2001, 5, 0, 0, 9, 9, 9, 9));
        for _ in 1..LIMIT {
            attempts.note(neighbour, false, now);
        }
        assert!(
            matches!(attempts.note(place(5), true, now), Attempt::TooMany(_)),
            "one network is one place"
        );
    }
}
