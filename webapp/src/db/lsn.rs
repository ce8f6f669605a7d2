//! Positions in the leader's write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A position in the leader's write-ahead log, written `hi/lo` in hexadecimal as PostgreSQL does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// The text is not an LSN.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a position of the form 16/B374D848")]
pub struct NotAnLsn;

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let half = |digits: &str| match digits.len() {
            // `from_str_radix` would take a sign.
            1..=8 if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16).map_err(|_| NotAnLsn)
            }
            _ => Err(NotAnLsn),
        };
        let (high, low) = text.split_once('/').ok_or(NotAnLsn)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_back_is_the_same_position(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse(), Ok(Lsn(value)));
        }
    }

    #[test]
    fn what_postgresql_would_refuse_is_refused() {
        for text in ["", "/", "1", "1/", "/1", "1/2/3", "+1/2", "1/-2", "123456789/0", "x/1", " 1/1"] {
            assert_eq!(text.parse::<Lsn>(), Err(NotAnLsn), "{text:?}");
        }
        assert_eq!("16/b374d848".parse(), Ok(Lsn(0x16_b374_d848)));
    }
}
