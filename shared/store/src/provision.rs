//! Makes the table, queues and keys that the template names, for the local house. Each is made when it is absent and kept
//! when it is there; each call returns when it can be used.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    client::Waiters,
    operation::create_table::CreateTableError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
    },
};
use aws_sdk_kms::operation::describe_key::DescribeKeyError;
use aws_sdk_sqs::types::QueueAttributeName;

use crate::{Aws, Error};

/// How long a new table may take; a stand-in takes none.
const PATIENCE: Duration = Duration::from_secs(30);

/// A table with a partition key and a sort key, both strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name.
    pub name: String,
    /// The partition key's attribute.
    pub partition: String,
    /// The sort key's attribute.
    pub sort: String,
    /// The attribute that holds a row's expiry.
    pub expiry: Option<String>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name.
    pub name: String,
    /// Its settings by SQS's own names, such as `VisibilityTimeout`.
    pub attributes: Vec<(String, String)>,
}

/// A queue that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMade {
    /// Its address.
    pub url: String,
    /// Its name for policies and event sources.
    pub arn: String,
}

/// Makes a table.
///
/// # Errors
/// When DynamoDB cannot be reached or refuses.
pub async fn table(aws: &Aws, spec: &TableSpec) -> Result<(), Error> {
    let client = aws.dynamodb();
    let key = |name: &String, kind: KeyType| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let text = |name: &String| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
    };
    let made = client
        .create_table()
        .table_name(&spec.name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key(&spec.partition, KeyType::Hash).map_err(Error::unavailable("CreateTable"))?)
        .key_schema(key(&spec.sort, KeyType::Range).map_err(Error::unavailable("CreateTable"))?)
        .attribute_definitions(text(&spec.partition).map_err(Error::unavailable("CreateTable"))?)
        .attribute_definitions(text(&spec.sort).map_err(Error::unavailable("CreateTable"))?)
        .send()
        .await;
    match made {
        Ok(_) => {}
        Err(error) if matches!(error.as_service_error(), Some(CreateTableError::ResourceInUseException(_))) => {
            return Ok(());
        }
        Err(error) => return Err(Error::unavailable("CreateTable")(error)),
    }
    client
        .wait_until_table_exists()
        .table_name(&spec.name)
        .wait(PATIENCE)
        .await
        .map_err(Error::unavailable("DescribeTable"))?;
    if let Some(attribute) = &spec.expiry {
        let expiry = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build();
        client
            .update_time_to_live()
            .table_name(&spec.name)
            .time_to_live_specification(expiry.map_err(Error::unavailable("UpdateTimeToLive"))?)
            .send()
            .await
            .map_err(Error::unavailable("UpdateTimeToLive"))?;
    }
    Ok(())
}

/// Makes a queue, or gives the one of this name these settings.
///
/// # Errors
/// When SQS cannot be reached or refuses.
pub async fn queue(aws: &Aws, spec: &QueueSpec) -> Result<QueueMade, Error> {
    let client = aws.sqs();
    let settings: HashMap<QueueAttributeName, String> =
        spec.attributes.iter().map(|(name, value)| (QueueAttributeName::from(name.as_str()), value.clone())).collect();
    // Without settings, so that it also finds a queue whose settings stood otherwise in an older template.
    let made = client.create_queue().queue_name(&spec.name).send().await;
    let url = match made {
        Ok(made) => made.queue_url,
        Err(_) => {
            let found = client.get_queue_url().queue_name(&spec.name).send().await;
            found.map_err(Error::unavailable("GetQueueUrl"))?.queue_url
        }
    };
    let url = url.ok_or(Error::Unavailable { operation: "CreateQueue", cause: "the answer is empty".to_owned() })?;
    if !settings.is_empty() {
        client
            .set_queue_attributes()
            .queue_url(&url)
            .set_attributes(Some(settings))
            .send()
            .await
            .map_err(Error::unavailable("SetQueueAttributes"))?;
    }
    let arn = client
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .map_err(Error::unavailable("GetQueueAttributes"))?
        .attributes
        .and_then(|attributes| attributes.get(&QueueAttributeName::QueueArn).cloned());
    let arn = arn.ok_or(Error::Unavailable { operation: "GetQueueAttributes", cause: "the answer is empty".into() })?;
    Ok(QueueMade { url, arn })
}

/// Makes a key under an alias (`alias/…`); returns the key's ARN.
///
/// # Errors
/// When KMS cannot be reached or refuses.
pub async fn key(aws: &Aws, alias: &str) -> Result<String, Error> {
    let client = aws.kms();
    let empty = |operation| Error::Unavailable { operation, cause: "the answer is empty".to_owned() };
    match client.describe_key().key_id(alias).send().await {
        Ok(found) => return found.key_metadata.and_then(|key| key.arn).ok_or_else(|| empty("DescribeKey")),
        Err(error) if matches!(error.as_service_error(), Some(DescribeKeyError::NotFoundException(_))) => {}
        Err(error) => return Err(Error::unavailable("DescribeKey")(error)),
    }
    let made = client.create_key().description(alias).send().await.map_err(Error::unavailable("CreateKey"))?;
    let made = made.key_metadata.ok_or_else(|| empty("CreateKey"))?;
    client
        .create_alias()
        .alias_name(alias)
        .target_key_id(&made.key_id)
        .send()
        .await
        .map_err(Error::unavailable("CreateAlias"))?;
    made.arn.ok_or_else(|| empty("CreateKey"))
}
