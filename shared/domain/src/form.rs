//! The form before a call: what an operator asks for, and whether a visitor's answers fit.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    field::{self, FieldError},
    strict,
};

/// Fields of a form at most.
pub const MAX_FIELDS: usize = 20;
/// Characters of a label.
pub const MAX_LABEL: usize = 200;
/// Options of one field, or of one question of a survey.
pub const MAX_OPTIONS: usize = 30;
/// Characters of an option.
pub const MAX_OPTION: usize = 100;
/// Characters that a visitor may write into one field.
pub const MAX_VALUE: usize = 500;

/// What a field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum FieldKind {
    Text,
    Email,
    Phone,
    Select,
    Checkbox,
}

strict::words!(FieldKind);

/// One field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Field {
    /// Its name in answers: unlike every other's.
    pub id: String,
    /// What it asks for.
    pub kind: FieldKind,
    /// What the visitor reads.
    pub label: String,
    /// Whether no call begins without it.
    #[serde(default)]
    pub required: bool,
    /// What a visitor chooses from: of `select` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// The form. Without fields there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Form {
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

strict::objects!(Field, Form);

/// What a visitor wrote into one field, with the label they read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The field.
    pub id: String,
    /// Its label then.
    pub label: String,
    /// A text, or whether a box was ticked.
    pub value: Value,
}

impl Form {
    /// Checks what an operator sets.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(mut self) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        if self.fields.len() > MAX_FIELDS {
            errors.push(FieldError::invalid("fields", format!("must be at most {MAX_FIELDS}")));
            return Err(errors);
        }
        let mut ids = BTreeSet::new();
        for (index, field) in self.fields.iter_mut().enumerate() {
            let at = format!("fields[{index}]");
            check_id(&at, &field.id, &mut ids, &mut errors);
            keep(&mut field.label, &format!("{at}.label"), MAX_LABEL, &mut errors);
            let least = usize::from(field.kind == FieldKind::Select);
            check_options(&at, &mut field.options, least, field.kind == FieldKind::Select, &mut errors);
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    /// Checks a visitor's answers. Empty texts count as not given.
    ///
    /// # Errors
    /// Every answer that is wrong, missing or not asked for.
    pub fn answer(&self, values: &Map<String, Value>) -> Result<Vec<Answered>, Vec<FieldError>> {
        let unknown = values.keys().filter(|id| self.fields.iter().all(|field| field.id != **id));
        let mut errors: Vec<_> =
            unknown.map(|id| FieldError::unknown(format!("values.{id}"), "is not a field of the form")).collect();
        let mut answered = Vec::new();
        for field in &self.fields {
            match field.answer(values.get(&field.id).unwrap_or(&Value::Null)) {
                Ok(Some(value)) => {
                    answered.push(Answered { id: field.id.clone(), label: field.label.clone(), value });
                }
                Ok(None) => {}
                Err(error) => errors.push(FieldError { field: format!("values.{}", field.id), ..error }),
            }
        }
        if errors.is_empty() { Ok(answered) } else { Err(errors) }
    }
}

impl Field {
    fn answer(&self, value: &Value) -> Result<Option<Value>, FieldError> {
        let wrong = |message: &str| Err(FieldError::invalid("", message));
        let text = match value {
            Value::Null => "",
            Value::Bool(ticked) if self.kind == FieldKind::Checkbox => {
                return if self.required && !ticked {
                    Err(FieldError::required(""))
                } else {
                    Ok(Some(Value::Bool(*ticked)))
                };
            }
            _ if self.kind == FieldKind::Checkbox => return wrong("must be true or false"),
            Value::String(text) => text.trim(),
            _ => return wrong("must be a text"),
        };
        if text.is_empty() {
            return if self.required { Err(FieldError::required("")) } else { Ok(None) };
        }
        let text = field::label("", text, MAX_VALUE)?;
        match self.kind {
            FieldKind::Email if !is_email(&text) => wrong("must be an email address such as ada@example.com"),
            FieldKind::Phone if !is_phone(&text) => wrong("must be a phone number such as +49 30 123456"),
            FieldKind::Select if !self.options.contains(&text) => wrong("must be one of the options"),
            _ => Ok(Some(Value::String(text))),
        }
    }
}

/// One @ with something on both sides, no blanks: whether it reaches somebody only a mail can tell.
pub(crate) fn is_email(text: &str) -> bool {
    let fits = |part: &str| {
        !part.is_empty() && !part.contains(['@', '<', '>', ',', ';']) && !part.contains(char::is_whitespace)
    };
    text.chars().count() <= 254 && text.split_once('@').is_some_and(|(name, host)| fits(name) && fits(host))
}

/// As people write them: digits, an optional plus sign, and what they put in between.
fn is_phone(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let fits = |byte: u8| byte.is_ascii_digit() || b" ()-./".contains(&byte);
    (3..=20).contains(&digits) && text.len() <= 40 && text.strip_prefix('+').unwrap_or(text).bytes().all(fits)
}

/// Trims a label in its place.
pub(crate) fn keep(text: &mut String, at: &str, max: usize, errors: &mut Vec<FieldError>) {
    match field::label(at, text, max) {
        Ok(trimmed) => *text = trimmed,
        Err(error) => errors.push(error),
    }
}

/// An id of a field, a question or a button: it becomes a name in browsers' objects too.
pub(crate) fn check_id<'a>(at: &str, id: &'a str, known: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
    let at = format!("{at}.id");
    let fits = (1..=40).contains(&id.len())
        && id.as_bytes()[0].is_ascii_alphabetic()
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        && !["constructor", "prototype"].contains(&id);
    if !fits {
        errors.push(FieldError::invalid(at, "must be a letter and up to 39 letters, digits, underscores and hyphens"));
    } else if !known.insert(id) {
        errors.push(FieldError::invalid(at, "stands more than once"));
    }
}

/// Options, of which there are `least` at least where there may be any.
pub(crate) fn check_options(
    at: &str,
    options: &mut [String],
    least: usize,
    may_have: bool,
    errors: &mut Vec<FieldError>,
) {
    let at = format!("{at}.options");
    if !may_have {
        if !options.is_empty() {
            errors.push(FieldError::invalid(at, "must stay empty: there is nothing to choose from here"));
        }
        return;
    }
    if !(least..=MAX_OPTIONS).contains(&options.len()) {
        errors.push(FieldError::invalid(at, format!("must be {least} to {MAX_OPTIONS}")));
        return;
    }
    let mut known = BTreeSet::new();
    for (index, option) in options.iter_mut().enumerate() {
        let at = format!("{at}[{index}]");
        keep(option, &at, MAX_OPTION, errors);
        if !known.insert(option.clone()) {
            errors.push(FieldError::invalid(at, "stands more than once"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(fields: &Value) -> Result<Form, Vec<String>> {
        let form: Form = serde_json::from_value(json!({ "fields": fields })).expect("a form");
        form.check().map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn what_operators_set_is_checked() {
        let field = |id: &str| json!({"id": id, "kind": "text", "label": "Name"});
        assert!(form(&json!([])).is_ok());
        for (fields, wrong) in [
            (json!([field("1a")]), "fields[0].id"),
            (json!([field("")]), "fields[0].id"),
            (json!([field("ünï")]), "fields[0].id"),
            (json!([field("constructor")]), "fields[0].id"),
            (json!([field("__proto__")]), "fields[0].id"),
            (json!([field("a"), field("a")]), "fields[1].id"),
            (json!([{"id": "a", "kind": "text", "label": " "}]), "fields[0].label"),
            (json!([{"id": "a", "kind": "text", "label": "x".repeat(201)}]), "fields[0].label"),
            (json!([{"id": "a", "kind": "text", "label": "A", "options": ["x"]}]), "fields[0].options"),
            (json!([{"id": "a", "kind": "select", "label": "A"}]), "fields[0].options"),
            (json!([{"id": "a", "kind": "select", "label": "A", "options": ["x", " x "]}]), "fields[0].options[1]"),
            (json!([{"id": "a", "kind": "select", "label": "A", "options": [""]}]), "fields[0].options[0]"),
            (Value::Array((0..21).map(|id| field(&format!("f{id}"))).collect()), "fields"),
        ] {
            assert_eq!(form(&fields).expect_err("wrong")[0], wrong, "{fields}");
        }
    }

    #[test]
    fn answers_fit_the_form() {
        let form = form(&json!([
            {"id": "name", "kind": "text", "label": "Name", "required": true},
            {"id": "mail", "kind": "email", "label": "Email"},
            {"id": "phone", "kind": "phone", "label": "Phone"},
            {"id": "about", "kind": "select", "label": "About", "options": ["Sales", "Help"]},
            {"id": "terms", "kind": "checkbox", "label": "Terms", "required": true},
        ]))
        .expect("good");
        let answer = |more: Value| {
            let mut values = json!({"name": "Ada", "terms": true});
            values.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let answered = form.answer(values.as_object().expect("an object"));
            answered.map_err(|errors| errors.into_iter().map(|error| (error.field, error.code)).collect::<Vec<_>>())
        };
        let given = answer(json!({"mail": " ada@example.com ", "phone": "+49 (30) 123-456", "about": "Help"}));
        let given: Vec<_> = given.expect("good").into_iter().map(|answered| answered.value).collect();
        assert_eq!(
            given,
            [json!("Ada"), json!("ada@example.com"), json!("+49 (30) 123-456"), json!("Help"), json!(true)]
        );
        assert_eq!(answer(json!({"mail": "", "phone": null})).expect("good").len(), 2, "empty is not given");
        assert!(answer(json!({"name": "é".repeat(500)})).is_ok());
        assert!(answer(json!({"name": "👩‍👩‍👧".repeat(100)})).is_ok(), "five characters each");
        for (more, field, code) in [
            (json!({"name": ""}), "name", "required"),
            (json!({"name": "  "}), "name", "required"),
            (json!({"name": null}), "name", "required"),
            (json!({"name": "é".repeat(501)}), "name", "too_long"),
            (json!({"name": "a\u{0}b"}), "name", "invalid"),
            (json!({"name": 7}), "name", "invalid"),
            (json!({"name": {"a": 1}}), "name", "invalid"),
            (json!({"mail": "ada"}), "mail", "invalid"),
            (json!({"mail": "a@b@c"}), "mail", "invalid"),
            (json!({"mail": "a b@c"}), "mail", "invalid"),
            (json!({"phone": "call me"}), "phone", "invalid"),
            (json!({"phone": "12"}), "phone", "invalid"),
            (json!({"phone": "+1+2+3"}), "phone", "invalid"),
            (json!({"about": "Else"}), "about", "invalid"),
            (json!({"terms": false}), "terms", "required"),
            (json!({"terms": "yes"}), "terms", "invalid"),
            (json!({"other": "x"}), "other", "unknown"),
            (json!({"__proto__": "x"}), "__proto__", "unknown"),
        ] {
            assert_eq!(answer(more.clone()), Err(vec![(format!("values.{field}"), code)]), "{more}");
        }
        assert!(Form::default().answer(&Map::new()).expect("nothing asked").is_empty());
    }
}
