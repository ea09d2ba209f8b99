//! How a widget looks and what it says: what an operator sets, checked (contract section 6, `…/design`).

mod blocks;
mod buttons;
pub mod preview;
mod texts;
mod theme;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use url::Url;

pub use self::{
    blocks::{Block, BlockKind, MAX_ALT, MAX_BLOCK_TEXT, MAX_BLOCKS},
    buttons::{Action, Button, MAX_BUTTON_LABEL, MAX_BUTTONS, MAX_COPIED, check_buttons},
    texts::{MAX_TEXT, text_keys},
    theme::{Corner, Mode, Position, Theme},
};
use crate::{
    field::FieldError,
    form::{Form, keep},
    strict,
    survey::Survey,
};

/// Versions that are kept: the newest.
pub const MAX_VERSIONS: u32 = 50;
const MAX_URL: usize = 2_048;

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

strict::words!(Lang);

impl Lang {
    /// The language of a tag such as `de-AT`, where the widget speaks it.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let language = tag.split('-').next().unwrap_or_default();
        let spoken = [Self::En, Self::De, Self::Es, Self::Fr, Self::Pt, Self::Ar];
        spoken.into_iter().find(|lang| lang.as_str().eq_ignore_ascii_case(language))
    }

    /// As tags have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::En => "en",
            Self::De => "de",
            Self::Es => "es",
            Self::Fr => "fr",
            Self::Pt => "pt",
            Self::Ar => "ar",
        }
    }
}

/// The part of a design that `…/design` sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Look {
    /// The language.
    pub lang: Lang,
    /// The app's own wording, by [`text_keys`].
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
        let known: BTreeSet<String> = text_keys().collect();
        for (key, text) in &mut self.texts {
            let at = format!("texts.{key}");
            if known.contains(key) {
                keep(text, &at, MAX_TEXT, &mut errors);
            } else {
                errors.push(FieldError::unknown(at, "is not a text of the widget"));
            }
        }
        blocks::check_blocks(&mut self.blocks, &mut errors);
        if errors.is_empty() { Ok(self) } else { Err(errors) }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn look(value: &Value) -> Result<Look, Vec<(String, String)>> {
        let look: Look =
            serde_json::from_value(value.clone()).map_err(|error| vec![("json".into(), error.to_string())])?;
        look.check().map_err(|errors| errors.into_iter().map(|error| (error.field, error.message)).collect())
    }

    #[test]
    fn tags_name_languages() {
        for (tag, lang) in [
            ("de", Some(Lang::De)),
            ("AR-eg", Some(Lang::Ar)),
            ("en-GB", Some(Lang::En)),
            ("auto", None),
            ("tlh", None),
            ("", None),
            ("deutsch", None),
        ] {
            assert_eq!(Lang::of_tag(tag), lang, "{tag}");
        }
        for lang in [Lang::Auto, Lang::En, Lang::De, Lang::Es, Lang::Fr, Lang::Pt, Lang::Ar] {
            assert_eq!(serde_json::to_value(lang).expect("JSON"), lang.as_str());
        }
    }

    #[test]
    fn defaults_are_good() {
        assert_eq!(look(&json!({})).expect("good"), Look::default());
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
            (json!({"texts": {"error.busy": "x"}}), "texts.error.busy"),
            (json!({"texts": {"error.busy.owner": "x"}}), "texts.error.busy.owner"),
            (json!({"texts": {"error.wrong_key.title": "x"}}), "texts.error.wrong_key.title"),
            (json!({"texts": {"error.busy.title": " "}}), "texts.error.busy.title"),
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
            "lang": "ar", "texts": {"title": " اتصل بنا ", "error.busy.title": "مشغول"}, "theme": {"mode": "dark", "corner": "soft", "position": "bottom-left"},
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
}
