//! The connection: region, credentials, endpoints, time limits. Made once per process.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableCredentialsProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_dynamodb::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

/// How AWS is reached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
    /// Addresses other than AWS's own.
    dynamodb: Option<String>,
    sqs: Option<String>,
    kms: Option<String>,
}

/// Where stand-ins for the three services listen.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// DynamoDB's address.
    pub dynamodb: String,
    /// SQS's address.
    pub sqs: String,
    /// KMS's address.
    pub kms: String,
}

impl Aws {
    /// As Lambda gives it to a function: region and access key in the environment, and `AWS_ENDPOINT_URL` or
    /// `AWS_ENDPOINT_URL_{SERVICE}` for other addresses. The SDK's whole search for credentials, through files and other
    /// services, is what a function's binary need not carry and a cold start need not wait for.
    pub fn from_function() -> Self {
        let endpoint =
            |service| variable(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| variable("AWS_ENDPOINT_URL"));
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).map(Region::new))
            .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
            .retry_config(retries())
            .timeout_config(timeouts())
            .http_client(client())
            .build();
        Self { config, dynamodb: endpoint("DYNAMODB"), sqs: endpoint("SQS"), kms: endpoint("KMS") }
    }

    /// As the SDK finds it: the environment, a container's or an instance's role, files, `AWS_ENDPOINT_URL_*`.
    pub async fn from_process() -> Self {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(retries())
            .timeout_config(timeouts())
            .http_client(client())
            .load()
            .await;
        Self { config, dynamodb: None, sqs: None, kms: None }
    }

    /// Stand-ins at these addresses, which accept any credentials.
    pub fn local(endpoints: Endpoints) -> Self {
        let credentials = aws_sdk_dynamodb::config::Credentials::new("local", "local", None, None, "local");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(Self::LOCAL_REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(retries())
            .timeout_config(timeouts())
            .build();
        let Endpoints { dynamodb, sqs, kms } = endpoints;
        Self { config, dynamodb: Some(dynamodb), sqs: Some(sqs), kms: Some(kms) }
    }

    /// The same with an access key of this id: stand-ins note who asks for what.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let credentials = aws_sdk_dynamodb::config::Credentials::new(name, "local", None, None, "local");
        let provider = SharedCredentialsProvider::new(credentials);
        Self { config: self.config.to_builder().credentials_provider(provider).build(), ..self.clone() }
    }

    /// The region that stand-ins are spoken to in.
    pub const LOCAL_REGION: &'static str = "us-east-1";

    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.at(self.dynamodb.as_ref()))
    }

    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.at(self.sqs.as_ref()))
    }

    pub(crate) fn kms(&self) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.at(self.kms.as_ref()))
    }

    /// The configuration of a service at this address, else at AWS's own.
    fn at(&self, endpoint: Option<&String>) -> SdkConfig {
        match endpoint {
            Some(at) => self.config.to_builder().endpoint_url(at).build(),
            None => self.config.clone(),
        }
    }
}

/// A variable that the SDK reads too, and that no function of ours has another meaning for.
#[expect(clippy::disallowed_methods, reason = "the SDK would read the same from the process")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// All services share one: the root certificates are parsed once, which a cold start feels.
fn client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

/// A Lambda function has seconds, not minutes; the SDK's own defaults have no limit on an attempt. Dispatch makes up to
/// four requests around a POST of up to 10 s: all of it must fit its time limit in the template.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_millis(1_500))
        .operation_timeout(Duration::from_millis(3_500))
        .build()
}
