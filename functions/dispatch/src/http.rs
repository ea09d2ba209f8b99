//! The only outgoing client. Decides what is sent, what is dialled, and how long it may take.
//!
//! Every attempt has a reqwest client of its own that knows the judged addresses of its host and no others (resolve.rs,
//! connect.rs): nothing can be pooled, resumed or resent across attempts. What is expensive, the root certificates, is
//! shared. reqwest limits a head's fields, not its bytes; hyper holds at most about 400 KB of a head, and one above
//! 16 KB is refused once it has been parsed (answer.rs). Fields are counted by hyper itself.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use domain::{
    delivery::{Due, ErrorClass, Outcome},
    reach::Reach,
    signature,
    time::Timestamp,
};
use reqwest::{header, redirect, retry};
use rustls::{ClientConfig, client::Resumption, crypto::aws_lc_rs};
use rustls_platform_verifier::Verifier;

pub(crate) use crate::answer::failed;
use crate::{
    answer::{MAX_FIELDS, classify, read},
    connect::Judged,
    render::Ready,
    resolve::{Lookup, System, targets},
};

const USER_AGENT: &str = "ClickToCall-Webhooks/1";
/// For the connection and its TLS handshake together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// The outgoing client could not be made ready.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the outgoing client could not be made ready")]
pub(crate) struct CannotTry;

/// Posts deliveries. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    reach: Arc<Reach>,
    lookup: Arc<dyn Lookup>,
    tls: Arc<OnceLock<Option<ClientConfig>>>,
}

impl Client {
    pub(crate) fn new(reach: Reach) -> Self {
        Self::with_lookup(reach, Arc::new(System))
    }

    /// One whose names are looked up elsewhere.
    pub(crate) fn with_lookup(reach: Reach, lookup: Arc<dyn Lookup>) -> Self {
        Self { reach: Arc::new(reach), lookup, tls: Arc::default() }
    }

    /// Makes one attempt: one POST, never more. Its time limit covers everything, from the first look at the name to the
    /// last byte of the body.
    ///
    /// # Errors
    /// When we cannot even try: that is no outcome of the receiver's.
    pub(crate) async fn post(&self, ready: &Ready, due: &Due, now: Timestamp) -> Result<Outcome, CannotTry> {
        // Both before the clock starts: that we are slow once is not the receiver's fault.
        let tls = self.tls().ok_or(CannotTry)?;
        let body = serde_json::to_vec(&due.envelope).map_err(|_| CannotTry)?;
        let began = Instant::now();
        let exchange = self.exchange(tls, ready, due, body, (now, began));
        let mut outcome = match tokio::time::timeout(ready.timeout, exchange).await {
            Ok(outcome) => outcome?,
            Err(_) => failed(ErrorClass::Timeout),
        };
        outcome.took = began.elapsed();
        Ok(outcome)
    }

    async fn exchange(
        &self,
        tls: &ClientConfig,
        ready: &Ready,
        due: &Due,
        body: Vec<u8>,
        (now, began): (Timestamp, Instant),
    ) -> Result<Outcome, CannotTry> {
        let targets = match targets(&*self.lookup, &self.reach, &ready.url).await {
            Ok(targets) => targets,
            Err(unresolved) => return Ok(failed((&unresolved).into())),
        };
        let judged = Judged::new(ready.url.host_str().unwrap_or_default(), targets);
        let mut request = client(tls.clone(), judged)?.post(ready.url.clone());
        for (name, value) in &ready.headers {
            request = request.header(name, value.as_str());
        }
        let (id, timestamp) = (due.delivery.to_string(), now.as_seconds());
        if let Some(signatures) = ready.signature(&id, timestamp, &body) {
            request = request.header(signature::HEADER, signatures);
        }
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .body(body);
        Ok(match request.send().await {
            Ok(response) => read(response, ready, now, began).await,
            Err(error) => failed(classify(&error)),
        })
    }

    /// The rules of TLS, made at its first use: reading the root certificates is no work for a cold start. The roots are
    /// the platform's; `SSL_CERT_FILE` names others.
    fn tls(&self) -> Option<&ClientConfig> {
        let build = || {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = Verifier::new(provider.clone())?;
            let mut tls = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .dangerous() // The name of the method that takes a verifier.
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth();
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            // Every attempt looks at the certificate again.
            tls.resumption = Resumption::disabled();
            Ok(tls)
        };
        let build =
            || build().inspect_err(|error: &rustls::Error| tracing::error!(cause = %error, "client.not_built")).ok();
        self.tls.get_or_init(build).as_ref()
    }
}

/// One attempt's client.
fn client(tls: ClientConfig, judged: Judged) -> Result<reqwest::Client, CannotTry> {
    let built = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(judged.clone()))
        .connector_layer(judged)
        .connect_timeout(CONNECT_DEADLINE)
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .http1_only()
        .http1_max_headers(MAX_FIELDS)
        .pool_max_idle_per_host(0)
        .build();
    built.map_err(|error| {
        tracing::error!(cause = %error.without_url(), "client.not_built");
        CannotTry
    })
}
