//! Previews: for an hour, who holds a key sees an app's draft in the widget itself.

use std::time::Duration;

use aws_lc_rs::digest;

/// A preview lives this long.
pub const LIFE: Duration = Duration::from_secs(60 * 60);
/// Longer texts are no keys.
const MAX_KEY: usize = 64;

/// Opens an app's draft. It travels in the widget's address; what is stored is its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewKey(String);

impl PreviewKey {
    /// A new one out of 20 random bytes.
    pub fn mint(entropy: &[u8; 20]) -> Self {
        Self(format!("prv_{}", entropy.map(|byte| format!("{byte:02x}")).concat()))
    }

    /// The key that a widget was given; `None` when the text cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() <= MAX_KEY && text.starts_with("prv_");
        fits.then(|| Self(text.to_owned()))
    }

    /// As the widget's address carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its SHA-256 in lower-case hex: what is stored.
    pub fn hash(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.0.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let key = PreviewKey::mint(&[7; 20]);
        assert_eq!(PreviewKey::parse(key.as_str()), Some(key.clone()));
        assert_ne!(PreviewKey::mint(&[8; 20]).hash(), key.hash());
        assert!(key.hash().len() == 64 && !key.hash().contains("prv_"));
        for text in ["", "1", "true", "wk_0707", &format!("prv_{}", "0".repeat(61))] {
            assert_eq!(PreviewKey::parse(text), None, "{text}");
        }
    }
}
