//! One element of a job's input, as the app sees it.

use crate::codec::decode;
use serde::Deserialize;

/// One element of a job's input: a `MessagePack` value that the app takes in the form it expects.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a>(&'a [u8]);

impl<'a> Item<'a> {
    /// Takes the `MessagePack` bytes of an item; tests make items this way.
    pub fn new(bytes: &'a [u8]) -> Self {
        Item(bytes)
    }

    /// The item as a whole number: the index of a `range` input.
    ///
    /// # Errors
    /// That the item is something else.
    pub fn index(&self) -> Result<u64, String> {
        decode(self.0).map_err(|error| format!("the item is no index of a range: {error}"))
    }

    /// The item as bytes: a line or a record.
    ///
    /// # Errors
    /// That the item is something else.
    pub fn bytes(&self) -> Result<&'a [u8], String> {
        decode(self.0).map_err(|error| format!("the item is no line or record: {error}"))
    }

    /// The item as any type that can be read: an entry of `items`, or a struct for a point of a `grid`.
    ///
    /// # Errors
    /// What does not fit the type.
    pub fn get<T: Deserialize<'a>>(&self) -> Result<T, String> {
        decode(self.0).map_err(|error| format!("the item does not fit: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_in_the_form_the_app_expects() {
        assert_eq!(Item::new(&[0xcd, 1, 0]).index(), Ok(256));
        assert_eq!(Item::new(&[0xc4, 2, b'h', b'i']).bytes(), Ok(&b"hi"[..]));
        assert_eq!(Item::new(&[0x92, 1, 0xa1, b'x']).get::<(u8, &str)>(), Ok((1, "x")));
    }

    #[test]
    fn a_wrong_form_is_an_error() {
        assert!(Item::new(&[0xa1, b'x']).index().is_err());
        assert!(Item::new(&[1]).bytes().is_err());
        assert!(Item::new(&[]).index().is_err());
    }
}
