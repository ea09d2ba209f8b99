//! The URL context: what the page that embeds the widget tells about its visitor (contract section 3, "URL context").
//! Decides which pairs are kept, cut or dropped. Never an error to the visitor.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};

/// Keys kept at most.
pub const MAX_KEYS: usize = 20;
/// Bytes of keys and values together, in UTF-8.
pub const MAX_BYTES: usize = 2_048;
/// Characters (Unicode scalar values) of one value; the rest is cut.
pub const MAX_VALUE_CHARS: usize = 256;
const MAX_KEY_BYTES: usize = 64;

/// Query parameters of the widget's own address, which never become context.
pub const RESERVED: [&str; 9] =
    ["appId", "key", "profile", "routingKey", "lang", "preview", "debug", "position", "theme"];
const PROTOTYPE: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// Sanitised pairs in the order in which they were given; a key stands once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(Vec<(String, String)>);

/// What sanitising left out or shortened, by key, for the console's embed page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Keys of pairs that were dropped.
    pub dropped: Vec<String>,
    /// Keys of values that were cut to 256 characters.
    pub cut: Vec<String>,
}

impl Context {
    /// Keeps what the rules allow of `pairs`: the first of a repeated key, at most 20 keys and 2,048 bytes; a pair that
    /// no longer fits is dropped and later, smaller ones may still fit.
    pub fn sanitise<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> (Self, Losses) {
        let mut kept: Vec<(String, String)> = Vec::new();
        let mut losses = Losses::default();
        let mut bytes = 0;
        for (key, value) in pairs {
            let mut clean = value.chars().filter(|character| !character.is_control());
            let value: String = clean.by_ref().take(MAX_VALUE_CHARS).collect();
            let size = key.len() + value.len();
            let repeated = kept.iter().any(|(known, _)| known == key);
            if !is_key(key) || repeated || kept.len() == MAX_KEYS || bytes + size > MAX_BYTES {
                losses.dropped.push(key.to_owned());
                continue;
            }
            if clean.next().is_some() {
                losses.cut.push(key.to_owned());
            }
            bytes += size;
            kept.push((key.to_owned(), value));
        }
        (Self(kept), losses)
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) fn is_key(key: &str) -> bool {
    let letters = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let starts = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    starts && letters && key.len() <= MAX_KEY_BYTES && !RESERVED.contains(&key) && !PROTOTYPE.contains(&key)
}

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Reading sanitises: no `Context` exists that breaks the rules, wherever it came from.
impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Context;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Context, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Context::sanitise(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))).0)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sanitise(pairs: &[(&str, &str)]) -> (Vec<(String, String)>, Losses) {
        let (context, losses) = Context::sanitise(pairs.iter().copied());
        (context.0, losses)
    }

    #[test]
    fn keeps_what_the_rules_allow() {
        let (kept, losses) = sanitise(&[
            ("orderId", "A-1"),
            ("1st", "digit first"),
            ("appId", "reserved"),
            ("constructor", "prototype"),
            ("orderId", "again"),
            ("note", "line\nbreak\u{7f}"),
        ]);
        assert_eq!(kept, [("orderId".into(), "A-1".into()), ("note".into(), "linebreak".into())]);
        assert_eq!(losses.dropped, ["1st", "appId", "constructor", "orderId"]);
    }

    #[test]
    fn cuts_by_characters_not_bytes() {
        let (kept, losses) = sanitise(&[("a", &"é".repeat(257)), ("b", &"é".repeat(256))]);
        assert_eq!(kept[0].1.chars().count(), 256);
        assert_eq!((kept[1].1.chars().count(), losses.cut), (256, vec!["a".to_owned()]));
    }

    #[test]
    fn reading_sanitises_and_keeps_the_order() {
        let context: Context = serde_json::from_str(r#"{"z":"1","__proto__":"2","a":"3"}"#).expect("strings");
        assert_eq!(serde_json::to_string(&context).expect("a map"), r#"{"z":"1","a":"3"}"#);
        assert!(serde_json::from_str::<Context>(r#"{"a":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn bounds_always_hold(pairs in prop::collection::vec(("[a-zA-Z0-9_.-]{0,70}", ".{0,300}"), 0..40)) {
            let (context, losses) = Context::sanitise(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            prop_assert!(context.0.len() <= MAX_KEYS);
            prop_assert!(context.pairs().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= MAX_BYTES);
            prop_assert_eq!(context.0.len() + losses.dropped.len(), pairs.len());
            let again: Context = serde_json::from_str(&serde_json::to_string(&context).expect("a map")).expect("kept");
            prop_assert_eq!(again, context);
        }
    }
}
