//! Bytes to messages and back: MessagePack with named fields, or JSON; refusing what is truncated, oversized or followed by rubbish.

mod encoding;
mod values;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use encoding::decoded;

/// The largest body of any message; brokers from 4.0 on refuse 16 MiB, and larger data goes as parts.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// How a body is written, named by the AMQP property `content_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/msgpack`: maps with named fields, the grid's own choice.
    MessagePack,
    /// `application/json`: for customers who prefer it.
    Json,
}

impl Format {
    /// The format of a content type; MessagePack where none is given.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, CodecError> {
        let Some(full) = content_type else { return Ok(Self::MessagePack) };
        match full.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Ok(Self::MessagePack),
            "application/json" | "application/problem+json" => Ok(Self::Json),
            _ => Err(CodecError::ContentType { given: full.chars().take(80).collect() }),
        }
    }

    /// The content type that names this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::MessagePack => "application/msgpack",
            Self::Json => "application/json",
        }
    }
}

/// Why bytes are not the message they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The body is larger than any message may be: send the data in parts.
    #[error("body of {bytes} bytes is over the limit of {limit}: send larger data as parts")]
    Oversized {
        /// The body's size.
        bytes: usize,
        /// The largest size accepted.
        limit: usize,
    },
    /// The content type is none that the grid reads.
    #[error("content type {given:?} is neither application/msgpack nor application/json")]
    ContentType {
        /// The content type given.
        given: String,
    },
    /// The content encoding is none that the grid reads.
    #[error("content encoding {given:?} is not zstd")]
    Encoding {
        /// The content encoding given.
        given: String,
    },
    /// The body ends in the middle of a value.
    #[error("{kind} body ends early: {detail}")]
    Truncated {
        /// What was being decoded.
        kind: &'static str,
        /// Where it ended.
        detail: String,
    },
    /// A whole message is there, and more bytes after it.
    #[error("{kind} body has {extra} bytes after its end")]
    Trailing {
        /// What was being decoded.
        kind: &'static str,
        /// How many bytes follow.
        extra: usize,
    },
    /// The bytes are no value of this shape.
    #[error("{kind} body is not valid: {detail}")]
    Invalid {
        /// What was being decoded.
        kind: &'static str,
        /// What is wrong, and at which field where the format tells.
        detail: String,
    },
    /// A value that cannot be written in this format.
    #[error("{kind} cannot be encoded: {detail}")]
    Encode {
        /// What was being encoded.
        kind: &'static str,
        /// Why.
        detail: String,
    },
}

/// Writes a value; `kind` names it in errors.
pub fn encode<T: Serialize + ?Sized>(kind: &'static str, value: &T, format: Format) -> Result<Vec<u8>, CodecError> {
    let error = |detail: String| CodecError::Encode { kind, detail };
    let bytes = match format {
        Format::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| error(e.to_string()))?,
        Format::Json => serde_json::to_vec(value).map_err(|e| error(e.to_string()))?,
    };
    check_size(bytes.len())?;
    Ok(bytes)
}

/// Reads a value that fills the bytes exactly; `kind` names it in errors.
pub fn decode<T: DeserializeOwned>(kind: &'static str, bytes: &[u8], format: Format) -> Result<T, CodecError> {
    check_size(bytes.len())?;
    if values::are_too_many(bytes, format) {
        let detail = format!("it has more than {} values: send items as the lines of a blob", values::MAX_VALUES);
        return Err(CodecError::Invalid { kind, detail });
    }
    match format {
        Format::MessagePack => decode_msgpack(kind, bytes),
        Format::Json => serde_json::from_slice(bytes).map_err(|e| json_error(kind, bytes, &e)),
    }
}

fn check_size(bytes: usize) -> Result<(), CodecError> {
    if bytes > MAX_BODY_BYTES { Err(CodecError::Oversized { bytes, limit: MAX_BODY_BYTES }) } else { Ok(()) }
}

fn decode_msgpack<T: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = std::io::Cursor::new(bytes);
    let mut decoder = rmp_serde::Deserializer::new(&mut reader);
    let value = T::deserialize(&mut decoder).map_err(|e| {
        let detail = e.to_string();
        if is_end(&e) { CodecError::Truncated { kind, detail } } else { CodecError::Invalid { kind, detail } }
    })?;
    let read = usize::try_from(reader.position()).unwrap_or(usize::MAX);
    match bytes.len().saturating_sub(read) {
        0 => Ok(value),
        extra => Err(CodecError::Trailing { kind, extra }),
    }
}

fn is_end(error: &rmp_serde::decode::Error) -> bool {
    use rmp_serde::decode::Error::{InvalidDataRead, InvalidMarkerRead};
    let (InvalidMarkerRead(io) | InvalidDataRead(io)) = error else { return false };
    io.kind() == std::io::ErrorKind::UnexpectedEof
}

fn json_error(kind: &'static str, bytes: &[u8], error: &serde_json::Error) -> CodecError {
    let detail = error.to_string();
    match error.classify() {
        serde_json::error::Category::Eof => CodecError::Truncated { kind, detail },
        serde_json::error::Category::Syntax if detail.starts_with("trailing characters") => {
            let line_start: usize = bytes.split_inclusive(|b| *b == b'\n').take(error.line() - 1).map(<[u8]>::len).sum();
            CodecError::Trailing { kind, extra: bytes.len().saturating_sub(line_start + error.column() - 1) }
        }
        serde_json::error::Category::Syntax | serde_json::error::Category::Data | serde_json::error::Category::Io => {
            CodecError::Invalid { kind, detail }
        }
    }
}

/// Bytes that are MessagePack `bin` in MessagePack and Base64 text in JSON.
pub mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the bytes.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(bytes))
        } else {
            serializer.serialize_bytes(bytes)
        }
    }

    /// Reads them back.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            STANDARD.decode(text).map_err(|e| serde::de::Error::custom(format!("not Base64: {e}")))
        } else {
            serde_bytes::ByteBuf::deserialize(deserializer).map(serde_bytes::ByteBuf::into_vec)
        }
    }
}

/// The same where there may be none.
pub mod optional_base64_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Bytes(#[serde(with = "super::base64_bytes")] Vec<u8>);

    /// Writes the bytes, if there are any.
    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| Bytes(bytes.clone())).serialize(serializer)
    }

    /// Reads them back.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Bytes>::deserialize(deserializer)?.map(|Bytes(bytes)| bytes))
    }
}
