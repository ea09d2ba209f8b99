//! Apps and their providers.

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::{App, Password, Provider, ProviderDraft, ProviderHealth, WidgetKey},
    field::{self, FieldError},
    id::AppId,
    operator::Role,
    time::Timestamp,
};
use edge::{
    chance,
    extract::{Json, Now, Patch},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use store::{apps::Deletion, providers::Stored as StoredProvider};

use crate::{
    State,
    access::{
        Change, ChangeApp, CreateApp, DeleteApp, DeleteProvider, PutProvider, RotateWidgetKey, Rule, Seen, raced,
    },
    list::Asked,
    operator::Operator,
};

/// What a new app is made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    name: String,
}

/// What may be changed of an app.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    name: Option<String>,
}

/// An app, as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    app_id: AppId,
    name: String,
    widget_key: String,
    created_at: Timestamp,
}

impl From<App> for Shown {
    fn from(app: App) -> Self {
        Self { app_id: app.id, name: app.name, widget_key: app.widget_key.to_string(), created_at: app.created_at }
    }
}

/// A provider, as the API shows it: never its password.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownProvider {
    #[serde(flatten)]
    provider: Provider,
    has_password: bool,
    /// What came of asking it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<ProviderHealth>,
}

impl ShownProvider {
    fn new(stored: StoredProvider, health: Option<ProviderHealth>) -> Self {
        Self { has_password: stored.has_password(), provider: stored.provider, health }
    }
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    asked: Asked,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let page = state.store.apps(asked.limit, asked.after()?).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|app| app.app_id));
    Ok(reply::page(now, page.items, pagination))
}

pub(crate) async fn create(
    Extract(state): Extract<State>,
    Rule { note, .. }: Rule<CreateApp>,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    let app = App::create(&draft.name, note.now, &chance::bytes(), &chance::bytes()).map_err(Problem::field)?;
    let note = note.about(app.id);
    state.store.create_app(&app, Some(&note.granted())).await.map_err(Problem::unavailable)?;
    note.done();
    Ok(reply::data(StatusCode::CREATED, note.now, Shown::from(app)))
}

pub(crate) async fn read(Now(now): Now, Seen(app): Seen) -> Response {
    reply::data(StatusCode::OK, now, Shown::from(app))
}

pub(crate) async fn change(
    Extract(state): Extract<State>,
    Change { mut app, note, .. }: Change<ChangeApp>,
    patch: Patch<Wanted>,
) -> Result<Response, Problem> {
    if let Some(name) = patch.without_removals()?.name {
        app.name = field::label("name", &name, App::MAX_NAME).map_err(Problem::field)?;
        if !state.store.rename_app(app.id, &app.name, &note.granted()).await.map_err(Problem::unavailable)? {
            return Err(raced());
        }
        note.done();
    }
    Ok(reply::data(StatusCode::OK, note.now, Shown::from(app)))
}

/// A new widget key. The old one ends at once: it is rotated when somebody has it who should not.
pub(crate) async fn rotate_key(
    Extract(state): Extract<State>,
    Change { mut app, note, .. }: Change<RotateWidgetKey>,
) -> Result<Response, Problem> {
    app.widget_key = WidgetKey::mint(&chance::bytes());
    let rotated = state.store.rotate_widget_key(app.id, &app.widget_key, &note.granted()).await;
    if !rotated.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    note.done();
    Ok(reply::data(StatusCode::OK, note.now, Shown::from(app)))
}

/// Nothing may still be sent for it: who deletes an app has switched its integrations off before.
pub(crate) async fn delete(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<DeleteApp>,
) -> Result<Response, Problem> {
    match state.store.delete_app(app.id, &note.granted()).await.map_err(Problem::unavailable)? {
        Deletion::Done => {
            note.done();
            // Nothing can ask for them any more; that they also go from the table is no reason to say that it failed.
            if let Err(error) = state.store.forget_app_secrets(app.id).await {
                tracing::warn!(app = %app.id, %error, "secrets.left");
            }
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Deletion::HasActive => {
            Err(Problem::new(Kind::Conflict, "This app has active integrations. Deactivate or delete them first."))
        }
    }
}

pub(crate) async fn read_provider(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
) -> Result<Response, Problem> {
    let read = tokio::try_join!(state.store.stored_provider(app.id), state.store.provider_health(app.id));
    let (stored, health) = read.map_err(Problem::unavailable)?;
    let stored = stored.ok_or_else(|| Problem::not_found("provider"))?;
    // Nobody is asked whether an inactive one is there.
    let health = health.filter(|_| stored.provider.active);
    Ok(reply::data(StatusCode::OK, now, ShownProvider::new(stored, health)))
}

pub(crate) async fn put_provider(
    Extract(state): Extract<State>,
    Change { app, operator, note, .. }: Change<PutProvider>,
    Json(draft): Json<ProviderDraft>,
) -> Result<Response, Problem> {
    let (provider, password) = draft.check().map_err(Problem::fields)?;
    let before = state.store.stored_provider(app.id).await.map_err(Problem::unavailable)?;
    let kept = before.as_ref().filter(|before| {
        let is_same_user = before.provider.username == provider.username;
        matches!(password, Password::Stays) && before.has_password() && is_same_user
    });
    let give = kept.map(|_| {
        let message = "leads to another host, where the stored password would be used. That needs the role admin; or give the \
                       password again";
        FieldError::invalid("uri", message)
    });
    let from = before.as_ref().map_or_else(|| provider.place(), |before| before.provider.place());
    let note = note.moved(&state, &operator, [from, provider.place()], give).await?;
    let stored = state.store.put_provider(&state.vault, app.id, before, &provider, &password, &note.granted()).await;
    let stored = stored.map_err(Problem::unavailable)?.ok_or_else(raced)?;
    note.done();
    Ok(reply::data(StatusCode::OK, note.now, ShownProvider::new(stored, None)))
}

pub(crate) async fn delete_provider(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<DeleteProvider>,
) -> Result<Response, Problem> {
    if !state.store.delete_provider(app.id, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(Problem::not_found("provider"));
    }
    note.done();
    Ok(StatusCode::NO_CONTENT.into_response())
}
