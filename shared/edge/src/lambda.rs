//! A router, or what a queue feeds, as a Lambda function.

use axum::Router;
pub use lambda_http::Error;
use lambda_http::{
    Adapter, Service,
    lambda_runtime::{LambdaInvocation, Runtime, layers::TracingLayer},
};
use tower::util::ThenLayer;

use crate::{env::StartError, log, trace};

/// Serves `router` as this function until Lambda ends the process. A start that failed is one log line and an error to
/// Lambda, which shows it where the function is deployed.
///
/// # Errors
/// When the function cannot start or the Lambda runtime cannot be reached.
pub async fn run(function: &'static str, start: impl Future<Output = Result<Router, StartError>>) -> Result<(), Error> {
    log::init(function);
    match start.await {
        Ok(router) => serve(Runtime::new(Adapter::from(router))).await,
        Err(error) => {
            tracing::error!(cause = %error, "function.not_started");
            Err(error.into())
        }
    }
}

/// Runs until Lambda ends the process. Traces are sent once an answer has gone out and before the next event is asked for,
/// which is when Lambda may freeze the process: no answer waits for them, the next one for [`trace::PATIENCE`] at most.
///
/// # Errors
/// When the Lambda runtime cannot be reached.
pub async fn serve<S>(runtime: Runtime<S>) -> Result<(), Error>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
{
    let flushed = ThenLayer::new(|answered: Result<(), Error>| async move {
        trace::flush(trace::PATIENCE).await;
        answered
    });
    runtime.layer(TracingLayer::new()).layer(flushed).run().await
}
