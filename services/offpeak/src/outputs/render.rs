//! An output's bytes as people and programs read them: what the manifest says they are, MessagePack as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ports::sandbox::Inspection;
use protocol::codec::{self, Format};
use protocol::job::EntryKind;
use protocol::{CodecError, Value};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// What an app's results are (`output` of its manifest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// MessagePack, shown as JSON.
    MessagePack,
    /// JSON text.
    Json,
    /// UTF-8 text.
    Text,
    /// A PNG picture.
    Png,
    /// Bytes.
    Bin,
}

impl OutputKind {
    /// What the module's manifest says; without one, MessagePack for the ABI and text for programs.
    pub fn of(inspection: &Inspection) -> Self {
        let manifest = inspection.manifest.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let named = manifest.as_ref().and_then(|manifest| manifest.get("output")).and_then(serde_json::Value::as_str);
        match named {
            Some("msgpack") => Self::MessagePack,
            Some("json") => Self::Json,
            Some("text") => Self::Text,
            Some("png") => Self::Png,
            Some(_) => Self::Bin,
            None => match inspection.entry {
                Some(EntryKind::Command) => Self::Text,
                Some(EntryKind::Offpeak1) | None => Self::MessagePack,
            },
        }
    }

    /// The extension of a result's file.
    pub fn extension(self) -> &'static str {
        match self {
            Self::MessagePack | Self::Json => "json",
            Self::Text => "txt",
            Self::Png => "png",
            Self::Bin => "bin",
        }
    }
}

/// A whole result as its file's bytes.
pub(super) fn file_bytes(kind: OutputKind, output: &[u8]) -> Result<Vec<u8>, CodecError> {
    match kind {
        OutputKind::MessagePack => {
            let value = decoded(output)?;
            let mut text = serde_json::to_vec_pretty(&Json(&value)).map_err(|error| unwritable(&error))?;
            text.push(b'\n');
            Ok(text)
        }
        OutputKind::Json | OutputKind::Text | OutputKind::Png | OutputKind::Bin => Ok(output.to_vec()),
    }
}

/// One item's line of `outputs.jsonl`, with its line end.
pub(super) fn item_line(kind: OutputKind, item: u64, output: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let member = match kind {
        OutputKind::MessagePack => decoded(output).ok().map(|value| serde_json::to_string(&Json(&value))).transpose()?,
        OutputKind::Json => compact(output),
        OutputKind::Text => std::str::from_utf8(output).ok().map(serde_json::to_string).transpose()?,
        OutputKind::Png | OutputKind::Bin => Some(serde_json::to_string(&STANDARD.encode(output))?),
    };
    Ok(match member {
        Some(json) => format!("{{\"item\":{item},\"output\":{json}}}\n"),
        None => format!("{{\"item\":{item},\"output_base64\":\"{}\"}}\n", STANDARD.encode(output)),
    }
    .into_bytes())
}

/// A failed item's line of `outputs.jsonl`.
pub(super) fn failed_line(item: u64, reason: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let reason = serde_json::to_string(&String::from_utf8_lossy(reason))?;
    Ok(format!("{{\"item\":{item},\"failed\":{reason}}}\n").into_bytes())
}

/// The line in `outputs.jsonl` of the cancelled items from `first` to before `end`: one, since there may be more of
/// them than any disk has room for.
pub(super) fn cancelled_line(first: u64, end: u64) -> Vec<u8> {
    match end - first {
        1 => format!("{{\"item\":{first},\"cancelled\":true}}\n"),
        _ => format!("{{\"item\":{first},\"end\":{end},\"cancelled\":true}}\n"),
    }
    .into_bytes()
}

fn decoded(output: &[u8]) -> Result<Value, CodecError> {
    codec::decode("output", output, Format::MessagePack)
}

fn unwritable(error: &serde_json::Error) -> CodecError {
    CodecError::Encode { kind: "output", detail: error.to_string() }
}

/// JSON without line ends, its numbers untouched; `None` if it is not JSON.
fn compact(output: &[u8]) -> Option<String> {
    let raw: &serde_json::value::RawValue = serde_json::from_slice(output).ok()?;
    // Line ends stand only between JSON's tokens, never inside them.
    Some(raw.get().replace(['\n', '\r'], " "))
}

/// MessagePack seen as JSON; lossless but for the kinds of bytes and floats, as `docs/job-file.md` says.
pub struct Json<'v>(pub &'v Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Nil => serializer.serialize_unit(),
            Value::Boolean(boolean) => serializer.serialize_bool(*boolean),
            Value::Integer(integer) => match (integer.as_u64(), integer.as_i64()) {
                (Some(number), _) => serializer.serialize_u64(number),
                (None, number) => serializer.serialize_i64(number.unwrap_or_default()),
            },
            Value::F32(number) if number.is_finite() => serializer.serialize_f32(*number),
            Value::F32(number) => not_finite(f64::from(*number), serializer),
            Value::F64(number) if number.is_finite() => serializer.serialize_f64(*number),
            Value::F64(number) => not_finite(*number, serializer),
            Value::String(text) => match text.as_str() {
                Some(text) => serializer.serialize_str(text),
                None => serializer.serialize_str(&STANDARD.encode(text.as_bytes())),
            },
            Value::Binary(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Json(item)))?;
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&key_text(key), &Json(value))?;
                }
                map.end()
            }
            Value::Ext(kind, bytes) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("ext", kind)?;
                map.serialize_entry("data", &STANDARD.encode(bytes))?;
                map.end()
            }
        }
    }
}

fn not_finite<S: Serializer>(number: f64, serializer: S) -> Result<S::Ok, S::Error> {
    let text = match (number.is_nan(), number > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    };
    serializer.serialize_str(text)
}

/// A key as text: texts as they stand, anything else as its JSON.
fn key_text(key: &Value) -> String {
    match key.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string(&Json(key)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: OutputKind, output: &[u8]) -> String {
        String::from_utf8(item_line(kind, 3, output).unwrap()).unwrap()
    }

    fn packed(value: &Value) -> Vec<u8> {
        codec::encode("output", value, Format::MessagePack).unwrap()
    }

    #[test]
    fn messagepack_reads_as_json() {
        let value = Value::Map(vec![
            ("big".into(), Value::from(u64::MAX)),
            ("low".into(), Value::from(i64::MIN)),
            ("bytes".into(), Value::Binary(vec![1, 2, 255])),
            ("nan".into(), Value::F64(f64::NAN)),
            ("down".into(), Value::F32(f32::NEG_INFINITY)),
            ("short".into(), Value::F32(0.1)),
            (Value::from(7), Value::Array(vec![Value::Nil, true.into(), "é".into()])),
            (Value::Nil, Value::Ext(5, vec![0])),
        ]);
        let expected = "{\"item\":3,\"output\":{\"big\":18446744073709551615,\"low\":-9223372036854775808,\"bytes\":\"AQL/\",\
            \"nan\":\"NaN\",\"down\":\"-Infinity\",\"short\":0.1,\"7\":[null,true,\"é\"],\"null\":{\"ext\":5,\"data\":\"AA==\"}}}\n";
        assert_eq!(line(OutputKind::MessagePack, &packed(&value)), expected);
        let file =
            String::from_utf8(file_bytes(OutputKind::MessagePack, &packed(&Value::Array(vec![1.into()]))).unwrap()).unwrap();
        assert_eq!(file, "[\n  1\n]\n");
    }

    #[test]
    fn each_kind_has_its_line_and_its_file() {
        assert_eq!(line(OutputKind::Text, b"a\"b\n"), "{\"item\":3,\"output\":\"a\\\"b\\n\"}\n");
        assert_eq!(
            line(OutputKind::Json, b"{\"x\":\n 12345678901234567890123}"),
            "{\"item\":3,\"output\":{\"x\":  12345678901234567890123}}\n"
        );
        assert_eq!(line(OutputKind::Bin, &[0, 1]), "{\"item\":3,\"output\":\"AAE=\"}\n");
        for kind in [OutputKind::Text, OutputKind::Json, OutputKind::MessagePack] {
            assert_eq!(line(kind, &[0xc1, 0xff]), "{\"item\":3,\"output_base64\":\"wf8=\"}\n", "{kind:?}");
        }
        assert_eq!(file_bytes(OutputKind::Png, b"png").unwrap(), b"png");
        assert!(file_bytes(OutputKind::MessagePack, &[0xc1]).is_err());
        assert_eq!(failed_line(4, b"no \"x\"").unwrap(), b"{\"item\":4,\"failed\":\"no \\\"x\\\"\"}\n");
    }

    #[test]
    fn the_manifest_says_what_results_are() {
        let inspection = |manifest: Option<&str>, entry| Inspection {
            imports: Vec::new(),
            exports: Vec::new(),
            entry: Some(entry),
            manifest: manifest.map(str::to_owned),
            reasons: Vec::new(),
        };
        let kinds =
            [(r#"{"output":"png"}"#, OutputKind::Png), (r#"{"output":"x"}"#, OutputKind::Bin), ("{}", OutputKind::MessagePack)];
        for (manifest, kind) in kinds {
            assert_eq!(OutputKind::of(&inspection(Some(manifest), EntryKind::Offpeak1)), kind);
        }
        assert_eq!(OutputKind::of(&inspection(None, EntryKind::Command)), OutputKind::Text);
    }
}
