//! Tokens against a model of the leader's log: what meets a token really holds what the token stands for.

use proptest::prelude::*;

use super::*;

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn at(watermark: u64, xid: Option<u32>) -> Standing {
    Standing { watermark: Lsn(watermark), xid, history: None }
}

#[test]
fn a_token_is_met_by_the_position_or_by_the_callers_own_transaction() {
    let write = token("0/64.7");
    assert!(write.is_met_by(&at(0x64, None)) && !write.is_met_by(&at(0x63, Some(8))));
    assert!(write.is_met_by(&at(0x60, Some(7))) && write.is_met_by_xid_only(&at(0x60, Some(7))));
    let after_a_read = write.and(token("0/62"));
    assert!(!after_a_read.is_met_by(&at(0x60, Some(7))), "what was seen lies beyond");
    assert!(after_a_read.is_met_by(&at(0x62, Some(7))));
    assert_eq!(write.and(token("0/64")).shortcut, None, "no shortcut where nothing is cut short");
}

#[test]
fn an_old_transaction_of_the_same_number_is_another_one() {
    let write = token("100/0.7");
    assert!(write.is_met_by(&at(0xff_ffff_ffff, Some(7))));
    assert!(!write.is_met_by(&at(0x10_0000_0000, Some(7))));
}

#[test]
fn positions_of_other_histories_mean_nothing() {
    let standing = |history: &str| Standing { history: history.parse().ok(), ..at(0x64, Some(7)) };
    let write = token("0/64.7@5/1");
    assert!(write.is_met_by(&standing("5/1")) && write.is_met_by(&standing("unknown")));
    assert!(!write.is_met_by(&standing("5/2")) && !write.is_met_by(&standing("6/1")));
    assert!(token("0/64").is_met_by(&standing("5/2")), "a token of before histories were noted");
    // The later timeline is what counts; an old cookie does not come back.
    assert_eq!(write.and(token("0/1@5/2")), token("0/1@5/2"));
    assert_eq!(token("0/1@5/2").and(write), token("0/1@5/2"));
    assert_eq!(write.and(token("0/1@4/9")), token("0/1@4/9"));
}

#[test]
fn what_is_no_token_is_refused() {
    for text in [
        "",
        "x",
        "0/1.",
        "0/1.x",
        "0/1.1.",
        "0/1.1.0/0.1",
        "0/1@",
        "0/1@5",
        "0/1@5/",
        "0/1@+5/1",
        "0/1.-1",
        "0/1.4294967296",
        "0/1@5/1@5/1",
        " 0/1",
    ] {
        assert_eq!(text.parse::<Token>(), Err(NotAToken), "{text:?}");
    }
    assert_eq!(token("16/B374D848"), Token::of_read(Lsn(0x16_b374_d848), None), "the form of older versions");
}

fn tokens() -> impl Strategy<Value = Token> {
    let history = (any::<u64>(), any::<u32>()).prop_map(|(system, timeline)| History { system, timeline });
    (any::<u64>(), prop::option::of(history), prop::option::of((any::<u32>(), any::<u64>()))).prop_map(
        |(lsn, history, shortcut)| {
            let shortcut = shortcut.map(|(xid, seen)| Shortcut { xid, seen: Lsn(seen) });
            Token { lsn: Lsn(lsn), history, shortcut: shortcut.filter(|s| s.seen < Lsn(lsn)) }
        },
    )
}

proptest! {
    #[test]
    fn text_and_back_is_the_same_token(token in tokens()) {
        prop_assert_eq!(token.to_string().parse(), Ok(token));
        prop_assert_eq!(token.and(token), token, "twice the same demand is one");
    }

    /// Commits stand at 10, 20, 30, ... in the log, and each has its own xid. Writes get a position at or behind their
    /// commit; reads see a watermark. In whatever order a caller's tokens are joined, a replica that meets them all has
    /// every write's commit, and is at or beyond every read.
    #[test]
    fn who_meets_a_joined_token_has_all_that_it_stands_for(
        events in prop::collection::vec((1u64..12, 0u64..25, any::<bool>()), 1..6), replica in 0u64..130,
    ) {
        let mut tokens = Tokens::default();
        for &(commit, beyond, is_write) in &events {
            if is_write {
                let xid = u32::try_from(commit).unwrap();
                tokens.wrote(Token::of_write(Lsn(commit * 10 + beyond), Some(xid), None));
            } else {
                tokens.saw(Token::of_read(Lsn(commit * 10 + beyond), None));
            }
        }
        let demand = tokens.demand(Consistency::Monotonic).unwrap();
        let last = u32::try_from(replica / 10).ok().filter(|xid| *xid > 0);
        let standing = at(replica, last);
        if demand.is_met_by(&standing) {
            for &(commit, beyond, is_write) in &events {
                let needed = if is_write { commit * 10 } else { commit * 10 + beyond };
                prop_assert!(replica >= needed, "{demand} by {standing:?} lacks {commit}");
            }
        }
        // And the demand is not more than the highest position.
        let highest = events.iter().map(|(commit, beyond, _)| commit * 10 + beyond).max().unwrap();
        prop_assert!(demand.is_met_by(&at(highest, None)));
    }
}
