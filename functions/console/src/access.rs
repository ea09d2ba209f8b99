//! Who may do what. Every change is an [`Action`]: its name in the audit log, and the role it needs. Handlers have apps and
//! notes from the extractors here and from nowhere else, so that none can forget to ask, nor to write down who was refused.

use std::{marker::PhantomData, net::IpAddr};

use axum::extract::{FromRequestParts, RawPathParams};
use domain::{
    app::App,
    audit::{Entry, Try},
    field::FieldError,
    id::{AppId, CallId, DeliveryId, DestinationId, IntegrationId, OperatorId},
    operator::Role::{self, Admin, Editor},
    secret::SecretName,
    time::Timestamp,
};
use edge::{
    chance,
    extract::{ClientIp, Now, no_path},
    problem::{Kind, Problem},
};
use http::request::Parts;
use store::audit::Log;

use crate::{State, operator::Operator};

/// A change that an operator may make.
pub(crate) trait Action {
    /// What the audit log calls it.
    const NAME: &'static str;
    /// Who may.
    const ROLE: Role;
}

macro_rules! actions {
    ($($action:ident: $role:ident, $name:literal;)*) => {$(
        pub(crate) struct $action;

        impl Action for $action {
            const NAME: &'static str = $name;
            const ROLE: Role = $role;
        }
    )*};
}

actions! {
    CreateApp: Editor, "app.create";
    ChangeApp: Editor, "app.change";
    RotateWidgetKey: Admin, "app.rotate_key";
    DeleteApp: Admin, "app.delete";
    PutProvider: Editor, "provider.put";
    DeleteProvider: Editor, "provider.delete";
    PutHours: Editor, "hours.put";
    CreateProfile: Editor, "profile.create";
    ChangeProfile: Editor, "profile.change";
    DeleteProfile: Editor, "profile.delete";
    CreateIntegration: Editor, "integration.create";
    ChangeIntegration: Editor, "integration.change";
    ActivateIntegration: Editor, "integration.activate";
    DeactivateIntegration: Editor, "integration.deactivate";
    DeleteIntegration: Editor, "integration.delete";
    TestIntegration: Editor, "integration.test";
    ResendDeliveries: Editor, "integration.resend";
    ResendDelivery: Editor, "delivery.resend";
    PutDesign: Editor, "design.put";
    PublishDesign: Editor, "design.publish";
    PreviewDesign: Editor, "design.preview";
    RestoreDesign: Editor, "design.restore";
    PutForm: Editor, "form.put";
    PutSurvey: Editor, "survey.put";
    PutButtons: Editor, "buttons.put";
    PutEmbed: Editor, "embed.put";
    PutCustomCode: Editor, "custom_code.put";
    PutRetention: Editor, "retention.put";
    EraseCall: Admin, "call.erase";
    PutSecret: Editor, "secret.put";
    DeleteSecret: Editor, "secret.delete";
    RevealSecret: Admin, "secret.reveal";
    RotateSigningKey: Editor, "signing_key.rotate";
    CreateOperator: Admin, "operator.create";
    DeleteOperator: Admin, "operator.delete";
}

/// What signing in and out is called in the audit log; everybody may.
pub(crate) const SIGN_IN: &str = "operator.sign_in";
pub(crate) const SIGN_OUT: &str = "operator.sign_out";

/// An app that an operator may look at.
pub(crate) struct Seen(pub(crate) App);

impl FromRequestParts<State> for Seen {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        Operator::from_request_parts(parts, state).await?.needs(Role::Viewer)?;
        find(state, &Place::of(parts, state).await?.app).await.map(Self)
    }
}

/// An app, and an operator who may do `A` with it. A try of somebody who may not is in the app's audit log.
pub(crate) struct Change<A> {
    pub(crate) app: App,
    pub(crate) operator: Operator,
    pub(crate) note: Note,
    action: PhantomData<A>,
}

impl<A: Action> FromRequestParts<State> for Change<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let operator = Operator::from_request_parts(parts, state).await?;
        let place = Place::of(parts, state).await?;
        let permitted = operator.needs(A::ROLE);
        let app = match find(state, &place.app).await {
            Ok(app) => app,
            // There is no log that it could stand in. Who may not change it does not learn what there is.
            Err(problem) => return permitted.and(Err(problem)),
        };
        let target = if place.target.is_empty() { app.id.to_string() } else { place.target };
        let note = Note::of_request(parts, state, Log::App(app.id), &operator, A::NAME).await?.about(target);
        match permitted {
            Ok(()) => Ok(Self { app, operator, note, action: PhantomData }),
            Err(problem) => Err(note.refuse(state, "role", problem).await),
        }
    }
}

/// An operator who may do `A`, which is about no app that is there. Tries of others are in the deployment's audit log.
pub(crate) struct Rule<A> {
    pub(crate) note: Note,
    action: PhantomData<A>,
}

impl<A: Action> FromRequestParts<State> for Rule<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let operator = Operator::from_request_parts(parts, state).await?;
        let place = Place::of(parts, state).await?;
        // What is yet to be made has no id: the list that it would join.
        let list = || parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let target = if place.target.is_empty() { list() } else { place.target };
        let note = Note::of_request(parts, state, Log::Deployment, &operator, A::NAME).await?.about(target);
        match operator.needs(A::ROLE) {
            Ok(()) => Ok(Self { note, action: PhantomData }),
            Err(problem) => Err(note.refuse(state, "role", problem).await),
        }
    }
}

/// What the audit log is to say about a change.
pub(crate) struct Note {
    log: Log,
    who: Try,
    pub(crate) now: Timestamp,
}

impl Note {
    /// About what an operator of this name tries, from this address.
    pub(crate) fn new(log: Log, operator: &str, action: &'static str, ip: IpAddr, now: Timestamp) -> Self {
        let who = Try { operator: operator.to_owned(), action, target: String::new(), ip, reason: None, detail: None };
        Self { log, who, now }
    }

    async fn of_request(
        parts: &mut Parts,
        state: &State,
        log: Log,
        operator: &Operator,
        action: &'static str,
    ) -> Result<Self, Problem> {
        let Now(now) = Now::from_request_parts(parts, state).await?;
        let ClientIp(ip) = ClientIp::from_request_parts(parts, state).await?;
        Ok(Self::new(log, operator.name(), action, ip, now))
    }

    /// The same about this.
    pub(crate) fn about(mut self, target: impl ToString) -> Self {
        self.who.target = target.to_string();
        self
    }

    /// The same with the operator's own reason.
    pub(crate) fn because(mut self, reason: Option<String>) -> Self {
        self.who.reason = reason;
        self
    }

    /// The same where something leads from one place to another from now on. Whoever has that place hears what is sent there:
    /// only who may be shown secrets may `give` them to it.
    pub(crate) async fn moved(
        mut self,
        state: &State,
        operator: &Operator,
        [from, to]: [String; 2],
        give: Option<FieldError>,
    ) -> Result<Self, Problem> {
        if from == to {
            return Ok(self);
        }
        self.who.detail = Some(format!("from {from} to {to}"));
        let Some(field) = give.filter(|_| operator.needs(RevealSecret::ROLE).is_err()) else { return Ok(self) };
        let problem = Problem::new(Kind::Forbidden, format!("{} {}.", field.field, field.message)).about(vec![field]);
        Err(self.refuse(state, "role", problem).await)
    }

    /// The row that is written with the change.
    pub(crate) fn granted(&self) -> Entry {
        self.who.granted(self.now, &chance::bytes())
    }

    /// Writes the row by itself, before a change that is no write of the table.
    pub(crate) async fn write(&self, state: &State) -> Result<(), Problem> {
        state.store.append_audit(self.log, &self.granted()).await.map_err(Problem::unavailable)?;
        self.done();
        Ok(())
    }

    /// Says in the function's own log that it was done.
    pub(crate) fn done(&self) {
        let Try { operator, action, target, .. } = &self.who;
        tracing::info!(action, target, operator, "change.done");
    }

    /// Writes down that it was refused, and the word for why; gives what the operator is told.
    pub(crate) async fn refuse(&self, state: &State, word: &str, problem: Problem) -> Problem {
        let Try { operator, action, target, .. } = &self.who;
        tracing::info!(action, target, operator, why = word, "change.refused");
        match state.store.append_audit(self.log, &self.who.refused(word, self.now, &chance::bytes())).await {
            Ok(()) => problem,
            Err(error) => Problem::unavailable(error),
        }
    }
}

/// What a path names. What cannot be a name or an id is not repeated into a log: it may be anything, a value too.
struct Place {
    app: String,
    /// What below the app is meant; empty when nothing is.
    target: String,
}

impl Place {
    async fn of(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| no_path())?;
        let (mut app, mut targets) = (String::new(), Vec::new());
        for (name, value) in &params {
            match name {
                "app" => value.clone_into(&mut app),
                "integration" => targets.extend(value.parse::<IntegrationId>().ok().map(|id| id.to_string())),
                "profile" => targets.extend(value.parse::<DestinationId>().ok().map(|id| id.to_string())),
                "delivery" => targets.extend(value.parse::<DeliveryId>().ok().map(|id| id.to_string())),
                "call" => targets.extend(value.parse::<CallId>().ok().map(|id| id.to_string())),
                "operator" => targets.extend(value.parse::<OperatorId>().ok().map(|id| id.to_string())),
                "secret" => {
                    let name = value.parse::<SecretName>().ok();
                    targets.push(format!("secrets/{}", name.as_ref().map_or("", SecretName::as_str)));
                }
                _ => {}
            }
        }
        Ok(Self { app, target: targets.join("/") })
    }
}

/// The app of this id.
pub(crate) async fn find(state: &State, id: &str) -> Result<App, Problem> {
    // An id that cannot be one is as unknown as one that is not there.
    let id: AppId = id.parse().map_err(|_| Problem::app_not_found())?;
    state.store.app(id).await.map_err(Problem::unavailable)?.ok_or_else(Problem::app_not_found)
}

/// Somebody else was quicker.
pub(crate) fn raced() -> Problem {
    Problem::new(Kind::Conflict, "Somebody else changed it at the same time. Read it again.")
}
