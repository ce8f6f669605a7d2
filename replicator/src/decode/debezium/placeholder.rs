//! The tokens that stand for "this value did not change, and it is not in the WAL because it is stored out of line".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::codec::Codec;
use super::modes::BinaryMode;
use crate::vocabulary::schema::ColumnKind;

/// The connector's `unavailable.value.placeholder` in all the forms that Debezium gives it
/// (`UnchangedToastedPlaceholder` in its source; all but those of `json[]` observed).
#[derive(Debug, Clone)]
pub(super) struct Placeholders {
    text: Box<str>,
    base64: Box<str>,
    numbers: Box<str>,
    uuid: Box<str>,
    hstore_object: Box<str>,
    hstore_string: Box<str>,
}

impl Placeholders {
    pub(super) fn new(placeholder: &str) -> Self {
        let text = serde_json::Value::from(placeholder).to_string();
        let bytes: Vec<_> = placeholder.bytes().map(|b| b.to_string()).collect();
        let object = format!("{{{text}:{text}}}");
        Placeholders {
            base64: format!("\"{}\"", STANDARD.encode(placeholder)).into(),
            numbers: format!("[{}]", bytes.join(",")).into(),
            uuid: format!("\"{}\"", name_uuid(placeholder)).into(),
            hstore_string: serde_json::Value::from(object.as_str()).to_string().into(),
            hstore_object: object.into(),
            text: text.into(),
        }
    }

    /// The tokens that stand for an unchanged value of a column. Types that are never stored out of line have none.
    pub(super) fn tokens(&self, kind: &ColumnKind, codec: &Codec) -> Vec<Box<str>> {
        let array = |element: &str| format!("[{element}]").into_boxed_str();
        match (kind, codec) {
            (ColumnKind::Enum, _) => Vec::new(),
            (_, Codec::Text | Codec::DecimalText) => vec![self.text.clone()],
            (_, Codec::Bytes(mode) | Codec::Opaque(mode)) => vec![self.of_bytes(*mode)],
            (_, Codec::Hstore) => vec![self.hstore_object.clone(), self.hstore_string.clone()],
            (ColumnKind::Array(kind), Codec::Array(element)) if kind.has_placeholder => {
                match element.as_ref() {
                    Codec::Text => vec![array(&self.text), array(&self.uuid)],
                    Codec::Bytes(mode) => vec![array(&self.of_bytes(*mode))],
                    _ => vec![self.numbers.clone()],
                }
            }
            _ => Vec::new(),
        }
    }

    fn of_bytes(&self, mode: BinaryMode) -> Box<str> {
        match mode {
            BinaryMode::Bytes => self.base64.clone(),
            BinaryMode::Base64 | BinaryMode::Base64UrlSafe | BinaryMode::Hex => self.text.clone(),
        }
    }
}

/// Java's `UUID.nameUUIDFromBytes`: version 3 without a name space.
fn name_uuid(name: &str) -> String {
    let mut hash: [u8; 16] = Md5::digest(name).into();
    hash[6] = hash[6] & 0x0f | 0x30;
    hash[8] = hash[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(hash));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_of_a_placeholder_is_javas() {
        assert_eq!(name_uuid("__debezium_unavailable_value"), "b68a35a7-17ad-35b3-af2a-ae46edb4545a");
        assert_eq!(
            name_uuid("unchanged-5d2c0a6f9b7e4c1d8a3f60b2e94d7158"),
            "590aea46-ead0-3aff-bfdd-87c391e07e5f"
        );
    }
}
