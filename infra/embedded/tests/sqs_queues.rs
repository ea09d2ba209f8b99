//! Queues: making, describing, listing and ending them.

mod support;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::QueueAttributeName as Name;
use support::{eventually, queues, unique};

async fn make(client: &Client, name: &str) -> String {
    client.create_queue().queue_name(name).send().await.expect("a queue").queue_url.expect("a url")
}

async fn attribute(client: &Client, url: &str, name: Name) -> Option<String> {
    let got =
        client.get_queue_attributes().queue_url(url).attribute_names(name.clone()).send().await.expect("attributes");
    got.attributes.unwrap_or_default().remove(&name)
}

#[tokio::test]
async fn creating_again_finds_the_same_queue_unless_attributes_differ() {
    let (client, _house) = queues().await;
    let name = unique("again");
    let create = |visibility: &str| {
        client.create_queue().queue_name(&name).attributes(Name::VisibilityTimeout, visibility).send()
    };
    let first = create("45").await.expect("a queue").queue_url;
    assert!(first.as_ref().is_some_and(|url| url.ends_with(&name)));
    assert_eq!(create("45").await.expect("the same").queue_url, first);
    // Attributes that are not named are not compared.
    assert_eq!(client.create_queue().queue_name(&name).send().await.expect("the same").queue_url, first);
    let error = create("46").await.expect_err("another").into_service_error();
    assert!(error.is_queue_name_exists(), "{error:?}");
    assert_eq!(error.code(), Some("QueueAlreadyExists"));
}

#[tokio::test]
async fn names_are_checked() {
    let (client, _house) = queues().await;
    for name in ["", "with space", "with.dot", &"x".repeat(81)] {
        let error = client.create_queue().queue_name(name).send().await.expect_err("not a name");
        assert!(["InvalidParameterValue", "MissingParameter"].contains(&error.code().unwrap_or_default()), "{error:?}");
    }
    make(&client, &unique(&"x".repeat(30))).await;
}

#[tokio::test]
async fn first_in_first_out_is_refused_clearly() {
    only_here!("SQS", "other emulators offer FIFO queues");
    let (client, _house) = queues().await;
    let error = client.create_queue().queue_name("orders.fifo").send().await.expect_err("a FIFO name");
    assert_eq!(error.code(), Some("InvalidParameterValue"));
    assert!(error.message().is_some_and(|message| message.contains("FIFO")), "{error:?}");
    let create = client.create_queue().queue_name("orders").attributes(Name::FifoQueue, "true");
    assert_eq!(create.send().await.expect_err("a FIFO queue").code(), Some("InvalidParameterValue"));
}

#[tokio::test]
async fn attributes_have_defaults_and_can_be_set() {
    let (client, _house) = queues().await;
    let name = unique("attributes");
    let url = make(&client, &name).await;
    for (attribute_name, default) in [
        (Name::VisibilityTimeout, "30"),
        (Name::DelaySeconds, "0"),
        (Name::MessageRetentionPeriod, "345600"),
        (Name::ReceiveMessageWaitTimeSeconds, "0"),
        (Name::ApproximateNumberOfMessages, "0"),
    ] {
        assert_eq!(
            attribute(&client, &url, attribute_name.clone()).await.as_deref(),
            Some(default),
            "{attribute_name:?}"
        );
    }
    let arn = attribute(&client, &url, Name::QueueArn).await.expect("an ARN");
    assert!(arn.starts_with("arn:aws:sqs:us-east-1:") && arn.ends_with(&format!(":{name}")), "{arn}");

    client
        .set_queue_attributes()
        .queue_url(&url)
        .attributes(Name::VisibilityTimeout, "7")
        .attributes(Name::KmsMasterKeyId, "alias/aws/sqs")
        .send()
        .await
        .expect("set");
    assert_eq!(attribute(&client, &url, Name::VisibilityTimeout).await.as_deref(), Some("7"));
    let all =
        client.get_queue_attributes().queue_url(&url).attribute_names(Name::All).send().await.expect("attributes");
    let all = all.attributes.expect("attributes");
    assert_eq!(all[&Name::KmsMasterKeyId], "alias/aws/sqs");
    assert!(all.contains_key(&Name::CreatedTimestamp) && all.contains_key(&Name::LastModifiedTimestamp));
    let none = client.get_queue_attributes().queue_url(&url).send().await.expect("an answer");
    assert!(none.attributes.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn attributes_are_checked() {
    let (client, _house) = queues().await;
    let url = make(&client, &unique("checked")).await;
    let unknown = client.set_queue_attributes().queue_url(&url).attributes(Name::from("Colour"), "red");
    only_here!("SQS", "moto sets attributes without looking at their ranges");
    assert_eq!(unknown.send().await.expect_err("unknown").code(), Some("InvalidAttributeName"));
    let unknown = client.get_queue_attributes().queue_url(&url).attribute_names(Name::from("Colour"));
    assert_eq!(unknown.send().await.expect_err("unknown").code(), Some("InvalidAttributeName"));
    for (name, value) in [
        (Name::VisibilityTimeout, "43201"),
        (Name::VisibilityTimeout, "-1"),
        (Name::VisibilityTimeout, "soon"),
        (Name::DelaySeconds, "901"),
        (Name::MessageRetentionPeriod, "59"),
        (Name::ReceiveMessageWaitTimeSeconds, "21"),
        (Name::MaximumMessageSize, "1048577"),
        (Name::SqsManagedSseEnabled, "perhaps"),
        (Name::Policy, "not json"),
    ] {
        let set = client.set_queue_attributes().queue_url(&url).attributes(name.clone(), value);
        let error = set.send().await.expect_err("out of range");
        assert_eq!(error.code(), Some("InvalidAttributeValue"), "{name:?} {value}");
    }
}

#[tokio::test]
async fn redrive_needs_a_queue_to_go_to() {
    let (client, _house) = queues().await;
    let dead = make(&client, &unique("dead")).await;
    let arn = attribute(&client, &dead, Name::QueueArn).await.expect("an ARN");
    let create = |policy: String| {
        client.create_queue().queue_name(unique("source")).attributes(Name::RedrivePolicy, policy).send()
    };
    // The count as a number, and as the text that CloudFormation may send.
    create(format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":3}}"#)).await.expect("a queue");
    create(format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"3"}}"#)).await.expect("a queue");
    create(format!(r#"{{"deadLetterTargetArn":"{arn}-missing","maxReceiveCount":3}}"#))
        .await
        .expect_err("no such queue");
    create(r#"{"maxReceiveCount":3}"#.to_owned()).await.expect_err("no target");
    only_here!("SQS", "moto does not look at the count");
    for count in ["0", "1001", "\"many\""] {
        let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{count}}}"#);
        let error = create(policy).await.expect_err("no such count");
        assert_eq!(error.code(), Some("InvalidParameterValue"));
    }
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_said_so() {
    let (client, _house) = queues().await;
    let missing = unique("missing");
    let error = client.get_queue_url().queue_name(&missing).send().await.expect_err("no queue");
    assert_eq!(error.raw_response().map(|response| response.status().as_u16()), Some(400));
    let error = error.into_service_error();
    assert!(error.is_queue_does_not_exist());
    assert_eq!(error.code(), Some("AWS.SimpleQueueService.NonExistentQueue"));
    assert!(error.message().is_some());

    let url = make(&client, &unique("present")).await.replace("present", "absent");
    let error = client.send_message().queue_url(&url).message_body("m").send().await.expect_err("no queue");
    assert!(error.into_service_error().is_queue_does_not_exist());
    let error = client.receive_message().queue_url(&url).send().await.expect_err("no queue");
    assert!(error.into_service_error().is_queue_does_not_exist());
    let error = client.delete_message().queue_url(&url).receipt_handle("h").send().await.expect_err("no queue");
    assert!(error.into_service_error().is_queue_does_not_exist());
    let error = client.purge_queue().queue_url(&url).send().await.expect_err("no queue");
    assert!(error.into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn queues_are_listed_by_prefix_and_page() {
    let (client, _house) = queues().await;
    let prefix = unique("listed");
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(make(&client, &format!("{prefix}-{n}")).await);
    }
    let all = client.list_queues().queue_name_prefix(&prefix).send().await.expect("a list");
    assert_eq!(all.queue_urls(), made);
    assert_eq!(all.next_token(), None);
    let mut paged = Vec::new();
    let mut pages = client.list_queues().queue_name_prefix(&prefix).max_results(2).into_paginator().send();
    while let Some(page) = pages.next().await {
        let urls = page.expect("a page").queue_urls.unwrap_or_default();
        assert!(urls.len() <= 2);
        paged.extend(urls);
    }
    assert_eq!(paged, made);
}

#[tokio::test]
async fn a_deleted_queue_is_gone_with_its_messages() {
    let (client, house) = queues().await;
    let name = unique("deleted");
    let url = make(&client, &name).await;
    client.send_message().queue_url(&url).message_body("m").send().await.expect("sent");
    client.delete_queue().queue_url(&url).send().await.expect("deleted");
    assert!(client.get_queue_url().queue_name(&name).send().await.is_err());

    let Some(house) = house else { return };
    let error = client.create_queue().queue_name(&name).send().await.expect_err("too soon").into_service_error();
    assert!(error.is_queue_deleted_recently(), "{error:?}");
    house.advance(std::time::Duration::from_secs(60));
    assert_eq!(make(&client, &name).await, url);
    let none = client.receive_message().queue_url(&url).send().await.expect("an answer");
    assert!(none.messages.is_none());
}

#[tokio::test]
async fn a_purge_takes_all_messages_and_once_a_minute() {
    let (client, house) = queues().await;
    let url = make(&client, &unique("purged")).await;
    for body in ["waiting", "in flight"] {
        client.send_message().queue_url(&url).message_body(body).send().await.expect("sent");
    }
    client.send_message().queue_url(&url).message_body("late").delay_seconds(900).send().await.expect("sent");
    client.receive_message().queue_url(&url).send().await.expect("received");
    client.purge_queue().queue_url(&url).send().await.expect("purged");
    eventually("an empty queue", async || {
        let none = attribute(&client, &url, Name::ApproximateNumberOfMessages).await;
        (none.as_deref() == Some("0")).then_some(())
    })
    .await;
    let error = client.purge_queue().queue_url(&url).send().await.expect_err("too soon").into_service_error();
    assert!(error.is_purge_queue_in_progress(), "{error:?}");
    let Some(house) = house else { return };
    for name in [Name::ApproximateNumberOfMessagesNotVisible, Name::ApproximateNumberOfMessagesDelayed] {
        assert_eq!(attribute(&client, &url, name).await.as_deref(), Some("0"));
    }
    house.advance(std::time::Duration::from_secs(60));
    client.purge_queue().queue_url(&url).send().await.expect("purged again");
}

#[tokio::test]
async fn an_unknown_operation_is_refused() {
    only_here!("SQS", "other emulators offer more");
    let (client, _house) = queues().await;
    let url = make(&client, &unique("tags")).await;
    let error = client.list_queue_tags().queue_url(url).send().await.expect_err("not offered");
    assert!(error.message().is_some_and(|message| message.contains("ListQueueTags")), "{error:?}");
}
