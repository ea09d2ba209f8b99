//! Theme, language, words, and what stands above the call button.

use axum::response::Response;
use domain::design::text_keys;
use edge::{extract::Path, problem::Problem};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{Part, Posted, Sheet, View};

const LOOK: Part = Part { page: "/design", place: "/design", title: "Look", model, fields };
/// The texts that are worded first.
const FIRST: [&str; 8] = ["title", "body", "call", "closedTitle", "closedBody", "endedBody", "surveyTitle", "thanks"];

pub(in crate::pages) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    LOOK.show(view, &app).await
}

pub(in crate::pages) async fn save(
    view: View,
    Path(app): Path<String>,
    mut posted: Posted,
) -> Result<Response, Problem> {
    describe_pictures(&mut posted.value);
    LOOK.save(view, &app, posted).await
}

/// A picture without a description only decorates.
fn describe_pictures(value: &mut Value) {
    let blocks = value.get_mut("blocks").and_then(Value::as_array_mut).into_iter().flatten();
    for block in blocks.filter(|block| block["kind"] == "image").filter_map(Value::as_object_mut) {
        block.entry("alt").or_insert("".into());
    }
}

fn model(shown: &Value) -> Value {
    json!({"lang": shown["lang"], "theme": shown["theme"], "texts": shown["texts"], "blocks": shown["blocks"]})
}

fn fields(sheet: &Sheet<'_>) -> Markup {
    let languages = [
        ("auto", "The visitor's"),
        ("en", "English"),
        ("de", "German"),
        ("es", "Spanish"),
        ("fr", "French"),
        ("pt", "Portuguese"),
        ("ar", "Arabic"),
    ];
    html! {
        section {
            h2 { "Theme" }
            div.columns {
                (sheet.line("theme.accent", "Accent").typed("color").hint("What is to be tapped."))
                (sheet.line("theme.onAccent", "Text on it").typed("color").hint("Must stand out: 4.5 to 1."))
                (sheet.choice("theme.mode:choice", "Light or dark", &[("auto", "As the visitor's system"), ("light", "Light"), ("dark", "Dark")]))
                (sheet.choice("theme.corner:choice", "Corners", &[("round", "Round"), ("soft", "Soft"), ("square", "Square")]))
                (sheet.choice("theme.position:choice", "Button's place", &[("bottom-right", "Bottom right"), ("bottom-left", "Bottom left")]))
                (sheet.choice("lang:choice", "Language", &languages))
            }
        }
        section {
            h2 { "Above the call button" }
            p.hint { "Up to ten blocks. What visitors must be told before a call is a disclosure, and comes last." }
            @for (index, row) in sheet.rows("blocks", 0).iter().enumerate() { (block(sheet, row, index + 1)) }
            (sheet.add("blocks", "Blocks", "Add a block"))
        }
        section {
            h2 { "Words" }
            p.hint { "Empty: the widget's own words, in its language. Yours are shown as they are, whatever the language." }
            div.columns { @for key in FIRST { (words(sheet, key)) } }
            details {
                summary { "All other texts" }
                div.columns { @for key in text_keys().filter(|key| !FIRST.contains(&key.as_str())) { (words(sheet, &key)) } }
            }
        }
    }
}

fn block(sheet: &Sheet<'_>, path: &str, number: usize) -> Markup {
    let kinds = [("text", "Text"), ("image", "Picture"), ("disclosure", "Disclosure")];
    let fields = html! {
        (sheet.choice(&format!("{path}.kind:choice"), "Kind", &kinds))
        div.unless-image { (sheet.area(&format!("{path}.text:optional"), "Text", 2)) }
        div.only-image.columns {
            (sheet.line(&format!("{path}.url:optional"), "Address of the picture").holding("https://").hint("Its host must allow that it is shown (CORS or CORP)."))
            (sheet.line(&format!("{path}.alt:optional"), "What it shows").hint("For those who do not see it. Empty: it only decorates."))
        }
    };
    html! { div.kinds { (sheet.row(path, &format!("Block {number}"), fields, true)) } }
}

fn words(sheet: &Sheet<'_>, key: &str) -> Markup {
    html! { (sheet.line(&format!("texts.{}:optional", key.replace('.', "!")), &in_words(key))) }
}

/// A text's key as a person reads it: `closedTitle` is "Closed title", `error.no_answer.body` "Error: no answer, body".
fn in_words(key: &str) -> String {
    let mut words = String::new();
    for (at, character) in key.char_indices() {
        match character {
            _ if at == 0 => words.extend(character.to_uppercase()),
            '.' => words.push_str(", "),
            '_' => words.push(' '),
            _ if character.is_ascii_uppercase() => {
                words.push(' ');
                words.push(character.to_ascii_lowercase());
            }
            _ => words.push(character),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_text_is_one_and_keys_are_read() {
        let known: Vec<String> = text_keys().collect();
        assert!(FIRST.iter().all(|key| known.iter().any(|known| known == key)));
        assert_eq!(in_words("closedTitle"), "Closed title");
        assert_eq!(in_words("error.no_answer.body"), "Error, no answer, body");
    }
}
