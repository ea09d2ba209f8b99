//! Batches: their limits, their single failures, and how fast they go.

mod support;

use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry as Change, DeleteMessageBatchRequestEntry as Delete, Message,
    SendMessageBatchRequestEntry as Entry,
};
use support::{queues, unique};

/// What AWS documents for one message and for a batch.
const LARGEST: usize = 1_048_576;

async fn make(client: &Client) -> String {
    client.create_queue().queue_name(unique("batches")).send().await.expect("a queue").queue_url.expect("a url")
}

fn entry(id: impl Into<String>, body: impl Into<String>) -> Entry {
    Entry::builder().id(id).message_body(body).build().expect("complete")
}

/// How a batch was refused.
async fn refusal(
    client: &Client,
    url: &str,
    entries: Vec<Entry>,
) -> aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError {
    let send = client.send_message_batch().queue_url(url).set_entries(Some(entries));
    send.send().await.expect_err("refused").into_service_error()
}

async fn receive(client: &Client, url: &str) -> Vec<Message> {
    let receive = client.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(1);
    receive.send().await.expect("an answer").messages.unwrap_or_default()
}

#[tokio::test]
async fn a_batch_is_sent_received_and_deleted() {
    let (client, _house) = queues().await;
    let url = make(&client).await;
    let entries: Vec<_> = (0..10).map(|n| entry(format!("entry_{n}"), format!("body {n}"))).collect();
    let sent = client.send_message_batch().queue_url(&url).set_entries(Some(entries)).send().await.expect("sent");
    assert!(sent.failed().is_empty());
    let mut ids: Vec<_> = sent.successful().iter().map(|entry| (entry.id(), entry.message_id())).collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 10);
    assert_eq!(ids[3].0, "entry_3");

    let received = receive(&client, &url).await;
    assert_eq!(received.len(), 10);
    let third = received.iter().find(|message| message.body() == Some("body 3")).expect("the third");
    assert_eq!(third.message_id(), Some(ids[3].1));
    let digest =
        sent.successful().iter().find(|entry| entry.id() == "entry_3").map(|entry| entry.md5_of_message_body());
    assert_eq!(digest, third.md5_of_body());

    let handle = |message: &Message| message.receipt_handle().expect("a handle").to_owned();
    let changes = received.iter().enumerate().map(|(n, message)| {
        // One is out of range.
        let seconds = if n == 0 { 50_000 } else { 600 };
        let change = Change::builder().id(n.to_string()).receipt_handle(handle(message)).visibility_timeout(seconds);
        change.build().expect("complete")
    });
    let change = client.change_message_visibility_batch().queue_url(&url).set_entries(Some(changes.collect()));
    let changed = change.send().await.expect("an answer");
    assert_eq!(changed.successful().len(), 9);
    assert_eq!(changed.failed()[0].id(), "0");
    assert_eq!(changed.failed()[0].code(), "InvalidParameterValue");
    assert!(changed.failed()[0].sender_fault());

    let deletes = received.iter().enumerate().map(|(n, message)| {
        let handle = if n == 0 { "nonsense".to_owned() } else { handle(message) };
        Delete::builder().id(n.to_string()).receipt_handle(handle).build().expect("complete")
    });
    let delete = client.delete_message_batch().queue_url(&url).set_entries(Some(deletes.collect()));
    let deleted = delete.send().await.expect("an answer");
    assert_eq!(deleted.successful().len(), 9);
    assert_eq!((deleted.failed()[0].id(), deleted.failed()[0].code()), ("0", "ReceiptHandleIsInvalid"));
}

#[tokio::test]
async fn the_entries_are_limited_in_number_and_told_apart() {
    let (client, _house) = queues().await;
    let url = make(&client).await;
    let refused = refusal(&client, &url, (0..11).map(|n| entry(n.to_string(), "m")).collect()).await;
    assert!(refused.is_too_many_entries_in_batch_request(), "{refused:?}");
    assert_eq!(refused.code(), Some("AWS.SimpleQueueService.TooManyEntriesInBatchRequest"));
    let refused = refusal(&client, &url, vec![entry("same", "m"), entry("other", "m"), entry("same", "m")]).await;
    assert!(refused.is_batch_entry_ids_not_distinct(), "{refused:?}");
    let refused = refusal(&client, &url, vec![]).await;
    assert!(refused.is_empty_batch_request(), "{refused:?}");
    for id in ["with space", "dotted.id", &"x".repeat(81)] {
        let refused = refusal(&client, &url, vec![entry(id, "m")]).await;
        assert!(refused.is_invalid_batch_entry_id(), "{refused:?}");
    }
    assert!(receive(&client, &url).await.is_empty(), "a refused batch leaves nothing");

    only_here!("SQS", "moto limits deletions less");
    let deletes = (0..11).map(|n| Delete::builder().id(n.to_string()).receipt_handle("h").build().expect("complete"));
    let delete = client.delete_message_batch().queue_url(&url).set_entries(Some(deletes.collect()));
    assert!(delete.send().await.expect_err("refused").into_service_error().is_too_many_entries_in_batch_request());
    let delete = client.delete_message_batch().queue_url(&url).set_entries(Some(vec![]));
    assert!(delete.send().await.expect_err("refused").into_service_error().is_empty_batch_request());
}

#[tokio::test]
async fn the_size_is_limited_for_all_together() {
    let (client, _house) = queues().await;
    let url = make(&client).await;
    let half = "x".repeat(LARGEST / 2);
    let fits = vec![entry("a", &half), entry("b", &half)];
    let sent = client.send_message_batch().queue_url(&url).set_entries(Some(fits)).send().await.expect("sent");
    assert_eq!(sent.successful().len(), 2);
    let refused = refusal(&client, &url, vec![entry("a", &half), entry("b", &half), entry("c", "x")]).await;
    assert!(refused.is_batch_request_too_long(), "{refused:?}");

    client.send_message().queue_url(&url).message_body("y".repeat(LARGEST)).send().await.expect("the largest message");
    let send = client.send_message().queue_url(&url).message_body("y".repeat(LARGEST + 1));
    assert_eq!(send.send().await.expect_err("too large").code(), Some("InvalidParameterValue"));
    let lengths: usize = receive(&client, &url).await.iter().map(|message| message.body().map_or(0, str::len)).sum();
    assert_eq!(lengths, 2 * LARGEST);
}

#[tokio::test]
async fn entries_fail_one_by_one() {
    only_here!("SQS", "moto takes control characters; AWS: those of XML 1.0 only");
    let (client, _house) = queues().await;
    let url = make(&client).await;
    let late = Entry::builder().id("late").message_body("m").delay_seconds(901).build().expect("complete");
    let entries = vec![entry("good", "m"), late, entry("bell", "\u{7}"), entry("fine", "m")];
    let sent = client.send_message_batch().queue_url(&url).set_entries(Some(entries)).send().await.expect("an answer");
    assert_eq!(sent.successful().iter().map(|entry| entry.id()).collect::<Vec<_>>(), ["good", "fine"]);
    let failed: Vec<_> = sent.failed().iter().map(|entry| (entry.id(), entry.code(), entry.sender_fault())).collect();
    assert_eq!(failed, [("late", "InvalidParameterValue", true), ("bell", "InvalidMessageContents", true)]);
    assert_eq!(receive(&client, &url).await.len(), 2);
}

/// Run with `--no-capture` to see the numbers. The bound is a tenth of what a quiet machine does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_quick_enough_for_a_load_test() {
    only_here!("SQS", "the speed of others is their own");
    let dir = support::TempDir::new();
    let house = support::start_in(dir.path()).await;
    let client = support::sqs(house.sqs_url());
    let url = make(&client).await;
    const BATCHES: usize = 200;
    let timed = async |what: &str, work: Vec<tokio::task::JoinHandle<()>>| {
        let began = Instant::now();
        for task in work {
            task.await.expect("joined");
        }
        let rate = (BATCHES * 10) as f64 / began.elapsed().as_secs_f64();
        println!("{what}: {rate:.0} messages/s");
        assert!(rate > 500.0, "{what}: {rate:.0} messages/s");
    };
    let spawn = |work: fn(Client, String) -> futures_util::future::BoxFuture<'static, ()>| {
        (0..4).map(|_| tokio::spawn(work(client.clone(), url.clone()))).collect::<Vec<_>>()
    };
    let sending = spawn(|client, url| {
        Box::pin(async move {
            for _ in 0..BATCHES / 4 {
                let entries = (0..10).map(|n| entry(n.to_string(), format!("a small message, number {n}")));
                let send = client.send_message_batch().queue_url(&url).set_entries(Some(entries.collect()));
                send.send().await.expect("sent");
            }
        })
    });
    timed("sent", sending).await;
    let receiving = spawn(|client, url| {
        Box::pin(async move {
            for _ in 0..BATCHES / 4 {
                let received = receive(&client, &url).await;
                assert_eq!(received.len(), 10);
                let deletes = received.into_iter().enumerate().map(|(n, message)| {
                    let handle = message.receipt_handle.expect("a handle");
                    Delete::builder().id(n.to_string()).receipt_handle(handle).build().expect("complete")
                });
                let delete = client.delete_message_batch().queue_url(&url).set_entries(Some(deletes.collect()));
                assert_eq!(delete.send().await.expect("an answer").successful().len(), 10);
            }
        })
    });
    timed("received and deleted", receiving).await;
    let began = Instant::now();
    house.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
