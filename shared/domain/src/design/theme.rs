//! Colours and shapes. Text on the app's colour must be legible.

use serde::{Deserialize, Serialize};

use crate::{field::FieldError, strict};

/// Contrast of text on the accent colour at least (WCAG 2.2, 1.4.3).
const MIN_CONTRAST: f64 = 4.5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum Mode {
    /// As the visitor's system has it.
    #[default]
    Auto,
    Light,
    Dark,
}

/// The shape of corners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum Corner {
    #[default]
    Round,
    Soft,
    Square,
}

/// Where the loader's button stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum Position {
    #[default]
    BottomRight,
    BottomLeft,
}

impl Position {
    /// As the loader's attribute has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BottomRight => "bottom-right",
            Self::BottomLeft => "bottom-left",
        }
    }
}

strict::words!(Mode, Corner, Position);

/// Colours and shapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Theme {
    /// Light or dark.
    pub mode: Mode,
    /// Colour of what is to be tapped: `#rrggbb`.
    pub accent: String,
    /// Colour of text on it: `#rrggbb`.
    pub on_accent: String,
    /// The shape of corners.
    pub corner: Corner,
    /// Where the loader's button stands.
    pub position: Position,
}

impl Default for Theme {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            accent: "#0b57d0".to_owned(),
            on_accent: "#ffffff".to_owned(),
            corner: Corner::default(),
            position: Position::default(),
        }
    }
}

strict::objects!(Theme);

impl Theme {
    /// Checks both colours, and that one can be read on the other.
    pub(super) fn check(&mut self, errors: &mut Vec<FieldError>) {
        let mut colour = |field: &str, text: &mut String| {
            text.make_ascii_lowercase();
            let luminance = luminance(text);
            if luminance.is_none() {
                errors.push(FieldError::invalid(format!("theme.{field}"), "must be a colour such as #0b57d0"));
            }
            luminance
        };
        let (accent, on_accent) = (colour("accent", &mut self.accent), colour("onAccent", &mut self.on_accent));
        let Some(contrast) = accent.zip(on_accent).map(|(a, b)| contrast(a, b)) else { return };
        if contrast < MIN_CONTRAST {
            // Rounded down: what falls short must not look as if it did not.
            let shown = (contrast * 100.0).floor() / 100.0;
            let message =
                format!("must stand out from accent: the contrast is {shown:.2}:1, and 4.5:1 is needed to be read");
            errors.push(FieldError { field: "theme.onAccent".into(), message, code: "low_contrast" });
        }
    }
}

/// Relative luminance of `#rrggbb` (WCAG 2.2).
fn luminance(colour: &str) -> Option<f64> {
    let digits = colour
        .strip_prefix('#')
        .filter(|digits| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&digits[at..at + 2], 16).ok()?) / 255.0;
        Some(if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) })
    };
    Some(0.2126 * channel(0)? + 0.7152 * channel(2)? + 0.0722 * channel(4)?)
}

/// Contrast of two luminances, 1 to 21 (WCAG 2.2).
fn contrast(a: f64, b: f64) -> f64 {
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contrast_is_measured_and_told() {
        for (accent, on_accent, told) in [
            ("#0b57d0", "#ffffff", None),
            ("#FFFFFF", "#0B57D0", None),
            ("#767676", "#ffffff", None),
            ("#777777", "#ffffff", Some("4.47:1")),
            ("#ffffff", "#ffffff", Some("1.00:1")),
            ("#ffd400", "#ffffff", Some("1.43:1")),
        ] {
            let theme = serde_json::from_value(json!({"accent": accent, "onAccent": on_accent}));
            let (mut theme, mut errors): (Theme, _) = (theme.expect("a theme"), Vec::new());
            theme.check(&mut errors);
            match (told, errors.as_slice()) {
                (None, []) => assert_eq!(theme.accent, accent.to_lowercase()),
                (Some(told), [FieldError { field, message, .. }]) => {
                    assert!(field == "theme.onAccent" && message.contains(told), "{message}");
                }
                _ => panic!("{accent} {on_accent}: {errors:?}"),
            }
        }
        let (black, white) = (luminance("#000000").expect("a colour"), luminance("#ffffff").expect("a colour"));
        assert!((contrast(black, white) - 21.0).abs() < 1e-9);
    }
}
