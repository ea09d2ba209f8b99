//! Apps and their providers.

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::{App, Provider, WidgetKey},
    field,
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
use store::apps::Deletion;

use crate::{State, list::Asked, operator::Operator, path::Path};

/// What a new app is made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    name: String,
}

/// What may be changed of an app.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
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

/// The app of this id.
pub(crate) async fn find(state: &State, id: &str) -> Result<App, Problem> {
    // An id that cannot be one is as unknown as one that is not there.
    let id: AppId = id.parse().map_err(|_| Problem::app_not_found())?;
    state.store.app(id).await.map_err(Problem::unavailable)?.ok_or_else(Problem::app_not_found)
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
    Now(now): Now,
    operator: Operator,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = App::create(&draft.name, now, &chance::bytes(), &chance::bytes()).map_err(Problem::field)?;
    state.store.create_app(&app).await.map_err(Problem::unavailable)?;
    tracing::info!(app = %app.id, operator = operator.name(), "app.created");
    Ok(reply::data(StatusCode::CREATED, now, Shown::from(app)))
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    Ok(reply::data(StatusCode::OK, now, Shown::from(find(&state, &app).await?)))
}

pub(crate) async fn change(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
    patch: Patch<Change>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let mut app = find(&state, &app).await?;
    if let Some(name) = patch.without_removals()?.name {
        app.name = field::label("name", &name, App::MAX_NAME).map_err(Problem::field)?;
        if !state.store.rename_app(app.id, &app.name).await.map_err(Problem::unavailable)? {
            return Err(raced());
        }
        tracing::info!(app = %app.id, operator = operator.name(), "app.changed");
    }
    Ok(reply::data(StatusCode::OK, now, Shown::from(app)))
}

fn raced() -> Problem {
    Problem::new(Kind::Conflict, "Somebody else changed it at the same time. Read it again.")
}

/// A new widget key. The old one ends at once: it is rotated when somebody has it who should not.
pub(crate) async fn rotate_key(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    operator.needs(Role::Admin)?;
    let mut app = find(&state, &app).await?;
    app.widget_key = WidgetKey::mint(&chance::bytes());
    if !state.store.rotate_widget_key(app.id, &app.widget_key).await.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    tracing::info!(app = %app.id, operator = operator.name(), "app.key_rotated");
    Ok(reply::data(StatusCode::OK, now, Shown::from(app)))
}

/// Nothing may still be sent for it: who deletes an app has switched its integrations off before.
pub(crate) async fn delete(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    operator.needs(Role::Admin)?;
    let app = find(&state, &app).await?;
    match state.store.delete_app(app.id, now).await.map_err(Problem::unavailable)? {
        Deletion::Done => {
            tracing::info!(app = %app.id, operator = operator.name(), "app.deleted");
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
    operator: Operator,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = find(&state, &app).await?;
    let provider = state.store.provider(app.id).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, provider.ok_or_else(|| Problem::not_found("provider"))?))
}

pub(crate) async fn put_provider(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
    Json(provider): Json<Provider>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = find(&state, &app).await?;
    provider.check().map_err(Problem::fields)?;
    state.store.put_provider(app.id, &provider).await.map_err(Problem::unavailable)?;
    tracing::info!(app = %app.id, operator = operator.name(), active = provider.active, "provider.put");
    Ok(reply::data(StatusCode::OK, now, provider))
}

pub(crate) async fn delete_provider(
    Extract(state): Extract<State>,
    operator: Operator,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = find(&state, &app).await?;
    if !state.store.delete_provider(app.id).await.map_err(Problem::unavailable)? {
        return Err(Problem::not_found("provider"));
    }
    tracing::info!(app = %app.id, operator = operator.name(), "provider.deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}
