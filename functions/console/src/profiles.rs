//! An app's profiles: whom its visitors can reach.

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::App,
    id::DestinationId,
    operator::Role,
    profile::{Draft, Profile},
};
use edge::{
    chance,
    extract::{Json, Now, Patch},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::Serialize;
use store::profiles::{Change, Default as DefaultChange, Stored};

use crate::{State, apps, list::Asked, operator::Operator, path::Path};

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    profile: Profile,
    default: bool,
}

async fn find(state: &State, app: &App, id: &str) -> Result<Stored, Problem> {
    let missing = || Problem::not_found("profile");
    let id: DestinationId = id.parse().map_err(|_| missing())?;
    state.store.profile(app.id, id).await.map_err(Problem::unavailable)?.ok_or_else(missing)
}

async fn default(state: &State, app: &App) -> Result<Option<DestinationId>, Problem> {
    state.store.route(app.id, None).await.map_err(Problem::unavailable)
}

fn done(change: Change) -> Result<(), Problem> {
    match change {
        Change::Done => Ok(()),
        Change::Taken(key) => {
            Err(Problem::new(Kind::Conflict, format!("The routing key {key} leads to another profile of this app.")))
        }
        Change::Raced => Err(Problem::new(Kind::Conflict, "Somebody else changed it at the same time. Read it again.")),
    }
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = apps::find(&state, &app).await?;
    let default = default(&state, &app).await?;
    let page = state.store.profiles(app.id, asked.limit, asked.after()?).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|profile| profile.id));
    let shown = page.items.into_iter().map(|profile| Shown { default: default == Some(profile.id), profile });
    Ok(reply::page(now, shown.collect(), pagination))
}

pub(crate) async fn create(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let profile = Profile::create(&draft, now, &chance::bytes()).map_err(Problem::fields)?;
    let default = draft.default == Some(true);
    let change = if default { DefaultChange::Becomes } else { DefaultChange::Stays };
    done(state.store.put_profile(app.id, None, &profile, change).await.map_err(Problem::unavailable)?)?;
    tracing::info!(app = %app.id, profile = %profile.id, operator = operator.name(), "profile.created");
    Ok(reply::data(StatusCode::CREATED, now, Shown { profile, default }))
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = apps::find(&state, &app).await?;
    let profile = find(&state, &app, &id).await?.profile;
    let default = default(&state, &app).await? == Some(profile.id);
    Ok(reply::data(StatusCode::OK, now, Shown { profile, default }))
}

pub(crate) async fn change(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
    patch: Patch<Draft>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let before = find(&state, &app, &id).await?;
    let mut draft = patch.given;
    let mut errors = Vec::new();
    for field in &patch.removed {
        match field.as_str() {
            "routingKeys" => draft.routing_keys = Some(Vec::new()),
            "default" => draft.default = Some(false),
            other => errors.push(Patch::<Draft>::must_stay(other)),
        }
    }
    let changed = before.profile.clone().change(&draft);
    errors.extend(changed.as_ref().err().into_iter().flatten().cloned());
    let (Ok(after), []) = (changed, errors.as_slice()) else { return Err(Problem::fields(errors)) };
    let was_default = default(&state, &app).await? == Some(after.id);
    let is_default = draft.default.unwrap_or(was_default);
    let change = match (was_default, is_default) {
        (false, true) => DefaultChange::Becomes,
        (true, false) => DefaultChange::Ends,
        _ => DefaultChange::Stays,
    };
    if after != before.profile || change != DefaultChange::Stays {
        done(state.store.put_profile(app.id, Some(&before), &after, change).await.map_err(Problem::unavailable)?)?;
        tracing::info!(app = %app.id, profile = %after.id, operator = operator.name(), "profile.changed");
    }
    Ok(reply::data(StatusCode::OK, now, Shown { profile: after, default: is_default }))
}

pub(crate) async fn delete(
    Extract(state): Extract<State>,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let before = find(&state, &app, &id).await?;
    let is_default = default(&state, &app).await? == Some(before.profile.id);
    let change = if is_default { DefaultChange::Ends } else { DefaultChange::Stays };
    done(state.store.delete_profile(app.id, &before, change).await.map_err(Problem::unavailable)?)?;
    tracing::info!(app = %app.id, profile = %before.profile.id, operator = operator.name(), "profile.deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}
