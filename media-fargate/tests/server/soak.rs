//! A thousand calls, one after the other: what a call takes, it gives back.

use std::{fs, time::Instant};

use crate::ground::{Ground, Server};

/// Kilobytes of memory that a process holds, and its descriptors.
fn holds(server: &Server) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let memory = line.trim().trim_end_matches(" kB").parse().expect("a number");
    (memory, fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its descriptors").count())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo nextest run -p media --test server --run-ignored only --no-capture"]
async fn a_thousand_calls_leave_nothing_behind() {
    let ground = Ground::new().await;
    let server = ground.server(&[]).await;
    let (mut early, began) = ((0, 0), Instant::now());
    for number in 1..=1_000 {
        let call = server.call(&ground).await;
        call.visitor.say(&serde_json::json!({"type": "hang_up"})).await;
        call.visitor.told("ended").await;
        ground.over(call.id).await;
        call.visitor.leave().await;
        if number % 100 == 0 {
            let (memory, descriptors) = holds(&server);
            println!(
                "after {number} calls, {:.0} s: {memory} kB, {descriptors} descriptors",
                began.elapsed().as_secs_f64()
            );
        }
        if number == 100 {
            early = holds(&server);
        }
    }
    let late = holds(&server);
    assert_eq!(server.number("c2c_calls_active").await, 0.0);
    assert_eq!(server.number("c2c_calls_answered_total").await, 1_000.0);
    assert!(late.0 < early.0 + early.0 / 10 + 4_096, "memory grows: {early:?}, {late:?}");
    assert!(late.1 <= early.1 + 4, "descriptors grow: {early:?}, {late:?}");
}
