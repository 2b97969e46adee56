//! The salt of a stream's identifiers: 16 random bytes in the stream's metadata, made once by whoever creates the stream.
//!
//! The subject of an exclusive identifier is a hash of it. Without a salt of its own per stream, a list of likely values
//! would tell who has which from the names of the subjects alone.

use std::fmt;
use std::str::FromStr;

/// The salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentifierSalt([u8; 16]);

/// That a text is no salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 32 hex digits")]
pub struct NoSalt;

impl IdentifierSalt {
    /// The member of the stream's metadata that bears it.
    pub const METADATA: &'static str = "person-service.identifier-salt";

    /// The salt of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for IdentifierSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for IdentifierSalt {
    type Err = NoSalt;

    /// 32 hex digits, in any case.
    fn from_str(text: &str) -> Result<Self, NoSalt> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if is_hex { u128::from_str_radix(text, 16).ok() } else { None };
        number.map(|number| Self(number.to_be_bytes())).ok_or(NoSalt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_two_hex_digits_and_nothing_else() {
        let text = "00112233445566778899aabbccddeeff";
        let salt: IdentifierSalt = text.parse().expect("a salt");
        assert_eq!((salt.to_string(), salt.to_bytes()[..2].to_vec()), (text.to_owned(), vec![0x00, 0x11]));
        assert_eq!(text.to_uppercase().parse(), Ok(salt));
        let signed = format!("+{}", &text[1..]);
        for bad in
            ["", &text[1..], &signed, "00112233445566778899aabbccddeefg", &format!("{text}0"), "äääääääääääääääa"]
        {
            assert_eq!(bad.parse::<IdentifierSalt>(), Err(NoSalt), "{bad:?}");
        }
    }
}
