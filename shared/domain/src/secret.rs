//! A customer's secrets: how they are named, what a value may be, and a type that shows its value to nobody who does not
//! ask for it by name (contract section 5).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::field::FieldError;

/// Bytes of a value at most.
pub const MAX_VALUE: usize = 4_096;
/// Secrets of one integration at most.
pub const MAX_SECRETS: usize = 50;
/// Values shown in an hour, per integration.
pub const REVEALS_PER_HOUR: u32 = 10;
/// Characters of a reason at most.
pub const MAX_REASON: usize = 500;
const MAX_NAME: usize = 64;

/// A secret's name: a letter, then letters, digits and `_`, 64 characters at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// The text cannot name a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must begin with a letter and be at most 64 letters, digits and _")]
pub struct NotAName;

impl SecretName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let letter = text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
        let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if letter && rest && text.len() <= MAX_NAME { Ok(Self(text.to_owned())) } else { Err(NotAName) }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SecretName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A secret's value. Its `Debug` shows nothing, it cannot be serialised, and its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Checks what a customer gave. The rule is the same for every secret, so that each can stand in a header as well as
    /// in an address.
    ///
    /// # Errors
    /// What is wrong with it; never repeats it.
    pub fn parse(text: Zeroizing<String>) -> Result<Self, FieldError> {
        let wrong = |message| Err(FieldError::invalid("value", message));
        if text.is_empty() {
            return wrong("must not be empty");
        }
        if text.len() > MAX_VALUE {
            let message = format!("must be at most {MAX_VALUE} bytes");
            return Err(FieldError { field: "value".to_owned(), message, code: "too_long" });
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || text.trim() != text.as_str() {
            return wrong("must be visible ASCII characters, without blanks at its ends");
        }
        // In a path these would mean "here" and "one up", however they are encoded.
        if matches!(text.as_str(), "." | "..") {
            return wrong("must not be one or two dots alone");
        }
        Ok(Self(text))
    }

    /// What was stored; it was checked then.
    pub fn stored(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The value itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

/// Text in a request that is about to become a [`SecretValue`]: as silent, not yet checked.
#[derive(Clone)]
pub struct Given(Zeroizing<String>);

impl Given {
    /// Checks it.
    ///
    /// # Errors
    /// As [`SecretValue::parse`].
    pub fn check(self) -> Result<SecretValue, FieldError> {
        SecretValue::parse(self.0)
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "Z", "token", "api_key_2", &"x".repeat(64)] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "_a", "a-b", "a.b", "a b", "ä", "a}", "a\n", "__proto__", &"x".repeat(65)] {
            assert_eq!(bad.parse::<SecretName>(), Err(NotAName), "{bad}");
        }
    }

    #[test]
    fn values() {
        let parse = |text: &str| SecretValue::parse(Zeroizing::new(text.to_owned()));
        for good in ["x", "Bearer abc", "a/b?c#d&e%f{secret.g}", "...", &"x".repeat(MAX_VALUE)] {
            assert_eq!(parse(good).expect(good).expose(), good);
        }
        for bad in ["", " ", " a", "a ", "a\tb", "a\r\nb: c", "\0", "é", ".", "..", &"x".repeat(MAX_VALUE + 1)] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.field, "value");
        }
    }

    #[test]
    fn nothing_shows_a_value() {
        let value = SecretValue::parse(Zeroizing::new("s3cret".to_owned())).expect("a value");
        assert_eq!(format!("{value:?} {value:#?}"), "SecretValue SecretValue");
        let given: Given = serde_json::from_str("\"s3cret\"").expect("text");
        assert!(!format!("{given:?}").contains("s3cret"));
    }
}
