//! Addresses that must not be dialled, and names that lead to them (tests/vectors/addresses.json): refused when they are
//! saved, and refused again by the client for a row that was never checked.

use std::{net::IpAddr, sync::Arc, time::Duration};

use domain::{
    delivery::ErrorClass,
    destination::Destination,
    reach::{Reach, is_public},
};
use proptest::prelude::*;
use serde::Deserialize;
use url::Url;

use super::{Names, Receiver, post, ready};
use crate::{
    http::Client,
    resolve::{Unresolved, targets},
};

const LIMIT: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Table {
    hostile: Vec<Hostile>,
    benign: Vec<String>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Hostile {
    url: String,
    why: String,
}

#[derive(Deserialize)]
struct Answer {
    addresses: Vec<IpAddr>,
    verdict: String,
    why: String,
}

fn table() -> Table {
    serde_json::from_str(include_str!("../../../../tests/vectors/addresses.json")).expect("the table")
}

fn save(text: &str) -> Option<Destination> {
    Destination::parse(text, &Reach::default(), &["calls.example.net".to_owned()]).ok()
}

#[test]
fn the_table_is_as_long_as_it_says() {
    let table = table();
    assert!(table.hostile.len() >= 150 && table.benign.len() >= 40 && table.answers.len() >= 100);
}

#[test]
fn hostile_addresses_are_not_saved_and_benign_ones_are() {
    let table = table();
    let saved: Vec<_> = table.hostile.iter().filter(|row| save(&row.url).is_some()).collect();
    let saved: Vec<_> = saved.iter().map(|row| format!("{}: {:?}", row.why, row.url)).collect();
    assert!(saved.is_empty(), "saved:\n{}", saved.join("\n"));
    let refused: Vec<_> = table.benign.iter().filter(|url| save(url).is_none()).collect();
    assert!(refused.is_empty(), "refused: {refused:?}");
}

fn is_manners(why: &str) -> bool {
    ["IPv4 not as four decimal numbers", "not an address", "ports of other services"].contains(&why)
}

/// The worst resolver there is: every name leads to this machine.
#[tokio::test]
async fn a_hostile_address_in_a_row_is_never_dialled() {
    let receiver = Receiver::open(|_| async { Ok(()) }).await;
    let (mut tried, mut wrong) = (0, Vec::new());
    let with = |names: Arc<Names>| (Client::with_lookup(Reach::default(), names.clone()), names);
    let ((bad, lies), (none, silence)) = (with(Names::saying(&[&["127.0.0.1"]])), with(Names::saying(&[])));
    let resolvers = [(bad, lies, true), (none, silence, false)];
    for Hostile { url, why } in table().hostile {
        // As it stands, and with the port at which somebody would notice.
        let parsed = Url::parse(&url).ok();
        let moved = parsed.and_then(|mut parsed| parsed.set_port(Some(receiver.at.port())).is_ok().then_some(parsed));
        for text in [Some(url), moved.map(String::from)].into_iter().flatten() {
            let Some(ready) = ready(&text, LIMIT) else { continue };
            // A name that is nobody's: what is wrong with it is what it leads to.
            for (client, names, host_is_bad) in &resolvers {
                tried += 1;
                if let Ok(found) = targets(&**names, &Reach::default(), &ready.url).await {
                    // Bad manners, not a bad place: an odd spelling of a public address, or its port before it was moved.
                    // No test dials it.
                    if !(is_manners(&why) && found.iter().all(|target| is_public(target.ip()))) {
                        wrong.push(format!("{why}: {text:?} leads to {found:?}"));
                    }
                    continue;
                }
                let outcome = client.post(&ready, &super::due(), super::now()).await.expect("a try");
                let is_name = !host_is_bad && outcome.error == Some(ErrorClass::Dns);
                if outcome.error != Some(ErrorClass::BlockedAddress) && !is_name {
                    wrong.push(format!("{why}: {text:?}: {outcome:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 400, "{tried}");
    assert_eq!(receiver.connections(), 0);
    // Whoever is allowed to, gets there: the listener does see who comes.
    let client = Client::with_lookup(receiver.reach(), Names::saying(&[]));
    post(&client, &receiver.url(), LIMIT).await;
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn every_answer_is_judged() {
    let receiver = Receiver::open(|_| async { Ok(()) }).await;
    let names = Names::saying(&[]);
    let client = Client::with_lookup(Reach::default(), names.clone());
    let (url, port) = (format!("https://hooks.example.com:{}/", receiver.at.port()), receiver.at.port());
    let parsed = Url::parse(&url).expect("a URL");
    for Answer { addresses, verdict, why } in table().answers {
        names.say(&addresses);
        let asked = names.asked();
        let found = targets(&*names, &Reach::default(), &parsed).await;
        match verdict.as_str() {
            "dialled" => {
                let found = found.expect("targets");
                assert!(found.iter().all(|target| target.port() == port), "{why}");
                assert_eq!(found.iter().map(|target| target.ip()).collect::<Vec<_>>(), addresses, "{why}");
                // To dial them would be to leave this machine.
                continue;
            }
            "unknown" => assert!(matches!(found, Err(Unresolved::Unknown(_))), "{why}"),
            _ => assert!(matches!(found, Err(Unresolved::Blocked)), "{why}: {addresses:?}"),
        }
        assert_eq!(names.asked(), asked + 1);
        let outcome = post(&client, &url, LIMIT).await;
        let expected = if verdict == "unknown" { ErrorClass::Dns } else { ErrorClass::BlockedAddress };
        assert_eq!((outcome.error, names.asked()), (Some(expected), asked + 2), "{why}: {addresses:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

/// The name is looked up once for each attempt, and what it said then is what is dialled, or not.
#[tokio::test]
async fn a_name_that_changes_its_mind() {
    let receiver = Receiver::open(|_| async { Ok(()) }).await;
    let url = format!("https://hooks.example.com:{}/", receiver.at.port());
    // Only 127.0.0.1 is allowed; the receiver listens on all of them.
    let names = Names::saying(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1", "127.0.0.2"], &["127.0.0.1"]]);
    let client = Client::with_lookup(receiver.reach(), names.clone());
    for (attempt, connections) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3)] {
        let outcome = post(&client, &url, LIMIT).await;
        let is_blocked = outcome.error == Some(ErrorClass::BlockedAddress);
        assert_eq!(is_blocked, attempt == 2 || attempt == 3, "{attempt}: {outcome:?}");
        assert_eq!((names.asked(), receiver.connections()), (attempt, connections));
    }
    // Where it is allowed to go by name, it is not allowed to go in the clear.
    let outcome = post(&client, &url.replace("https:", "http:"), LIMIT).await;
    assert_eq!((outcome.error, names.asked()), (Some(ErrorClass::BlockedAddress), 5));
    // Nor to another port of the same address.
    let outcome = post(&client, "https://hooks.example.com:8443/", LIMIT).await;
    assert_eq!((outcome.error, receiver.connections()), (Some(ErrorClass::BlockedAddress), 3));
}

/// A resolver that never answers.
struct Silent;

impl crate::resolve::Lookup for Silent {
    fn look_up<'a>(&'a self, _: &'a str) -> futures_util::future::BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_resolver_has_two_seconds_within_the_limit() {
    let client = Client::with_lookup(Reach::default(), Arc::new(Silent));
    for (limit, expected) in [(10_000, ErrorClass::Dns), (300, ErrorClass::Timeout)] {
        let outcome = post(&client, "https://hooks.example.com/", Duration::from_millis(limit)).await;
        assert_eq!(outcome.error, Some(expected));
        assert!(outcome.took < Duration::from_millis(2_500.min(limit + 500)), "{:?}", outcome.took);
    }
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(bits.into()));
    let public = any::<u32>().prop_map(|bits| IpAddr::V4((0x0800_0000 | bits & 0x00ff_ffff).into()));
    let mapped = any::<u32>().prop_map(|bits| IpAddr::V6(std::net::Ipv4Addr::from(bits).to_ipv6_mapped()));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()));
    let global = any::<u128>().prop_map(|bits| IpAddr::V6(((bits >> 3) | (1 << 125)).into()));
    prop::collection::vec(prop_oneof![v4, public, mapped, v6, global], 0..20)
}

fn urls() -> impl Strategy<Value = String> {
    let anything = r"(https?:)?[/\\]{0,3}.{0,40}";
    let likely = r"https?://([a-z0-9.\[\]:%x-]{1,20}|[0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-f:]{2,20}\]|[a-z]{1,5}\.example)(:[0-9]{1,5})?(/[ -~]{0,10})?";
    prop_oneof![anything, likely]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn what_was_saved_is_dialled_only_within_reach(
        text in urls(), answer in addresses(), allowed in prop::option::of((any::<u32>(), 1_u16..)),
    ) {
        let nets = allowed.map(|(ip, port)| format!("{}/8:{port}", std::net::Ipv4Addr::from(ip)));
        let reach = Reach::with(nets.iter().map(|net| net.parse().expect("a network")).collect());
        let Ok(saved) = Destination::parse(&text, &reach, &[]) else { return Ok(()) };
        let url = saved.fill(&domain::template::Values::new()).expect("an address without secrets");
        let texts: Vec<_> = answer.iter().map(IpAddr::to_string).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let names = Names::saying(&[&texts]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let found = runtime.block_on(targets(&*names, &reach, &url));
        let is_name = matches!(url.host(), Some(url::Host::Domain(_)));
        prop_assert_eq!(names.asked(), usize::from(is_name));
        if let Ok(found) = found {
            prop_assert!(!found.is_empty() && found.len() <= 16);
            for target in found {
                prop_assert!(reach.admits(target.ip(), target.port()), "{} leads to {}", text, target);
                prop_assert!(url.scheme() == "https" || reach.allows(target.ip(), target.port()));
                prop_assert!(!is_name || answer.contains(&target.ip()));
                prop_assert_eq!(Some(target.port()), url.port_or_known_default());
            }
        }
    }
}
