//! Pages of lists: `limit` (1 to 100, default 25) and `cursor`.

use std::{fmt::Display, str::FromStr};

use axum::extract::FromRequestParts;
use domain::field::FieldError;
use edge::{problem::Problem, reply::Pagination};
use http::request::Parts;

const DEFAULT_LIMIT: u8 = 25;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) limit: u8,
    cursor: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default(), |_, _| Ok(false))
    }
}

impl Asked {
    /// Reads a query. `more`: parameters of this list alone; whether it is one, or what the value must be.
    pub(crate) fn parse(
        query: &str,
        mut more: impl FnMut(&str, &str) -> Result<bool, &'static str>,
    ) -> Result<Self, Problem> {
        let mut asked = Self { limit: DEFAULT_LIMIT, cursor: None };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        for (name, value) in pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            match name {
                "limit" => match value.parse() {
                    // Rust's numbers may begin with a plus sign; the schema's do not.
                    Ok(limit @ 1..=100) if !value.starts_with('+') => asked.limit = limit,
                    _ => return Err(Problem::field(FieldError::invalid("limit", "must be from 1 to 100"))),
                },
                "cursor" => asked.cursor = Some(value.to_owned()),
                other => match more(other, value) {
                    Ok(true) => {}
                    Ok(false) => return Err(Problem::field(FieldError::unknown(other, "is not a known parameter"))),
                    Err(expected) => return Err(Problem::field(FieldError::invalid(other, expected))),
                },
            }
        }
        Ok(asked)
    }

    /// The id that the cursor holds.
    pub(crate) fn after<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let parse = |cursor: &String| {
            cursor
                .parse()
                .map_err(|_| Problem::field(FieldError::invalid("cursor", "must be a cursor of an earlier answer")))
        };
        self.cursor.as_ref().map(parse).transpose()
    }

    /// Where the list stands after a page that ends in `last`.
    pub(crate) fn answer(&self, has_more: bool, last: Option<impl Display>) -> Pagination {
        let next_cursor = last.filter(|_| has_more).map(|last| last.to_string());
        Pagination { limit: self.limit, has_more, next_cursor }
    }
}
