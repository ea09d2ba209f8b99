//! A stand-in of the Lambda Runtime API, and one compiled function that runs under it.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    process::{Child, Command},
    sync::{Mutex, mpsc, oneshot},
};

/// What a function answered: its value, or the error it reported.
pub type Answer = Result<Value, Value>;

#[derive(Clone)]
struct Api {
    events: Arc<Mutex<mpsc::UnboundedReceiver<(String, String)>>>,
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Answer>>>>,
}

/// One function's process.
pub struct Function {
    child: Child,
    events: mpsc::UnboundedSender<(String, String)>,
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Answer>>>>,
    next: AtomicU64,
}

impl Function {
    /// Starts the compiled binary of this name with these variables and no others.
    pub async fn start(name: &str, variables: &[(&str, String)]) -> Self {
        Self::start_logging(name, variables, Stdio::null()).await
    }

    /// The same; what it logs goes there.
    pub async fn start_logging(name: &str, variables: &[(&str, String)], log: Stdio) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (events, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::default();
        let api = Api { events: Arc::new(Mutex::new(receiver)), waiting: Arc::clone(&waiting) };
        tokio::spawn(async move { axum::serve(listener, router(api)).await });
        let child = Command::new(binary(name))
            .env_clear()
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", name),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", "group"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "stream"),
                ("AWS_ACCESS_KEY_ID", "local"),
                ("AWS_SECRET_ACCESS_KEY", "local"),
                ("AWS_REGION", "us-east-1"),
            ])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        Self { child, events, waiting, next: AtomicU64::new(1) }
    }

    /// Hands the function one event, as text, and waits for its answer.
    pub async fn invoke(&self, event: impl ToString) -> Answer {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.hand(event).await).await;
        answer.expect("the function answers in time").expect("the stand-in runs")
    }

    /// Hands the function one event; the answer comes through the channel, which closes when the function is killed.
    pub async fn hand(&self, event: impl ToString) -> oneshot::Receiver<Answer> {
        let id = format!("00000000-0000-4000-8000-{:012}", self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().await.insert(id.clone(), sender);
        self.events.send((id, event.to_string())).expect("the stand-in runs");
        answer
    }

    /// Ends its process by SIGKILL, as it stands.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
        self.waiting.lock().await.clear();
    }

    /// Whether its process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the process to end by itself; whether it ended well, and what it logged.
    pub async fn ended(&mut self) -> (bool, String) {
        let mut log = String::new();
        let mut output = self.child.stdout.take().expect("a pipe");
        let ended = async {
            output.read_to_string(&mut log).await.expect("text");
            self.child.wait().await.expect("a process").success()
        };
        let well = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the function ends in time");
        (well, log)
    }
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(|| async { StatusCode::ACCEPTED }))
        .with_state(api)
}

async fn next(State(api): State<Api>) -> Response {
    match api.events.lock().await.recv().await {
        Some((id, event)) => {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("lambda-runtime-aws-request-id", id.as_str()),
                ("lambda-runtime-deadline-ms", "4102444800000"),
                ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:f"),
                ("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000"),
            ] {
                headers.insert(name, value.parse().expect("a header"));
            }
            (headers, event).into_response()
        }
        // The test is over and so is the function.
        None => std::future::pending().await,
    }
}

async fn settle(api: &Api, id: &str, answer: Answer) -> StatusCode {
    if let Some(waiting) = api.waiting.lock().await.remove(id) {
        // A test that gave up no longer listens.
        let _ = waiting.send(answer);
    }
    StatusCode::ACCEPTED
}

fn json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()))
}

async fn response(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    settle(&api, &id, Ok(json(&body))).await
}

async fn error(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    settle(&api, &id, Err(json(&body))).await
}

/// Where the binary of a package lies; built on first use, each as it ships: alone.
pub fn binary(name: &str) -> String {
    static BUILT: OnceLock<std::sync::Mutex<HashMap<String, String>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Default::default).lock().expect("no test panics while it builds");
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let output = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--message-format=json", "--package", name, "--bin", name])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo build -p {name}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let artifacts = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = artifacts.filter_map(|artifact| artifact["executable"].as_str().map(ToOwned::to_owned)).next_back();
    let path = path.expect("cargo names the executable");
    built.insert(name.to_owned(), path.clone());
    path
}
