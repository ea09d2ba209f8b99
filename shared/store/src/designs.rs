//! Designs: the draft that operators work at, what is published, and the versions that it was published as.
//!
//! Publishing writes the version and the published copy together, on the condition that neither draft nor published copy
//! changed since they were read: of two who publish at once one is told to look again.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    audit::Entry,
    design::{Button, Content, Look, MAX_VERSIONS},
    form::Form,
    id::AppId,
    survey::Survey,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    apps::EXISTS,
    audit::Log,
    key::{Key, Range, in_order},
    table::{Order, Page, number, string, to_row},
};

/// A draft, and which change of it this is; 0 when there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Draft {
    /// What it holds.
    #[serde(flatten)]
    pub content: Content,
    #[serde(default)]
    revision: u64,
}

/// A part of the draft that is set on its own.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// How it looks and what it says.
    Look(&'a Look),
    /// The form before a call.
    Form(&'a Form),
    /// The survey after it.
    Survey(&'a Survey),
    /// Buttons of the app's own.
    Buttons(&'a [Button]),
}

/// A version that is or was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// Its number, from 1.
    pub version: u32,
    /// When.
    pub published_at: Timestamp,
    /// By whom: the operator's name.
    pub published_by: String,
    /// The version that it brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<u32>,
    /// What it holds.
    pub content: Content,
}

/// How bringing a version back went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is published again, under a number of its own.
    Done(Box<Version>),
    /// There is no such version, or it is not kept any more.
    Unknown,
    /// Somebody else published at the same time, or the app is gone.
    Raced,
}

impl Store {
    /// An app's draft.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn draft(&self, app: AppId) -> Result<Draft, Error> {
        Ok(self.get("a draft", Key::draft(app)).await?.unwrap_or_default())
    }

    /// Sets a part of an app's draft; the others stay. `false`: the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_draft(&self, app: AppId, part: Part<'_>, entry: &Entry) -> Result<bool, Error> {
        let (name, value) = match part {
            Part::Look(look) => ("look", serde_dynamo::to_attribute_value(look)),
            Part::Form(form) => ("form", serde_dynamo::to_attribute_value(form)),
            Part::Survey(survey) => ("survey", serde_dynamo::to_attribute_value(survey)),
            Part::Buttons(buttons) => ("buttons", serde_dynamo::to_attribute_value(buttons)),
        };
        let value: AttributeValue = value.map_err(|error| Error::unreadable("a value to store", error))?;
        let values = [(":part", value), (":one", number(1))];
        let update = format!("SET #{name} = :part ADD revision :one");
        let transaction = self.transaction().check(&Key::app(app), EXISTS)?;
        let transaction = transaction.update(&Key::draft(app), &update, None, &values)?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
    }

    /// What an app has published; `None` when it never did.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn published(&self, app: AppId) -> Result<Option<Version>, Error> {
        self.get("a design", Key::published(app)).await
    }

    /// One version of an app's design that is kept.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn design(&self, app: AppId, version: u32) -> Result<Option<Version>, Error> {
        self.get("a design", Key::design(app, version)).await
    }

    /// Versions of an app's design, newest first, those before `before`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn designs(&self, app: AppId, limit: u8, before: Option<u32>) -> Result<Page<Version>, Error> {
        self.page("a design", Range::designs(app), Order::Newest, before.map(in_order), limit).await
    }

    /// Publishes an app's draft. `None`: somebody else changed or published it at the same time, or the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn publish(&self, app: AppId, entry: &Entry) -> Result<Option<Version>, Error> {
        let (draft, published) = tokio::try_join!(self.draft(app), self.published(app))?;
        self.bring_out(
            app,
            draft.content,
            published.map_or(0, |known| known.version),
            None,
            Some(draft.revision),
            entry,
        )
        .await
    }

    /// Publishes an earlier version of an app's design again. The draft stays as it is.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn restore(&self, app: AppId, version: u32, entry: &Entry) -> Result<Restored, Error> {
        let (earlier, published) = tokio::try_join!(self.design(app, version), self.published(app))?;
        let Some(earlier) = earlier else { return Ok(Restored::Unknown) };
        let known = published.map_or(0, |known| known.version);
        let made = self.bring_out(app, earlier.content, known, Some(version), None, entry).await?;
        Ok(made.map_or(Restored::Raced, |made| Restored::Done(Box::new(made))))
    }

    /// Makes the version after `known`. `draft`: the revision that the draft must still have.
    async fn bring_out(
        &self,
        app: AppId,
        content: Content,
        known: u32,
        restored_from: Option<u32>,
        draft: Option<u64>,
        entry: &Entry,
    ) -> Result<Option<Version>, Error> {
        let version = known + 1;
        let (published_at, published_by) = (entry.at, entry.operator.clone());
        let made = Version { version, published_at, published_by, restored_from, content };
        let still = [(":known", number(known))];
        let published = to_row(&Key::published(app), &made)?;
        // Widgets are told the language before they have a session: it stands with the app.
        let lang = [(":lang", string(made.content.look.lang.as_str()))];
        let transaction = self.transaction().update(&Key::app(app), "SET #lang = :lang", Some(EXISTS), &lang)?;
        let transaction = match known {
            0 => transaction.put(published, Some("attribute_not_exists(pk)"), &[])?,
            _ => transaction.put(published, Some("version = :known"), &still)?,
        };
        let mut transaction = transaction.put(to_row(&Key::design(app, version), &made)?, None, &[])?;
        if let Some(oldest) = version.checked_sub(MAX_VERSIONS).filter(|oldest| *oldest > 0) {
            transaction = transaction.delete(&Key::design(app, oldest), None, &[])?;
        }
        transaction = match draft {
            None => transaction,
            Some(0) => transaction.check(&Key::draft(app), "attribute_not_exists(revision)")?,
            // Unchanged since it was read; what is written is the version that it became.
            Some(revision) => {
                let same = [(":revision", number(revision)), (":version", number(version))];
                transaction.update(&Key::draft(app), "SET published = :version", Some("revision = :revision"), &same)?
            }
        };
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok().then_some(made))
    }
}
