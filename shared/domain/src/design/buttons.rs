//! Buttons of an app's own: other ways to reach its people.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{HTTPS, is_https};
use crate::{
    field::FieldError,
    form::{check_id, is_email, keep},
    strict,
    survey::prose,
};

/// Buttons of an app's own.
pub const MAX_BUTTONS: usize = 6;
/// Characters of a button's label.
pub const MAX_BUTTON_LABEL: usize = 60;
/// Characters that a button copies.
pub const MAX_COPIED: usize = 500;

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

strict::words!(Action);

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

strict::objects!(Button);

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
