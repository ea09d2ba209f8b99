//! Forms as people see them: fields with their labels, hints and errors, and above them what is wrong, with links. What a
//! field is called on the wire is told in `posted.rs`.

use std::cell::{Cell, RefCell};

use domain::field::FieldError;
use edge::problem::Problem;
use maud::{Markup, Render, html};
use serde_json::Value;

/// What a form holds while a page of it is written.
pub(super) struct Sheet<'a> {
    value: &'a Value,
    problem: Option<&'a Problem>,
    /// The path whose first field gets the focus.
    focus: Option<&'a str>,
    /// Whether some field has it already.
    focused: Cell<bool>,
    /// Whether rows stay as they are.
    locked: bool,
    /// What each field is called, in the order of the page.
    labels: RefCell<Vec<(String, String)>>,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(value: &'a Value, problem: Option<&'a Problem>, focus: Option<&'a str>, locked: bool) -> Self {
        Self { value, problem, focus, focused: Cell::new(false), locked, labels: RefCell::default() }
    }

    /// What stands at a path.
    pub(super) fn at(&self, path: &str) -> &'a Value {
        let pointer = path.replace(']', "").replace(['.', '['], "/").replace('!', ".");
        self.value.pointer(&format!("/{pointer}")).unwrap_or(&Value::Null)
    }

    /// A text at a path.
    pub(super) fn text(&self, path: &str) -> &'a str {
        self.at(path).as_str().unwrap_or_default()
    }

    /// A field of one line.
    pub(super) fn line(&self, name: &str, label: &str) -> Field<'_> {
        self.field(name, label, Shape::Line("text"))
    }

    /// A field of several lines.
    pub(super) fn area(&self, name: &str, label: &str, rows: u8) -> Field<'_> {
        self.field(name, label, Shape::Area(rows))
    }

    /// One out of some.
    pub(super) fn choice(&self, name: &str, label: &str, options: &[(&str, &str)]) -> Field<'_> {
        let options = options.iter().map(|(value, text)| ((*value).to_owned(), (*text).to_owned())).collect();
        self.field(name, label, Shape::Choice(options))
    }

    /// A box to tick.
    pub(super) fn tick(&self, name: &str, label: &str) -> Field<'_> {
        self.field(&format!("{name}:flag"), label, Shape::Tick)
    }

    /// Any out of some.
    pub(super) fn set(&self, name: &str, label: &str, options: &[(&str, &str)]) -> Field<'_> {
        let options = options.iter().map(|(value, text)| ((*value).to_owned(), (*text).to_owned())).collect();
        self.field(&format!("{name}:set"), label, Shape::Set(options))
    }

    fn field(&self, name: &str, label: &str, shape: Shape) -> Field<'_> {
        Field { sheet: self, name: name.to_owned(), label: label.to_owned(), hint: None, holder: None, shape }
    }

    /// The paths of a list's rows, and of blank ones up to `least`.
    pub(super) fn rows(&self, path: &str, least: usize) -> Vec<String> {
        let rows = self.at(path).as_array().map_or(0, Vec::len).max(least);
        (0..rows).map(|index| format!("{path}[{index}]")).collect()
    }

    /// One row, its fields, and what can become of it.
    pub(super) fn row(&self, path: &str, name: &str, fields: Markup, moves: bool) -> Markup {
        self.labels.borrow_mut().insert(0, (path.to_owned(), name.to_owned()));
        let button = |verb: &str, text: &str| {
            html! { button.quiet.small name="act" value={ (verb) " " (path) } aria-label={ (text) ": " (name) } { (text) } }
        };
        html! {
            fieldset.row id=(id(path)) tabindex="-1" {
                legend { (name) }
                (fields)
                (self.errors_at(path))
                @if !self.locked { div.actions {
                    @if moves { (button("up", "Move up")) (button("down", "Move down")) }
                    (button("remove", "Remove"))
                } }
            }
        }
    }

    /// What adds a row to a list, and what is wrong with the list itself.
    pub(super) fn add(&self, path: &str, name: &str, text: &str) -> Markup {
        self.labels.borrow_mut().push((path.to_owned(), name.to_owned()));
        let focus = self.takes_focus(path, true);
        html! {
            (self.errors_at(path))
            @if !self.locked { button.quiet.small id=(id(path)) name="act" value={ "add " (path) } autofocus[focus] { (text) } }
        }
    }

    fn takes_focus(&self, path: &str, whole: bool) -> bool {
        let wanted = |wanted| if whole { path == wanted } else { path.starts_with(wanted) };
        let takes = !self.focused.get() && self.focus.is_some_and(wanted);
        self.focused.set(self.focused.get() || takes);
        takes
    }

    fn errors(&self) -> &'a [FieldError] {
        self.problem.map_or(&[], Problem::details)
    }

    fn errors_at(&self, path: &str) -> Markup {
        html! { @for error in self.errors().iter().filter(|error| error.field == path) { p.error { (sentence(&error.message)) } } }
    }

    /// What is wrong, above the form; to be written after its fields.
    pub(super) fn summary(&self) -> Markup {
        let Some(problem) = self.problem else { return html! {} };
        let labels = self.labels.borrow();
        let known = |path: &str| labels.iter().find(|(known, _)| known == path);
        html! {
            div.summary role="alert" tabindex="-1" autofocus {
                @if problem.details().is_empty() {
                    p { strong { (problem.message()) } }
                } @else {
                    h2 { "This could not be saved yet" }
                    ul {
                        @for error in problem.details() {
                            @let label = label(&error.field, &|path| known(path).map(|(_, label)| label.clone()));
                            @let place = above(&error.field).into_iter().find_map(|path| known(path).map(|(path, _)| id(path)));
                            li {
                                @match place {
                                    Some(place) => a href={ "#" (place) } { (label) ": " (sentence(&error.message)) },
                                    None => { (label) ": " (sentence(&error.message)) },
                                }
                            }
                        }
                    }
                    p.muted { "Nothing was changed. What you typed stands below." }
                }
            }
        }
    }
}

/// A path and what it stands in, the nearest first.
fn above(path: &str) -> Vec<&str> {
    let ends = path.char_indices().filter(|(_, character)| matches!(character, '.' | '[')).map(|(end, _)| &path[..end]);
    std::iter::once(path).chain(ends.collect::<Vec<_>>().into_iter().rev()).collect()
}

/// What a path is called: `Header 2, Value`.
fn label(path: &str, known: &dyn Fn(&str) -> Option<String>) -> String {
    let mut names: Vec<String> = above(path).into_iter().filter_map(known).collect();
    // A list is called by its rows.
    names.truncate(2);
    names.reverse();
    if names.is_empty() {
        if path.is_empty() { "The form".to_owned() } else { path.to_owned() }
    } else {
        names.join(", ")
    }
}

/// The API's words as a sentence.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str().trim_end_matches('.'))
}

/// A path as an id in the page.
fn id(path: &str) -> String {
    format!("f-{}", path.replace(|character: char| !character.is_ascii_alphanumeric(), "-"))
}

enum Shape {
    Line(&'static str),
    Area(u8),
    Choice(Vec<(String, String)>),
    Set(Vec<(String, String)>),
    Tick,
}

/// One field. It is written when it stands in a page.
pub(super) struct Field<'a> {
    sheet: &'a Sheet<'a>,
    name: String,
    label: String,
    hint: Option<String>,
    holder: Option<String>,
    shape: Shape,
}

impl Field<'_> {
    /// What helps to fill it in.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What a browser's keyboard, picker or memory should know: an input's type.
    pub(super) fn typed(mut self, kind: &'static str) -> Self {
        self.shape = Shape::Line(kind);
        self
    }

    /// What stands in it while it is empty.
    pub(super) fn holding(mut self, text: impl Into<String>) -> Self {
        self.holder = Some(text.into());
        self
    }
}

impl Render for Field<'_> {
    fn render(&self) -> Markup {
        let path = self.name.split(':').next().unwrap_or_default();
        let value = self.sheet.at(path);
        let id = id(path);
        let known = path.replace('!', ".");
        self.sheet.labels.borrow_mut().push((known.clone(), self.label.clone()));
        let errors: Vec<_> = self.sheet.errors().iter().filter(|error| self.is_about(&known, &error.field)).collect();
        let (hint_id, error_id) = (format!("{id}-hint"), format!("{id}-error"));
        let described = [(self.hint.is_some(), hint_id.as_str()), (!errors.is_empty(), error_id.as_str())];
        let described: Vec<_> = described.iter().filter(|(is, _)| *is).map(|(_, id)| *id).collect();
        let described = (!described.is_empty()).then(|| described.join(" "));
        let invalid = (!errors.is_empty()).then_some("true");
        let focus = self.sheet.takes_focus(path, false);
        let label = html! { label for=(id) { (self.label) } };
        let around = html! {
            @if let Some(hint) = &self.hint { p.hint id=(hint_id) { (hint) } }
            @if !errors.is_empty() { div.error id=(error_id) { @for error in &errors { p { (self.told(&known, error)) } } } }
        };
        html! {
            @match &self.shape {
                Shape::Line(kind) => div.field {
                    (label) (around)
                    input id=(id) type=(kind) name=(self.name) value=(self.text(value, *kind == "password")) placeholder=[&self.holder] autocomplete="off"
                        spellcheck="false" aria-describedby=[&described] aria-invalid=[invalid] autofocus[focus];
                },
                Shape::Area(rows) => div.field {
                    (label) (around)
                    textarea id=(id) name=(self.name) rows=(rows) placeholder=[&self.holder] spellcheck="false" aria-describedby=[&described]
                        aria-invalid=[invalid] autofocus[focus] { "\n" (self.text(value, false)) }
                },
                Shape::Choice(options) => div.field {
                    (label) (around)
                    select id=(id) name=(self.name) aria-describedby=[&described] aria-invalid=[invalid] autofocus[focus] {
                        @for (option, text) in options {
                            option value=(option) selected[value.as_str() == Some(option)] { (text) }
                        }
                    }
                },
                Shape::Tick => div.field.tick {
                    input type="hidden" name=(self.name) value="";
                    input id=(id) type="checkbox" name=(self.name) value="on" checked[value.as_bool() == Some(true)]
                        aria-describedby=[&described] aria-invalid=[invalid] autofocus[focus];
                    (label) (around)
                },
                Shape::Set(options) => fieldset.set id=(id) tabindex="-1" aria-describedby=[&described] {
                    legend { (self.label) }
                    (around)
                    input type="hidden" name=(self.name) value="";
                    @for (option, text) in options {
                        @let ticked = value.as_array().is_some_and(|known| known.iter().any(|known| same(known, option)));
                        label.box { input type="checkbox" name=(self.name) value=(option) checked[ticked]; (text) }
                    }
                },
            }
        }
    }
}

impl Field<'_> {
    /// Whether an error belongs here: to the field, or to an entry of the list that is typed into it.
    fn is_about(&self, path: &str, wrong: &str) -> bool {
        let is_list = [":lines", ":words", ":numbers", ":set"].iter().any(|kind| self.name.ends_with(kind));
        wrong == path || is_list && wrong.strip_prefix(path).is_some_and(|rest| rest.starts_with('['))
    }

    /// A value as it is typed. What was typed as a password is typed again.
    fn text(&self, value: &Value, hidden: bool) -> String {
        match value {
            _ if hidden => String::new(),
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Array(entries) => {
                let entries: Vec<_> = entries.iter().map(|entry| self.text(entry, false)).collect();
                entries.join(if self.name.ends_with(":lines") { "\n" } else { ", " })
            }
            _ => String::new(),
        }
    }

    fn told(&self, path: &str, error: &FieldError) -> String {
        let index = error.field.strip_prefix(path).and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'));
        match index.and_then(|index| index.parse::<usize>().ok()) {
            Some(index) => format!("Entry {}: {}.", index + 1, error.message),
            None => sentence(&error.message),
        }
    }
}

fn same(known: &Value, option: &str) -> bool {
    match known {
        Value::Number(number) => number.to_string().as_str() == option,
        other => other == option,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_stand_beside_their_fields_and_lead_to_them() {
        let value = json!({"name": "\"><script>", "headers": [{"name": "A", "value": ""}], "origins": ["x", "y"]});
        let problem = Problem::fields(vec![
            FieldError::invalid("name", "must be shorter"),
            FieldError::invalid("headers[0].value", "must not be empty"),
            FieldError::invalid("origins[1]", "must be an origin"),
            FieldError::unknown("secret", "is not known"),
        ]);
        let sheet = Sheet::new(&value, Some(&problem), None, false);
        let row = html! { (sheet.line("headers[0].name", "Name")) (sheet.line("headers[0].value", "Value")) };
        let page = html! {
            (sheet.line("name", "Name").hint("Short.")) (sheet.row("headers[0]", "Header 1", row, false))
            (sheet.area("origins:lines", "Origins", 3))
        };
        let page = page.into_string();
        assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;\"") && !page.contains("<script>"), "{page}");
        assert!(page.contains("aria-describedby=\"f-name-hint f-name-error\" aria-invalid=\"true\""), "{page}");
        assert!(page.contains("Entry 2: must be an origin."), "{page}");
        let summary = sheet.summary().into_string();
        assert!(
            summary.contains("<a href=\"#f-headers-0--value\">Header 1, Value: Must not be empty.</a>"),
            "{summary}"
        );
        assert!(summary.contains("<a href=\"#f-origins\">Origins: Must be an origin.</a>"), "{summary}");
        assert!(summary.contains("secret: Is not known."), "{summary}");
    }

    #[test]
    fn passwords_are_not_shown_again() {
        let value = json!({"password": "s3cret"});
        let sheet = Sheet::new(&value, None, None, false);
        let page = sheet.line("password:optional", "Password").typed("password").render().into_string();
        assert!(!page.contains("s3cret"), "{page}");
    }
}
