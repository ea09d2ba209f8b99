//! A router as a Lambda function.

use axum::Router;
pub use lambda_http::Error;

use crate::{env::StartError, log};

/// Serves `router` until Lambda ends the process. A start that failed is one log line and an error to Lambda, which shows
/// it where the function is deployed.
///
/// # Errors
/// When the function cannot start or the Lambda runtime cannot be reached.
pub async fn run(start: impl Future<Output = Result<Router, StartError>>) -> Result<(), Error> {
    log::init();
    match start.await {
        Ok(router) => lambda_http::run(router).await,
        Err(error) => {
            tracing::error!(cause = %error, "function.not_started");
            Err(error.into())
        }
    }
}
