//! Starting, stopping, keeping state, and failing on purpose.

mod support;

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ReturnValuesOnConditionCheckFailure,
    ScalarAttributeType, TimeToLiveSpecification,
};
use aws_sdk_sqs::error::ProvideErrorMetadata;
use embedded::{Config, Embedded, Fault, Injection, Service};
use support::TempDir;

async fn make_table(client: &aws_sdk_dynamodb::Client) {
    client
        .create_table()
        .table_name("things")
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name("pk")
                .attribute_type(ScalarAttributeType::S)
                .build()
                .expect("complete"),
        )
        .key_schema(KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().expect("complete"))
        .send()
        .await
        .expect("a table");
}

async fn put(client: &aws_sdk_dynamodb::Client, pk: &str, expires: i64) {
    client
        .put_item()
        .table_name("things")
        .item("pk", AttributeValue::S(pk.to_owned()))
        .item("expires", AttributeValue::N(expires.to_string()))
        .send()
        .await
        .expect("an item put");
}

async fn has(client: &aws_sdk_dynamodb::Client, pk: &str) -> bool {
    let get = client.get_item().table_name("things").key("pk", AttributeValue::S(pk.to_owned())).consistent_read(true);
    get.send().await.expect("an answer").item.is_some()
}

/// Where a house answers: DynamoDB, SQS, KMS.
fn urls(embedded: &Embedded) -> [String; 3] {
    [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(str::to_owned)
}

/// One row, one message and one wrapped secret; gives the queue's URL and the ciphertext.
async fn fill([table, queues, keys]: &[String; 3]) -> (String, aws_sdk_kms::primitives::Blob) {
    let table = support::dynamodb(table);
    make_table(&table).await;
    put(&table, "kept", 1).await;
    let queues = support::sqs(queues);
    let url = queues.create_queue().queue_name("kept").send().await.expect("a queue").queue_url.expect("a url");
    queues.send_message().queue_url(&url).message_body("kept").send().await.expect("sent");
    let keys = support::kms(keys);
    let key = keys.create_key().send().await.expect("a key").key_metadata.expect("metadata").key_id;
    keys.create_alias().alias_name("alias/kept").target_key_id(&key).send().await.expect("an alias");
    let sealed = keys
        .encrypt()
        .key_id("alias/kept")
        .plaintext(aws_sdk_kms::primitives::Blob::new("secret"))
        .encryption_context("app", "a1")
        .send()
        .await
        .expect("sealed");
    (url, sealed.ciphertext_blob.expect("a blob"))
}

async fn check_kept(embedded: &Embedded, url: &str, sealed: aws_sdk_kms::primitives::Blob) {
    assert!(has(&support::dynamodb(embedded.dynamodb_url()), "kept").await);
    let queues = support::sqs(embedded.sqs_url());
    // The URL is the old one, with the old port in it.
    let received = queues.receive_message().queue_url(url).send().await.expect("received").messages.expect("messages");
    assert_eq!(received[0].body(), Some("kept"));
    let keys = support::kms(embedded.kms_url());
    let opened = keys.decrypt().ciphertext_blob(sealed).encryption_context("app", "a1").send().await.expect("opened");
    assert_eq!(opened.plaintext.expect("plaintext").as_ref(), b"secret");
}

#[tokio::test]
async fn state_survives_a_restart() {
    let dir = TempDir::new();
    let embedded = support::start_in(dir.path()).await;
    let (url, sealed) = fill(&urls(&embedded)).await;
    embedded.shutdown().await;
    for service in ["dynamodb", "sqs", "kms"] {
        let log = dir.path().join(format!("{service}.db-wal"));
        support::eventually("an empty write-ahead log", async || (!log.exists()).then_some(())).await;
    }

    let embedded = support::start_in(dir.path()).await;
    check_kept(&embedded, &url, sealed).await;
    embedded.shutdown().await;
}

#[tokio::test]
async fn memory_forgets() {
    let embedded = support::start().await;
    fill(&urls(&embedded)).await;
    embedded.shutdown().await;
    let embedded = support::start().await;
    let queues = support::sqs(embedded.sqs_url());
    assert!(queues.list_queues().send().await.expect("a list").queue_urls.unwrap_or_default().is_empty());
}

/// The process that `state_survives_a_kill` kills. Run by hand it does nothing.
#[tokio::test]
#[ignore = "started by state_survives_a_kill"]
async fn killed_house() {
    let Some(dir) = support::variable("EMBEDDED_TEST_DIR") else { return };
    let embedded = support::start_in(dir.as_ref()).await;
    println!("urls {} {} {}", embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn state_survives_a_kill() {
    let dir = TempDir::new();
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "killed_house", "--ignored", "--nocapture"])
        .env("EMBEDDED_TEST_DIR", dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a child");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    // The test runner's own words stand before it in the same line.
    let line = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("urls ")?.1.to_owned()));
    let line = line.expect("the addresses");
    let urls: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    let filled = fill(&urls.try_into().expect("three")).await;

    let refused = Embedded::start(Config { state_dir: Some(dir.path().to_owned()), ..Config::default() }).await;
    let refused = refused.expect_err("another process holds the directory").to_string();
    assert!(refused.contains("in use by another process"), "{refused}");

    child.kill().expect("killed");
    child.wait().expect("gone");
    let embedded = support::start_in(dir.path()).await;
    check_kept(&embedded, &filled.0, filled.1).await;
}

#[tokio::test]
async fn a_directory_is_held_by_one_house_at_a_time() {
    let dir = TempDir::new();
    let first = support::start_in(dir.path()).await;
    let second = Embedded::start(Config { state_dir: Some(dir.path().to_owned()), ..Config::default() }).await;
    assert!(matches!(second, Err(embedded::StartError::InUse { .. })));
    first.shutdown().await;
    support::start_in(dir.path()).await.shutdown().await;
}

#[tokio::test]
async fn a_dropped_house_lets_go_of_its_directory() {
    let dir = TempDir::new();
    drop(support::start_in(dir.path()).await);
    support::eventually("the directory being free", async || {
        let config = Config { state_dir: Some(dir.path().to_owned()), ..Config::default() };
        Embedded::start(config).await.ok()
    })
    .await;
}

#[tokio::test]
async fn an_unusable_directory_is_refused_in_one_sentence() {
    let dir = TempDir::new();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").expect("a file");
    let refused = Embedded::start(Config { state_dir: Some(file.join("state")), ..Config::default() }).await;
    let refused = refused.expect_err("no directory can be made in a file").to_string();
    assert!(refused.starts_with("the state directory") && !refused.contains('\n'), "{refused}");
}

#[tokio::test]
async fn a_broken_database_is_refused_by_its_name() {
    let dir = TempDir::new();
    for service in ["dynamodb", "sqs", "kms"] {
        let path = dir.path().join(format!("{service}.db"));
        std::fs::write(&path, "this is no database, whatever its name says").expect("a file");
        let refused = Embedded::start(Config { state_dir: Some(dir.path().to_owned()), ..Config::default() }).await;
        let refused = refused.expect_err("a broken file").to_string();
        assert!(refused.starts_with(&format!("the {service} database cannot be opened")), "{refused}");
        std::fs::remove_file(path).expect("removed");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_long_polls_or_silent_clients() {
    let embedded = support::start().await;
    let client = support::sqs(embedded.sqs_url());
    let url = client.create_queue().queue_name("idle").send().await.expect("a queue").queue_url.expect("a url");
    let poll = tokio::spawn(client.receive_message().queue_url(url).wait_time_seconds(20).send());
    // One that has sent half a request.
    let mut silent =
        tokio::net::TcpStream::connect(embedded.kms_url().trim_start_matches("http://")).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut silent, b"POST / HTTP/1.1\r\nhost: x\r\n").await.expect("written");
    support::eventually("the poll", async || embedded.counts().get("sqs.ReceiveMessage").copied()).await;

    let began = Instant::now();
    embedded.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let answer = poll.await.expect("joined").expect("an answer, not a broken connection");
    assert!(answer.messages.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_conditional_writes_wins() {
    let embedded = support::start().await;
    let client = support::dynamodb(embedded.dynamodb_url());
    make_table(&client).await;
    let writers: Vec<_> = (0..20)
        .map(|n| {
            let put = client
                .put_item()
                .table_name("things")
                .item("pk", AttributeValue::S("contested".to_owned()))
                .item("who", AttributeValue::N(n.to_string()))
                // Large enough for several packets.
                .item("padding", AttributeValue::S("x".repeat(300_000)))
                .condition_expression("attribute_not_exists(pk)")
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            tokio::spawn(put.send())
        })
        .collect();
    let (mut won, mut told) = (0, Vec::new());
    for writer in writers {
        match writer.await.expect("joined") {
            Ok(_) => won += 1,
            Err(error) => match error.into_service_error() {
                PutItemError::ConditionalCheckFailedException(refused) => {
                    told.push(refused.item().and_then(|item| item.get("who").cloned()));
                }
                other => panic!("{other:?}"),
            },
        }
    }
    assert_eq!(won, 1);
    assert_eq!(told.len(), 19);
    assert!(told[0].is_some() && told.iter().all(|who| *who == told[0]), "each loser is told of the one winner");
}

#[tokio::test]
async fn expired_rows_are_swept() {
    let embedded = Embedded::start(Config { sweep_every: Duration::from_millis(200), ..Config::default() })
        .await
        .expect("started");
    let client = support::dynamodb(embedded.dynamodb_url());
    make_table(&client).await;
    client
        .update_time_to_live()
        .table_name("things")
        .time_to_live_specification(
            TimeToLiveSpecification::builder().enabled(true).attribute_name("expires").build().expect("complete"),
        )
        .send()
        .await
        .expect("a time to live");
    put(&client, "fresh", 4_000_000_000).await;
    put(&client, "old", 1_700_000_000).await;
    support::eventually("the old row's end", async || (!has(&client, "old").await).then_some(())).await;
    assert!(has(&client, "fresh").await);
    assert_eq!(embedded.sweep_ttl().await, 0);
}

#[tokio::test]
async fn requests_are_counted_by_service_and_operation() {
    let embedded = support::start().await;
    fill(&urls(&embedded)).await;
    let counts = embedded.counts();
    let expected = [
        "dynamodb.CreateTable",
        "dynamodb.PutItem",
        "kms.CreateAlias",
        "kms.CreateKey",
        "kms.Encrypt",
        "sqs.CreateQueue",
        "sqs.SendMessage",
    ];
    assert_eq!(counts.keys().collect::<Vec<_>>(), expected);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    embedded.forget_counts();
    assert!(embedded.counts().is_empty());
}

#[tokio::test]
async fn faults_are_answered_as_the_services_word_them() {
    let embedded = support::start().await;
    let table = support::dynamodb(embedded.dynamodb_url());
    let queues = support::sqs(embedded.sqs_url());
    let keys = support::kms(embedded.kms_url());
    let codes = [
        (Fault::InternalError, ["InternalServerError", "InternalFailure", "KMSInternalException"], 500),
        (Fault::Unavailable, ["ServiceUnavailable"; 3], 503),
        (Fault::Throttled, ["ProvisionedThroughputExceededException", "RequestThrottled", "ThrottlingException"], 400),
    ];
    for (fault, codes, status) in codes {
        for service in [Service::DynamoDb, Service::Sqs, Service::Kms] {
            embedded.inject(service, Injection::of(fault).times(1));
        }
        let answers = [
            table.list_tables().send().await.map(drop).map_err(|e| (e.code().map(str::to_owned), raw_status(&e))),
            queues.list_queues().send().await.map(drop).map_err(|e| (e.code().map(str::to_owned), raw_status(&e))),
            keys.list_aliases().send().await.map(drop).map_err(|e| (e.code().map(str::to_owned), raw_status(&e))),
        ];
        for (answer, code) in answers.into_iter().zip(codes) {
            assert_eq!(answer, Err((Some(code.to_owned()), Some(status))));
        }
    }
    // Each was for one request.
    table.list_tables().send().await.expect("well again");
    queues.list_queues().send().await.expect("well again");
    keys.list_aliases().send().await.expect("well again");
}

fn raw_status<E>(error: &aws_sdk_sqs::error::SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

#[tokio::test]
async fn faults_can_be_for_one_operation_and_until_cleared() {
    let embedded = support::start().await;
    let client = support::sqs(embedded.sqs_url());
    let url = client.create_queue().queue_name("faulty").send().await.expect("a queue").queue_url.expect("a url");
    embedded.inject(Service::Sqs, Injection::of(Fault::Unavailable).on("SendMessage"));
    for _ in 0..3 {
        client.send_message().queue_url(&url).message_body("m").send().await.expect_err("made to fail");
    }
    let none = client.receive_message().queue_url(&url).send().await.expect("other operations work");
    assert!(none.messages.is_none());
    embedded.clear(Service::Sqs);
    client.send_message().queue_url(&url).message_body("m").send().await.expect("well again");
}

#[tokio::test]
async fn a_lost_answer_is_a_done_deed() {
    let embedded = support::start().await;
    let client = support::sqs_trying(embedded.sqs_url(), 3);
    let url = client.create_queue().queue_name("twice").send().await.expect("a queue").queue_url.expect("a url");
    embedded.inject(Service::Sqs, Injection::of(Fault::LostAnswer).on("SendMessage").times(1));
    client.send_message().queue_url(&url).message_body("m").send().await.expect("sent at the second attempt");
    let received = client.receive_message().queue_url(&url).max_number_of_messages(10).send().await.expect("received");
    assert_eq!(received.messages().len(), 2, "a retry after a lost answer makes a duplicate");
    assert_eq!(embedded.counts()["sqs.SendMessage"], 2);
}

#[tokio::test]
async fn a_service_that_is_down_breaks_connections_until_it_is_up() {
    let embedded = support::start().await;
    let client = support::sqs(embedded.sqs_url());
    let url = client.create_queue().queue_name("down").send().await.expect("a queue").queue_url.expect("a url");
    let poll = tokio::spawn(client.receive_message().queue_url(&url).wait_time_seconds(20).send());
    support::eventually("the poll", async || embedded.counts().get("sqs.ReceiveMessage").copied()).await;
    let began = Instant::now();
    embedded.down(Service::Sqs);
    poll.await.expect("joined").expect_err("a broken connection");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let error = client.list_queues().send().await.expect_err("down");
    assert!(matches!(error, aws_sdk_sqs::error::SdkError::DispatchFailure(_)), "{error:?}");
    let keys = support::kms(embedded.kms_url());
    keys.list_aliases().send().await.expect("the others are up");

    embedded.clear(Service::Sqs);
    assert_eq!(client.list_queues().send().await.expect("up again").queue_urls.expect("urls"), [url]);
}

#[tokio::test]
async fn a_page_that_rebinds_its_name_finds_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
    for url in [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()] {
        let address = url.strip_prefix("http://").expect("an address");
        for (host, status) in [("evil.example.com", "403"), ("127.0.0.1.evil.example.com:80", "403"), (address, "")] {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
            let head = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            let code = answer.split(' ').nth(1).expect("a status");
            assert!(if status.is_empty() { code != "403" } else { code == status }, "{url} {host}: {answer}");
        }
    }
}
