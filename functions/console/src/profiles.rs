//! An app's profiles: whom its visitors can reach.

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::App,
    hours,
    id::DestinationId,
    profile::{Draft, Profile},
};
use edge::{
    chance,
    extract::{Json, Now, Patch, Path},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::Serialize;
use store::profiles::{Change as Written, Default as DefaultChange, Stored};

use crate::{
    State,
    access::{Change, ChangeProfile, CreateProfile, DeleteProfile, Seen, raced},
    list::Asked,
};

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

fn done(written: Written) -> Result<(), Problem> {
    match written {
        Written::Done => Ok(()),
        Written::Taken(key) => {
            Err(Problem::new(Kind::Conflict, format!("The routing key {key} leads to another profile of this app.")))
        }
        Written::Raced => Err(raced()),
    }
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    asked: Asked,
) -> Result<Response, Problem> {
    let default = default(&state, &app).await?;
    let page = state.store.profiles(app.id, asked.limit, asked.after()?).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|profile| profile.id));
    let shown = page.items.into_iter().map(|profile| Shown { default: default == Some(profile.id), profile });
    Ok(reply::page(now, shown.collect(), pagination))
}

pub(crate) async fn create(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<CreateProfile>,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    let profile = Profile::create(&draft, note.now, &chance::bytes()).map_err(Problem::fields)?;
    let default = draft.default == Some(true);
    let change = if default { DefaultChange::Becomes } else { DefaultChange::Stays };
    let note = note.about(profile.id);
    let written = state.store.put_profile(app.id, None, &profile, change, Some(&note.granted())).await;
    done(written.map_err(Problem::unavailable)?)?;
    note.done();
    Ok(reply::data(StatusCode::CREATED, note.now, Shown { profile, default }))
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let profile = find(&state, &app, &id).await?.profile;
    let default = default(&state, &app).await? == Some(profile.id);
    Ok(reply::data(StatusCode::OK, now, Shown { profile, default }))
}

pub(crate) async fn change(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<ChangeProfile>,
    Path((_, id)): Path<(String, String)>,
    patch: Patch<Draft>,
) -> Result<Response, Problem> {
    let before = find(&state, &app, &id).await?;
    let mut draft = patch.given;
    let mut errors = Vec::new();
    for field in &patch.removed {
        match field.as_str() {
            "routingKeys" => draft.routing_keys = Some(Vec::new()),
            "default" => draft.default = Some(false),
            "hours" => draft.hours = Some(hours::Draft::inherited()),
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
        let written = state.store.put_profile(app.id, Some(&before), &after, change, Some(&note.granted())).await;
        done(written.map_err(Problem::unavailable)?)?;
        note.done();
    }
    Ok(reply::data(StatusCode::OK, note.now, Shown { profile: after, default: is_default }))
}

pub(crate) async fn delete(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<DeleteProfile>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let before = find(&state, &app, &id).await?;
    let is_default = default(&state, &app).await? == Some(before.profile.id);
    let change = if is_default { DefaultChange::Ends } else { DefaultChange::Stays };
    let written = state.store.delete_profile(app.id, &before, change, &note.granted()).await;
    done(written.map_err(Problem::unavailable)?)?;
    note.done();
    Ok(StatusCode::NO_CONTENT.into_response())
}
