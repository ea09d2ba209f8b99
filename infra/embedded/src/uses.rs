//! Who used what. The id of an access key, which every signature names, tells callers apart: a test compares what roles
//! allow with what functions do.

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use crate::{gate::Service, wire};

/// What one request needs to be allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The id of the access key that signed it.
    pub by: String,
    /// The action, as a policy names it: `dynamodb:GetItem`.
    pub action: String,
    /// On what: the partition key of a row up to its first `#`, the last part of a queue's name, or a key's purpose.
    pub on: String,
    /// Whether it is a part of a transaction, where everything costs twice as much.
    pub in_transaction: bool,
}

/// What a request needs. Those of a transaction need what their members would.
pub(crate) fn of(service: Service, headers: &HeaderMap, body: &[u8]) -> Vec<Use> {
    let Some(by) = signer(headers) else { return Vec::new() };
    let (operation, body) = (wire::operation(headers), serde_json::from_slice(body).unwrap_or(Value::Null));
    let needs = match service {
        Service::DynamoDb => rows(operation, &body),
        // A batch needs what each of its entries would.
        Service::Sqs => vec![(operation.trim_end_matches("Batch").to_owned(), queue(&body))],
        Service::Kms => vec![(operation.to_owned(), text(&body["EncryptionContext"]["purpose"]))],
    };
    let (name, in_transaction) = (service.name(), operation.starts_with("Transact"));
    let needs = needs.into_iter();
    needs.map(|(action, on)| Use { by: by.clone(), action: format!("{name}:{action}"), on, in_transaction }).collect()
}

/// `Credential=ID/DATE/REGION/SERVICE/aws4_request` of a signature, version 4.
fn signer(headers: &HeaderMap) -> Option<String> {
    let signature = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = signature.split_once("Credential=")?;
    credential.split_once('/').map(|(id, _)| id.to_owned())
}

fn rows(operation: &str, body: &Value) -> Vec<(String, String)> {
    let one = |operation: &str, body: &Value| {
        let places = [&body["Key"]["pk"], &body["Item"]["pk"], &body["ExpressionAttributeValues"][":pk"]];
        let key = places.iter().map(|place| text(&place["S"])).find(|key| !key.is_empty()).unwrap_or_default();
        (operation.to_owned(), key.split('#').next().unwrap_or_default().to_owned())
    };
    if let Some(tables) = body["RequestItems"].as_object() {
        let keys = tables.values().filter_map(|asked| asked["Keys"].as_array()).flatten();
        return keys.map(|key| one(operation, &json!({"Key": key}))).collect();
    }
    let Some(members) = body["TransactItems"].as_array() else { return vec![one(operation, body)] };
    let members = members.iter().filter_map(Value::as_object).flatten();
    members
        .map(|(kind, body)| {
            let action = if kind == "ConditionCheck" { "ConditionCheckItem".to_owned() } else { format!("{kind}Item") };
            one(&action, body)
        })
        .collect()
}

fn queue(body: &Value) -> String {
    let url = text(&body["QueueUrl"]);
    url.rsplit(['/', '-']).next().unwrap_or_default().to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_requests_need() {
        let authorization = "AWS4-HMAC-SHA256 Credential=Ingest/20261121/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0";
        let asked = |service, target: &'static str, body: Value| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, authorization.parse().expect("a header"));
            headers.insert("x-amz-target", target.parse().expect("a header"));
            let uses = of(service, &headers, body.to_string().as_bytes());
            assert!(uses.iter().all(|one| one.by == "Ingest"), "{uses:?}");
            uses.into_iter().map(|one| format!("{} {}", one.action, one.on)).collect::<Vec<_>>().join(", ")
        };
        let key = json!({"pk": {"S": "APP#app_1"}, "sk": {"S": "APP"}});
        for (service, target, body, needed) in [
            (Service::DynamoDb, "DynamoDB_20120810.GetItem", json!({"Key": key}), "dynamodb:GetItem APP"),
            (Service::DynamoDb, "DynamoDB_20120810.PutItem", json!({"Item": key}), "dynamodb:PutItem APP"),
            (
                Service::DynamoDb,
                "DynamoDB_20120810.Query",
                json!({"ExpressionAttributeValues": {":pk": {"S": "TOKENKEY"}}}),
                "dynamodb:Query TOKENKEY",
            ),
            (
                Service::DynamoDb,
                "DynamoDB_20120810.BatchGetItem",
                json!({"RequestItems": {"table": {"Keys": [key, key]}}}),
                "dynamodb:BatchGetItem APP, dynamodb:BatchGetItem APP",
            ),
            (
                Service::DynamoDb,
                "DynamoDB_20120810.TransactWriteItems",
                json!({"TransactItems": [{"Put": {"Item": key}}, {"ConditionCheck": {"Key": key}}, {"Delete": {"Key": key}}]}),
                "dynamodb:PutItem APP, dynamodb:ConditionCheckItem APP, dynamodb:DeleteItem APP",
            ),
            (
                Service::Sqs,
                "AmazonSQS.SendMessageBatch",
                json!({"QueueUrl": "http://127.0.0.1:1/000000000000/house-1-DeliveryQueue"}),
                "sqs:SendMessage DeliveryQueue",
            ),
            (
                Service::Kms,
                "TrentService.Decrypt",
                json!({"EncryptionContext": {"purpose": "provider"}}),
                "kms:Decrypt provider",
            ),
        ] {
            assert_eq!(asked(service, target, body), needed);
        }
        assert!(of(Service::Kms, &HeaderMap::new(), b"not JSON").is_empty());
    }
}
