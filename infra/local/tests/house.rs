//! Houses as tests and people start them: several at once, again with the same state, in each other's way.

use std::path::PathBuf;

use local::{House, Options, StartError, local_json};

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("house-{}", edge::chance::hex::<8>())))
    }

    fn options(&self) -> Options {
        Options { state: Some(self.0.clone()), ephemeral: false, ..Options::default() }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn several_houses_live_side_by_side() {
    let (first, second) = tokio::join!(House::start(Options::default()), House::start(Options::default()));
    let (first, second) = (first.expect("a house"), second.expect("another"));
    assert_ne!(first.local.origin, second.local.origin);
    let inbox = |house: &House| house.local.demo.as_ref().map(|demo| demo.inbox_url.clone()).expect("a demo");
    assert_ne!(inbox(&first), inbox(&second));
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_house_comes_back_as_it_was() {
    let directory = Directory::new();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let house = House::start(directory.options()).await.expect("a house");
        let written: serde_json::Value = local_json::read(&directory.0, local_json::NAME).expect("local.json");
        assert_eq!(written, serde_json::to_value(&house.local).expect("JSON"));
        seen.push(["operatorToken", "keys", "tables"].map(|name| written[name].clone()));
        seen.push(["appId", "widgetKey", "integrationId"].map(|name| written["demo"][name].clone()));
        house.shutdown().await;
        assert!(!directory.0.join(local_json::NAME).exists(), "nobody looks for a house that is gone");
    }
    assert_eq!(seen[..2], seen[2..]);
}

#[tokio::test]
async fn an_ephemeral_house_leaves_nothing_but_says_where_it_is() {
    let directory = Directory::new();
    let options = Options { ephemeral: true, demo: false, ..directory.options() };
    let house = House::start(options).await.expect("a house");
    assert!(house.local.demo.is_none() && house.inbox().is_none());
    let files = || std::fs::read_dir(&directory.0).expect("the directory").count();
    assert_eq!(files(), 1);
    house.shutdown().await;
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn what_is_in_the_way_is_said_in_one_sentence() {
    let directory = Directory::new();
    let house = House::start(directory.options()).await.expect("a house");
    let port: u16 = house.local.origin.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");

    let taken = House::start(Options { port, ..Options::default() }).await.expect_err("the port is taken");
    assert!(matches!(taken, StartError::PortTaken { .. }), "{taken:?}");
    assert!(taken.to_string().contains(&port.to_string()) && taken.to_string().contains("--port"));

    let held = House::start(directory.options()).await.expect_err("the directory is held");
    assert!(matches!(held, StartError::InUse { .. }), "{held:?}");
    house.shutdown().await;

    let file = directory.0.join("a-file");
    std::fs::write(&file, "").expect("written");
    let options = Options { state: Some(file), ..directory.options() };
    let unusable = House::start(options).await.expect_err("no directory");
    assert!(matches!(unusable, StartError::State { .. }), "{unusable:?}");

    let options = Options { allow_destinations: vec!["nonsense".to_owned()], ..Options::default() };
    let refused = House::start(options).await.expect_err("no network");
    assert!(refused.to_string().contains("C2C_ALLOW_DESTINATIONS"), "{refused}");
    for error in [taken, held, unusable, refused] {
        assert_eq!(error.to_string().lines().count(), 1);
    }
}
