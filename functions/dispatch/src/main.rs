//! The dispatch function on Lambda.

use aws_lambda_events::event::sqs::SqsEvent;
use edge::env::Env;
use lambda_runtime::{Error, LambdaEvent, Runtime, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    edge::log::init("dispatch");
    let opened = dispatch::State::open(&Env::process(), &store::Aws::from_function()).await;
    let state = &opened.inspect_err(|error| tracing::error!(cause = %error, "function.not_started"))?;
    let handle =
        |event: LambdaEvent<SqsEvent>| async move { Ok::<_, Error>(dispatch::handle(state, event.payload).await) };
    edge::lambda::serve(Runtime::new(service_fn(handle))).await
}
