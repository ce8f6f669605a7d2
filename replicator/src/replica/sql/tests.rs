//! What the statements look like.

use super::*;
use crate::vocabulary::row::{Cell, RowBuilder};
use crate::vocabulary::schema::{Column, ColumnKind};

fn table(key: Vec<usize>) -> Table {
    let column = |name, type_name| Column::of_type(name, type_name, ColumnKind::Text);
    let columns = vec![column("id", "uuid"), column("we\"ird", "text"), column("n", "numeric(12,2)")];
    Table::new(TableName::new("public", "My Table"), columns, key)
}

fn columns(present: &[usize]) -> ColumnSet {
    let mut row = RowBuilder::new(3);
    present.iter().for_each(|&c| row.set(c, Cell::Null));
    ColumnSet::present_in(&row.finish())
}

#[test]
fn names_are_quoted_and_values_are_cast_parameters() {
    let (sql, parameters) =
        Shape::Arrays(Verb::Insert(columns(&[0, 1, 2]))).sql(&table(vec![0]), Stage(1), Form::Text);
    assert_eq!(parameters, 3);
    assert_eq!(
        sql,
        "INSERT INTO \"public\".\"My Table\" (\"id\", \"we\"\"ird\", \"n\") \
         SELECT u.c0::uuid, u.c1::text, u.c2::numeric FROM unnest($1, $2, $3) AS u (c0, c1, c2)"
    );
}

#[test]
fn an_update_writes_only_the_columns_that_the_event_carries() {
    let (sql, parameters) =
        Shape::Arrays(Verb::Update(columns(&[0, 2]))).sql(&table(vec![0]), Stage(1), Form::Text);
    assert_eq!(parameters, 2);
    assert_eq!(
        sql,
        "UPDATE \"public\".\"My Table\" AS t SET \"n\" = u.c1::numeric \
         FROM unnest($1, $2) AS u (c0, c1) WHERE t.\"id\" = u.c0::uuid"
    );
}

#[test]
fn one_row_is_written_and_found_by_single_parameters() {
    let (sql, parameters) =
        Shape::OneChecked(Verb::Update(columns(&[0, 2]))).sql(&table(vec![0]), Stage(1), Form::Text);
    assert_eq!(parameters, 2);
    assert_eq!(
        sql,
        "WITH touched AS (UPDATE \"public\".\"My Table\" AS t SET \"n\" = $2::text::numeric \
         WHERE t.\"id\" = $1::text::uuid RETURNING 1) SELECT replicator.expect(1, count(*)) FROM touched"
    );
}

#[test]
fn staged_rows_have_the_types_of_the_table() {
    let (table, verb) = (table(vec![0]), Verb::Update(columns(&[0, 2])));
    assert_eq!(
        stage(&table, &verb, Stage(7)),
        "CREATE TEMPORARY TABLE IF NOT EXISTS pg_temp.stage_7 ON COMMIT DELETE ROWS \
         AS SELECT \"id\" AS c0, \"n\" AS c1 FROM \"public\".\"My Table\" WITH NO DATA"
    );
    assert_eq!(
        Shape::Staged(verb).sql(&table, Stage(7), Form::Text),
        (
            "UPDATE \"public\".\"My Table\" AS t SET \"n\" = u.c1 FROM pg_temp.stage_7 AS u \
             WHERE t.\"id\" = u.c0"
                .to_owned(),
            0
        )
    );
}

#[test]
fn a_key_change_sets_the_key_and_looks_for_the_old_one() {
    let (sql, parameters) =
        Shape::One(Verb::Rekey(columns(&[0, 1]))).sql(&table(vec![0]), Stage(1), Form::Text);
    assert_eq!(parameters, 3);
    assert_eq!(
        sql,
        "UPDATE \"public\".\"My Table\" SET \"id\" = $1::text::uuid, \"we\"\"ird\" = $2::text::text \
         WHERE \"id\" = $3::text::uuid"
    );
}

#[test]
fn a_keyless_row_is_found_by_all_its_values_and_only_once() {
    let (sql, parameters) = Shape::One(Verb::DeleteKeyless).sql(&table(vec![]), Stage(1), Form::Text);
    assert_eq!(parameters, 3);
    assert!(sql.contains("LIMIT 1"), "{sql}");
    assert_eq!(sql.matches("IS NOT DISTINCT FROM").count(), 3);
}

#[test]
fn binary_values_are_parameters_of_the_columns_types() {
    let (table, set) = (table(vec![0]), columns(&[0, 2]));
    let sql = |shape: Shape| shape.sql(&table, Stage(7), Form::Binary).0;
    assert_eq!(
        sql(Shape::Arrays(Verb::Update(set.clone()))),
        "UPDATE \"public\".\"My Table\" AS t SET \"n\" = u.c1 \
         FROM unnest($1::uuid[], $2::numeric[]) AS u (c0, c1) WHERE t.\"id\" = u.c0"
    );
    assert_eq!(
        sql(Shape::One(Verb::Update(set.clone()))),
        "UPDATE \"public\".\"My Table\" AS t SET \"n\" = $2::numeric WHERE t.\"id\" = $1::uuid"
    );
    assert_eq!(
        sql(Shape::Copy(set.clone())),
        "COPY \"public\".\"My Table\" (\"id\", \"n\") FROM STDIN (FORMAT binary)"
    );
    assert_eq!(sql(Shape::FillStage(Verb::Update(set))), "COPY pg_temp.stage_7 FROM STDIN (FORMAT binary)");
}
