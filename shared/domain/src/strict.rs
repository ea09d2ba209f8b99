//! What serde takes besides what a schema says: a list in place of an object, its fields in order, and `{"word": null}` in
//! place of a word. Types in bodies of requests refuse both, wherever they stand.
//!
//! `#[serde(remote = "Self")]` keeps what serde derives beside the traits; the traits, implemented here, ask it only once
//! the value is of the right kind.

/// Implements serde's traits for structs that are read out of objects only.
macro_rules! objects {
    ($($name:ty),+) => {
        $(
            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    <$name>::serialize(self, serializer)
                }
            }
        )+

        $crate::strict::inputs!($($name),+);
    };
}

/// The same for those that are only read.
macro_rules! inputs {
    ($($name:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object;

                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                        <$name>::deserialize(serde::de::value::MapAccessDeserializer::new(fields))
                    }
                }

                deserializer.deserialize_map(Object)
            }
        }
    )+};
}

/// Implements serde's traits for enums without data, which are read out of texts only.
macro_rules! words {
    ($($name:ty),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$name>::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;

                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a text")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        <$name>::deserialize(serde::de::value::StrDeserializer::new(text))
                    }
                }

                deserializer.deserialize_str(Word)
            }
        }
    )+};
}

pub(crate) use {inputs, objects, words};

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use crate::{
        app::{Codec, ProviderKind, Transport},
        event::EventName,
        integration::{Header, Status},
        operator::Role,
    };

    fn is_read<T: DeserializeOwned>(json: &str) -> bool {
        serde_json::from_str::<T>(json).is_ok()
    }

    #[test]
    fn a_list_is_no_object() {
        assert!(is_read::<Header>(r#"{"name": "A", "value": "b"}"#));
        assert!(!is_read::<Header>(r#"["A", "b"]"#));
        assert!(!is_read::<Header>(r#"{"name": "A", "value": "b", "more": 1}"#));
        assert!(!is_read::<Header>(r#"{"name": "A"}"#));
    }

    #[test]
    fn an_object_is_no_word() {
        for (word, read) in [
            ("udp", is_read::<Transport> as fn(&str) -> bool),
            ("PCMU", is_read::<Codec>),
            ("sip", is_read::<ProviderKind>),
            ("call_ended", is_read::<EventName>),
            ("paused", is_read::<Status>),
            ("admin", is_read::<Role>),
        ] {
            assert!(read(&format!("\"{word}\"")), "{word}");
            for json in [format!("{{\"{word}\": null}}"), format!("[\"{word}\"]"), "\"other\"".into(), "0".into()] {
                assert!(!read(&json), "{json}");
            }
        }
    }
}
