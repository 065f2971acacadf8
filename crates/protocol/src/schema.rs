//! JSON Schemas of what is not described by its fields: texts with an alphabet, large numbers, bytes, anything.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::ids::NAME_PATTERN;
use crate::money::{Amount, Currency};
use crate::quantity::Total;
use crate::{CustomerName, Digest, Fuel, HostId, JobId, MeterId, Micros, PoolName};

/// Bytes: Base64 text in JSON, `bin` in MessagePack.
pub(crate) struct Bytes;

/// Any value.
pub(crate) struct Anything;

/// A map of names to any values.
pub(crate) struct Parameters;

/// A schema that stands where the type is used, so that a reader of a message sees it there.
macro_rules! inline_schema {
    ($($type:ident $schema:tt)*) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

inline_schema! {
    CustomerName { "type": "string", "pattern": NAME_PATTERN, "description": "A customer's name." }
    PoolName { "type": "string", "pattern": NAME_PATTERN, "description": "A class of machines of one trust level." }
    HostId { "type": "string", "pattern": NAME_PATTERN, "description": "A machine running a worker." }
    MeterId { "type": "string", "pattern": NAME_PATTERN, "description": "How fuel was counted." }
    JobId { "type": "string", "format": "uuid", "description": "A job's id." }
    Digest { "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "A SHA-256 digest." }
    Fuel {
        "type": ["string", "integer"],
        "pattern": "^[0-9]{1,19}$",
        "minimum": 0,
        "exclusiveMaximum": 1_u64 << 63,
        "description": "Metered instructions, below 2^63: in JSON a string of digits (a number is read, too), in MessagePack a number."
    }
    Total { "type": "string", "pattern": "^[0-9]{1,39}$", "description": "A sum, as its digits." }
    Micros { "type": "integer", "format": "int64", "description": "Microseconds since 1970, UTC." }
    Amount {
        "type": "string",
        "pattern": "^-?[0-9]+(\\.[0-9]{1,12})?$",
        "description": "A decimal number, exact, with at most 12 places."
    }
    Currency { "type": "string", "pattern": "^[A-Z]{3}$", "description": "A currency (ISO 4217)." }
    Bytes {
        "type": "string",
        "contentEncoding": "base64",
        "description": "Bytes: Base64 in JSON, bin in MessagePack."
    }
    Parameters { "type": "object", "description": "A map of names to values." }
    Anything { "description": "Any value." }
}
