//! What a call tells the contact centre beside the call itself: `X-C2C-*` headers. Nothing a visitor wrote goes anywhere
//! else in a request, and here only what the app allows, encoded so that it can neither end nor begin a header.

use domain::context::Context;

/// Bytes of one encoded value at most; the rest is cut at a whole character.
pub const MAX_VALUE: usize = 512;
/// Bytes of all these headers together at most: a request over UDP should fit into one packet (RFC 3261, section 18.1.1).
pub const MAX_TOTAL: usize = 2_048;

/// One header. Only [`extras`] makes them: whatever is in one may stand in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    name: String,
    value: String,
}

impl Extra {
    fn new(name: impl Into<String>, value: &str) -> Self {
        Self { name: name.into(), value: encode(value) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its encoded value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Bytes of it on its line: the colon, the blank and the line's end included.
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + 4
    }
}

/// The headers of one call: its id, the routing key it came in with, and of the context the keys in `allowed`, in the
/// order of `allowed`. A context header that no longer fits is left out.
pub fn extras(call_id: &str, routing_key: Option<&str>, context: &Context, allowed: &[String]) -> Vec<Extra> {
    let mut extras = vec![Extra::new("X-C2C-Call-Id", call_id)];
    extras.extend(routing_key.map(|key| Extra::new("X-C2C-Routing-Key", key)));
    let mut total: usize = extras.iter().map(Extra::size).sum();
    for key in allowed {
        let Some((key, value)) = context.pairs().find(|(known, _)| known == key) else { continue };
        let extra = Extra::new(format!("X-C2C-Context-{}", header_word(key)), value);
        if total + extra.size() <= MAX_TOTAL {
            total += extra.size();
            extras.push(extra);
        }
    }
    extras
}

/// `orderId` as `OrderId`; a context key has only letters, digits and `_.-`, all of which are a token (RFC 3261,
/// section 25.1).
fn header_word(key: &str) -> String {
    let mut letters = key.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// Percent-encodes everything but the unreserved characters of RFC 3986: the result is one token, whatever went in.
pub fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for character in value.chars() {
        let mut bytes = [0; 4];
        let bytes = character.encode_utf8(&mut bytes).as_bytes();
        let plain = character.is_ascii_alphanumeric() || "-._~".contains(character);
        if encoded.len() + if plain { 1 } else { 3 * bytes.len() } > MAX_VALUE {
            break;
        }
        if plain {
            encoded.push(character);
        } else {
            for byte in bytes {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALL: &str = "call_01jd0000000000000000000000";

    fn context(pairs: &[(&str, &str)]) -> Context {
        Context::sanitise(pairs.iter().copied()).0
    }

    #[test]
    fn only_what_is_allowed_and_in_that_order() {
        let context = context(&[("orderId", "A 1"), ("plan", "pro"), ("email", "visitor@example.com")]);
        let allowed = ["plan".to_owned(), "orderId".to_owned(), "missing".to_owned()];
        let extras = extras(CALL, Some("sales"), &context, &allowed);
        let expected = [
            ("X-C2C-Call-Id", CALL.to_owned()),
            ("X-C2C-Routing-Key", "sales".to_owned()),
            ("X-C2C-Context-Plan", "pro".to_owned()),
            ("X-C2C-Context-OrderId", "A%201".to_owned()),
        ];
        assert_eq!(extras, expected.map(|(name, value)| Extra { name: name.to_owned(), value }));
    }

    #[test]
    fn encoding_is_cut_at_a_whole_character() {
        assert_eq!(encode("é\r\nVia: x;\"<>"), "%C3%A9%0D%0AVia%3A%20x%3B%22%3C%3E");
        let long = encode(&"é".repeat(200));
        assert_eq!(long.len(), MAX_VALUE / 6 * 6);
        assert!(long.ends_with("%A9"));
    }

    #[test]
    fn a_context_that_does_not_fit_is_left_out() {
        let value = "é".repeat(80);
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let context = context(&keys.map(|key| (key, value.as_str())));
        let extras = extras(CALL, None, &context, &keys.map(str::to_owned));
        assert!(extras.iter().map(Extra::size).sum::<usize>() <= MAX_TOTAL);
        assert_eq!(extras.len(), 1 + 4);
    }

    proptest! {
        #[test]
        fn a_value_is_always_one_token(value in ".{0,600}") {
            let encoded = encode(&value);
            prop_assert!(encoded.len() <= MAX_VALUE);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        }

        /// Whatever a visitor's page says, and whatever the app allows: every line is one of our headers.
        #[test]
        fn a_context_is_never_anything_but_headers_of_ours(
            pairs in prop::collection::vec(("([A-Za-z][A-Za-z0-9_.-]{0,70}|.{0,8})", ".{0,300}"), 0..24),
            routing_key in prop::option::of(".{0,300}"),
        ) {
            let context = Context::sanitise(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))).0;
            let allowed: Vec<_> = pairs.into_iter().map(|(key, _)| key).collect();
            let token = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte));
            for extra in extras(CALL, routing_key.as_deref(), &context, &allowed) {
                prop_assert!(extra.name().starts_with("X-C2C-") && token(extra.name()), "{}", extra.name());
                prop_assert!(token(extra.value()) && extra.value().len() <= MAX_VALUE, "{}", extra.value());
            }
        }
    }
}
