//! A visitor: a browser that speaks a tone in any codec, presses keys and listens.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use media::rtp::Codec;
use serde_json::Value;
use tokio::task::JoinSet;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use crate::{
    browser::{Browser, Microphone, SSRC, STRONG, format},
    ground::until,
    sound::{Ear, Mouth},
};

/// The visitor. It ends with the test.
pub struct Visitor {
    browser: Browser,
    pub ear: Ear,
    mouth: Arc<Mutex<Mouth>>,
    messages: Arc<Mutex<Vec<Value>>>,
    _tasks: JoinSet<()>,
}

impl Visitor {
    /// One whose browser speaks a tone of `pitch` Hz in a codec from now on.
    pub async fn new(codec: Codec, pitch: f64) -> Self {
        let ear = Ear::new(format(codec));
        let hears = ear.clone();
        let browser = Browser::new(codec, &STRONG, move |packet| hears.push(&packet)).await;
        let mouth = Arc::new(Mutex::new(Mouth::new(format(codec), pitch, SSRC)));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(speak(browser.microphone(), mouth.clone()));
        tasks.spawn(read(browser.channel.clone(), messages.clone()));
        Self { browser, ear, mouth, messages, _tasks: tasks }
    }

    pub async fn offer(&self) -> String {
        self.browser.offer_with_keys().await
    }

    /// Takes the answer.
    pub async fn take(&self, answer: &str) {
        self.browser.take(answer).await;
    }

    /// Says something on the channel.
    pub async fn say(&self, message: Value) {
        self.browser.channel.send_text(&message.to_string()).await.expect("an open channel");
    }

    /// Presses a key, as a browser does by itself: in RTP.
    pub fn press(&self, code: u8, millis: u32) {
        self.mouth.lock().unwrap_or_else(PoisonError::into_inner).press(code, millis);
    }

    /// Waits for the next message that is no report; its type and what else it says.
    pub async fn told(&self) -> Value {
        until("a message", async || {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let next = messages.iter().position(|message| message["type"] != "quality")?;
            Some(messages.remove(next))
        })
        .await
    }
}

async fn speak(microphone: Microphone, mouth: Arc<Mutex<Mouth>>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let packet = mouth.lock().unwrap_or_else(PoisonError::into_inner).next();
        microphone.speak(packet).await;
    }
}

async fn read(channel: Arc<dyn DataChannel>, messages: Arc<Mutex<Vec<Value>>>) {
    while let Some(event) = channel.poll().await {
        if let DataChannelEvent::OnMessage(message) = event {
            let message = serde_json::from_slice(&message.data).expect("JSON");
            messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        }
    }
}
