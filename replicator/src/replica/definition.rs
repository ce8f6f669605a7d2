//! How a table was made: all that a `CREATE TABLE` or `ADD COLUMN` has to say, read from `pg_catalog` of any server.
//!
//! The [catalog](super::catalog) holds what decoding needs, for every table; this holds more, for one.

use tokio_postgres::Client;

use super::ReplicaError;
use crate::vocabulary::schema::TableName;

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// Its name.
    pub name: TableName,
    /// In the catalog's order, dropped ones left out.
    pub columns: Vec<ColumnDefinition>,
    /// The primary key's columns in its order; empty when there is none.
    pub primary_key: Vec<String>,
    /// What updates and deletes identify rows by.
    pub identity: ReplicaIdentity,
    /// `RANGE (at)`, `LIST (region)`: what a partitioned table is divided by.
    pub partition_key: Option<String>,
    /// Of which table it is a partition, and the bound: `FOR VALUES IN ('eu')`.
    pub partition_of: Option<(TableName, String)>,
    /// The types that users made and its columns need, those first that others need.
    pub types: Vec<TypeDefinition>,
}

impl TableDefinition {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnDefinition> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// `REPLICA IDENTITY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// A unique index: its name, and the statement that makes it.
    Index {
        /// Without schema.
        name: String,
        /// `CREATE UNIQUE INDEX …`, as `pg_get_indexdef()` prints it.
        statement: String,
    },
}

/// A column's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type with modifiers, with its schema where that isn't `pg_catalog`.
    pub type_name: String,
    /// A collation other than the type's, quoted.
    pub collation: Option<String>,
    /// `NOT NULL`.
    pub not_null: bool,
    /// Where its value comes from when a statement doesn't say.
    pub origin: Origin,
    /// What the rows of then got when it was added.
    pub old_rows: OldRows,
    /// Whether its catalog entry is younger than the table: it was added, or altered, later.
    pub altered: bool,
}

/// Where a value comes from that no statement gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is NULL.
    Null,
    /// `DEFAULT expression`.
    Default(String),
    /// `GENERATED … AS IDENTITY`.
    Identity,
    /// `GENERATED ALWAYS AS (expression) STORED`.
    Generated(String),
}

/// What is known of the values that rows got when a column was added under them. PostgreSQL keeps the one value of
/// `ADD COLUMN … DEFAULT` in `pg_attribute.attmissingval` and leaves the rows as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldRows {
    /// NULL: the table was never written anew and no value is kept.
    Null,
    /// This value, as text.
    Value(String),
    /// The table was written anew since it was made: by the `ADD COLUMN` itself, with a value per row, or by `VACUUM FULL`,
    /// `CLUSTER` or `TRUNCATE`, which forget the value.
    Unknown,
}

/// A type that a user or an extension made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeDefinition {
    /// Its schema and name.
    pub name: TableName,
    /// What it is.
    pub kind: TypeKind,
}

/// The kinds of types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// An enumeration's labels in order.
    Enum(Vec<String>),
    /// A domain: its base type and what follows it.
    Domain(String),
    /// A composite type's attributes.
    Composite(String),
    /// Of this extension.
    Extension(String),
    /// A range or a base type.
    Other,
}

/// Reads a table's definition; none when the server has no such table. The session's `search_path` must be `pg_catalog`,
/// or names of types and functions would come without their schemas.
///
/// # Errors
/// When the server can't be asked.
pub async fn load(client: &Client, name: &TableName) -> Result<Option<TableDefinition>, ReplicaError> {
    let failed = |source| ReplicaError::Postgres { action: "read a table's definition", source };
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&name.schema, &name.name];
    let table = client.query_opt(include_str!("definition/table.sql"), &parameters).await.map_err(failed)?;
    let Some(table) = table else { return Ok(None) };
    let columns = client.query(include_str!("definition/columns.sql"), &parameters).await.map_err(failed)?;
    let types = client.query(include_str!("definition/types.sql"), &parameters).await.map_err(failed)?;
    let text = |name: &str| table.get::<_, Option<String>>(name);
    let identity =
        match (table.get::<_, &str>("identity"), text("identity_index_name"), text("identity_index")) {
            ("n", ..) => ReplicaIdentity::Nothing,
            ("f", ..) => ReplicaIdentity::Full,
            ("i", Some(name), Some(statement)) => ReplicaIdentity::Index { name, statement },
            _ => ReplicaIdentity::Default,
        };
    let parent = text("parent_schema").zip(text("parent_name"));
    Ok(Some(TableDefinition {
        name: name.clone(),
        columns: columns.iter().map(column).collect(),
        primary_key: table.get::<_, Option<Vec<String>>>("primary_key").unwrap_or_default(),
        identity,
        partition_key: text("partition_key"),
        partition_of: parent
            .zip(text("partition_bound"))
            .map(|((schema, name), bound)| (TableName { schema, name }, bound)),
        types: types.iter().map(type_definition).collect(),
    }))
}

fn column(row: &tokio_postgres::Row) -> ColumnDefinition {
    let expression: Option<String> = row.get("expression");
    let origin = match expression {
        _ if row.get("identity") => Origin::Identity,
        Some(expression) if row.get("generated") => Origin::Generated(expression),
        Some(expression) => Origin::Default(expression),
        None => Origin::Null,
    };
    let old_rows = match row.get("old_value") {
        _ if row.get("old_value_unknown") => OldRows::Unknown,
        Some(value) => OldRows::Value(value),
        None => OldRows::Null,
    };
    ColumnDefinition {
        name: row.get("column_name"),
        type_name: row.get("type_name"),
        collation: row.get("collation_name"),
        not_null: row.get("not_null"),
        origin,
        old_rows,
        altered: row.get("altered"),
    }
}

fn type_definition(row: &tokio_postgres::Row) -> TypeDefinition {
    let extension: Option<String> = row.get("extension");
    let kind = match row.get("sort") {
        _ if extension.is_some() => TypeKind::Extension(extension.unwrap_or_default()),
        "e" => TypeKind::Enum(row.get::<_, Option<Vec<String>>>("labels").unwrap_or_default()),
        "d" => TypeKind::Domain(row.get::<_, Option<String>>("domain_of").unwrap_or_default()),
        "c" => TypeKind::Composite(row.get::<_, Option<String>>("attributes").unwrap_or_default()),
        _ => TypeKind::Other,
    };
    TypeDefinition {
        name: TableName::new(row.get::<_, &str>("type_schema"), row.get::<_, &str>("type_name")),
        kind,
    }
}
