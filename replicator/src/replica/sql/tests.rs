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
    let sql = Shape::Arrays(Verb::Insert(columns(&[0, 1, 2]))).sql(&table(vec![0]), Stage(1), Form::Text);
    assert_eq!(
        sql,
        "INSERT INTO \"public\".\"My Table\" (\"id\", \"we\"\"ird\", \"n\") \
         SELECT u.c0::uuid, u.c1::text, u.c2::numeric FROM unnest($1::text[], $2::text[], $3::text[]) AS u (c0, c1, c2)"
    );
}

#[test]
fn an_update_writes_only_the_columns_that_the_event_carries() {
    let sql = Shape::Arrays(Verb::Update(columns(&[0, 2]))).sql(&table(vec![0]), Stage(1), Form::Text);
    assert_eq!(
        sql,
        "UPDATE \"public\".\"My Table\" AS t SET \"n\" = u.c1::numeric \
         FROM unnest($1::text[], $2::text[]) AS u (c0, c1) WHERE t.\"id\" = u.c0::uuid"
    );
}

#[test]
fn one_row_is_written_and_found_by_single_parameters() {
    let sql = Shape::OneChecked(Verb::Update(columns(&[0, 2]))).sql(&table(vec![0]), Stage(1), Form::Text);
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
        "UPDATE \"public\".\"My Table\" AS t SET \"n\" = u.c1 FROM pg_temp.stage_7 AS u WHERE t.\"id\" = u.c0"
    );
}

#[test]
fn a_key_change_sets_the_key_and_looks_for_the_old_one() {
    let sql = Shape::One(Verb::Rekey(columns(&[0, 1]))).sql(&table(vec![0]), Stage(1), Form::Text);
    assert_eq!(
        sql,
        "UPDATE \"public\".\"My Table\" SET \"id\" = $1::text::uuid, \"we\"\"ird\" = $2::text::text \
         WHERE \"id\" = $3::text::uuid"
    );
}

#[test]
fn a_keyless_row_is_found_by_all_its_values_and_only_once() {
    let sql = Shape::One(Verb::DeleteKeyless).sql(&table(vec![]), Stage(1), Form::Text);
    assert!(sql.contains("LIMIT 1"), "{sql}");
    assert_eq!(sql.matches("IS NOT DISTINCT FROM").count(), 3);
}

#[test]
fn binary_values_are_parameters_of_the_columns_types() {
    let (table, set) = (table(vec![0]), columns(&[0, 2]));
    let sql = |shape: Shape| shape.sql(&table, Stage(7), Form::Binary);
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

#[test]
fn the_parts_of_a_whole_number_their_parameters_one_after_the_other_and_are_counted_together() {
    let (keyed, keyless) = (table(vec![0]), table(vec![]));
    let update = Shape::ArraysChecked(Verb::Update(columns(&[0, 2])));
    let insert = Shape::One(Verb::Insert(columns(&[0])));
    let gone = Shape::OneChecked(Verb::DeleteKeyless);
    let part = |table, shape, form| Part::of(table, shape, form).unwrap();
    let parts = [
        part(&keyed, &insert, Form::Text),
        part(&keyed, &update, Form::Binary),
        part(&keyless, &gone, Form::Text),
    ];
    let sql = whole(&parts);
    let begins = "WITH part_0 AS (INSERT INTO \"public\".\"My Table\" (\"id\") SELECT $1::text::uuid RETURNING 1), \
         part_1 AS (UPDATE \"public\".\"My Table\" AS t SET \"n\" = u.c1 FROM unnest($2::uuid[], $3::numeric[]) \
         AS u (c0, c1) WHERE t.\"id\" = u.c0 RETURNING 1), part_2 AS (DELETE";
    assert!(sql.starts_with(begins), "{sql}");
    let ends = "SELECT (SELECT count(*) FROM part_0), \
         CASE WHEN (SELECT count(*) FROM part_1) <> cardinality($2) THEN \
         replicator.expect(cardinality($2), (SELECT count(*) FROM part_1)) END, \
         CASE WHEN (SELECT count(*) FROM part_2) <> 1 THEN replicator.expect(1, (SELECT count(*) FROM part_2)) END, \
         replicator.advance($7::text::bigint, ";
    assert!(
        sql.contains(ends) && sql.contains("($4::text::uuid)") && sql.contains("($6::text::numeric)"),
        "{sql}"
    );
}

#[test]
fn what_only_default_may_update_is_no_parameter_of_an_update() {
    let mut table = table(vec![0]);
    (table.columns[0].identity_always, table.columns[2].identity_always) = (true, true);
    let all = || columns(&[0, 1, 2]);
    let of = |verb: Verb| verb.columns(&table);
    assert_eq!(of(Verb::Insert(all())), [0, 1, 2]);
    assert_eq!(of(Verb::Update(all())), [0, 1], "the key finds the row");
    assert_eq!((of(Verb::Rekey(all())), of(Verb::UpdateKeyless(all()))), (vec![1], vec![1]));
    let sql = Shape::One(Verb::Rekey(all())).sql(&table, Stage(1), Form::Text);
    assert!(sql.ends_with("SET \"we\"\"ird\" = $1::text::text WHERE \"id\" = $2::text::uuid"), "{sql}");
}

#[test]
fn the_rows_of_tables_that_inherit_are_not_meant() {
    let (alone, inherited) = (table(vec![0]), table(vec![0]).with_heirs());
    let delete = |table: &Table| Shape::One(Verb::Delete).sql(table, Stage(1), Form::Text);
    assert!(delete(&alone).starts_with("DELETE FROM \"public\""), "{}", delete(&alone));
    assert!(delete(&inherited).starts_with("DELETE FROM ONLY \"public\""), "{}", delete(&inherited));
    let both = "TRUNCATE \"public\".\"My Table\", ONLY \"public\".\"My Table\"";
    assert_eq!(truncate([&alone, &inherited].into_iter()), both);
}

#[test]
fn an_update_that_sets_nothing_still_finds_its_row() {
    let mut table = table(vec![0]);
    table.columns[0].identity_always = true;
    let sql = |verb: Verb| Shape::One(verb).sql(&table, Stage(1), Form::Text);
    let itself = sql(Verb::Update(columns(&[0])));
    assert!(itself.contains(" AS t SET \"we\"\"ird\" = t.\"we\"\"ird\" WHERE t.\"id\" = $1"), "{itself}");
    let itself = sql(Verb::UpdateKeyless(columns(&[0])));
    assert!(itself.contains(" SET \"we\"\"ird\" = \"we\"\"ird\" WHERE (tableoid, ctid)"), "{itself}");
}

#[test]
fn what_may_touch_the_same_rows_is_no_part_of_one_whole() {
    let (one, mut other) = (table(vec![0]), table(vec![0]));
    other.name = TableName::new("public", "another");
    let [insert, update, partial] = [columns(&[0, 1, 2]), columns(&[0, 1, 2]), columns(&[0, 1])];
    let verbs = [
        Verb::Insert(insert),
        Verb::Update(update),
        Verb::Update(partial),
        Verb::Delete,
        Verb::DeleteKeyless,
    ];
    let shapes = verbs.map(Shape::One);
    for (n, first) in shapes.iter().enumerate() {
        for (m, second) in shapes.iter().enumerate() {
            let first = Part::of(&one, first, Form::Text).unwrap();
            let goes_with = |table| first.goes_with(&Part::of(table, second, Form::Text).unwrap());
            // Of the last, the keyless one, each finds its row for itself.
            assert_eq!((goes_with(&one), goes_with(&other)), (n == m && n < 4, true), "{n} {m}");
        }
    }
    assert!(Part::of(&one, &Shape::Copy(columns(&[0])), Form::Text).is_none());
}
