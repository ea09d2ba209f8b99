//! How a widget looks and what it says: what an operator sets, checked (contract section 6, `…/design` and `…/buttons`).

pub mod preview;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    field::FieldError,
    form::{Form, check_id, is_email, keep},
    strict,
    survey::{Survey, prose},
};

/// Versions that are kept: the newest.
pub const MAX_VERSIONS: u32 = 50;
/// Blocks above the call button.
pub const MAX_BLOCKS: usize = 10;
/// Characters of a block's text.
pub const MAX_BLOCK_TEXT: usize = 1_000;
/// Characters of an image's description.
pub const MAX_ALT: usize = 300;
/// Characters of one of the widget's own texts.
pub const MAX_TEXT: usize = 300;
/// Buttons of an app's own.
pub const MAX_BUTTONS: usize = 6;
/// Characters of a button's label.
pub const MAX_BUTTON_LABEL: usize = 60;
/// Characters that a button copies.
pub const MAX_COPIED: usize = 500;
const MAX_URL: usize = 2_048;
/// Contrast of text on the accent colour at least (WCAG 2.2, 1.4.3).
const MIN_CONTRAST: f64 = 4.5;

/// The widget's texts that an app may word itself. The browser's module says what they are (`texts.js`; both sides are held
/// to `tests/vectors/texts.json`).
pub const TEXT_KEYS: &[&str] = &[
    "asking",
    "askingBody",
    "askingTitle",
    "back",
    "best",
    "body",
    "call",
    "choose",
    "closed",
    "closedBody",
    "closedTitle",
    "comment",
    "connected",
    "connectedTitle",
    "copied",
    "device",
    "devices",
    "dialling",
    "diallingBody",
    "diallingTitle",
    "elsewhere",
    "ended",
    "endedBody",
    "formBody",
    "formStatus",
    "formTitle",
    "hangUp",
    "hear",
    "held",
    "heldBody",
    "heldTitle",
    "keypad",
    "lasted",
    "leaving",
    "loading",
    "lost",
    "lostBody",
    "lostTitle",
    "microphone",
    "microphoneNote",
    "missing",
    "mute",
    "muted",
    "notEmail",
    "notPhone",
    "notSent",
    "opens",
    "optional",
    "others",
    "owner",
    "quality1",
    "quality2",
    "quality3",
    "quality4",
    "ready",
    "reference",
    "retry",
    "ringing",
    "ringingBody",
    "send",
    "skip",
    "speaker",
    "surveyTitle",
    "thanks",
    "thanksBody",
    "title",
    "unavailable",
    "unchosen",
    "unconnected",
    "unmute",
    "unticked",
    "worst",
];

/// The language of a widget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Lang {
    /// The visitor's, where the widget speaks it.
    #[default]
    Auto,
    /// English.
    En,
    /// German.
    De,
    /// Spanish.
    Es,
    /// French.
    Fr,
    /// Portuguese.
    Pt,
    /// Arabic, from right to left.
    Ar,
}

/// Light or dark.
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

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum BlockKind {
    /// A paragraph.
    Text,
    /// A picture.
    Image,
    /// What a visitor must be told before a call; it stands last.
    Disclosure,
}

/// What a button of an app's own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Action {
    /// Opens a page.
    Link,
    /// Copies a text.
    Copy,
    /// Dials a number with the visitor's telephone.
    Call,
    /// Begins an email.
    Email,
}

strict::words!(Lang, Mode, Corner, Position, BlockKind, Action);

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

/// Something above the call button.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Block {
    /// What it is.
    pub kind: BlockKind,
    /// Of a text or disclosure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of an image: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of an image: what it shows; empty when it only decorates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt: Option<String>,
}

/// A button of an app's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Button {
    /// Its name, unlike every other's; given one when it has none.
    #[serde(default)]
    pub id: String,
    /// What the visitor reads.
    pub label: String,
    /// What it does.
    pub action: Action,
    /// With what: an https address, a text, a phone number (`+` and digits), an email address.
    pub value: String,
}

strict::objects!(Theme, Block, Button);

/// The part of a design that `…/design` sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Look {
    /// The language.
    pub lang: Lang,
    /// The app's own wording, by [`TEXT_KEYS`].
    pub texts: BTreeMap<String, String>,
    /// Colours and shapes.
    pub theme: Theme,
    /// What stands above the call button.
    pub blocks: Vec<Block>,
}

/// A whole design: what is published together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// How it looks and what it says.
    pub look: Look,
    /// The form before a call.
    pub form: Form,
    /// The survey after it.
    pub survey: Survey,
    /// Buttons of the app's own.
    pub buttons: Vec<Button>,
}

/// A design as widgets read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published<'a> {
    /// Which version; 0 when none was published yet, and defaults hold.
    pub version: u32,
    #[serde(flatten)]
    look: &'a Look,
    form: Option<&'a Form>,
    survey: Option<&'a Survey>,
    buttons: &'a [Button],
}

impl<'a> Published<'a> {
    /// This content under this number.
    pub fn new(version: u32, content: &'a Content) -> Self {
        let Content { look, form, survey, buttons } = content;
        let form = Some(form).filter(|form| !form.fields.is_empty());
        let survey = Some(survey).filter(|survey| !survey.questions.is_empty());
        Self { version, look, form, survey, buttons }
    }
}

impl Look {
    /// Checks colours, blocks and texts.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(mut self) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        self.theme.check(&mut errors);
        for (key, text) in &mut self.texts {
            let at = format!("texts.{key}");
            if TEXT_KEYS.contains(&key.as_str()) {
                keep(text, &at, MAX_TEXT, &mut errors);
            } else {
                errors.push(FieldError::unknown(at, "is not a text of the widget"));
            }
        }
        check_blocks(&mut self.blocks, &mut errors);
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }
}

impl Theme {
    fn check(&mut self, errors: &mut Vec<FieldError>) {
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

fn check_blocks(blocks: &mut [Block], errors: &mut Vec<FieldError>) {
    if blocks.len() > MAX_BLOCKS {
        errors.push(FieldError::invalid("blocks", format!("must be at most {MAX_BLOCKS}")));
        return;
    }
    let last = blocks.len().saturating_sub(1);
    for (index, block) in blocks.iter_mut().enumerate() {
        let at = |field: &str| format!("blocks[{index}].{field}");
        if block.kind == BlockKind::Disclosure && index != last {
            errors.push(FieldError::invalid(at("kind"), "must be the last block, right above the call button"));
        }
        let is_image = block.kind == BlockKind::Image;
        let foreign = if is_image { &[("text", &block.text)][..] } else { &[("url", &block.url), ("alt", &block.alt)] };
        for (field, _) in foreign.iter().filter(|(_, value)| value.is_some()) {
            errors.push(FieldError::invalid(at(field), "does not belong to a block of this kind"));
        }
        if is_image {
            match &block.url {
                None => errors.push(FieldError::required(at("url"))),
                Some(url) if !is_https(url) => errors.push(FieldError::invalid(at("url"), HTTPS)),
                Some(_) => {}
            }
            match &mut block.alt {
                // An empty one says that the picture only decorates; none says nothing.
                None => errors.push(FieldError::required(at("alt"))),
                Some(alt) if alt.trim().is_empty() => alt.clear(),
                Some(alt) => keep(alt, &at("alt"), MAX_ALT, errors),
            }
        } else {
            match &mut block.text {
                None => errors.push(FieldError::required(at("text"))),
                Some(text) => match prose(&at("text"), text, MAX_BLOCK_TEXT) {
                    Ok(trimmed) => *text = trimmed,
                    Err(error) => errors.push(error),
                },
            }
        }
    }
}

const HTTPS: &str = "must be an address that begins with https://";

/// A whole https address, as it is typed: no parser has to mend it, nobody's password stands in it.
fn is_https(text: &str) -> bool {
    let plain = |character: char| !character.is_control() && !character.is_whitespace() && character != '\\';
    text.len() <= MAX_URL
        && text.starts_with("https://")
        && text.chars().all(plain)
        && Url::parse(text).is_ok_and(|url| url.has_host() && url.username().is_empty() && url.password().is_none())
}

/// Checks buttons, and names those that have no id: `b1`, `b2`, ….
///
/// # Errors
/// Every field that is wrong.
pub fn check_buttons(mut buttons: Vec<Button>) -> Result<Vec<Button>, Vec<FieldError>> {
    let mut errors = Vec::new();
    if buttons.len() > MAX_BUTTONS {
        return Err(vec![FieldError::invalid("buttons", format!("must be at most {MAX_BUTTONS}"))]);
    }
    let taken: BTreeSet<String> = buttons.iter().map(|button| button.id.clone()).collect();
    let mut free = (1..).map(|number| format!("b{number}")).filter(|id| !taken.contains(id));
    for button in buttons.iter_mut().filter(|button| button.id.is_empty()) {
        button.id = free.next().unwrap_or_default();
    }
    let mut ids = BTreeSet::new();
    for (index, Button { id, label, action, value }) in buttons.iter_mut().enumerate() {
        let at = format!("buttons[{index}]");
        check_id(&at, id, &mut ids, &mut errors);
        keep(label, &format!("{at}.label"), MAX_BUTTON_LABEL, &mut errors);
        let at = format!("{at}.value");
        let wrong = match action {
            Action::Copy => {
                match prose(&at, value, MAX_COPIED) {
                    Ok(trimmed) => *value = trimmed,
                    Err(error) => errors.push(error),
                }
                None
            }
            Action::Link => (!is_https(value)).then_some(HTTPS),
            Action::Call => {
                (!is_number(value)).then_some("must be an international phone number such as +493012345678")
            }
            Action::Email => (!is_email(value)).then_some("must be an email address such as help@example.com"),
        };
        errors.extend(wrong.map(|message| FieldError::invalid(at, message)));
    }
    if errors.is_empty() { Ok(buttons) } else { Err(errors) }
}

/// `+` and 3 to 15 digits (E.164).
fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (3..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn look(value: &Value) -> Result<Look, Vec<(String, String)>> {
        let look: Look =
            serde_json::from_value(value.clone()).map_err(|error| vec![("json".into(), error.to_string())])?;
        look.check().map_err(|errors| errors.into_iter().map(|error| (error.field, error.message)).collect())
    }

    /// The browser's module and this list name the same texts.
    #[test]
    fn text_keys_are_the_widgets() {
        let vector: Vec<String> =
            serde_json::from_str(include_str!("../../../tests/vectors/texts.json")).expect("a list of keys");
        assert_eq!(TEXT_KEYS, vector);
    }

    #[test]
    fn defaults_are_good() {
        assert_eq!(look(&json!({})).expect("good"), Look::default());
    }

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
            let checked = look(&json!({"theme": {"accent": accent, "onAccent": on_accent}}));
            match told {
                None => assert_eq!(checked.expect("good").theme.accent, accent.to_lowercase()),
                Some(told) => {
                    let (field, message) = &checked.expect_err("low")[0];
                    assert!(field == "theme.onAccent" && message.contains(told), "{message}");
                }
            }
        }
        let (black, white) = (luminance("#000000").expect("a colour"), luminance("#ffffff").expect("a colour"));
        assert!((contrast(black, white) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn wrong_fields_are_named() {
        let block = |block: Value| json!({ "blocks": [block] });
        for (value, field) in [
            (json!({"theme": {"accent": "red"}}), "theme.accent"),
            (json!({"theme": {"accent": "#0b57d"}}), "theme.accent"),
            (json!({"theme": {"onAccent": "#fffffg"}}), "theme.onAccent"),
            (json!({"theme": {"onAccent": "#ffff\u{e9}"}}), "theme.onAccent"),
            (json!({"theme": {"accent": "#0b57d0;}"}}), "theme.accent"),
            (json!({"texts": {"titel": "x"}}), "texts.titel"),
            (json!({"texts": {"__proto__": "x"}}), "texts.__proto__"),
            (json!({"texts": {"title": ""}}), "texts.title"),
            (json!({"texts": {"title": "é".repeat(301)}}), "texts.title"),
            (json!({"texts": {"title": "a\nb"}}), "texts.title"),
            (block(json!({"kind": "text"})), "blocks[0].text"),
            (block(json!({"kind": "text", "text": "x".repeat(1_001)})), "blocks[0].text"),
            (block(json!({"kind": "text", "text": "x", "url": "https://a.example"})), "blocks[0].url"),
            (block(json!({"kind": "image", "alt": ""})), "blocks[0].url"),
            (block(json!({"kind": "image", "url": "https://a.example/x.png"})), "blocks[0].alt"),
            (block(json!({"kind": "image", "url": "http://a.example/x.png", "alt": ""})), "blocks[0].url"),
            (block(json!({"kind": "image", "url": "javascript:alert(1)", "alt": ""})), "blocks[0].url"),
            (block(json!({"kind": "image", "url": "data:image/png,x", "alt": ""})), "blocks[0].url"),
            (block(json!({"kind": "image", "url": "https://u:p@a.example/", "alt": ""})), "blocks[0].url"),
            (block(json!({"kind": "image", "url": "https://", "alt": ""})), "blocks[0].url"),
            (block(json!({"kind": "image", "url": "https:\\\\a.example", "alt": ""})), "blocks[0].url"),
            (block(json!({"kind": "image", "url": "https://a.example/\u{0}", "alt": ""})), "blocks[0].url"),
            (json!({"blocks": [{"kind": "disclosure", "text": "a"}, {"kind": "text", "text": "b"}]}), "blocks[0].kind"),
            (json!({"blocks": vec![json!({"kind": "text", "text": "a"}); 11]}), "blocks"),
            (json!({"lang": "xx"}), "json"),
            (json!({"more": 1}), "json"),
        ] {
            assert_eq!(look(&value).expect_err("wrong")[0].0, field, "{value}");
        }
    }

    #[test]
    fn good_ones_are_kept() {
        let given = json!({
            "lang": "ar", "texts": {"title": " اتصل بنا "}, "theme": {"mode": "dark", "corner": "soft", "position": "bottom-left"},
            "blocks": [
                {"kind": "text", "text": "One\nTwo"},
                {"kind": "image", "url": "https://cdn.example.com/a.png?x=1", "alt": " "},
                {"kind": "disclosure", "text": "Calls may take a while."},
            ],
        });
        let kept = look(&given).expect("good");
        assert_eq!((kept.lang, kept.texts["title"].as_str()), (Lang::Ar, "اتصل بنا"));
        assert_eq!(kept.blocks[1].alt.as_deref(), Some(""));
        let content = Content { look: kept, ..Content::default() };
        let shown = serde_json::to_value(Published::new(3, &content)).expect("JSON");
        assert_eq!((&shown["version"], &shown["form"], &shown["survey"]), (&json!(3), &Value::Null, &Value::Null));
        assert_eq!(
            (&shown["theme"]["position"], &shown["theme"]["onAccent"]),
            (&json!("bottom-left"), &json!("#ffffff"))
        );
        let stored = serde_json::to_value(&content).expect("JSON");
        assert_eq!(serde_json::from_value::<Content>(stored).expect("a content"), content);
    }

    #[test]
    fn buttons_do_what_they_say() {
        let check = |value: Value| {
            let buttons: Vec<Button> = serde_json::from_value(value).expect("buttons");
            check_buttons(buttons).map_err(|errors| errors.into_iter().map(|error| error.field).collect::<Vec<_>>())
        };
        let button = |action: &str, value: &str| json!({"label": "Go", "action": action, "value": value});
        let good = check(json!([
            button("link", "https://example.com/help"),
            {"id": "b1", "label": "Copy", "action": "copy", "value": "A-1"},
            button("call", "+493012345678"),
            button("email", "help@example.com"),
        ]));
        let ids: Vec<_> = good.expect("good").into_iter().map(|button| button.id).collect();
        assert_eq!(ids, ["b2", "b1", "b3", "b4"]);
        for (action, value) in [
            ("link", "http://example.com"),
            ("link", "javascript:alert(1)"),
            ("link", ""),
            ("copy", " "),
            ("call", "030 123"),
            ("call", "+49;ext=1"),
            ("call", "tel:+493012345678"),
            ("email", "help"),
            ("email", "a@b.example?bcc=c@d.example "),
            ("email", "a@b.example,c@d.example"),
        ] {
            assert_eq!(
                check(json!([button(action, value)])),
                Err(vec!["buttons[0].value".to_owned()]),
                "{action} {value}"
            );
        }
        assert!(check(Value::Array(vec![button("copy", "x"); 7])).is_err());
    }
}
