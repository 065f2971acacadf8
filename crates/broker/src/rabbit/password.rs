//! Users' passwords: made from the system's randomness, and salted and hashed as RabbitMQ keeps them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Digest;
use rand::TryRngCore as _;
use rand::rngs::OsRng;

/// RabbitMQ's name of the only algorithm that is used here: SHA-256 over salt and password.
pub(super) const ALGORITHM: &str = "rabbit_password_hashing_sha256";
/// Letters and digits, since passwords stand in URLs: 40 of them are 238 bits.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const GENERATED_SIGNS: usize = 40;
/// A shorter one is a slip, or guessed.
const FEWEST_SIGNS: usize = 8;
/// Longer than any that a person or a program makes.
const MOST_BYTES: usize = 1_024;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The system gave no randomness.
    #[error("system gives no random bytes")]
    Randomness(#[source] rand::rand_core::OsError),
    /// The one that was given cannot be used.
    #[error("password must be of {FEWEST_SIGNS} signs or more, {MOST_BYTES} bytes at most, in one line")]
    Unfit,
}

/// A password; never printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Makes one that nobody guesses.
    pub fn generate() -> Result<Self, PasswordError> {
        let mut text = String::with_capacity(GENERATED_SIGNS);
        while text.len() < GENERATED_SIGNS {
            let mut bytes = [0; GENERATED_SIGNS];
            OsRng.try_fill_bytes(&mut bytes).map_err(PasswordError::Randomness)?;
            // Of 256 values the last 8 would make the first signs likelier.
            let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|value| *value < ALPHABET.len() * 4);
            let signs = fair.filter_map(|value| ALPHABET.get(value % ALPHABET.len()).copied().map(char::from));
            text.extend(signs.take(GENERATED_SIGNS - text.len()));
        }
        Ok(Self(text))
    }

    /// One that was chosen; a line's end after it does not belong to it.
    pub fn given(text: &str) -> Result<Self, PasswordError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let fit = text.chars().count() >= FEWEST_SIGNS && text.len() <= MOST_BYTES && !text.chars().any(char::is_control);
        if fit { Ok(Self(text.to_owned())) } else { Err(PasswordError::Unfit) }
    }

    /// The password itself, for the one place that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the broker keeps of it: a salt of four bytes, then the digest of salt and password, in Base64.
    pub fn hash(&self) -> Result<PasswordHash, PasswordError> {
        let mut salt = [0; 4];
        OsRng.try_fill_bytes(&mut salt).map_err(PasswordError::Randomness)?;
        Ok(self.salted(salt))
    }

    fn salted(&self, salt: [u8; 4]) -> PasswordHash {
        let digest = Digest::of(&[&salt[..], self.0.as_bytes()].concat());
        PasswordHash(STANDARD.encode([&salt[..], &digest.0[..]].concat()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// A password as the broker keeps it; empty lets nobody in.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PasswordHash(pub(super) String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ones_are_long_and_differ_and_never_show() {
        let [one, two] = [(); 2].map(|()| Password::generate().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.expose().len(), GENERATED_SIGNS);
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(!format!("{one:?}{:?}", one.hash().unwrap()).contains(one.expose()));
    }

    #[test]
    fn a_hash_is_what_rabbitmq_s_guide_says() {
        // The example of RabbitMQ's guide to passwords: salt 908DC60A, password test12.
        let guide = Password::given("test12").unwrap_or(Password("test12".to_owned()));
        assert_eq!(guide.salted([0x90, 0x8D, 0xC6, 0x0A]).0, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    }

    #[test]
    fn chosen_ones_are_one_line_of_eight_signs_or_more() {
        assert_eq!(Password::given("correct horse\r\n").unwrap().expose(), "correct horse");
        for bad in ["", "short\n", "two\nlines of it", &"x".repeat(2_000)] {
            assert!(Password::given(bad).is_err(), "{bad:?}");
        }
    }
}
