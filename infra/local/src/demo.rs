//! The demo: an invented company's site that embeds the widget, and the app behind it, whose one integration sends every
//! event to the inbox.

use std::collections::BTreeSet;

use axum::{Router, http::HeaderValue, routing::get};
use domain::{
    app::{App, Provider, ProviderDraft},
    event::EventName,
    id::AppId,
    integration::{Draft, Integration, Status, Surroundings},
    profile::{self, Profile},
    reach::Reach,
    time::Timestamp,
};
use serde_json::json;
use store::{
    Store,
    integrations::{Change, Stored},
    profiles::{self, Default},
};

use crate::{front::file, local_json::Memory};

/// What the demo site's pages say.
#[derive(Clone, Debug)]
pub struct Site {
    /// The widget host's origin.
    pub origin: String,
    /// The console's origin.
    pub console: String,
    /// The inbox's page.
    pub inbox: String,
    /// The demo app's id.
    pub app_id: String,
    /// The key of the embed.
    pub widget_key: String,
}

const LOADER: &str = r#"<p>The button is at the bottom of the page, as soon as that has come to rest.</p>
    <script async src="{origin}/embed.js" data-app-id="{appId}" data-key="{widgetKey}" data-context-page="{path}"></script>"#;

/// Further ways to embed the widget, each on a page of its own: where, what it shows, how it is done.
const WAYS: [(&str, &str, &str); 4] = [
    (
        "/iframe",
        "The widget in a plain iframe, at its place in the page.",
        r#"<iframe title="Click to call" src="{origin}/widget/{appId}?key={widgetKey}&amp;page=contact&amp;campaign=plain-iframe" allow="microphone; autoplay; speaker-selection; screen-wake-lock" loading="lazy"></iframe>"#,
    ),
    (
        "/link",
        "A plain link that opens the widget in a window of its own.",
        r#"<p><a class="primary" href="{origin}/widget/{appId}?key={widgetKey}&amp;page=link" target="_blank" rel="noopener">Call the workshop</a></p>"#,
    ),
    ("/strict", "The loader under a policy that allows the widget's host and nothing else.", LOADER),
    ("/isolated", "The loader on a page that isolates itself (COEP).", LOADER),
];

impl Site {
    /// The site's routes.
    pub fn router(self) -> Router {
        // As strict as a careful customer's: the loader's script and the widget's frame, nothing else from elsewhere.
        let policy = format!(
            "default-src 'self' {0}; script-src {0}; style-src 'self'; img-src 'self' data:; frame-src {0}; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            self.origin
        );
        // Not even the prefetch of the widget's document, which is a kindness and no need.
        let strict = format!(
            "default-src 'none'; script-src {0}; style-src 'self'; img-src data:; frame-src {0}; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            self.origin
        );
        let page = |text: &str| {
            let pairs = [
                ("{origin}", &self.origin),
                ("{console}", &self.console),
                ("{inbox}", &self.inbox),
                ("{appId}", &self.app_id),
                ("{widgetKey}", &self.widget_key),
            ];
            pairs.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let serve = |kind: &'static str, policy: &str, isolated: bool, content: String| {
            let policy = policy.to_owned();
            get(move || {
                let mut answer = file(kind, &policy, content.clone());
                if isolated {
                    let headers = answer.headers_mut();
                    headers.insert("cross-origin-embedder-policy", HeaderValue::from_static("require-corp"));
                    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
                }
                async move { answer }
            })
        };
        let html = "text/html; charset=utf-8";
        let mut routes = Router::new()
            .route("/", serve(html, &policy, false, page(include_str!("demo.html"))))
            .route("/demo.css", serve("text/css; charset=utf-8", &policy, false, include_str!("demo.css").to_owned()));
        for (path, shows, embed) in WAYS {
            let embed = embed.replace("{path}", path.trim_start_matches('/'));
            let content = include_str!("way.html").replace("{shows}", shows).replace("{embed}", &embed);
            let policy = if path == "/strict" { &strict } else { &policy };
            routes = routes.route(path, serve(html, policy, path == "/isolated", page(&content)));
        }
        edge::reply::bordered(routes, None)
    }
}

/// Makes the demo's app and integration, or finds those of an earlier run; what is remembered is brought up to date.
///
/// # Errors
/// What could not be done, as a sentence.
pub async fn seed(
    store: &Store,
    memory: &mut Memory,
    inbox_url: &str,
    trunk: &Trunk,
    reach: &Reach,
    now: Timestamp,
) -> Result<(App, Integration), String> {
    let failed = |error: store::Error| format!("The demo cannot be stored: {error}.");
    let known = match memory.app_id {
        Some(id) => store.app(id).await.map_err(failed)?,
        None => None,
    };
    let app = match known {
        Some(app) => app,
        None => {
            let app = App::create("Demo", now, &edge::chance::bytes(), &edge::chance::bytes());
            let app = app.map_err(|error| format!("The demo app is wrong: {}.", error.message))?;
            store.create_app(&app, None).await.map_err(failed)?;
            memory.app_id = Some(app.id);
            memory.integration_id = None;
            memory.profiles.clear();
            app
        }
    };
    // The telephone's port is another one today; a provider that somebody else set stays.
    let provider = store.provider(app.id).await.map_err(failed)?;
    if provider.is_none_or(|provider| memory.sip_trunk.as_ref() == Some(&provider.uri)) {
        store.seed_provider(app.id, &trunk.provider()?).await.map_err(failed)?;
        memory.sip_trunk = Some(trunk.uri.clone());
    }
    seed_profiles(store, memory, app.id, trunk, now).await?;

    let around = Surroundings { reach, own_hosts: &[], secrets: &BTreeSet::new() };
    let known = match memory.integration_id {
        Some(id) => store.integration(app.id, id).await.map_err(failed)?,
        None => None,
    };
    let wrong = |errors: Vec<domain::field::FieldError>| {
        let fields: Vec<_> = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
        format!("The inbox's integration is wrong: {}.", fields.join(", "))
    };
    let integration = match known {
        Some(Stored { integration, .. }) if integration.url.as_typed() == inbox_url => integration,
        // The inbox's port is another one today.
        Some(stored) => {
            let draft = Draft { url: Some(inbox_url.to_owned()), ..Draft::default() };
            let moved = stored.integration.clone().change(draft, around).map_err(wrong)?;
            is_done(store.change_integration(app.id, &stored, &moved, None).await.map_err(failed)?)?;
            moved
        }
        None => {
            let draft = Draft {
                name: Some("Inbox".to_owned()),
                url: Some(inbox_url.to_owned()),
                events: Some(EventName::ALL.into_iter().collect()),
                status: Some(Status::Active),
                ..Draft::default()
            };
            let mut made = Integration::create(draft, around, now, &edge::chance::bytes()).map_err(wrong)?;
            let mut change = store.create_integration(app.id, &made, None).await.map_err(failed)?;
            if change == Change::TooManyActive {
                // Three others are active by now. The house starts all the same; who wants the inbox makes room for it.
                made.status = Status::Inactive;
                change = store.create_integration(app.id, &made, None).await.map_err(failed)?;
            }
            is_done(change)?;
            memory.integration_id = Some(made.id);
            made
        }
    };
    Ok((app, integration))
}

fn is_done(change: Change) -> Result<(), String> {
    match change {
        Change::Done => Ok(()),
        Change::TooManyActive | Change::TooMany => {
            Err("The demo app has as many integrations as it may have: delete one, or begin anew with another --state."
                .to_owned())
        }
        Change::Raced => Err("Somebody else changed the demo app at this very moment.".to_owned()),
    }
}

/// Where the demo's calls go.
#[derive(Clone, Debug)]
pub struct Trunk {
    /// The provider's address.
    pub uri: String,
    /// Whom it knows: names and addresses; the first is the default. Each name is also a routing key.
    pub profiles: Vec<(&'static str, String)>,
}

impl Trunk {
    /// The telephone of the house, and what it can play.
    pub fn phone(uri: String) -> Self {
        let profiles = ["echo", "goodbye", "busy", "decline", "nobody"];
        Self { uri, profiles: profiles.map(|user| (user, format!("sip:{user}@127.0.0.1"))).into() }
    }

    /// A trunk elsewhere, `sip:[user@]host[:port]`.
    pub fn elsewhere(address: &str) -> Self {
        let host = address.rsplit_once('@').map(|(_, host)| format!("sip:{host}"));
        Self { uri: host.unwrap_or_else(|| address.to_owned()), profiles: vec![("trunk", address.to_owned())] }
    }

    fn provider(&self) -> Result<Provider, String> {
        let provider = json!({"kind": "sip", "uri": self.uri, "transport": "udp", "active": true});
        let draft: ProviderDraft =
            serde_json::from_value(provider).map_err(|error| format!("The demo's provider is wrong: {error}."))?;
        let wrong = |_| format!("--sip-trunk {}: must be sip:HOST, sip:HOST:PORT or sip:USER@HOST.", self.uri);
        draft.check().map(|(provider, _)| provider).map_err(wrong)
    }
}

/// Makes the profiles that are not there; the first of them is the default.
async fn seed_profiles(
    store: &Store,
    memory: &mut Memory,
    app: AppId,
    trunk: &Trunk,
    now: Timestamp,
) -> Result<(), String> {
    let failed = |error: store::Error| format!("The demo cannot be stored: {error}.");
    for (number, (name, destination)) in trunk.profiles.iter().enumerate() {
        let known = match memory.profiles.get(destination) {
            Some(id) => store.profile(app, *id).await.map_err(failed)?,
            None => None,
        };
        let profile = match &known {
            Some(stored) => stored.profile.clone(),
            None => {
                let draft = profile::Draft {
                    name: Some((*name).to_owned()),
                    destination: Some(destination.clone()),
                    routing_keys: Some(vec![(*name).to_owned()]),
                    default: None,
                    hours: None,
                };
                let made = Profile::create(&draft, now, &edge::chance::bytes());
                made.map_err(|_| format!("The profile {name} of the demo is wrong: {destination}."))?
            }
        };
        let default = if number == 0 { Default::Becomes } else { Default::Stays };
        if known.is_none() || number == 0 {
            let change = store.put_profile(app, known.as_ref(), &profile, default, None).await.map_err(failed)?;
            if change == profiles::Change::Done {
                memory.profiles.insert(destination.clone(), profile.id);
            } else {
                // An operator gave the key to another profile: the demo does without.
                tracing::warn!(profile = name, "demo.profile_left_out");
            }
        }
    }
    Ok(())
}
