//! Bytes to messages and back: MessagePack with named fields, or JSON; refusing what is truncated, oversized or followed by rubbish.

mod encoding;
mod values;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::problem::PROBLEM_JSON;

pub use encoding::decoded;
pub use values::MAX_VALUES;

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
            "application/json" | PROBLEM_JSON => Ok(Self::Json),
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
    #[error("{kind} body is not valid{place}: {detail}", place = pointer.as_deref().filter(|at| !at.is_empty()).map_or(String::new(), |at| format!(" at {at}")))]
    Invalid {
        /// What was being decoded.
        kind: &'static str,
        /// What is wrong.
        detail: String,
        /// The place, as a JSON pointer, where it is known; empty is the whole.
        pointer: Option<String>,
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

/// Writes a value; `kind` names it in errors. What [`decode`] would refuse is not written.
pub fn encode<T: Serialize + ?Sized>(kind: &'static str, value: &T, format: Format) -> Result<Vec<u8>, CodecError> {
    let error = |detail: String| CodecError::Encode { kind, detail };
    let bytes = match format {
        Format::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| error(e.to_string()))?,
        Format::Json => serde_json::to_vec(value).map_err(|e| error(e.to_string()))?,
    };
    check(kind, &bytes, format)?;
    Ok(bytes)
}

/// Reads a value that fills the bytes exactly; `kind` names it in errors.
pub fn decode<T: DeserializeOwned>(kind: &'static str, bytes: &[u8], format: Format) -> Result<T, CodecError> {
    check(kind, bytes, format)?;
    read(kind, bytes, format)
}

/// Reads likewise what keeps few of the values and skips the others unread, and so of however many they are.
pub fn decode_head<T: DeserializeOwned>(kind: &'static str, bytes: &[u8], format: Format) -> Result<T, CodecError> {
    check_size(bytes.len())?;
    read(kind, bytes, format)
}

fn read<T: DeserializeOwned>(kind: &'static str, bytes: &[u8], format: Format) -> Result<T, CodecError> {
    let decoded = match format {
        Format::MessagePack => decode_msgpack(kind, bytes),
        Format::Json => serde_json::from_slice(bytes).map_err(|e| json_error(kind, bytes, &e)),
    };
    decoded.map_err(|error| placed::<T>(error, bytes, format))
}

/// How deep a value may be nested whose mistake is looked for: each level takes stack.
const MAX_DEPTH: usize = 128;

/// An error with its place, which is looked for by a second reading: only that of what is wrong takes the time.
fn placed<T: DeserializeOwned>(error: CodecError, bytes: &[u8], format: Format) -> CodecError {
    let CodecError::Invalid { kind, detail, .. } = error else { return error };
    let pointer = match format {
        Format::MessagePack => {
            let mut reader = rmp_serde::Deserializer::new(bytes);
            reader.set_max_depth(MAX_DEPTH);
            place_of::<T, _>(&mut reader, &detail)
        }
        Format::Json => place_of::<T, _>(&mut serde_json::Deserializer::from_slice(bytes), &detail),
    };
    CodecError::Invalid { kind, detail, pointer }
}

/// Where a value has that mistake.
fn place_of<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D, detail: &str) -> Option<String> {
    use serde_path_to_error::Segment;
    let error =
        serde_path_to_error::deserialize::<_, T>(deserializer).err().filter(|error| error.inner().to_string() == detail)?;
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } | Segment::Enum { variant: key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
        Segment::Unknown => None,
    };
    error.path().iter().map(step).collect()
}

/// Whether the bytes may be a message: neither too many, nor of too many values.
fn check(kind: &'static str, bytes: &[u8], format: Format) -> Result<(), CodecError> {
    check_size(bytes.len())?;
    if values::are_too_many(bytes, format) {
        let detail = format!("it has more than {MAX_VALUES} values: send items as the lines of a blob");
        return Err(CodecError::Invalid { kind, detail, pointer: None });
    }
    Ok(())
}

fn check_size(bytes: usize) -> Result<(), CodecError> {
    if bytes > MAX_BODY_BYTES { Err(CodecError::Oversized { bytes, limit: MAX_BODY_BYTES }) } else { Ok(()) }
}

fn decode_msgpack<T: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = std::io::Cursor::new(bytes);
    let mut decoder = rmp_serde::Deserializer::new(&mut reader);
    let value = T::deserialize(&mut decoder).map_err(|e| {
        let detail = e.to_string();
        if is_end(&e) { CodecError::Truncated { kind, detail } } else { CodecError::Invalid { kind, detail, pointer: None } }
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
            CodecError::Invalid { kind, detail, pointer: None }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message as _;
    use crate::job::JobSpec;

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let pointers = |body: &str| {
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            let packed = encode("test", &value, Format::MessagePack).unwrap();
            [(body.as_bytes(), Format::Json), (&packed, Format::MessagePack)].map(|(bytes, format)| {
                let error = JobSpec::from_bytes(bytes, format).unwrap_err();
                let CodecError::Invalid { pointer, .. } = error else { panic!("{error}") };
                pointer
            })
        };
        let both = |pointer: &str| [Some(pointer.to_owned()), Some(pointer.to_owned())];
        assert_eq!(pointers(r#"{"pool":"open","quorum":"two"}"#), both("/quorum"));
        assert_eq!(pointers(r#"{"pool":"open","input":{"range":{"start":"x","end":2}}}"#), both("/input/range/start"));
        assert_eq!(pointers(r#"{"pool":"open"}"#), both(""));
        let text = JobSpec::from_bytes(b"{\"quorum\":\"two\"}", Format::Json).unwrap_err().to_string();
        assert!(text.contains("is not valid at /quorum: "), "{text}");
    }

    #[test]
    fn what_cannot_be_read_again_is_not_written() {
        for format in [Format::MessagePack, Format::Json] {
            // The list is a value too.
            let most = vec![1_u8; MAX_VALUES - 1];
            let bytes = encode("list", &most, format).unwrap();
            assert_eq!(decode::<Vec<u8>>("list", &bytes, format).unwrap(), most);
            let more = vec![1_u8; MAX_VALUES];
            let refused = encode("list", &more, format).unwrap_err();
            assert!(matches!(refused, CodecError::Invalid { pointer: None, .. }), "{refused:?}");
            let bytes = match format {
                Format::MessagePack => rmp_serde::to_vec_named(&more).unwrap(),
                Format::Json => serde_json::to_vec(&more).unwrap(),
            };
            assert_eq!(decode::<Vec<u8>>("list", &bytes, format).unwrap_err().to_string(), refused.to_string());
        }
    }

    #[test]
    fn a_job_that_fits_only_without_its_defaults_is_not_written() {
        let items = vec!["1"; MAX_VALUES - 20].join(",");
        let app = crate::Digest([1; 32]);
        let text = format!(r#"{{"app":"{app}","pool":"open","input":{{"items":[{items}]}}}}"#);
        let spec = JobSpec::from_bytes(text.as_bytes(), Format::Json).unwrap();
        let refused = spec.to_bytes(Format::MessagePack).unwrap_err().to_string();
        assert!(refused.contains("more than 1000000 values"), "{refused}");
    }

    #[test]
    fn a_mistake_deep_inside_is_told_without_its_place() {
        let deep = [vec![0x81, 0xa1, b'x'], vec![0x91; 1_000], vec![0xc1]].concat();
        let error = JobSpec::from_bytes(&deep, Format::MessagePack).unwrap_err();
        assert!(matches!(&error, CodecError::Invalid { pointer: None, .. }), "{error:?}");
    }
}
