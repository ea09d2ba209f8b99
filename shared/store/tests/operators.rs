//! The first operator of a deployment, made as the README says: stored where all others are, and ended like any other.

use std::{collections::HashMap, process::Command};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
    types::{AttributeValue, Put, TransactWriteItem, Update},
};
use domain::{id::OperatorId, operator::Role, time::Timestamp};
use embedded::{Config, Embedded};
use serde_json::Value;
use store::{
    Aws, Endpoints, Store,
    operators::{Listed, Removal},
    provision::{self, TableSpec},
};

const README: &str = include_str!("../../../README.md");
const TABLE: &str = "table";
/// Stands in for the command of that name: gives its arguments, each ended by a zero.
const COMMAND: &str = "aws() { printf '%s\\0' \"$@\"; }";

/// The commands that the README gives for the first operator.
fn commands() -> String {
    let (_, rest) = README.split_once("**The first operator.**").expect("it is told how");
    let (_, rest) = rest.split_once("```sh\n").expect("commands");
    let (commands, _) = rest.split_once("```").expect("their end");
    commands.lines().map(str::trim_start).collect::<Vec<_>>().join("\n")
}

/// The token that they print, and what they ask of the table.
fn run() -> (String, Value) {
    let script = format!("set -euo pipefail\nTABLE={TABLE}\n{COMMAND}\n{}", commands());
    let run = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    let said = String::from_utf8(run.stdout).expect("text");
    assert!(run.status.success(), "{said} {}", String::from_utf8_lossy(&run.stderr));
    let (token, asked) = said.split_once('\n').expect("a token, then the request");
    let asked: Vec<_> = asked.split_terminator('\0').collect();
    let ["dynamodb", "transact-write-items", "--transact-items", items] = asked[..] else { panic!("{asked:?}") };
    (token.to_owned(), serde_json::from_str(items).expect("JSON"))
}

/// A row, or a part of one, as DynamoDB's JSON has it.
fn row(value: &Value) -> HashMap<String, AttributeValue> {
    let attribute = |value: &Value| match (&value["S"], &value["N"]) {
        (Value::String(text), Value::Null) => AttributeValue::S(text.clone()),
        (Value::Null, Value::String(number)) => AttributeValue::N(number.clone()),
        _ => panic!("neither a text nor a number: {value}"),
    };
    value.as_object().expect("an object").iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn item(value: &Value) -> TransactWriteItem {
    let (kind, asked) = value.as_object().and_then(|one| one.iter().next()).expect("a kind of write");
    assert_eq!(asked["TableName"], TABLE);
    match kind.as_str() {
        "Put" => {
            let put = Put::builder().table_name(TABLE).set_item(Some(row(&asked["Item"])));
            TransactWriteItem::builder().put(put.build().expect("whole")).build()
        }
        "Update" => {
            let update = Update::builder()
                .table_name(TABLE)
                .set_key(Some(row(&asked["Key"])))
                .update_expression(asked["UpdateExpression"].as_str().expect("an expression"))
                .set_expression_attribute_values(Some(row(&asked["ExpressionAttributeValues"])));
            TransactWriteItem::builder().update(update.build().expect("whole")).build()
        }
        other => panic!("a write of the kind {other}"),
    }
}

fn hash(text: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_first_operator_is_listed_and_can_be_ended_once_there_is_another_admin() {
    let embedded = Embedded::start(Config::default()).await.expect("the stand-ins start");
    let urls = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()];
    let [dynamodb, sqs, kms] = urls.map(ToOwned::to_owned);
    let config = Builder::new().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1"));
    let config = config.credentials_provider(Credentials::new("local", "local", None, None, "local"));
    let client = Client::from_conf(config.endpoint_url(&dynamodb).build());
    let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
    let spec = TableSpec { name: TABLE.into(), partition: "pk".into(), sort: "sk".into(), expiry: None };
    provision::table(&aws, &spec).await.expect("a table");
    let store = Store::open(&aws, TABLE);

    let (token, asked) = run();
    assert_eq!((token.len(), token.get(..4)), (68, Some("c2c_")));
    let items = asked.as_array().expect("a list").iter().map(item).collect();
    client.transact_write_items().set_transact_items(Some(items)).send().await.expect("written");

    let now = Timestamp::from_millis(1_900_000_000_000);
    let holder = || async { store.operator(&hash(&token), now).await.expect("read") };
    assert_eq!(holder().await.map(|found| (found.name, found.role)), Some(("first operator".into(), Role::Admin)));
    let listed = || async { store.operators(10, None).await.expect("read").items };
    let [first] = &listed().await[..] else { panic!("one is listed") };
    assert_eq!((first.name.as_str(), first.role), ("first operator", Role::Admin));
    assert_eq!(store.remove_operator(first.id, None).await.expect("asked"), Removal::LastAdmin);

    let second = Listed {
        id: OperatorId::mint(now, &[1; 10]),
        name: "Ada".into(),
        role: Role::Admin,
        created_at: now,
        token_hash: hash("another"),
    };
    store.create_operator(&second, None).await.expect("made");
    assert_eq!(listed().await.iter().map(|one| one.id).collect::<Vec<_>>(), [first.id, second.id], "the oldest first");
    assert_eq!(store.remove_operator(first.id, None).await.expect("asked"), Removal::Done);
    assert_eq!((holder().await, listed().await), (None, vec![second.clone()]));
    assert_eq!(store.remove_operator(second.id, None).await.expect("asked"), Removal::LastAdmin);
}
