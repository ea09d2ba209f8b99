//! A customer's server: remembers what it receives, and answers as the test says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::net::TcpListener;

/// One request that came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Its path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, which must be JSON.
    pub body: Value,
    /// The same as it came.
    pub bytes: Bytes,
}

/// The server. It ends with the test.
pub struct Receiver {
    port: u16,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    received: Vec<Received>,
    answers: VecDeque<Answer>,
    /// The answer to those that nothing else is planned for.
    otherwise: Option<Answer>,
}

/// How one request is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Whether it comes at all.
    pub never: bool,
    /// How long it takes.
    pub after: std::time::Duration,
}

impl Answer {
    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), never: false, after: std::time::Duration::ZERO }
    }

    /// No answer: the connection stays open.
    pub fn never() -> Self {
        Self { never: true, ..Self::status(200) }
    }

    /// The same, later.
    pub fn after(self, after: std::time::Duration) -> Self {
        Self { after, ..self }
    }

    /// The same with a header.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl Receiver {
    /// Starts on a port of its own; answers 200 unless told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let inside = Arc::<Mutex<Inside>>::default();
        let router = Router::new().fallback(receive).with_state(inside.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, inside }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The next requests are answered so, in this order; later ones with 200.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).answers.extend(answers);
    }

    /// Requests are answered so from now on, when nothing else is planned for them.
    pub fn otherwise(&self, answer: Answer) {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).otherwise = Some(answer);
    }

    /// Answers 200 from now on.
    pub fn forget_answers(&self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.answers.clear();
        inside.otherwise = None;
    }

    /// Everything that came in.
    pub fn received(&self) -> Vec<Received> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).received.clone()
    }
}

async fn receive(State(inside): State<Arc<Mutex<Inside>>>, request: Request) -> Response {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let answer = {
        let mut inside = inside.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, body) = (body.clone(), serde_json::from_slice(&body).unwrap_or(Value::Null));
        inside.received.push(Received { at, path: parts.uri.to_string(), headers: parts.headers, body, bytes });
        let planned = inside.answers.pop_front().or_else(|| inside.otherwise.clone());
        planned.unwrap_or_else(|| Answer::status(200))
    };
    if answer.never {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(answer.after).await;
    let mut response = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK).into_response();
    for (name, value) in answer.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().append(name, value);
        }
    }
    response
}
