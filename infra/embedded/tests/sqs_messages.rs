//! Messages: what they hold, when they are seen, and who may delete them.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName as System, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue, QueueAttributeName as Name,
};
use support::{eventually, queues, unique};

async fn make(client: &Client, attributes: &[(Name, &str)]) -> String {
    let mut create = client.create_queue().queue_name(unique("messages"));
    for (name, value) in attributes {
        create = create.attributes(name.clone(), *value);
    }
    create.send().await.expect("a queue").queue_url.expect("a url")
}

async fn send(client: &Client, url: &str, body: &str) {
    client.send_message().queue_url(url).message_body(body).send().await.expect("sent");
}

/// One message with its system attributes, waiting a moment for it.
async fn receive(client: &Client, url: &str) -> Option<Message> {
    let receive = client.receive_message().queue_url(url).message_system_attribute_names(System::All);
    receive.wait_time_seconds(0).send().await.expect("an answer").messages?.pop()
}

async fn arrives(client: &Client, url: &str) -> Message {
    eventually("a message", async || receive(client, url).await).await
}

fn system(message: &Message, name: System) -> Option<&str> {
    Some(message.attributes.as_ref()?.get(&name)?.as_str())
}

fn handle(message: &Message) -> &str {
    message.receipt_handle().expect("a handle")
}

async fn counts(client: &Client, url: &str) -> [String; 3] {
    let get = client.get_queue_attributes().queue_url(url).attribute_names(Name::All);
    let all = get.send().await.expect("attributes").attributes.expect("attributes");
    [
        Name::ApproximateNumberOfMessages,
        Name::ApproximateNumberOfMessagesNotVisible,
        Name::ApproximateNumberOfMessagesDelayed,
    ]
    .map(|name| all[&name].clone())
}

fn text(kind: &str, value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type(kind).string_value(value).build().expect("complete")
}

#[tokio::test]
async fn a_message_comes_as_it_was_sent() {
    let (client, _house) = queues().await;
    let url = make(&client, &[]).await;
    let body = "{\"name\":\"größe ☎\"}\n\t";
    let raw = MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([0, 1, 255]));
    let trace = MessageSystemAttributeValue::builder().data_type("String");
    let sent = client
        .send_message()
        .queue_url(&url)
        .message_body(body)
        .message_attributes("zone", text("String", "größe ☎"))
        .message_attributes("Attempt", text("Number.int", "3"))
        .message_attributes("raw", raw.build().expect("complete"))
        .message_system_attributes(
            MessageSystemAttributeNameForSends::AwsTraceHeader,
            trace.string_value("Root=1-5759e988-bd862e3fe1be46a994272793").build().expect("complete"),
        )
        .send()
        .await
        .expect("sent");
    // Made with another implementation of AWS's description.
    assert_eq!(sent.md5_of_message_body(), Some("4ea2e7fae9b69aec0e3901cf21c6ffb4"));
    assert_eq!(sent.md5_of_message_attributes(), Some("49f54721f7043d8b00f44ee0263dedca"));
    if support::other("SQS").is_none() {
        assert_eq!(sent.md5_of_message_system_attributes(), Some("62a56dd927315f2b2e12832b84617ea5"));
    }

    let ask = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let receive =
            client.receive_message().queue_url(&url).visibility_timeout(0).set_message_attribute_names(Some(names));
        async move { receive.send().await.expect("an answer").messages.expect("a message").remove(0) }
    };
    let all = ask(&["All"]).await;
    assert_eq!(all.message_id, sent.message_id);
    assert_eq!(all.body(), Some(body));
    assert_eq!(all.md5_of_body(), Some("4ea2e7fae9b69aec0e3901cf21c6ffb4"));
    assert_eq!(all.md5_of_message_attributes(), Some("49f54721f7043d8b00f44ee0263dedca"));
    let attributes = all.message_attributes.expect("attributes");
    assert_eq!(attributes["zone"], text("String", "größe ☎"));
    assert_eq!(attributes["Attempt"], text("Number.int", "3"));
    assert_eq!(attributes["raw"].binary_value().map(Blob::as_ref), Some(&[0, 1, 255][..]));
    assert!(all.attributes.is_none(), "system attributes come only when asked for");

    let none = ask(&[]).await;
    assert!(none.message_attributes.is_none());
    let some = ask(&["Attempt", "missing"]).await;
    assert_eq!(some.message_attributes().expect("one").keys().collect::<Vec<_>>(), ["Attempt"]);
    if support::other("SQS").is_none() {
        assert_eq!(
            some.md5_of_message_attributes(),
            Some("6bad6a23ac67ae5daaba02ba4838b860"),
            "the digest is of what is returned"
        );
    }
    let prefixed = ask(&["z.*"]).await;
    assert_eq!(prefixed.message_attributes.expect("one").keys().collect::<Vec<_>>(), ["zone"]);
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let (client, _house) = queues().await;
    let url = make(&client, &[(Name::MaximumMessageSize, "1024")]).await;
    let draft = || client.send_message().queue_url(&url).message_body("m");
    let code = async |send: aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder| {
        send.send().await.expect_err("refused").code().map(str::to_owned)
    };
    assert_eq!(code(draft().delay_seconds(901)).await.as_deref(), Some("InvalidParameterValue"));
    assert_eq!(code(draft().message_body("x".repeat(1025))).await.as_deref(), Some("InvalidParameterValue"));
    only_here!("SQS", "moto looks less closely at bodies and attributes; AWS: at least one character, of XML 1.0's");
    assert_eq!(code(draft().message_body("")).await.as_deref(), Some("MissingParameter"));
    let half = "x".repeat(1020);
    // Name, type and value count too.
    draft().message_body(&half).send().await.expect("small enough");
    let too_long = draft().message_body(&half).message_attributes("a", text("String", "b"));
    assert_eq!(code(too_long).await.as_deref(), Some("InvalidParameterValue"));
    let error = draft().message_body("bell \u{7}").send().await.expect_err("refused").into_service_error();
    assert!(error.is_invalid_message_contents(), "{error:?}");
    for (name, kind, value) in [
        ("AWS.mine", "String", "v"),
        ("two..dots", "String", "v"),
        (".dot", "String", "v"),
        ("with space", "String", "v"),
        ("kind", "Colour", "v"),
        ("empty", "String", ""),
        ("number", "Number", "three"),
    ] {
        let refused = code(draft().message_attributes(name, text(kind, value))).await;
        assert_eq!(refused.as_deref(), Some("InvalidParameterValue"), "{name}");
    }
    let eleven = (0..11).fold(draft(), |draft, n| draft.message_attributes(format!("a{n}"), text("String", "v")));
    assert_eq!(code(eleven).await.as_deref(), Some("InvalidParameterValue"));
}

#[tokio::test]
async fn receives_are_checked() {
    let (client, _house) = queues().await;
    let url = make(&client, &[]).await;
    let receive = || client.receive_message().queue_url(&url);
    for receive in [
        receive().max_number_of_messages(0),
        receive().max_number_of_messages(11),
        receive().wait_time_seconds(21),
        receive().wait_time_seconds(-1),
    ] {
        assert_eq!(receive.send().await.expect_err("refused").code(), Some("InvalidParameterValue"));
    }
}

#[tokio::test]
async fn a_received_message_is_out_of_sight_for_its_timeout() {
    let (client, _house) = queues().await;
    let url = make(&client, &[(Name::VisibilityTimeout, "1")]).await;
    let before = std::time::UNIX_EPOCH.elapsed().expect("after the epoch").as_millis();
    send(&client, &url, "m").await;
    assert_eq!(counts(&client, &url).await, ["1", "0", "0"]);
    let first = receive(&client, &url).await.expect("a message");
    let received = Instant::now();
    assert!(receive(&client, &url).await.is_none());
    assert_eq!(counts(&client, &url).await, ["0", "1", "0"]);
    let second = arrives(&client, &url).await;
    assert!(received.elapsed() >= Duration::from_millis(900), "{:?}", received.elapsed());

    assert_eq!(first.message_id, second.message_id);
    assert_ne!(first.receipt_handle, second.receipt_handle);
    assert_eq!(system(&first, System::ApproximateReceiveCount), Some("1"));
    assert_eq!(system(&second, System::ApproximateReceiveCount), Some("2"));
    assert_eq!(system(&first, System::SentTimestamp), system(&second, System::SentTimestamp));
    let first_received = system(&first, System::ApproximateFirstReceiveTimestamp);
    assert_eq!(first_received, system(&second, System::ApproximateFirstReceiveTimestamp));
    let sent: u128 = system(&first, System::SentTimestamp).and_then(|ms| ms.parse().ok()).expect("milliseconds");
    let first_received: u128 = first_received.and_then(|ms| ms.parse().ok()).expect("milliseconds");
    assert!(before <= sent + 1 && sent <= first_received && first_received < before + 5_000);
    assert!(system(&first, System::SenderId).is_some());
}

#[tokio::test]
async fn the_receiver_can_choose_the_timeout() {
    let (client, _house) = queues().await;
    let url = make(&client, &[]).await;
    send(&client, &url, "m").await;
    for _ in 0..3 {
        let receive = client.receive_message().queue_url(&url).visibility_timeout(0).max_number_of_messages(10);
        // Seen at once again, but never twice in one answer.
        assert_eq!(receive.send().await.expect("an answer").messages().len(), 1);
    }
}

#[tokio::test]
async fn delays_are_of_the_queue_or_the_message() {
    let (client, _house) = queues().await;
    let url = make(&client, &[(Name::DelaySeconds, "1")]).await;
    let began = Instant::now();
    send(&client, &url, "queue's").await;
    client.send_message().queue_url(&url).message_body("at once").delay_seconds(0).send().await.expect("sent");
    client.send_message().queue_url(&url).message_body("later").delay_seconds(900).send().await.expect("sent");
    assert_eq!(receive(&client, &url).await.expect("the one at once").body(), Some("at once"));
    assert!(receive(&client, &url).await.is_none());
    assert_eq!(counts(&client, &url).await, ["0", "1", "2"]);
    assert_eq!(arrives(&client, &url).await.body(), Some("queue's"));
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    assert_eq!(counts(&client, &url).await, ["0", "2", "1"]);
}

#[tokio::test]
async fn long_delays_pass_when_the_clock_is_moved() {
    only_here!("SQS", "only the stand-in's clock can be moved");
    let (client, house) = queues().await;
    let house = house.expect("the stand-in");
    let url = make(&client, &[(Name::MessageRetentionPeriod, "1000")]).await;
    client.send_message().queue_url(&url).message_body("later").delay_seconds(900).send().await.expect("sent");
    let poll = tokio::spawn(client.receive_message().queue_url(&url).wait_time_seconds(20).send());
    eventually("the poll", async || house.counts().get("sqs.ReceiveMessage").copied()).await;
    let began = Instant::now();
    house.advance(Duration::from_secs(900));
    assert_eq!(poll.await.expect("joined").expect("an answer").messages().len(), 1);
    assert!(began.elapsed() < Duration::from_millis(500), "the clock wakes polls: {:?}", began.elapsed());

    // And past the retention period it is gone, also for who has a handle.
    house.advance(Duration::from_secs(90));
    let last = receive(&client, &url).await.expect("not yet expired");
    house.advance(Duration::from_secs(11));
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
    let change = client.change_message_visibility().queue_url(&url).receipt_handle(handle(&last)).visibility_timeout(1);
    assert_eq!(change.send().await.expect_err("expired").code(), Some("InvalidParameterValue"));
    house.advance(Duration::from_secs(60));
    assert!(receive(&client, &url).await.is_none());
}

#[tokio::test]
async fn deleted_messages_are_gone_and_handles_are_for_the_newest_receive() {
    let (client, _house) = queues().await;
    let url = make(&client, &[]).await;
    let delete = async |handle: &str| {
        let delete = client.delete_message().queue_url(&url).receipt_handle(handle).send().await;
        delete.map(drop).map_err(|error| error.code().unwrap_or_default().to_owned())
    };
    send(&client, &url, "m").await;
    let receive_again = || client.receive_message().queue_url(&url).visibility_timeout(0).send();
    let first = receive_again().await.expect("an answer").messages.expect("a message").remove(0);
    let second = receive_again().await.expect("an answer").messages.expect("a message").remove(0);
    assert_eq!(delete("nonsense").await, Err("ReceiptHandleIsInvalid".to_owned()));
    if support::other("SQS").is_none() {
        // moto lets an old handle delete; AWS says the message might not be deleted.
        delete(handle(&first)).await.expect("succeeds, and does nothing");
        assert_eq!(counts(&client, &url).await, ["1", "0", "0"]);
    }
    // Its timeout has run out, but nobody has received it since.
    delete(handle(&second)).await.expect("deleted");
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
    delete(handle(&second)).await.expect("deleting again is no error");
}

#[tokio::test]
async fn a_handle_is_for_its_own_queue() {
    let (client, _house) = queues().await;
    let (url, other) = (make(&client, &[]).await, make(&client, &[]).await);
    send(&client, &url, "m").await;
    let message = receive(&client, &url).await.expect("a message");
    let delete = client.delete_message().queue_url(&other).receipt_handle(handle(&message));
    assert_eq!(delete.send().await.expect_err("another queue's").code(), Some("ReceiptHandleIsInvalid"));
}

#[tokio::test]
async fn visibility_can_be_shortened_and_extended() {
    let (client, _house) = queues().await;
    let url = make(&client, &[(Name::VisibilityTimeout, "1")]).await;
    let change = async |message: &Message, seconds: i32| {
        let change = client.change_message_visibility().queue_url(&url).receipt_handle(handle(message));
        change.visibility_timeout(seconds).send().await.map(drop).map_err(|e| e.code().unwrap_or_default().to_owned())
    };
    send(&client, &url, "m").await;
    let first = receive(&client, &url).await.expect("a message");
    change(&first, 0).await.expect("given back");
    if support::other("SQS").is_none() {
        // moto accepts it; AWS documents MessageNotInflight.
        assert_eq!(change(&first, 1).await, Err("AWS.SimpleQueueService.MessageNotInflight".to_owned()));
    }
    let second = receive(&client, &url).await.expect("visible at once");
    let began = Instant::now();
    change(&second, 2).await.expect("extended");
    let third = arrives(&client, &url).await;
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    only_here!("SQS", "moto looks at neither the range nor the receive; AWS: 0 to 43200, the newest receive's handle");
    assert_eq!(change(&third, 43_201).await, Err("InvalidParameterValue".to_owned()));
    assert_eq!(change(&third, -1).await, Err("InvalidParameterValue".to_owned()));
    let old = change(&first, 1).await;
    assert_eq!(old, Err("InvalidParameterValue".to_owned()), "received again since");
    client.delete_message().queue_url(&url).receipt_handle(handle(&third)).send().await.expect("deleted");
    assert_eq!(change(&third, 1).await, Err("InvalidParameterValue".to_owned()), "deleted");
}

#[tokio::test]
async fn a_long_poll_wakes_for_what_arrives() {
    let (client, _house) = queues().await;
    let url = make(&client, &[]).await;
    let poll = |seconds: i32| {
        let poll = client.receive_message().queue_url(&url).wait_time_seconds(seconds).send();
        tokio::spawn(async move { (poll.await.expect("an answer").messages.unwrap_or_default(), Instant::now()) })
    };
    // The time limit below is for one of five, since the machine may be busy.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let waiting = poll(10);
        // Time for the poll to be under way; arriving before it would prove nothing.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent = Instant::now();
        send(&client, &url, "m").await;
        let (messages, answered) = waiting.await.expect("joined");
        assert_eq!(messages.len(), 1);
        quickest = quickest.min(answered - sent);
        client.delete_message().queue_url(&url).receipt_handle(handle(&messages[0])).send().await.expect("deleted");
    }
    if support::other("SQS").is_none() {
        assert!(quickest < Duration::from_millis(100), "{quickest:?}");
    }

    // A delayed message wakes it when it is due, with nothing else happening.
    let began = Instant::now();
    client.send_message().queue_url(&url).message_body("m").delay_seconds(1).send().await.expect("sent");
    let (messages, answered) = poll(10).await.expect("joined");
    let waited = answered - began;
    assert!(waited >= Duration::from_millis(950) && waited < Duration::from_millis(2500), "{waited:?}");

    // So does one that is given back.
    let waiting = poll(10);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let give_back = client.change_message_visibility().queue_url(&url).receipt_handle(handle(&messages[0]));
    give_back.visibility_timeout(0).send().await.expect("given back");
    let back = Instant::now();
    let (messages, answered) = waiting.await.expect("joined");
    assert_eq!(messages.len(), 1);
    assert!(answered - back < Duration::from_secs(2), "{:?}", answered - back);
}

#[tokio::test]
async fn a_long_poll_ends_empty_at_its_time() {
    let (client, _house) = queues().await;
    let url = make(&client, &[(Name::ReceiveMessageWaitTimeSeconds, "1")]).await;
    let began = Instant::now();
    let none = client.receive_message().queue_url(&url).send().await.expect("an answer");
    assert!(none.messages.is_none());
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(3));
    let began = Instant::now();
    client.receive_message().queue_url(&url).wait_time_seconds(0).send().await.expect("an answer");
    assert!(began.elapsed() < Duration::from_millis(900), "the request's own time counts");
}

#[tokio::test]
async fn a_long_poll_ends_with_its_queue() {
    only_here!("SQS", "only the stand-in tells when a poll is under way");
    let (client, house) = queues().await;
    let url = make(&client, &[]).await;
    let poll = tokio::spawn(client.receive_message().queue_url(&url).wait_time_seconds(20).send());
    let house = house.expect("the stand-in");
    eventually("the poll", async || house.counts().get("sqs.ReceiveMessage").copied()).await;
    client.delete_queue().queue_url(&url).send().await.expect("deleted");
    let error = poll.await.expect("joined").expect_err("no queue any more").into_service_error();
    assert!(error.is_queue_does_not_exist());
}

#[tokio::test]
async fn a_poll_that_was_given_up_takes_nothing() {
    only_here!("SQS", "AWS promises nothing here; a developer's restarted house should not hide messages");
    let (client, house) = queues().await;
    let url = make(&client, &[]).await;
    let poll = tokio::spawn(client.receive_message().queue_url(&url).wait_time_seconds(20).send());
    let house = house.expect("the stand-in");
    eventually("the poll", async || house.counts().get("sqs.ReceiveMessage").copied()).await;
    poll.abort();
    assert!(poll.await.is_err_and(|error| error.is_cancelled()));
    // Nothing says when the stand-in has seen the connection end.
    tokio::time::sleep(Duration::from_millis(200)).await;
    send(&client, &url, "m").await;
    let message = receive(&client, &url).await.expect("still there");
    assert_eq!(system(&message, System::ApproximateReceiveCount), Some("1"));
}

#[tokio::test]
async fn too_many_receives_lead_to_the_dead_letters() {
    let (client, _house) = queues().await;
    let dead = make(&client, &[]).await;
    let get = client.get_queue_attributes().queue_url(&dead).attribute_names(Name::QueueArn);
    let arn = get.send().await.expect("attributes").attributes.expect("attributes").remove(&Name::QueueArn);
    let policy = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":2}}"#, arn.expect("an ARN"));
    let url = make(&client, &[(Name::RedrivePolicy, &policy), (Name::VisibilityTimeout, "0")]).await;
    send(&client, &url, "poison").await;
    let first = arrives(&client, &url).await;
    arrives(&client, &url).await;
    assert!(receive(&client, &url).await.is_none(), "a third receive gives nothing and moves it");
    let waiting = tokio::spawn({
        let receive = client.receive_message().queue_url(&dead).message_system_attribute_names(System::All);
        receive.wait_time_seconds(5).send()
    });
    let moved = waiting.await.expect("joined").expect("an answer").messages.expect("the message").remove(0);
    assert_eq!(moved.body(), Some("poison"));
    assert_eq!(moved.message_id, first.message_id);
    assert_eq!(counts(&client, &url).await, ["0", "0", "0"]);
    assert_eq!(system(&moved, System::SentTimestamp), system(&first, System::SentTimestamp));
    assert_eq!(system(&moved, System::ApproximateReceiveCount), Some("3"), "counted across queues");
    only_here!("SQS", "moto does not say where it came from");
    let source = system(&moved, System::DeadLetterQueueSourceArn).expect("its source");
    assert!(source.ends_with(url.rsplit('/').next().expect("a name")), "{source}");
}

#[tokio::test]
async fn dead_letters_can_be_moved_back() {
    only_here!("SQS", "moto's move tasks move nothing");
    let (client, _house) = queues().await;
    let dead = make(&client, &[]).await;
    let name = dead.rsplit('/').next().expect("a name");
    let arn = format!("arn:aws:sqs:{}:{}:{name}", embedded::REGION, embedded::ACCOUNT_ID);
    let start = || client.start_message_move_task().source_arn(&arn).send();
    assert_eq!(start().await.expect_err("not a dead-letter queue yet").code(), Some("InvalidParameterValue"));
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":1}}"#);
    let url = make(&client, &[(Name::RedrivePolicy, &policy), (Name::VisibilityTimeout, "0")]).await;
    send(&client, &url, "poison").await;
    arrives(&client, &url).await;
    assert!(receive(&client, &url).await.is_none());
    assert_eq!(counts(&client, &dead).await, ["1", "0", "0"]);
    assert!(start().await.expect("started").task_handle.is_some());
    assert_eq!(counts(&client, &dead).await, ["0", "0", "0"]);
    let again = arrives(&client, &url).await;
    assert_eq!(system(&again, System::ApproximateReceiveCount), Some("1"), "as a new message");
    assert_eq!(system(&again, System::DeadLetterQueueSourceArn), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_message_is_received_twice_while_out_of_sight() {
    only_here!("SQS", "moto takes no lock: its receivers race now and then");
    let (client, _house) = queues().await;
    let url = make(&client, &[(Name::VisibilityTimeout, "600")]).await;
    const MESSAGES: usize = 300;
    let receivers: Vec<_> = (0..16)
        .map(|n| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                let mut bodies = Vec::new();
                // Ends with a poll that finds nothing for a second.
                loop {
                    let receive = client.receive_message().queue_url(&url).max_number_of_messages(1 + n % 10);
                    let received = receive.wait_time_seconds(1).send().await.expect("an answer");
                    match received.messages {
                        Some(messages) => bodies.extend(messages.into_iter().filter_map(|message| message.body)),
                        None => return bodies,
                    }
                }
            })
        })
        .collect();
    for n in 0..MESSAGES {
        send(&client, &url, &n.to_string()).await;
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for receiver in receivers {
        for body in receiver.await.expect("joined") {
            *times.entry(body).or_default() += 1;
        }
    }
    // A receiver may have given up while messages were still being sent; nobody else has taken those.
    while let Some(message) = receive(&client, &url).await {
        *times.entry(message.body.expect("a body")).or_default() += 1;
    }
    assert_eq!(times.len(), MESSAGES);
    assert!(times.values().all(|count| *count == 1), "{times:?}");
}
