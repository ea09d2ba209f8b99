//! What the provider of sign-ins is asked: the console's only way out. It goes to the deployment's own provider and to
//! nothing that a customer names; what customers name is for dispatch alone.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde::de::DeserializeOwned;
use url::{Url, form_urlencoded};

/// For one question and its answer, from the first look at the name to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of an answer: an ID token with hundreds of groups, and a set of keys, are smaller by far.
const MAX_ANSWER: usize = 128 * 1024;

/// The provider did not answer as it should. The text is for the log: it holds no address and nothing secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Away(pub(crate) String);

/// Asks the provider.
#[derive(Default)]
pub(crate) struct Client(edge::client::Client);

impl Client {
    /// Reads a document.
    ///
    /// # Errors
    /// When it cannot be had, or is another kind of document.
    pub(crate) async fn document<T: DeserializeOwned>(&self, what: &str, at: &Url) -> Result<T, Away> {
        let (status, body) = self.exchange(what, Method::GET, at, String::new()).await?;
        if status != StatusCode::OK {
            return Err(Away(format!("{what}: status {}", status.as_u16())));
        }
        serde_json::from_slice(&body).map_err(|_| Away(format!("{what}: is not what it should be")))
    }

    /// Posts a form; gives the status and the body of the answer, whatever they are.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub(crate) async fn post(
        &self,
        what: &str,
        at: &Url,
        fields: &[(&str, &str)],
    ) -> Result<(StatusCode, Bytes), Away> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.exchange(what, Method::POST, at, form).await
    }

    async fn exchange(&self, what: &str, method: Method, at: &Url, form: String) -> Result<(StatusCode, Bytes), Away> {
        let mut request = Request::builder().method(&method).uri(at.as_str());
        request =
            request.header(header::ACCEPT, "application/json").header(header::USER_AGENT, "ClickToCall-Console/1");
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let away = |why: &dyn std::fmt::Display| Away(format!("{what}: {why}"));
        let request = request.body(form.into()).map_err(|_| away(&"cannot be asked"))?;
        let exchanged = tokio::time::timeout(DEADLINE, self.0.send(request, MAX_ANSWER)).await;
        let answer = exchanged.map_err(|_| away(&"timeout"))?.map_err(|failed| away(&failed))?;
        Ok((answer.status(), answer.into_body()))
    }
}
