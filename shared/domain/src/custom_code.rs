//! A customer's own code: HTML that is served in a sandboxed document on a host of its own (contract sections 3 and 8).

use serde::{Deserialize, Serialize};

use crate::field::FieldError;

/// Bytes of each of the two areas, in UTF-8.
pub const MAX_BYTES: usize = 64 * 1024;

/// The two areas. Whatever stands in them is the customer's: the document's headers fence it in, not its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CustomCode {
    /// HTML at the end of the head.
    pub head_html: String,
    /// HTML at the end of the body.
    pub body_end_html: String,
}

impl CustomCode {
    /// Whether there is nothing to serve.
    pub fn is_empty(&self) -> bool {
        self.head_html.trim().is_empty() && self.body_end_html.trim().is_empty()
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// Every area that is too long.
    pub fn check(self) -> Result<Self, Vec<FieldError>> {
        let areas = [("headHtml", &self.head_html), ("bodyEndHtml", &self.body_end_html)].into_iter();
        let long = areas.filter(|(_, html)| html.len() > MAX_BYTES).map(|(field, html)| {
            let message = format!("must be at most {MAX_BYTES} bytes (64 KB); it is {}", html.len());
            FieldError { field: field.into(), message, code: "too_long" }
        });
        let errors: Vec<_> = long.collect();
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_measured_in_bytes() {
        let code = |head: String, body: String| CustomCode { head_html: head, body_end_html: body }.check();
        assert!(code("x".repeat(MAX_BYTES), "é".repeat(MAX_BYTES / 2)).is_ok());
        let errors = code("x".repeat(MAX_BYTES + 1), "é".repeat(MAX_BYTES / 2) + "x").expect_err("too long");
        let found: Vec<_> = errors.iter().map(|error| (error.field.as_str(), error.code)).collect();
        assert_eq!(found, [("headHtml", "too_long"), ("bodyEndHtml", "too_long")]);
        assert!(errors[0].message.ends_with("it is 65537"), "{}", errors[0].message);
    }

    #[test]
    fn blanks_are_nothing() {
        assert!(CustomCode { head_html: " \n".into(), body_end_html: String::new() }.is_empty());
        assert!(!CustomCode { head_html: "<b>".into(), body_end_html: String::new() }.is_empty());
    }
}
