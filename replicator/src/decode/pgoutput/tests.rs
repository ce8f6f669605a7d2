//! Messages put together by hand, messages made by chance, and bytes that are no messages.

use proptest::prelude::*;

use super::model::{self, Model};
use super::*;

/// Bytes from pieces.
fn bytes(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// 2026-11-21 12:00:00.123456 UTC in PostgreSQL's time, and in ours.
const TIME: [u8; 8] = 848_577_600_123_456_i64.to_be_bytes();
const TIME_MS: i64 = 1_795_262_400_123;

#[test]
fn a_transaction_reads_as_postgresql_wrote_it() {
    let begin = bytes(&[b"B", &[0, 0, 0, 1, 0, 0, 0, 0x10], &TIME, &[0, 0, 2, 3]]);
    let xid = Xid(0x203);
    let expected = Message::Begin { commit_record: Lsn(0x1_0000_0010), committed_at_ms: TIME_MS, xid };
    assert_eq!(decode(&begin, false), Ok(expected));

    let commit = bytes(&[b"C\0", &[0, 0, 0, 1, 0, 0, 0, 0x10], &[0, 0, 0, 1, 0, 0, 0, 0x40], &TIME]);
    let lsn = CommitLsn(Lsn(0x1_0000_0040));
    let expected = Message::Commit { commit_record: Lsn(0x1_0000_0010), lsn, committed_at_ms: TIME_MS };
    assert_eq!(decode(&commit, false), Ok(expected));
}

#[test]
fn a_relation_names_its_columns_and_pg_catalog_for_an_empty_schema() {
    let column = bytes(&[b"\x01id\0", &[0, 0, 0, 23], &[0xff; 4]]);
    let message = bytes(&[b"R", &[0, 0, 0x40, 1], b"\0posts\0d", &[0, 1], &column]);
    let Ok(Message::Relation { xid: None, relation }) = decode(&message, false) else { panic!("a relation") };
    assert_eq!((relation.schema, relation.name, relation.id), ("pg_catalog", "posts", RelationId(0x4001)));
    let columns: Vec<_> = relation.columns().collect();
    let id = RelationColumn { is_key: true, name: "id", type_oid: 23, type_modifier: -1 };
    assert_eq!((relation.identity, columns), (ReplicaIdentity::Default, vec![id]));
}

#[test]
fn the_four_states_of_a_column_stay_apart() {
    let tuple = bytes(&[&[0, 5], b"nut", &[0, 0, 0, 0], b"t", &[0, 0, 0, 1], b"7b", &[0, 0, 0, 2], &[0, 9]]);
    let update = bytes(&[b"U", &[0, 0, 0, 7], b"N", &tuple]);
    let Ok(Message::Update { old: None, new, .. }) = decode(&update, false) else { panic!("an update") };
    let expected =
        [Column::Null, Column::Unchanged, Column::Text(b""), Column::Text(b"7"), Column::Binary(&[0, 9])];
    assert_eq!(new.columns().collect::<Vec<_>>(), expected);
    assert_eq!((new.width(), new.size_bytes()), (5, 20));
}

#[test]
fn an_old_row_is_a_key_or_everything() {
    let tuple = bytes(&[&[0, 1], b"t", &[0, 0, 0, 1], b"1"]);
    for (marker, is_key) in [(b"K", true), (b"O", false)] {
        let delete = bytes(&[b"D", &[0, 0, 0, 7], marker, &tuple]);
        let Ok(Message::Delete { old, .. }) = decode(&delete, false) else { panic!("a delete") };
        assert_eq!(matches!(old, OldRow::Key(_)), is_key);
        let update = bytes(&[b"U", &[0, 0, 0, 7], marker, &tuple, b"N", &tuple]);
        let Ok(Message::Update { old: Some(old), .. }) = decode(&update, false) else { panic!("an update") };
        assert_eq!(matches!(old, OldRow::Key(_)), is_key);
    }
}

#[test]
fn a_truncate_names_all_its_tables() {
    let message = bytes(&[b"T", &[0, 0, 0, 2], &[2], &[0, 0, 0, 7], &[0, 0, 0, 8]]);
    let Ok(Message::Truncate { relations, cascade: false, restart_identity: true, .. }) =
        decode(&message, false)
    else {
        panic!("a truncate")
    };
    assert_eq!(relations.iter().collect::<Vec<_>>(), [RelationId(7), RelationId(8)]);
}

#[test]
fn inside_a_block_changes_carry_their_xid() {
    let mut decoder = Decoder::new();
    let mut decode = |message: &[u8]| match decoder.decode(message) {
        Ok(Message::Insert { xid, .. }) => xid,
        other => {
            other.unwrap();
            None
        }
    };
    let row: &[u8] = &[0, 0, 0, 7, b'N', 0, 0];
    assert_eq!(decode(&bytes(&[b"I", row])), None);
    decode(&bytes(&[b"S", &[0, 0, 0, 8], &[1]]));
    assert_eq!(decode(&bytes(&[b"I", &[0, 0, 0, 9], row])), Some(Xid(9)));
    decode(b"E");
    assert_eq!(decode(&bytes(&[b"I", row])), None);
    assert!(!decoder.in_stream());
}

#[test]
fn boundaries_stand_outside_of_blocks_only() {
    let mut decoder = Decoder::new();
    let start = bytes(&[b"S", &[0, 0, 0, 8], &[1]]);
    decoder.decode(&start).unwrap();
    for message in [&start[..], b"B", b"C", b"c", b"A"] {
        let error = decoder.decode(message).unwrap_err();
        assert_eq!(error.problem, Problem::Misplaced("inside a streamed block"), "{error}");
    }
    assert!(decoder.in_stream(), "an error changes nothing");
    let error = decode(b"E", false).unwrap_err();
    assert_eq!(error.to_string(), "Stream Stop, byte 1: it can't stand outside a streamed block");
}

#[test]
fn an_error_says_which_message_where_and_what_was_expected() {
    let cases: [(&[u8], &str); 12] = [
        (
            b"",
            "logical replication message, byte 0: expected the message's kind, 1 bytes, but only 0 are left",
        ),
        (b"Z", "logical replication message, byte 1: no message of protocol 1 or 2 begins with 'Z'"),
        (b"\0", "logical replication message, byte 1: no message of protocol 1 or 2 begins with 0x00"),
        (b"B\0\0", "Begin, byte 1: expected the commit record's LSN, 8 bytes, but only 2 are left"),
        (b"C\x07", "Commit, byte 1: expected flags, of which there are none, found 0x07"),
        (b"I\0\0\0\x07X", "Insert, byte 5: expected the new row's 'N', found 'X'"),
        (b"I\0\0\0\x07N\xff\xff", "Insert, byte 8: the number of columns can't be -1"),
        (b"I\0\0\0\x07N\0\x01x", "Insert, byte 8: expected a column's 'n', 'u', 't' or 'b', found 'x'"),
        (
            b"I\0\0\0\x07N\0\x01t\0\0\0\x05abc",
            "Insert, byte 13: expected a column's text, 5 bytes, but only 3 are left",
        ),
        (b"I\0\0\0\x07N\0\0rest", "Insert, byte 8: 4 bytes too many"),
        (b"Y\0\0\0\x07public", "Type, byte 5: expected the type's schema, but no zero byte ends it"),
        (b"Y\0\0\0\x07\xff\0", "Type, byte 5: expected the type's schema, but it is not UTF-8"),
    ];
    for (message, expected) in cases {
        assert_eq!(decode(message, false).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_stream_abort_of_protocol_4_is_refused_and_not_half_read() {
    let abort = bytes(&[b"A", &[0, 0, 0, 8], &[0, 0, 0, 9]]);
    assert_eq!(decode(&abort, false), Ok(Message::StreamAbort { xid: Xid(8), subxid: Xid(9) }));
    let parallel = bytes(&[&abort, &[0; 16]]);
    assert_eq!(decode(&parallel, false).unwrap_err().problem, Problem::Trailing(16));
}

#[test]
fn frames_of_both_kinds_are_read_and_others_refused() {
    let data = bytes(&[b"w", &[0; 7], &[5], &[0; 7], &[6], &TIME, b"payload"]);
    let expected = WalData { start: Lsn(5), end: Lsn(6), sent_at_ms: TIME_MS, payload: b"payload" };
    assert_eq!(decode_frame(&data), Ok(Frame::Data(expected)));
    let keepalive = bytes(&[b"k", &[0; 7], &[5], &TIME, &[1]]);
    let expected = Keepalive { wal_end: Lsn(5), sent_at_ms: TIME_MS, reply_requested: true };
    assert_eq!(decode_frame(&keepalive), Ok(Frame::Keepalive(expected)));
    let error = decode_frame(b"x").unwrap_err();
    assert_eq!(error.to_string(), "CopyData, byte 0: expected the frame's 'w' or 'k', found 'x'");
    for frame in [&data[..20], &keepalive[..17], &bytes(&[&keepalive, &[0]])] {
        decode_frame(frame).unwrap_err();
    }
}

#[test]
fn a_status_update_has_postgresqls_layout() {
    let status =
        StatusUpdate { written: Lsn(0x0102), flushed: Lsn(3), applied: Lsn(u64::MAX), reply_requested: true };
    // PostgreSQL's clock has microseconds, ours milliseconds.
    let time = (848_577_600_123_456_i64 / 1000 * 1000).to_be_bytes();
    let expected = bytes(&[b"r", &[0; 6], &[1, 2], &[0; 7], &[3], &[0xff; 8], &time, &[1]]);
    assert_eq!(status.encode(TIME_MS)[..], expected);
}

#[test]
fn times_keep_to_the_millisecond_below_on_both_sides_of_2000() {
    use super::reader::{postgres_microseconds, unix_ms};
    assert_eq!(unix_ms(0), 946_684_800_000);
    assert_eq!(unix_ms(-1), 946_684_799_999);
    assert_eq!(postgres_microseconds(946_684_800_001), 1000);
    for extreme in [i64::MIN, i64::MAX] {
        unix_ms(extreme);
        postgres_microseconds(extreme);
    }
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was_encoded(
        (in_stream, model) in any::<bool>().prop_flat_map(|s| (Just(s), model::message(s))),
        xid in any::<u32>(),
    ) {
        let carried = in_stream.then_some(xid);
        let encoded = model.encode(carried);
        let decoded = decode(&encoded, in_stream).unwrap();
        let expected = carried.filter(|_| model.is_change());
        prop_assert_eq!(Model::of(decoded), (model, expected));
    }

    #[test]
    fn a_message_cut_anywhere_or_with_more_behind_it_is_an_error(
        (in_stream, model) in any::<bool>().prop_flat_map(|s| (Just(s), model::message(s))),
        cut in any::<prop::sample::Index>(),
        more in 1..5_usize,
    ) {
        let mut encoded = model.encode(in_stream.then_some(1));
        let error = decode(&encoded[..cut.index(encoded.len())], in_stream).unwrap_err();
        prop_assert!(error.at <= encoded.len());
        encoded.extend(vec![0; more]);
        let error = decode(&encoded, in_stream).unwrap_err();
        prop_assert_eq!(error.problem, Problem::Trailing(more));
    }

    #[test]
    fn a_message_with_wrong_bytes_is_a_message_or_an_error(
        (in_stream, model) in any::<bool>().prop_flat_map(|s| (Just(s), model::message(s))),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut encoded = model.encode(in_stream.then_some(1));
        for (at, byte) in wrong {
            let at = at.index(encoded.len());
            encoded[at] = byte;
        }
        // Whatever was accepted can be looked at to its end.
        if let Ok(message) = decode(&encoded, in_stream) {
            Model::of(message);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in any::<prop::sample::Index>()) {
        const KINDS: &[u8] = b"BCORYIUDTMSEcAwk";
        let named = [&[KINDS[kind.index(KINDS.len())]], &bytes[..]].concat();
        for bytes in [&bytes, &named] {
            for in_stream in [false, true] {
                if let Err(error) = decode(bytes, in_stream) {
                    prop_assert!(error.at <= bytes.len() && !error.to_string().is_empty());
                }
            }
            if let Err(error) = decode_frame(bytes) {
                prop_assert!(error.at <= bytes.len() && !error.to_string().is_empty());
            }
        }
    }
}
