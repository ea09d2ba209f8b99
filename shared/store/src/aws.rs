//! The connection: region, credentials, endpoints, time limits. Made once per process.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

/// How AWS is reached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
    endpoints: Option<Endpoints>,
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
    /// As the SDK finds it: the environment, a container's or an instance's role, `AWS_ENDPOINT_URL_*`. All services share
    /// one HTTP client: the root certificates are parsed once, which a cold start feels.
    pub async fn from_process() -> Self {
        let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts())
            .http_client(client)
            .load()
            .await;
        Self { config, endpoints: None }
    }

    /// Stand-ins at these addresses, which accept any credentials.
    pub fn local(endpoints: Endpoints) -> Self {
        let credentials = aws_sdk_dynamodb::config::Credentials::new("local", "local", None, None, "local");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(Self::LOCAL_REGION))
            .credentials_provider(aws_sdk_dynamodb::config::SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts())
            .build();
        Self { config, endpoints: Some(endpoints) }
    }

    /// The same with an access key of this id: stand-ins note who asks for what.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let credentials = aws_sdk_dynamodb::config::Credentials::new(name, "local", None, None, "local");
        let provider = aws_sdk_dynamodb::config::SharedCredentialsProvider::new(credentials);
        let config = self.config.to_builder().credentials_provider(provider).build();
        Self { config, endpoints: self.endpoints.clone() }
    }

    /// The region that stand-ins are spoken to in.
    pub const LOCAL_REGION: &'static str = "us-east-1";

    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&self.config);
        if let Some(at) = &self.endpoints {
            config.set_endpoint_url(Some(at.dynamodb.clone()));
        }
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        let mut config = aws_sdk_sqs::config::Builder::from(&self.config);
        if let Some(at) = &self.endpoints {
            config.set_endpoint_url(Some(at.sqs.clone()));
        }
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    pub(crate) fn kms(&self) -> aws_sdk_kms::Client {
        let mut config = aws_sdk_kms::config::Builder::from(&self.config);
        if let Some(at) = &self.endpoints {
            config.set_endpoint_url(Some(at.kms.clone()));
        }
        aws_sdk_kms::Client::from_conf(config.build())
    }
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
