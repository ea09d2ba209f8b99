//! Who may import whom (README, "The map"): read from `cargo metadata`, so that a forbidden import fails here and not in a
//! review.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

fn members() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            // What tests of a member use is not what ships.
            let shipped = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), shipped.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

#[test]
fn members_import_only_what_lies_below_them() {
    let members = members();
    let functions = ["widget", "session", "ingest", "dispatch", "console"];
    for (member, dependencies) in &members {
        let allowed: &[&str] = match member.as_str() {
            "domain" | "embedded" => &[],
            "store" | "edge" => &["domain"],
            "media" => &["domain", "store", "edge"],
            name if functions.contains(&name) => &["domain", "store", "edge"],
            "local" => {
                &["domain", "store", "edge", "widget", "session", "ingest", "dispatch", "console", "media", "embedded"]
            }
            "tests" => continue,
            other => panic!("{other}: say here what it may import"),
        };
        for dependency in dependencies.iter().filter(|dependency| members.contains_key(*dependency)) {
            assert!(allowed.contains(&dependency.as_str()), "{member} must not import {dependency}");
        }
    }
}

#[test]
fn each_heavy_crate_has_one_door() {
    let members = members();
    for (prefix, doors) in [
        ("aws-sdk-", &["store"] as &[&str]),
        ("aws-config", &["store"]),
        ("lambda_http", &["edge"]),
        ("lambda_runtime", &["dispatch"]),
        // Dispatch's way to customers' addresses.
        ("reqwest", &["dispatch"]),
        // Dispatch's connections to customers' addresses; media's, by literal private addresses alone, to its like and to
        // the container's own metadata; edge's to the operator's own collector of traces and provider of sign-ins; the rest
        // serves.
        ("hyper-util", &["dispatch", "edge", "embedded", "media"]),
        ("opentelemetry", &["edge"]),
        ("dynoxide-rs", &["embedded"]),
        ("rusqlite", &["embedded"]),
    ] {
        let named: Vec<_> = members
            .iter()
            .filter(|(_, dependencies)| dependencies.iter().any(|dependency| dependency.starts_with(prefix)))
            .map(|(member, _)| member.as_str())
            .collect();
        assert_eq!(named, doors, "{prefix}");
    }
}

#[test]
fn rules_know_no_runtime_and_no_network() {
    let members = members();
    for heavy in ["tokio", "http", "hyper", "axum", "reqwest", "rand"] {
        assert!(!members["domain"].iter().any(|dependency| dependency == heavy), "domain must not import {heavy}");
    }
}
