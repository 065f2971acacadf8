//! Messages between a process and its child over pipes: a small header (MessagePack) and raw byte sections.
//!
//! `u32 header length, u32 count of sections, u64 length of each section, header, sections`, all little-endian.

use std::io::{Read, Write};

use protocol::codec::{Format, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A header holds names, numbers and bounded texts.
const MAX_HEADER_BYTES: usize = 256 << 10;
/// Sections of a message.
const MAX_SECTIONS: usize = 4;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The pipe ended or broke.
    #[error("pipe broke: {0}")]
    Pipe(#[from] std::io::Error),
    /// The bytes are no message of this kind.
    #[error("message is broken: {0}")]
    Broken(String),
}

/// A message: its header and its sections.
#[derive(Debug)]
pub(crate) struct Parcel<T> {
    pub(crate) header: T,
    pub(crate) sections: Vec<Vec<u8>>,
}

impl<T> Parcel<T> {
    /// The next section; empty if the sender gave fewer.
    pub(crate) fn section(&mut self) -> Vec<u8> {
        if self.sections.is_empty() { Vec::new() } else { self.sections.remove(0) }
    }
}

/// What comes before the sections.
fn head<T: Serialize>(header: &T, sections: &[&[u8]]) -> Result<Vec<u8>, WireError> {
    let broken = |e: &dyn std::fmt::Display| WireError::Broken(e.to_string());
    let header = encode("executor message", header, Format::MessagePack).map_err(|e| broken(&e))?;
    let mut bytes = u32::try_from(header.len()).map_err(|e| broken(&e))?.to_le_bytes().to_vec();
    bytes.extend(u32::try_from(sections.len()).map_err(|e| broken(&e))?.to_le_bytes());
    for section in sections {
        bytes.extend(u64::try_from(section.len()).map_err(|e| broken(&e))?.to_le_bytes());
    }
    bytes.extend(header);
    Ok(bytes)
}

/// Lengths of the header and count of the sections, checked.
fn prefix(bytes: [u8; 8]) -> Result<(usize, usize), WireError> {
    let [h0, h1, h2, h3, s0, s1, s2, s3] = bytes;
    let header = usize::try_from(u32::from_le_bytes([h0, h1, h2, h3])).unwrap_or(usize::MAX);
    let sections = usize::try_from(u32::from_le_bytes([s0, s1, s2, s3])).unwrap_or(usize::MAX);
    if header > MAX_HEADER_BYTES || sections > MAX_SECTIONS {
        return Err(WireError::Broken(format!("a header of {header} bytes with {sections} sections")));
    }
    Ok((header, sections))
}

/// The lengths of the sections, checked together against the reader's bound.
fn lengths(bytes: &[u8], limit: u64) -> Result<Vec<u64>, WireError> {
    let (chunks, _rest) = bytes.as_chunks::<8>();
    let lengths: Vec<_> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
    let total = lengths.iter().fold(0_u64, |sum, length| sum.saturating_add(*length));
    if total > limit {
        return Err(WireError::Broken(format!("{total} bytes are over the limit of {limit}")));
    }
    Ok(lengths)
}

fn header<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    decode("executor message", bytes, Format::MessagePack).map_err(|e| WireError::Broken(e.to_string()))
}

fn whole(section: Vec<u8>, length: u64) -> Result<Vec<u8>, WireError> {
    if u64::try_from(section.len()).is_ok_and(|read| read == length) {
        Ok(section)
    } else {
        Err(WireError::Pipe(std::io::ErrorKind::UnexpectedEof.into()))
    }
}

/// Writes a message, in a child.
pub(crate) fn write<T: Serialize>(to: &mut impl Write, header: &T, sections: &[&[u8]]) -> Result<(), WireError> {
    to.write_all(&head(header, sections)?)?;
    for section in sections {
        to.write_all(section)?;
    }
    Ok(to.flush()?)
}

/// Reads a message of up to `limit` bytes, in a child.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read, limit: u64) -> Result<Parcel<T>, WireError> {
    let mut start = [0; 8];
    from.read_exact(&mut start)?;
    let (header_len, sections) = prefix(start)?;
    let mut list = vec![0; sections * 8];
    from.read_exact(&mut list)?;
    let lengths = lengths(&list, limit)?;
    let mut bytes = vec![0; header_len];
    from.read_exact(&mut bytes)?;
    let mut parcel = Parcel { header: header(&bytes)?, sections: Vec::with_capacity(sections) };
    for length in lengths {
        let mut section = Vec::new();
        from.take(length).read_to_end(&mut section)?;
        parcel.sections.push(whole(section, length)?);
    }
    Ok(parcel)
}

/// Writes a message, to a child.
pub(crate) async fn send<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    header: &T,
    sections: &[&[u8]],
) -> Result<(), WireError> {
    to.write_all(&head(header, sections)?).await?;
    for section in sections {
        to.write_all(section).await?;
    }
    Ok(to.flush().await?)
}

/// Reads a message of up to `limit` bytes, from a child: its lengths are not believed further than its bytes.
pub(crate) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    limit: u64,
) -> Result<Parcel<T>, WireError> {
    let mut start = [0; 8];
    from.read_exact(&mut start).await?;
    let (header_len, sections) = prefix(start)?;
    let mut list = vec![0; sections * 8];
    from.read_exact(&mut list).await?;
    let lengths = lengths(&list, limit)?;
    let mut bytes = vec![0; header_len];
    from.read_exact(&mut bytes).await?;
    let mut parcel = Parcel { header: header(&bytes)?, sections: Vec::with_capacity(sections) };
    for length in lengths {
        let mut section = Vec::new();
        from.take(length).read_to_end(&mut section).await?;
        parcel.sections.push(whole(section, length)?);
    }
    Ok(parcel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back() {
        let mut bytes = Vec::new();
        write(&mut bytes, &("hello", 7), &[b"abc", b""]).unwrap();
        let mut parcel: Parcel<(String, u8)> = read(&mut bytes.as_slice(), 3).unwrap();
        assert_eq!(parcel.header, ("hello".to_owned(), 7));
        assert_eq!((parcel.section(), parcel.section(), parcel.section()), (b"abc".to_vec(), vec![], vec![]));
        for cut in 0..bytes.len() {
            assert!(read::<(String, u8)>(&mut &bytes[..cut], 3).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn lengths_beyond_the_bounds_are_refused_before_anything_is_kept() {
        let mut bytes = Vec::new();
        write(&mut bytes, &(), &[b"abcd"]).unwrap();
        let error = read::<()>(&mut bytes.as_slice(), 3).unwrap_err();
        assert_eq!(error.to_string(), "message is broken: 4 bytes are over the limit of 3");
        assert!(read::<()>(&mut [255; 8].as_slice(), 3).is_err());
    }
}
