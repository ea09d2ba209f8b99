//! Small pieces that several pages show.

use maud::{Markup, html};
use serde_json::Value;

use super::api::{Listed, View};

/// A state in a word, in its colour: `good`, `warn`, `bad` or none.
pub(super) fn badge(kind: &str, text: &str) -> Markup {
    html! { span class={ "badge " (kind) } { (text) } }
}

/// A moment, for people and for machines.
pub(super) fn moment(value: &Value) -> Markup {
    let text = value.as_str().unwrap_or_default();
    html! { @if let (Some(day), Some(time)) = (text.get(..10), text.get(11..19)) { time datetime=(text) { (day) " " (time) " UTC" } } }
}

/// Something to copy; with a button for it where scripts run.
pub(super) fn copyable(id: &str, name: &str, text: &str) -> Markup {
    html! {
        div.copy {
            pre #(id) tabindex="0" role="group" aria-label=(name) { code { (text) } }
            c2c-copy for=(id) name=(name) {}
        }
    }
}

/// A table that scrolls by itself where it is too wide.
pub(super) fn table(name: &str, heads: &[&str], rows: Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table {
                thead { tr { @for head in heads { @if head.is_empty() { td {} } @else { th scope="col" { (head) } } } } }
                tbody { (rows) }
            }
        }
    }
}

/// What leads to the next page of a list, and back to its beginning.
pub(super) fn pager(view: &View, listed: &Listed) -> Markup {
    let at = |cursor: Option<&str>| {
        let query = view.uri.query().unwrap_or_default();
        let kept = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "cursor" && name != "done");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
        format!("{}?{}", view.uri.path(), query.finish())
    };
    let later = view.asked("cursor").is_some();
    html! {
        @if later || listed.next.is_some() {
            nav.pager aria-label="Pages of the list" {
                @if later { a href=(at(None)) { "Back to the newest" } }
                @if let Some(next) = &listed.next { a href=(at(Some(next))) { "Older" } }
            }
        }
    }
}

/// A button that changes something by itself.
pub(super) fn press(action: &str, text: &str, class: &str) -> Markup {
    html! { form.inline method="post" action=(action) { button class=(class) type="submit" { (text) } } }
}

/// Something that cannot be taken back: folded, and to be confirmed by a tick.
pub(super) fn danger(action: &str, text: &str, warning: &str, sure: &str) -> Markup {
    html! {
        details.danger {
            summary { (text) }
            form method="post" action=(action) {
                p { (warning) }
                div.field.tick {
                    input #sure type="checkbox" name="sure:flag" value="on" required;
                    label for="sure" { (sure) }
                }
                button.danger type="submit" { (text) }
            }
        }
    }
}

/// A number with its unit; nothing when there is none.
pub(super) fn figure(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whole seconds as minutes and seconds.
pub(super) fn lasted(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {:02} s", seconds / 60, seconds % 60) }
}
