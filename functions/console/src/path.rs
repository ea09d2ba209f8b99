//! What stands in a path: ids as texts. A path whose escapes are no UTF-8 leads nowhere, like any other unknown one.

use axum::extract::FromRequestParts;
use edge::problem::Problem;
use http::request::Parts;
use serde::de::DeserializeOwned;

/// The texts of the path's parameters.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| Problem::not_found("address here"))
    }
}
