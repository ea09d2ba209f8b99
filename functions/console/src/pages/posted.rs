//! What a form posts, as the JSON that the management API takes. A field's name is the API's own path of it, so that what is
//! wrong is shown where it was typed; behind a colon stands what kind of value it is: `headers[0].value`, `timeoutMs:number`.
//!
//! - Nothing: a text. `optional`: left out when empty. `choice`, `keep`: texts that alone fill no row, the second left out
//!   when empty. `number`. `flag`: whether a box is ticked. `lines`, `words`, `numbers`: lists in one field. `set`: boxes.
//! - Rows in which nothing is filled in are none. `act` is the button pressed: `save`, or what becomes of a row.

use std::collections::BTreeSet;

use axum::{
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Request},
};
use domain::operator::Role;
use edge::{
    extract::Now,
    problem::{Kind, Problem},
};
use serde_json::{Map, Value};

use super::{api::unreadable, turn::Turn};
use crate::{State, operator::Operator};

/// Bytes of a form at most: two areas of 64 KB, escaped.
const MAX_FORM: usize = 1024 * 1024;
/// Rows of a list at most; the API says of each list how many it takes.
const MAX_ROWS: usize = 400;
/// Rows of all lists of a form together at most: a name of a few bytes makes as many as it counts.
const MAX_CELLS: usize = 10_000;
/// Steps of a field's path at most, for what a form holds is walked step by step; the deepest of ours has five.
const MAX_STEPS: usize = 8;
/// Bytes of a field's path at most.
const MAX_PATH: usize = 256;

/// A form that was sent.
#[derive(Debug)]
pub(super) struct Posted {
    /// What is in it.
    pub(super) value: Value,
    /// What the page held when it was read: see [`super::stamp`].
    pub(super) read: String,
    act: String,
}

impl FromRequest<State> for Posted {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let too_large = |_| Problem::new(Kind::PayloadTooLarge, "The form is too large, or did not arrive whole.");
        let body = to_bytes(body, MAX_FORM).await.map_err(too_large)?;
        let posted = Self::parse(&body)?;
        // Before anybody looks whether the page still holds that. Who may change nothing waits for nobody.
        let may_save = parts.extensions.get::<Operator>().is_some_and(|operator| operator.needs(Role::Editor).is_ok());
        if let Some(turn) = parts.extensions.get::<Turn>().filter(|_| posted.saves() && may_save).cloned() {
            let Now(now) = Now::from_request_parts(&mut parts, state).await?;
            turn.take(&state.store, now).await?;
        }
        Ok(posted)
    }
}

impl Posted {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut posted = Self { value: Value::Object(Map::new()), read: String::new(), act: String::new() };
        let mut filled = BTreeSet::new();
        let mut cells = MAX_CELLS;
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            match groups.last_mut().filter(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value.into_owned()),
                None => groups.push((name.into_owned(), vec![value.into_owned()])),
            }
        }
        for (name, values) in groups {
            let first = values.first().cloned().unwrap_or_default();
            match name.as_str() {
                "act" => posted.act = first,
                "read" => posted.read = first,
                _ => {
                    let (path, kind) = name.split_once(':').unwrap_or((&name, ""));
                    let steps = steps(path).ok_or_else(unreadable)?;
                    let Some(value) = value(kind, &values) else { continue };
                    if !matches!(kind, "choice" | "keep" | "flag") && values.iter().any(|text| !text.trim().is_empty())
                    {
                        filled.extend(rows_above(&steps));
                    }
                    put(&mut posted.value, &steps, value, &mut cells).ok_or_else(unreadable)?;
                }
            }
        }
        prune(&mut posted.value, "", &filled);
        Ok(posted)
    }

    /// Whether what the page held is to be written over: a button of a row changes nothing but the form.
    fn saves(&self) -> bool {
        !self.read.is_empty() && !self.act.contains(' ')
    }

    /// A text that was sent; empty when none was.
    pub(super) fn text(&self, name: &str) -> &str {
        self.value[name].as_str().unwrap_or_default()
    }

    /// That a list is one also when it has no rows.
    pub(super) fn list(&mut self, name: &str) {
        if let Some(fields) = self.value.as_object_mut() {
            fields.entry(name).or_insert(Value::Array(Vec::new()));
        }
    }

    /// That the box was ticked without which nothing is deleted.
    pub(super) fn sure(&self) -> Result<(), Problem> {
        if self.value["sure"] == true {
            return Ok(());
        }
        Err(Problem::new(
            Kind::ValidationError,
            "Nothing was changed: please go back and tick the box that says that you are sure.",
        ))
    }

    /// When the button was one of a row's: the value is what the form holds after it. Gives the path to look at next.
    pub(super) fn moved_rows(&mut self) -> Option<String> {
        let (verb, path) = self.act.split_once(' ')?;
        let mut steps = steps(path)?;
        if verb == "add" {
            let last = append(&mut self.value, &steps)?;
            return Some(format!("{path}[{last}]"));
        }
        let Some(Step::At(index)) = steps.pop() else { return None };
        let list = written(&steps);
        let Some(Value::Array(rows)) = find(&mut self.value, &steps) else { return Some(list) };
        let now = match verb {
            "up" if (1..rows.len()).contains(&index) => index - 1,
            "down" if index + 1 < rows.len() => index + 1,
            "remove" if index < rows.len() => {
                rows.remove(index);
                return Some(list);
            }
            _ => return Some(list),
        };
        rows.swap(index, now);
        Some(format!("{list}[{now}]"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Of(String),
    At(usize),
}

/// `a.b[0].c` in its steps.
fn steps(path: &str) -> Option<Vec<Step>> {
    if path.len() > MAX_PATH || path.matches(['.', '[']).count() >= MAX_STEPS {
        return None;
    }
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        // A dot that belongs to a name is written as an exclamation mark.
        steps.push(Step::Of(name.replace('!', ".")));
        while !rest.is_empty() {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::At(index.parse().ok().filter(|index| *index < MAX_ROWS)?));
            rest = after;
        }
    }
    Some(steps)
}

fn written(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Of(name) if path.is_empty() => path.push_str(name),
            Step::Of(name) => path = format!("{path}.{name}"),
            Step::At(index) => path = format!("{path}[{index}]"),
        }
    }
    path
}

/// The rows that a field stands in.
fn rows_above(steps: &[Step]) -> Vec<String> {
    let ends = steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::At(_)));
    ends.map(|(end, _)| written(&steps[..=end])).collect()
}

fn value(kind: &str, values: &[String]) -> Option<Value> {
    let first = values.first().map_or("", String::as_str);
    let number = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    let words =
        || values.iter().flat_map(|text| text.split([',', ' ', '\n', '\r', '\t'])).filter(|word| !word.is_empty());
    Some(match kind {
        "optional" | "keep" if first.trim().is_empty() => return None,
        "number" if first.trim().is_empty() => return None,
        "number" => number(first.trim()),
        "flag" => Value::Bool(values.iter().any(|text| !text.is_empty())),
        "lines" => first.lines().map(str::trim).filter(|line| !line.is_empty()).collect(),
        "words" => words().collect(),
        "numbers" => words().map(number).collect(),
        "set" => values.iter().filter(|text| !text.is_empty()).map(String::as_str).collect(),
        // Browsers send line breaks as CR LF.
        _ => Value::from(first.replace("\r\n", "\n")),
    })
}

/// Puts a value in its place; `cells`: how many rows may still be made on the way.
fn put(root: &mut Value, steps: &[Step], value: Value, cells: &mut usize) -> Option<()> {
    let mut at = root;
    for step in steps {
        at = match step {
            Step::Of(name) => {
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
                at.as_object_mut()?.entry(name.as_str()).or_insert(Value::Null)
            }
            Step::At(index) => {
                if at.is_null() {
                    *at = Value::Array(Vec::new());
                }
                let rows = at.as_array_mut()?;
                if rows.len() <= *index {
                    *cells = cells.checked_sub(index + 1 - rows.len())?;
                    rows.resize(index + 1, Value::Null);
                }
                rows.get_mut(*index)?
            }
        };
    }
    *at = value;
    Some(())
}

/// Puts a blank row at the end of a list; gives its place.
fn append(root: &mut Value, steps: &[Step]) -> Option<usize> {
    let blank = Value::Object(Map::new());
    if let Some(Value::Array(rows)) = find(root, steps) {
        rows.push(blank);
        return Some(rows.len() - 1);
    }
    put(root, steps, Value::Array(vec![blank]), &mut { MAX_CELLS }).map(|()| 0)
}

fn find<'a>(root: &'a mut Value, steps: &[Step]) -> Option<&'a mut Value> {
    steps.iter().try_fold(root, |at, step| match step {
        Step::Of(name) => at.get_mut(name.as_str()),
        Step::At(index) => at.get_mut(*index),
    })
}

/// Takes rows away in which nothing was filled in. Lists of texts have none of those.
fn prune(value: &mut Value, path: &str, filled: &BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                prune(field, &below, filled);
            }
        }
        Value::Array(rows) => {
            let mut index = 0;
            rows.retain_mut(|row| {
                let here = format!("{path}[{index}]");
                index += 1;
                prune(row, &here, filled);
                !(row.is_null() || row.is_object() && !filled.contains(&here))
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn posted(pairs: &[(&str, &str)]) -> Posted {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Posted::parse(body.as_bytes()).expect("a form")
    }

    #[test]
    fn names_say_where_a_value_belongs_and_what_it_is() {
        let form = posted(&[
            ("act", "save"),
            ("name", "  Shop "),
            ("timeoutMs:number", " 500 "),
            ("retries:number", "many"),
            ("password:optional", ""),
            ("active:flag", ""),
            ("active:flag", "on"),
            ("srtp:flag", ""),
            ("origins:lines", " https://a.example \r\n\r\nhttps://b.example"),
            ("keys:words", "sales, help  vip"),
            ("statuses:numbers", "408 x"),
            ("events:set", ""),
            ("events:set", "call_ended"),
            ("theme.accent", "#fff"),
            ("text", "a\r\nb"),
        ]);
        assert_eq!(
            form.value,
            json!({
                "name": "  Shop ", "timeoutMs": 500, "retries": "many", "active": true, "srtp": false,
                "origins": ["https://a.example", "https://b.example"], "keys": ["sales", "help", "vip"],
                "statuses": [408, "x"], "events": ["call_ended"], "theme": {"accent": "#fff"}, "text": "a\nb",
            })
        );
    }

    #[test]
    fn rows_in_which_nothing_stands_are_none() {
        let form = posted(&[
            ("rows[0].kind:choice", "text"),
            ("rows[0].label", " "),
            ("rows[1].label", "b"),
            ("rows[1].inner[0].open", ""),
            ("rows[1].inner[1].open", "09:00"),
            ("rows[2].ticked:flag", "on"),
            ("rows[2].id:keep", "x"),
        ]);
        assert_eq!(form.value, json!({"rows": [{"label": "b", "inner": [{"open": "09:00"}]}]}));
    }

    #[test]
    fn rows_move() {
        let rows = |act: &str| {
            let mut form = posted(&[("rows[0].a", "1"), ("rows[1].a", "2"), ("act", act)]);
            let moved = form.moved_rows();
            (moved.unwrap_or_default(), form.value["rows"].clone())
        };
        let at = |path: &str, rows: Value| (path.to_owned(), rows);
        assert_eq!(rows("save"), at("", json!([{"a": "1"}, {"a": "2"}])));
        assert_eq!(rows("add rows"), at("rows[2]", json!([{"a": "1"}, {"a": "2"}, {}])));
        assert_eq!(rows("remove rows[0]"), at("rows", json!([{"a": "2"}])));
        assert_eq!(rows("up rows[1]"), at("rows[0]", json!([{"a": "2"}, {"a": "1"}])));
        assert_eq!(rows("down rows[0]"), at("rows[1]", json!([{"a": "2"}, {"a": "1"}])));
        for still in ["up rows[0]", "down rows[1]", "down rows[7]", "remove rows[2]"] {
            assert_eq!(rows(still), at("rows", json!([{"a": "1"}, {"a": "2"}])), "{still}");
        }
        let mut none = posted(&[("act", "add week.mon")]);
        assert_eq!(none.moved_rows().as_deref(), Some("week.mon[0]"));
        assert_eq!(none.value, json!({"week": {"mon": [{}]}}));
    }

    #[test]
    fn what_is_no_form_of_ours_is_refused() {
        for name in ["rows[x]", "rows[", "rows[99999999999]", "a[0", "a.b"] {
            let body = format!("a=1&{name}=2");
            assert!(Posted::parse(body.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_form_takes_no_more_room_than_forms_of_ours_do() {
        let deep = ["[0]".repeat(3_000), ".a".repeat(500), "b".repeat(300), "[0]".repeat(8)];
        for path in deep.map(|rest| format!("a{rest}")) {
            assert!(Posted::parse(format!("{path}=1").as_bytes()).is_err(), "{path}");
            let mut asked = posted(&[("act", &format!("add {path}"))]);
            assert_eq!((asked.moved_rows(), asked.value), (None, json!({})), "{path}");
        }
        let wide = |rows: usize| (0..rows).map(|at| format!("x{at}[399]=1&")).collect::<String>();
        assert!(Posted::parse(wide(25).as_bytes()).is_ok());
        assert!(Posted::parse(wide(26).as_bytes()).is_err() && Posted::parse(wide(1_000).as_bytes()).is_err());
        let ours = posted(&[("exceptions[3].windows[2].open", "09:00")]);
        assert_eq!(ours.value, json!({"exceptions": [{"windows": [{"open": "09:00"}]}]}));
    }
}
