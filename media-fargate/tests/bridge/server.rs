//! The media server as it runs: its router over HTTP, its sockets for SIP, the stand-ins under it, and visitors' tokens.

use std::net::SocketAddr;

use axum::{Router, response::Html, routing::get};
use domain::{
    app::{Codec, Provider, ProviderKind, Transport},
    context::Context,
    id::{CallId, DestinationId, SessionId},
    profile::{Draft, Profile},
    session::Session,
    token::SigningKey,
};
use edge::env::{self, Env};
use media::State;
use reqwest::{Client, Method, Response};
use store::{Vault, profiles, provision};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::ground::{Ground, TABLE, until};

/// Where on the trunk everybody is called.
const DESTINATION: &str = "sip:sales@127.0.0.1";

pub struct Server {
    pub ground: Ground,
    pub state: State,
    /// `http://127.0.0.1:…`.
    pub url: String,
    /// The page that may call.
    pub page: String,
    key: SigningKey,
    profile: DestinationId,
    client: Client,
    serving: [JoinHandle<()>; 2],
}

impl Server {
    /// A server whose one app reaches a trunk in these codecs.
    pub async fn start(trunk: &str, codecs: &[Codec]) -> Self {
        let (ground, now) = (Ground::new().await, edge::clock::now());
        let key = provision::key(&ground.aws, "alias/key").await.expect("a key");
        let vault = Vault::open(&ground.aws, key.clone());
        let provider = Provider {
            kind: ProviderKind::Sip,
            uri: trunk.to_owned(),
            transport: Transport::Udp,
            username: None,
            caller_id: None,
            codecs: codecs.to_vec(),
            srtp: false,
            context_headers: Vec::new(),
            active: true,
        };
        ground.store.seed_provider(ground.app, &provider).await.expect("stored");
        let draft = Draft { name: Some("Sales".into()), destination: Some(DESTINATION.into()), ..Draft::default() };
        let profile = Profile::create(&draft, now, &edge::chance::bytes()).expect("a profile");
        let stored = ground.store.put_profile(ground.app, None, &profile, profiles::Default::Becomes, None).await;
        assert_eq!(stored.expect("stored"), profiles::Change::Done);

        let [page, here] = [listener("localhost:0").await, listener("127.0.0.1:0").await];
        let page_url = format!("http://localhost:{}", page.0.port());
        let variables = [
            (env::WIDGET_ORIGIN, page_url.as_str()),
            (env::TABLE, TABLE),
            (env::DELIVERY_QUEUE_URL, &ground.queue_url),
            (env::KMS_KEY_ID, &key),
            (env::MEDIA_ADDRESSES, "127.0.0.1"),
            (env::SIP_LISTEN, "127.0.0.1:0"),
            (env::RTP_PORTS, "33000-39999"),
            (env::ALLOW_DESTINATIONS, "127.0.0.1/32"),
            (env::LIMIT_CALLS_IP, "100000"),
            (env::LIMIT_CALLS_APP, "100000"),
        ];
        let environment = Env::from_pairs(variables.map(|(variable, value)| (variable.0, value)));
        let state = State::open(&environment, &ground.aws, here.0).await.expect("a server");
        let empty = Router::new().route("/", get(|| async { Html("<!doctype html><title>call</title>") }));
        let serving = [serve(page.1, empty), serve(here.1, media::router(state.clone()))];
        let key = ground.store.signing_key(&vault, now, &edge::chance::bytes()).await.expect("a key");
        let url = format!("http://{}", here.0);
        Self { ground, state, url, page: page_url, key, profile: profile.id, client: Client::new(), serving }
    }

    /// A new visitor's token.
    pub fn token(&self) -> String {
        let now = edge::clock::now();
        let session = Session {
            id: SessionId::mint(now, &edge::chance::bytes()),
            app: self.ground.app,
            profile: Some(self.profile),
            routing_key: None,
            context: Context::default(),
            preview: false,
            draft: false,
        };
        self.key.sign(&session, now, session.token_expiry(now).expect("a young session"))
    }

    pub async fn ask(&self, method: Method, path: &str, token: &str, offer: impl Into<reqwest::Body>) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(token);
        request.header("content-type", "application/sdp").body(offer).send().await.expect("an answer")
    }

    /// Begins a call: its address and the answer.
    pub async fn begin(&self, token: &str, offer: String) -> (String, String) {
        let answer = self.ask(Method::POST, "/v1/calls", token, offer).await;
        let status = answer.status();
        let location = answer.headers().get("location").map(|path| path.to_str().expect("text").to_owned());
        let text = answer.text().await.expect("a body");
        assert_eq!(status, 201, "{text}");
        (location.expect("an address"), text)
    }

    /// Waits until no call is left, and gives the one that there was as it was written down.
    pub async fn over(&self, path: &str) -> domain::call::Call {
        until("the call is over", async || (self.state.calls().count() == 0).then_some(())).await;
        let id: CallId = path.strip_prefix("/v1/calls/").expect("a call's address").parse().expect("an id");
        self.ground.row(id).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

async fn listener(at: &str) -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind(at).await.expect("a port");
    (listener.local_addr().expect("an address"), listener)
}

fn serve(listener: TcpListener, router: Router) -> JoinHandle<()> {
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await.expect("served") })
}
