//! Profiles, the routing keys that lead to them and the app's default: one row each, written together, so that a
//! routing key leads to one profile and an app has one default whoever writes at the same time.

use std::collections::BTreeSet;

use domain::{
    audit::Entry,
    id::{AppId, DestinationId},
    profile::Profile,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    apps::EXISTS,
    audit::Log,
    key::{Key, Range},
    table::{Order, Page, number, to_row},
    transaction::{Transaction, text},
};

/// A profile and the revision that a change of it must name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The profile.
    #[serde(flatten)]
    pub profile: Profile,
    /// Counts its changes.
    pub revision: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) profile: DestinationId,
}

/// What becomes of the app's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It stays as it is.
    Stays,
    /// It becomes this profile.
    Becomes,
    /// It was this profile, and there is none from now on.
    Ends,
}

/// How a change went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is stored.
    Done,
    /// This routing key leads to another profile.
    Taken(String),
    /// Somebody else changed or deleted it meanwhile, or the app is gone.
    Raced,
}

const FREE_OR_MINE: &str = "attribute_not_exists(pk) OR profile = :profile";

impl Store {
    /// One profile of one app.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn profile(&self, app: AppId, id: DestinationId) -> Result<Option<Stored>, Error> {
        self.get("a profile", Key::profile(app, id)).await
    }

    /// Profiles of one app in the order in which they were made, those after `after`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn profiles(&self, app: AppId, limit: u8, after: Option<DestinationId>) -> Result<Page<Profile>, Error> {
        Ok(self
            .page::<Stored>("a profile", Range::profiles(app), Order::Oldest, after, limit)
            .await?
            .map(|stored| stored.profile))
    }

    /// Where a routing key leads, or, without one, who asks for none.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn route(&self, app: AppId, routing_key: Option<&str>) -> Result<Option<DestinationId>, Error> {
        let route: Option<Route> = self.get("a routing key", Key::route(app, routing_key)).await?;
        Ok(route.map(|route| route.profile))
    }

    /// Stores a profile: a new one, or one that is still as `before` says.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_profile(
        &self,
        app: AppId,
        before: Option<&Stored>,
        after: &Profile,
        default: Default,
        entry: Option<&Entry>,
    ) -> Result<Change, Error> {
        let revision = before.map_or(0, |before| before.revision);
        let row = to_row(&Key::profile(app, after.id), &Stored { profile: after.clone(), revision: revision + 1 })?;
        let transaction = self.transaction().check(&Key::app(app), EXISTS)?;
        let transaction = match before {
            Some(_) => transaction.put(row, Some("revision = :revision"), &[(":revision", number(revision))])?,
            None => transaction.put(row, Some("attribute_not_exists(pk)"), &[])?,
        };
        let none = BTreeSet::new();
        let had = before.map_or(&none, |before| &before.profile.routing_keys);
        self.lead(transaction, app, after.id, had, &after.routing_keys, default, entry).await
    }

    /// Deletes a profile, if it is still as `before` says, and whatever leads to it.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn delete_profile(
        &self,
        app: AppId,
        before: &Stored,
        default: Default,
        entry: &Entry,
    ) -> Result<Change, Error> {
        let key = Key::profile(app, before.profile.id);
        let revision = [(":revision", number(before.revision))];
        let transaction = self.transaction().check(&Key::app(app), EXISTS)?;
        let transaction = transaction.delete(&key, Some("revision = :revision"), &revision)?;
        let keys = &before.profile.routing_keys;
        self.lead(transaction, app, before.profile.id, keys, &BTreeSet::new(), default, Some(entry)).await
    }

    /// Commits what stands in `transaction` (two writes) together with where routing keys and the default lead.
    #[expect(clippy::too_many_arguments, reason = "one transaction, and all that is in it")]
    async fn lead(
        &self,
        mut transaction: Transaction<'_>,
        app: AppId,
        id: DestinationId,
        had: &BTreeSet<String>,
        has: &BTreeSet<String>,
        default: Default,
        entry: Option<&Entry>,
    ) -> Result<Change, Error> {
        const BEFORE: usize = 2;
        let mine = text(":profile", id);
        let route = |key: Option<&str>| to_row(&Key::route(app, key), &Route { profile: id });
        let added: Vec<&String> = has.difference(had).collect();
        for key in &added {
            transaction = transaction.put(route(Some(key))?, Some(FREE_OR_MINE), &mine)?;
        }
        for key in had.difference(has) {
            transaction = transaction.delete(&Key::route(app, Some(key)), Some(FREE_OR_MINE), &mine)?;
        }
        transaction = match default {
            Default::Stays => transaction,
            Default::Becomes => transaction.put(route(None)?, None, &[])?,
            Default::Ends => transaction.delete(&Key::route(app, None), Some(FREE_OR_MINE), &mine)?,
        };
        match transaction.noted(Log::App(app), entry)?.commit().await? {
            Ok(()) => Ok(Change::Done),
            Err(refused) => {
                let key = refused.first().and_then(|at| at.checked_sub(BEFORE)).and_then(|at| added.get(at));
                Ok(key.map_or(Change::Raced, |key| Change::Taken((*key).clone())))
            }
        }
    }
}
