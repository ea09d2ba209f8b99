//! What a session needs to know of an app, read in one request: a visitor waits for it, and each of several at once would
//! open a connection of its own where the function is cold.

use domain::{
    app::{App, Provider},
    design::{Content, preview::PreviewKey},
    hours::Hours,
    id::{AppId, DestinationId},
    profile::Profile,
    time::Timestamp,
};

use crate::{
    Error, Store,
    apps::Kept,
    designs::{Draft, Version},
    key::Key,
    previews::Preview,
    profiles::{self, Route},
    providers,
};

/// What an embed asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// A profile that it names.
    pub profile: Option<DestinationId>,
    /// The routing key, for who names no profile.
    pub routing_key: Option<&'a str>,
    /// The key to a preview of the draft.
    pub preview: Option<&'a PreviewKey>,
}

/// What there is for it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The app.
    pub app: App,
    /// Its provider, if one is configured.
    pub provider: Option<Provider>,
    /// Its business hours, if it said any.
    pub hours: Option<Hours>,
    /// The published design and its version, or the draft, which has version 0, for who holds a preview's key. `None` when
    /// nothing was published, or the key opens nothing, or no longer: rows outlive their expiry by hours or days.
    pub design: Option<(u32, Content)>,
    /// The profile that was named, if the app has it.
    pub profile: Option<Profile>,
    /// Where the routing key leads, else the app's default.
    pub routed: Option<DestinationId>,
}

impl Store {
    /// Reads what a visit begins with; `None`: there is no app of this id.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn visit(&self, app: AppId, wanted: Wanted<'_>, now: Timestamp) -> Result<Option<Visit>, Error> {
        let [at_app, at_provider, at_hours] = [Key::app(app), Key::provider(app), Key::hours(app)];
        let at_preview = wanted.preview.map(|key| Key::preview(app, &key.hash()));
        let at_design = if at_preview.is_some() { Key::draft(app) } else { Key::published(app) };
        let at_profile = wanted.profile.map(|id| Key::profile(app, id));
        // A routing key that leads nowhere does not keep a visitor out: the default is read with it.
        let at_route = wanted.routing_key.map(|key| Key::route(app, Some(key)));
        let at_default = Key::route(app, None);
        let always = [&at_app, &at_provider, &at_hours, &at_design, &at_default];
        let asked_for = [&at_preview, &at_profile, &at_route];
        let mut rows = self.rows(always.into_iter().chain(asked_for.into_iter().flatten())).await?;

        let Some(app) = rows.take("an app", &at_app)?.and_then(Kept::present) else { return Ok(None) };
        let route: Option<Route> = rows.take_if("a routing key", at_route.as_ref())?;
        let default: Option<Route> = rows.take("a routing key", &at_default)?;
        let design = if at_preview.is_some() {
            let preview: Option<Preview> = rows.take_if("a preview", at_preview.as_ref())?;
            let draft: Draft = rows.take("a draft", &at_design)?.unwrap_or_default();
            preview.filter(|preview| preview.is_open(now)).map(|_| (0, draft.content))
        } else {
            rows.take("a design", &at_design)?.map(|known: Version| (known.version, known.content))
        };
        Ok(Some(Visit {
            app,
            provider: rows.take("a provider", &at_provider)?.map(|stored: providers::Stored| stored.provider),
            hours: rows.take("business hours", &at_hours)?,
            design,
            profile: rows.take_if("a profile", at_profile.as_ref())?.map(|stored: profiles::Stored| stored.profile),
            routed: route.or(default).map(|route| route.profile),
        }))
    }
}
