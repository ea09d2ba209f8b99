//! What is wrong with one field of a request: the `details` of a `validation_error` (contract section 1).

use serde::Serialize;

/// One field, what is wrong with it in words for a person, and a code for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path of the field: `data.duration`, `headers[2].name`; empty for the body itself.
    pub field: String,
    /// One sentence for a person; never repeats the value given.
    pub message: String,
    /// `required`, `invalid`, `unknown`, `too_long`, …: stable, for programs.
    pub code: &'static str,
}

impl FieldError {
    /// A field that is wrong in some way that `message` says.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), code: "invalid" }
    }

    /// A field that must be given and was not.
    pub fn required(field: impl Into<String>) -> Self {
        Self { field: field.into(), message: "is required".into(), code: "required" }
    }

    /// A field, or a value out of a fixed list, that is not known.
    pub fn unknown(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), code: "unknown" }
    }
}

/// Checks a text for people (names, labels): 1 to `max` characters, no control characters; gives it trimmed. What is
/// judged is the text as it was sent, as a schema judges it.
///
/// # Errors
/// The field's error when it is empty, too long or holds control characters.
pub fn label(field: &str, text: &str, max: usize) -> Result<String, FieldError> {
    if text.trim().is_empty() {
        return Err(FieldError::invalid(field, "must not be empty"));
    }
    if text.chars().count() > max {
        let message = format!("must be at most {max} characters");
        return Err(FieldError { field: field.into(), message, code: "too_long" });
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::invalid(field, "must not contain control characters"));
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_judged_as_sent_and_kept_trimmed() {
        let code = |text: &str| label("name", text, 5).map_err(|error| error.code);
        assert_eq!(code(" é b "), Ok("é b".to_owned()));
        assert_eq!(code("äöüßñ"), Ok("äöüßñ".to_owned()));
        for (text, wrong) in [
            ("", "invalid"),
            ("   ", "invalid"),
            ("abcdef", "too_long"),
            ("  abc ", "too_long"),
            ("      ", "invalid"),
            ("abc\n", "invalid"),
            ("\0ab", "invalid"),
        ] {
            assert_eq!(code(text), Err(wrong), "{text:?}");
        }
    }
}
