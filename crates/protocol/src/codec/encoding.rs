//! Bodies that are written smaller, as the AMQP property `content_encoding` says: zstd (RFC 8878), read and never written.

use std::borrow::Cow;
use std::io::Read;

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::{CodecError, MAX_BODY_BYTES, check_size};

/// A frame may ask for such a window: what RFC 8878 recommends to support, and all that the largest body can use.
const MAX_WINDOW_BYTES: u64 = 8 << 20;

/// The body as its format wrote it, at most [`MAX_BODY_BYTES`] however small it came.
///
/// `zstd` is one frame; it is read piece by piece up to the limit, whatever size its header claims.
pub fn decoded<'a>(encoding: Option<&str>, body: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
    check_size(body.len())?;
    match encoding.unwrap_or("").trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Cow::Borrowed(body)),
        "zstd" => unzstd(body).map(Cow::Owned),
        _ => Err(CodecError::Encoding { given: encoding.unwrap_or("").chars().take(80).collect() }),
    }
}

fn unzstd(body: &[u8]) -> Result<Vec<u8>, CodecError> {
    let invalid = |detail: String| CodecError::Invalid { kind: "zstd", detail, pointer: None };
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW_BYTES);
    let mut rest = body;
    let frame = StreamingDecoder::new_with_decoder(&mut rest, decoder).map_err(|e| invalid(e.to_string()))?;
    let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    frame.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| invalid(e.to_string()))?;
    check_size(bytes.len())?;
    if rest.is_empty() { Ok(bytes) } else { Err(CodecError::Trailing { kind: "zstd", extra: rest.len() }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn what_is_plain_stays_and_what_is_packed_is_unpacked() {
        for plain in [None, Some(""), Some("identity")] {
            assert_eq!(decoded(plain, b"abc").unwrap().as_ref(), b"abc");
        }
        // Made by the reference implementation, with a compressed block and a checksum.
        let begin = [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x4d, 0x00, 0x00, 0x18, 0x61];
        let frame = [&begin[..], &[0x62, 0x63, 0x01, 0x00, 0x8e, 0x6e, 0x08, 0x10, 0x1c, 0x69, 0xbe]].concat();
        assert_eq!(decoded(Some("zstd"), &frame).unwrap().as_ref(), "abc".repeat(12).as_bytes());
        let long = vec![7; 100_000];
        assert_eq!(decoded(Some("ZSTD"), &packed(&long)).unwrap().as_ref(), long);
        assert!(matches!(decoded(Some("gzip"), b"abc"), Err(CodecError::Encoding { given }) if given == "gzip"));
        assert!(matches!(decoded(Some("zstd"), b"abc"), Err(CodecError::Invalid { .. })));
        let twice = [packed(b"abc"), packed(b"abc")].concat();
        assert!(matches!(decoded(Some("zstd"), &twice), Err(CodecError::Trailing { .. })));
    }

    #[test]
    fn a_small_body_cannot_become_a_large_one() {
        let fits = packed(&vec![0; MAX_BODY_BYTES]);
        assert_eq!(decoded(Some("zstd"), &fits).unwrap().len(), MAX_BODY_BYTES);
        let bomb = packed(&vec![0; MAX_BODY_BYTES + 1]);
        assert!(bomb.len() < 10_000);
        assert!(matches!(decoded(Some("zstd"), &bomb), Err(CodecError::Oversized { .. })));
        // A frame header that claims a window of about a terabyte.
        assert!(matches!(decoded(Some("zstd"), &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xf0, 1, 0, 0]), Err(CodecError::Invalid { .. })));
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_other_bytes_and_never_a_panic(
            bytes in proptest::collection::vec(0_u8..4, 0..3_000),
            at in any::<prop::sample::Index>(),
            with: u8,
        ) {
            let mut frame = packed(&bytes);
            prop_assert_eq!(decoded(Some("zstd"), &frame).unwrap().into_owned(), bytes);
            let at = at.index(frame.len());
            frame[at] = with;
            if let Ok(read) = decoded(Some("zstd"), &frame) {
                prop_assert!(read.len() <= MAX_BODY_BYTES);
            }
        }
    }
}
