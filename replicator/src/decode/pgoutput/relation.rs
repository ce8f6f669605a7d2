//! Tables as the stream describes them.

use super::error::{PgOutputError, Problem};
use super::reader::Reader;

/// `pg_class.oid` of a table on the leader: what changes name their table by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

/// What an old row holds: `pg_class.relreplident`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The columns of the primary key, if there is one.
    Default,
    /// Nothing: updates and deletes can't be published.
    Nothing,
    /// All columns.
    Full,
    /// The columns of a certain unique index.
    Index,
}

/// A table and its published columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// What changes call it.
    pub id: RelationId,
    /// Its schema; `pg_catalog` where the wire has an empty name.
    pub schema: &'a str,
    /// Its name. With `publish_via_partition_root` that of the partitioned table.
    pub name: &'a str,
    /// What old rows hold.
    pub identity: ReplicaIdentity,
    count: u16,
    columns: &'a [u8],
}

/// A column of a [`Relation`]. Generated columns and those that the publication leaves out are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Whether it belongs to the replica identity.
    pub is_key: bool,
    /// Its name.
    pub name: &'a str,
    /// `pg_type.oid` of its type.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`: length or precision as the type encodes it, -1 for none.
    pub type_modifier: i32,
}

impl<'a> Relation<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, PgOutputError> {
        const IDENTITY: &str = "the replica identity's 'd', 'n', 'f' or 'i'";
        let id = RelationId(reader.u32("the relation's OID")?);
        let schema = reader.schema("the relation's schema")?;
        let name = reader.text("the relation's name")?;
        let identity = match reader.u8(IDENTITY)? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            found => return Err(reader.unexpected(IDENTITY, found)),
        };
        let count = reader.column_count()?;
        let before = reader.rest();
        for _ in 0..count {
            column(reader)?;
        }
        let length = before.len() - reader.rest().len();
        Ok(Relation { id, schema, name, identity, count, columns: before.split_at(length).0 })
    }

    /// Its columns, in the order of its tuples' values.
    pub fn columns(&self) -> RelationColumns<'a> {
        RelationColumns { left: self.count, reader: Reader::new("Relation", self.columns) }
    }
}

/// Goes over the columns of a [`Relation`].
#[derive(Debug, Clone)]
pub struct RelationColumns<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for RelationColumns<'a> {
    type Item = RelationColumn<'a>;

    fn next(&mut self) -> Option<RelationColumn<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Read successfully before, or there would be no relation.
        column(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for RelationColumns<'_> {}

fn column<'a>(reader: &mut Reader<'a>) -> Result<RelationColumn<'a>, PgOutputError> {
    Ok(RelationColumn {
        is_key: reader.flag("whether the column is part of the key")?,
        name: reader.text("the column's name")?,
        type_oid: reader.u32("the column's type")?,
        type_modifier: reader.i32("the column's type modifier")?,
    })
}

/// The tables of a truncate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationIds<'a>(&'a [[u8; 4]]);

impl<'a> RelationIds<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, count: u32) -> Result<Self, PgOutputError> {
        const WHAT: &str = "the relations' OIDs";
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(4));
        let length = length.ok_or_else(|| {
            reader.error(Problem::BadCount { what: "the number of relations", found: i64::from(count) })
        })?;
        Ok(RelationIds(reader.bytes(length, WHAT)?.as_chunks().0))
    }

    /// They, one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RelationId> + 'a {
        self.0.iter().map(|id| RelationId(u32::from_be_bytes(*id)))
    }
}
