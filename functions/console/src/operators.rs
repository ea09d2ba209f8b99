//! Operators: their tokens are made and ended here, by admins. A token is shown once; its hash is all that is kept.

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    field::{self, FieldError},
    id::OperatorId,
    operator::Role,
    time::Timestamp,
};
use edge::{
    chance,
    extract::{Json, Now, Path},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use store::operators::{Listed, Removal};

use crate::{
    State,
    access::{CreateOperator, DeleteOperator, Rule},
    list::Asked,
    operator::{self, Operator},
};

/// Characters of an operator's name.
const MAX_NAME: usize = 100;

/// Judges an operator's name: a label that looks on a page as it is written, for pages and the audit log tell by it who did
/// what.
///
/// # Errors
/// The field's error: also when it holds characters that turn the direction of what stands around them.
pub(crate) fn name(text: &str) -> Result<String, FieldError> {
    let turns =
        |it| matches!(it, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.contains(turns) {
        return Err(FieldError::invalid("name", "must not contain characters that turn the direction of writing"));
    }
    field::label("name", text, MAX_NAME)
}

/// What a new operator is made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    name: String,
    role: Role,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: OperatorId,
    name: String,
    role: Role,
    created_at: Timestamp,
    /// Shown once, in the answer to its making.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl From<Listed> for Shown {
    fn from(Listed { id, name, role, created_at, .. }: Listed) -> Self {
        Self { id, name, role, created_at, token: None }
    }
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    asked: Asked,
) -> Result<Response, Problem> {
    operator.needs(Role::Admin)?;
    let page = state.store.operators(asked.limit, asked.after()?).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|listed| listed.id));
    Ok(reply::page(now, page.items.into_iter().map(Shown::from).collect(), pagination))
}

pub(crate) async fn create(
    Extract(state): Extract<State>,
    Rule { note, .. }: Rule<CreateOperator>,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    let name = name(&draft.name).map_err(Problem::field)?;
    let token = operator::mint_token();
    let made = Listed {
        id: OperatorId::mint(note.now, &chance::bytes()),
        name,
        role: draft.role,
        created_at: note.now,
        token_hash: operator::hash(&token),
    };
    let note = note.about(made.id);
    state.store.create_operator(&made, Some(&note.granted())).await.map_err(Problem::unavailable)?;
    note.done();
    Ok(reply::data(StatusCode::CREATED, note.now, Shown { token: Some(token), ..Shown::from(made) }))
}

pub(crate) async fn delete(
    Extract(state): Extract<State>,
    Rule { note, .. }: Rule<DeleteOperator>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let missing = || Problem::not_found("operator");
    let id: OperatorId = id.parse().map_err(|_| missing())?;
    match state.store.remove_operator(id, Some(&note.granted())).await.map_err(Problem::unavailable)? {
        Removal::Done => {
            note.done();
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Removal::LastAdmin => Err(Problem::new(Kind::Conflict, "This is the last admin. Make another one first.")),
        Removal::Gone => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_look_as_they_are_written() {
        for good in ["Ann", "Zoë O’Neill", "نگار", "می\u{200c}نا"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for turned in ["\u{202e}nimda", "a\u{2066}b", "a\u{2069}", "\u{200f}a", "a\u{200e}", "a\u{61c}b", "a\nb", " "] {
            assert!(name(turned).is_err(), "{turned:?}");
        }
    }
}
