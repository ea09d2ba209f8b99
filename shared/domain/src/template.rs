//! `{secret.name}` in an integration's address and header values: parsed once, filled in one pass, so that a value that
//! itself looks like a template stays what it is (security.md, "Outgoing deliveries", rule 6).

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::secret::{SecretName, SecretValue};

const OPEN: &str = "{secret.";
/// Bytes of a filled text at most: what servers take as an address or a header.
const MAX_FILLED: usize = 16 * 1024;

/// A text with places for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Secret(SecretName),
}

/// Values by name, as one delivery has them.
pub type Values = BTreeMap<SecretName, SecretValue>;

/// The text has a place that names no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must name a secret as {{secret.name}}")]
pub struct Malformed;

/// A text could not be filled: a secret is gone, or what came out cannot stand there. Says nothing about values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is missing or cannot stand where a template puts it")]
pub struct Unfilled;

/// How a value is written at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// As it is: a header's value.
    Plain,
    /// Percent-encoded, all but letters, digits, `-`, `_` and `~`: it stays within its path segment or query value.
    Percent,
}

impl Template {
    /// Reads a text. Braces that do not begin `{secret.` are text.
    ///
    /// # Errors
    /// When a place is not closed or names nothing that could be a secret.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (name, behind) = after.split_once('}').ok_or(Malformed)?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Secret(name.parse().map_err(|_| Malformed)?));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The secrets it names.
    pub fn names(&self) -> BTreeSet<&SecretName> {
        let pieces = self.0.iter();
        pieces
            .filter_map(|piece| match piece {
                Piece::Secret(name) => Some(name),
                Piece::Text(_) => None,
            })
            .collect()
    }

    /// The text with every place filled from `values`.
    ///
    /// # Errors
    /// When a value is missing, or the whole becomes too long.
    pub fn fill(&self, writing: Writing, values: &Values) -> Result<Zeroizing<String>, Unfilled> {
        // Reserved once: a string that grows leaves copies of itself behind.
        let mut filled = Zeroizing::new(String::with_capacity(MAX_FILLED));
        for piece in &self.0 {
            let text = match piece {
                Piece::Text(text) => Zeroizing::new(text.clone()),
                Piece::Secret(name) => write(writing, values.get(name).ok_or(Unfilled)?.expose()),
            };
            if filled.len() + text.len() > MAX_FILLED {
                return Err(Unfilled);
            }
            filled.push_str(&text);
        }
        Ok(filled)
    }

    /// The text with the same word at every place: for checks that need no values.
    pub(crate) fn with_word(&self, word: &str) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Secret(_) => word.to_owned(),
        };
        self.0.iter().map(piece).collect()
    }
}

fn write(writing: Writing, value: &str) -> Zeroizing<String> {
    let mut written = Zeroizing::new(String::with_capacity(3 * value.len()));
    for byte in value.bytes() {
        if writing == Writing::Plain || byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            written.push('%');
            written.push(char::from(HEX[usize::from(byte >> 4)]));
            written.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    written
}

#[cfg(test)]
pub(crate) fn values(pairs: &[(&str, &str)]) -> Values {
    let pair = |&(name, value): &(&str, &str)| {
        (name.parse().expect(name), SecretValue::stored(Zeroizing::new(value.to_owned())))
    };
    pairs.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filled_in_one_pass() {
        let values = values(&[("a", "{secret.b}"), ("b", "x y/z"), ("c", "}{")]);
        for (text, plain, percent) in [
            ("", "", ""),
            ("no place", "no place", "no place"),
            ("{secret.a}", "{secret.b}", "%7Bsecret%2Eb%7D"),
            ("Bearer {secret.b}!", "Bearer x y/z!", "Bearer x%20y%2Fz!"),
            ("{secret.b}{secret.c}{secret.b}", "x y/z}{x y/z", "x%20y%2Fz%7D%7Bx%20y%2Fz"),
            ("{{secret.c}}", "{}{}", "{%7D%7B}"),
            ("{ secret.a} {Secret.a} {secret}", "{ secret.a} {Secret.a} {secret}", "{ secret.a} {Secret.a} {secret}"),
        ] {
            let template = Template::parse(text).expect(text);
            assert_eq!(template.fill(Writing::Plain, &values).expect(text).as_str(), plain);
            assert_eq!(template.fill(Writing::Percent, &values).expect(text).as_str(), percent);
        }
    }

    #[test]
    fn what_separates_parts_of_an_address_is_encoded() {
        let all: String = (b' '..=b'~').map(char::from).collect();
        let template = Template::parse("{secret.all}").expect("a template");
        let written = template.fill(Writing::Percent, &values(&[("all", &all)])).expect("filled");
        let kept = written.replace('%', "");
        assert!(kept.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte)), "{kept}");
        assert_eq!(written.matches('%').count(), 95 - 62 - 3);
    }

    #[test]
    fn malformed_places_and_missing_values() {
        for text in ["{secret.", "{secret.}", "{secret.a", "{secret.a b}", "{secret.1}", "{secret.{secret.a}}"] {
            assert_eq!(Template::parse(text), Err(Malformed), "{text}");
        }
        let template = Template::parse("{secret.a}").expect("a template");
        assert_eq!(template.fill(Writing::Plain, &values(&[("b", "x")])), Err(Unfilled));
        let long = "x".repeat(4_096);
        let template = Template::parse(&"{secret.a}".repeat(5)).expect("a template");
        assert_eq!(template.fill(Writing::Plain, &values(&[("a", &long)])), Err(Unfilled));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(text in r"(\{secret\.[a-z]{0,2}\}?|.){0,20}") {
            if let Ok(template) = Template::parse(&text) {
                let pieces = template.0.iter().map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Secret(name) => format!("{OPEN}{name}}}"),
                });
                prop_assert_eq!(pieces.collect::<String>(), text);
            }
        }

        #[test]
        fn an_encoded_value_decodes_to_itself(value in "[ -~]{1,80}") {
            let template = Template::parse("{secret.v}").expect("a template");
            let written = template.fill(Writing::Percent, &values(&[("v", &value)])).expect("filled");
            let url = url::Url::parse(&format!("https://example.com/?v={}", written.as_str())).expect("an address");
            let (_, read) = url.query_pairs().next().expect("a pair");
            prop_assert_eq!(read.as_ref(), value.as_str());
        }
    }
}
