//! Many rows through `COPY … FROM STDIN`, in chunks, in the format in which their values are.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::{Client, Statement};

use crate::replica::ReplicaError;
use crate::replica::bind::Cells;
use crate::vocabulary::row::{Cell, Form, Row};

/// A chunk is sent when it has grown to this many bytes; one row may exceed it. Between 8 kB and 1 MB the size made no
/// difference.
const CHUNK_BYTES: usize = 64 << 10;

/// Sends the rows through a prepared `COPY … FROM STDIN`; answers how many the server took.
///
/// Takes its place in the connection's pipeline when first polled, as any request does. What is sent behind it waits until
/// the last row has been sent.
pub(super) async fn copy<T: Cells>(
    client: &Client,
    statement: &Statement,
    rows: &[T],
    columns: &[usize],
    form: Form,
) -> Result<u64, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "copy rows", source };
    let sink = client.copy_in::<_, Bytes>(statement).await.map_err(failed)?;
    let mut sink = std::pin::pin!(sink);
    if form == Form::Binary {
        sink.feed(Bytes::from_static(HEADER)).await.map_err(failed)?;
    }
    let mut rest = rows;
    while !rest.is_empty() {
        // On an error the sink is dropped, which makes the server give the transaction up.
        let (chunk, tail) = next_chunk(rest, columns, form, CHUNK_BYTES)?;
        sink.feed(chunk).await.map_err(failed)?;
        rest = tail;
    }
    if form == Form::Binary {
        sink.feed(Bytes::from_static(TRAILER)).await.map_err(failed)?;
    }
    sink.finish().await.map_err(failed)
}

/// What stands before the rows in the binary format ("File Formats" of COPY in PostgreSQL's documentation): its signature, no flags,
/// no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What stands behind them there.
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// The first rows as COPY takes them, and those that did not fit.
fn next_chunk<'a, T: Cells>(
    rows: &'a [T],
    columns: &[usize],
    form: Form,
    limit: usize,
) -> Result<(Bytes, &'a [T]), ReplicaError> {
    // Room for a last row of usual width.
    let mut out = BytesMut::with_capacity(limit + limit / 16);
    let mut rest = rows;
    while let Some((row, tail)) = rest.split_first()
        && out.len() < limit
    {
        match form {
            Form::Text => push_text(&mut out, row.row(), columns)?,
            Form::Binary => push_binary(&mut out, row.row(), columns)?,
        }
        rest = tail;
    }
    Ok((out.freeze(), rest))
}

const LACKS: ReplicaError = ReplicaError::Plan("a row lacks a column that is to be copied");

const OTHER_FORM: ReplicaError = ReplicaError::Plan("rows of both forms in one COPY");

/// The number of values, then each as its length and bytes; NULL has length -1.
fn push_binary(out: &mut BytesMut, row: &Row, columns: &[usize]) -> Result<(), ReplicaError> {
    let too_many = |_| ReplicaError::Plan("more columns, or a larger value, than PostgreSQL has");
    out.put_i16(i16::try_from(columns.len()).map_err(too_many)?);
    for cell in row.select(columns.iter().copied()) {
        match cell {
            Cell::Binary(bytes) => {
                out.put_i32(i32::try_from(bytes.len()).map_err(too_many)?);
                out.put_slice(bytes);
            }
            Cell::Null => out.put_i32(-1),
            Cell::Absent => return Err(LACKS),
            Cell::Text(_) => return Err(OTHER_FORM),
        }
    }
    Ok(())
}

fn push_text(out: &mut BytesMut, row: &Row, columns: &[usize]) -> Result<(), ReplicaError> {
    for (position, cell) in row.select(columns.iter().copied()).enumerate() {
        if position > 0 {
            out.put_u8(b'\t');
        }
        match cell {
            Cell::Text(text) => push_escaped(out, text.as_bytes()),
            Cell::Null => out.put_slice(b"\\N"),
            Cell::Absent => return Err(LACKS),
            Cell::Binary(_) => return Err(OTHER_FORM),
        }
    }
    out.put_u8(b'\n');
    Ok(())
}

/// A value as COPY's text format has it ("File Formats" of COPY in PostgreSQL's documentation): the separators and the
/// backslash take one before them.
fn push_escaped(out: &mut BytesMut, text: &[u8]) {
    // No early exit, so that the compiler can look at many bytes at once. Most values have none of them.
    let special = text.iter().fold(false, |found, byte| found | (*byte == b'\\') | (*byte < b' '));
    if !special {
        out.put_slice(text);
        return;
    }
    for byte in text {
        match byte {
            b'\\' => out.put_slice(b"\\\\"),
            b'\t' => out.put_slice(b"\\t"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            _ => out.put_u8(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::vocabulary::row::RowBuilder;

    fn rows(cells: &[&[Cell<'_>]]) -> Vec<Cow<'static, Row>> {
        let row = |cells: &&[Cell<'_>]| {
            let mut row = RowBuilder::new(cells.len());
            cells.iter().enumerate().for_each(|(column, cell)| row.set(column, *cell));
            Cow::Owned(row.finish())
        };
        cells.iter().map(row).collect()
    }

    #[test]
    fn separators_null_and_the_empty_text_stay_apart() {
        let rows = rows(&[
            &[Cell::Text("a\\N\tb"), Cell::Null, Cell::Text("")],
            &[Cell::Text("\\."), Cell::Text("\r\n\u{b}ü"), Cell::Text("\\N")],
        ]);
        let (chunk, rest) =
            next_chunk(&rows, &[0, 1, 2], Form::Text, 1 << 10).expect("all columns are there");
        assert!(rest.is_empty());
        let lines = "a\\\\N\\tb\t\\N\t\n\\\\.\t\\r\\n\u{b}ü\t\\\\N\n";
        assert_eq!(std::str::from_utf8(&chunk).expect("text"), lines);
    }

    #[test]
    fn in_binary_a_row_is_its_width_and_then_lengths_and_bytes() {
        let cells = [Cell::Binary(&[0, 9]), Cell::Null, Cell::Binary(b"")];
        let rows = [Cow::Owned(Row::new(Form::Binary, &cells))];
        let (chunk, rest) =
            next_chunk(&rows, &[0, 1, 2], Form::Binary, 1 << 10).expect("all columns are there");
        assert!(rest.is_empty());
        assert_eq!(&chunk[..], b"\0\x03\0\0\0\x02\0\x09\xff\xff\xff\xff\0\0\0\0");
        assert!(matches!(next_chunk(&rows, &[0], Form::Text, 6), Err(ReplicaError::Plan(_))));
    }

    #[test]
    fn a_chunk_ends_with_the_row_that_fills_it() {
        let rows = rows(&[&[Cell::Text("1234")], &[Cell::Text("5678")], &[Cell::Text("9")]]);
        let (first, rest) = next_chunk(&rows, &[0], Form::Text, 6).expect("all columns are there");
        assert_eq!((&first[..], rest.len()), (&b"1234\n5678\n"[..], 1));
        let (last, rest) = next_chunk(rest, &[0], Form::Text, 6).expect("all columns are there");
        assert_eq!((&last[..], rest.len()), (&b"9\n"[..], 0));
    }

    #[test]
    fn a_column_that_the_event_does_not_carry_is_not_copied_as_null() {
        let rows = rows(&[&[Cell::Absent]]);
        assert!(matches!(next_chunk(&rows, &[0], Form::Text, 6), Err(ReplicaError::Plan(_))));
    }
}
