//! The rules: no async, no clock, no randomness, no network, no AWS, no HTTP.
//!
//! # Glossary (one spelling each)
//! - [`App`](app::App): one customer's configuration, apart from every other's. [`Provider`](app::Provider): its SIP trunk.
//! - Profile: a routable target of an app; its id is the event's `destinationId`. RoutingKey: chooses one.
//! - Visitor: the person on the website. [`Session`](session::Session): one visit of the widget;
//!   [`SessionToken`](token): its signed proof. [`Context`](context::Context): what the embedding page told about it.
//! - [`Event`](event::Event): something that happened in a session. [`Envelope`](event::Envelope): how it travels.
//! - [`Integration`](integration::Integration): a customer's HTTPS address that receives events;
//!   [`Destination`](destination::Destination): that address, parsed.
//! - [`Call`](call::Call): what is kept of a visitor's call. Leg: one of its two sides, the browser's or the trunk's.
//! - [`Design`](design): how a widget looks and what it says. [`Form`](form::Form): what it asks before a call;
//!   [`Survey`](survey::Survey): what it asks after one.
//! - [`Secret`](secret): a value that an integration's [`Template`](template::Template) names and nobody is shown.
//! - [`Delivery`](delivery::Delivery): one event due at one integration. [`Attempt`](delivery::Attempt): one POST of it.
//!   [`Outcome`](delivery::Outcome): what came back. [`Verdict`](delivery::Verdict): what follows.
//!   [`Schedule`](retry): when the next attempt is due. [`Breaker`](breaker::Breaker): what pauses an integration that
//!   only fails.
//!
//! Verbs: parse, mint, verify, sign, seal/open, record, route, queue, attempt, settle.

pub mod app;
pub mod audit;
pub mod breaker;
pub mod call;
pub mod context;
pub mod custom_code;
pub mod delivery;
pub mod design;
pub mod destination;
pub mod embed;
pub mod event;
pub mod field;
pub mod form;
pub mod hours;
pub mod id;
pub mod integration;
pub mod limit;
pub mod operator;
pub mod profile;
pub mod reach;
pub mod retention;
pub mod retry;
pub mod secret;
pub mod session;
pub mod signature;
mod strict;
pub mod survey;
pub mod template;
pub mod time;
pub mod token;
pub mod trace;
pub mod turn;
