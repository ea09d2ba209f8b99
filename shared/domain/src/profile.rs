//! Profiles: whom an app's visitors can reach. Its id is an event's `destinationId`; a routing key is a name that an
//! embed can ask for instead. Nothing else ever decides whom a call goes to (security.md, "Media").

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    app::is_sip_uri,
    field::{self, FieldError},
    hours::{self, Hours},
    id::{DestinationId, Entropy},
    session::parse_routing_key,
    time::Timestamp,
};

/// Routing keys of one profile at most.
pub const MAX_ROUTING_KEYS: usize = 20;

/// One target of calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Its id.
    pub id: DestinationId,
    /// Its name, for operators.
    pub name: String,
    /// Where calls go: `sip:…` or `tel:+…`.
    pub destination: String,
    /// The routing keys that lead to it; each leads to one profile of an app.
    pub routing_keys: BTreeSet<String>,
    /// When it takes calls; as its app does, unless it says otherwise.
    #[serde(default)]
    pub hours: Hours,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an operator may set: a whole profile on creation, some of it on a change.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of Profile")]
pub struct Draft {
    pub name: Option<String>,
    pub destination: Option<String>,
    pub routing_keys: Option<Vec<String>>,
    /// Whether it is the app's default: who asks for no profile reaches it. An app has one default at most.
    pub default: Option<bool>,
    pub hours: Option<hours::Draft>,
}

impl Profile {
    /// A new profile out of a draft.
    ///
    /// # Errors
    /// Every field that is wrong or missing.
    pub fn create(draft: &Draft, now: Timestamp, entropy: &Entropy) -> Result<Self, Vec<FieldError>> {
        let missing = [("name", &draft.name), ("destination", &draft.destination)].into_iter();
        let missing = missing.filter(|(_, value)| value.is_none()).map(|(field, _)| FieldError::required(field));
        let errors: Vec<_> = missing.collect();
        let blank = Self {
            id: DestinationId::mint(now, entropy),
            name: String::new(),
            destination: String::new(),
            routing_keys: BTreeSet::new(),
            hours: Hours::default(),
            created_at: now,
        };
        match blank.change(draft) {
            Ok(made) if errors.is_empty() => Ok(made),
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// The same profile with the fields a draft gives changed.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn change(mut self, draft: &Draft) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        if let Some(name) = &draft.name {
            match field::label("name", name, 100) {
                Ok(name) => self.name = name,
                Err(error) => errors.push(error),
            }
        }
        if let Some(destination) = &draft.destination {
            if is_sip_uri(destination) || is_tel_uri(destination) {
                self.destination.clone_from(destination);
            } else {
                let message = "must be an address such as sip:sales@pbx.example.com or tel:+493012345678";
                errors.push(FieldError::invalid("destination", message));
            }
        }
        if let Some(keys) = &draft.routing_keys {
            if keys.len() > MAX_ROUTING_KEYS {
                errors.push(FieldError::invalid("routingKeys", format!("must be at most {MAX_ROUTING_KEYS}")));
            }
            self.routing_keys.clear();
            for (index, key) in keys.iter().enumerate() {
                match parse_routing_key(key) {
                    Ok(key) => {
                        if !self.routing_keys.insert(key) {
                            errors.push(FieldError::invalid(format!("routingKeys[{index}]"), "stands more than once"));
                        }
                    }
                    Err(error) => errors.push(FieldError { field: format!("routingKeys[{index}]"), ..error }),
                }
            }
        }
        if let Some(draft) = &draft.hours {
            match self.hours.clone().change(draft.clone()) {
                Ok(hours) => self.hours = hours,
                Err(wrong) => errors.extend(
                    wrong.into_iter().map(|error| FieldError { field: format!("hours.{}", error.field), ..error }),
                ),
            }
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }
}

/// `tel:+` and 3 to 15 digits (E.164); no parameters.
fn is_tel_uri(text: &str) -> bool {
    text.strip_prefix("tel:+").is_some_and(|digits| {
        (3..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wrong_fields_are_named() {
        for (field, value, named) in [
            ("name", json!(" "), "name"),
            ("destination", json!("https://example.com"), "destination"),
            ("destination", json!("tel:030123"), "destination"),
            ("destination", json!("tel:+030123"), "destination"),
            ("destination", json!("tel:+4930;ext=1"), "destination"),
            ("destination", json!("tel:+12"), "destination"),
            ("destination", json!("sip:a@b;maddr=10.0.0.1"), "destination"),
            ("routingKeys", json!(["sales", "a b"]), "routingKeys[1]"),
            ("routingKeys", json!(["sales", "sales"]), "routingKeys[1]"),
            ("hours", json!({"mode": "custom"}), "hours.timezone"),
            ("hours", json!({"exceptions": [{"date": "2026-12-25"}]}), "hours.exceptions[0]"),
            ("routingKeys", json!((0..21).map(|key| key.to_string()).collect::<Vec<_>>()), "routingKeys"),
        ] {
            let mut draft = json!({"name": "Sales", "destination": "tel:+493012345678"});
            draft[field] = value.clone();
            let draft: Draft = serde_json::from_value(draft).expect("a draft");
            let errors = Profile::create(&draft, Timestamp::from_millis(1), &[0; 10]).expect_err(field);
            assert_eq!(errors[0].field, named, "{field} {value}");
        }
        let errors =
            Profile::create(&Draft::default(), Timestamp::from_millis(1), &[0; 10]).expect_err("nothing given");
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["name", "destination"]);
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let draft = serde_json::from_value(
            json!({"name": " Sales ", "destination": "sip:sales@pbx.example.com", "routingKeys": ["b", "a"]}),
        );
        let made = Profile::create(&draft.expect("a draft"), Timestamp::from_millis(1), &[0; 10]).expect("good");
        assert_eq!((made.name.as_str(), made.routing_keys.len()), ("Sales", 2));
        let draft = serde_json::from_value(json!({"destination": "tel:+493012345678"})).expect("a draft");
        let changed = made.clone().change(&draft).expect("good");
        assert_eq!(changed, Profile { destination: "tel:+493012345678".into(), ..made.clone() });
        let draft = serde_json::from_value(json!({"hours": {"mode": "always"}})).expect("a draft");
        assert_eq!(made.clone().change(&draft).expect("good"), Profile { hours: Hours::always(), ..made });
    }
}
