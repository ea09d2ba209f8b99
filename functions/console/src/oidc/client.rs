//! The client that asks the provider of sign-ins: the console's only way out. It goes to the deployment's own provider and
//! to nothing that a customer names; what customers name is for dispatch alone.

use std::{sync::OnceLock, time::Duration};

use http::{StatusCode, header};
use reqwest::{RequestBuilder, redirect, retry};
use serde::de::DeserializeOwned;
use url::{Url, form_urlencoded};

/// For one question and its answer, from the first look at the name to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Bytes of an answer: an ID token with hundreds of groups, and a set of keys, are smaller by far.
const MAX_ANSWER: usize = 128 * 1024;
const MAX_FIELDS: usize = 100;

/// The provider did not answer as it should. The text is for the log: it holds no address and nothing secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Away(pub(crate) String);

/// Asks the provider.
#[derive(Default)]
pub(crate) struct Client(OnceLock<Option<reqwest::Client>>);

impl Client {
    /// Reads a document.
    ///
    /// # Errors
    /// When it cannot be had, or is another kind of document.
    pub(crate) async fn document<T: DeserializeOwned>(&self, what: &str, at: &Url) -> Result<T, Away> {
        let (status, body) = exchange(what, self.inner()?.get(at.clone())).await?;
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
    ) -> Result<(StatusCode, Vec<u8>), Away> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.inner()?.post(at.clone());
        exchange(what, request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)).await
    }

    /// Made at its first use: reading the root certificates is no work for a cold start.
    fn inner(&self) -> Result<&reqwest::Client, Away> {
        let build = || {
            let built = reqwest::Client::builder()
                .user_agent("ClickToCall-Console/1")
                .timeout(DEADLINE)
                .connect_timeout(CONNECT_DEADLINE)
                // An answer that leads elsewhere would take the code and its verifier there.
                .redirect(redirect::Policy::none())
                .referer(false)
                .retry(retry::never())
                .no_proxy()
                .http1_only()
                .http1_max_headers(MAX_FIELDS)
                .build();
            built.inspect_err(|error| tracing::error!(cause = %error, "client.not_built")).ok()
        };
        self.0.get_or_init(build).as_ref().ok_or_else(|| Away("the client could not be made".to_owned()))
    }
}

async fn exchange(what: &str, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Away> {
    let failed = |error: reqwest::Error| Away(format!("{what}: {}", classify(&error)));
    let mut response = request.header(header::ACCEPT, "application/json").send().await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Away(format!("{what}: over {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

/// A word for what went wrong: an error's own text holds the address.
fn classify(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    }
}
