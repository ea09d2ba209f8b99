//! The functions, opened as on Lambda: each sees the environment that the template gives it, and no other. This is the
//! one place where the template's logical ids meet the crates.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use axum::Router;
use edge::env::{self, Env};
use store::{Aws, Queue};

use crate::{
    house::StartError,
    inbox::Inbox,
    poller::{Mapping, POLLERS, Poller},
    provision::Provisioned,
    template::Template,
};

/// The logical id of the function that queues feed.
const DISPATCH: &str = "Dispatch";

/// The functions of a house.
pub struct Functions {
    /// Those that answer HTTP, by their logical ids.
    pub http: BTreeMap<String, Router>,
    /// The media server, which is no function of the template but reads the same variables.
    pub media: media::State,
    dispatch: dispatch::State,
}

impl Functions {
    /// Opens them all. `calls`: variables of the media server alone, which others of its kind would reach at `private`.
    ///
    /// # Errors
    /// When the template gives a function too little, or what it needs does not answer.
    pub async fn open(
        template: &Template,
        provisioned: &Provisioned,
        instead: &BTreeMap<String, String>,
        calls: &BTreeMap<String, String>,
        private: SocketAddr,
        aws: &Aws,
    ) -> Result<Self, StartError> {
        let names = provisioned.names();
        let environment = |name: &'static str| {
            let function = template.functions.get(name).ok_or(StartError::NoFunction(name))?;
            Ok::<_, StartError>(Env::from_pairs(template.environment(function, &names, instead)?))
        };
        let failed = |name| move |cause| StartError::Function { name, cause };
        let (widget, session, ingest) = (environment("Widget")?, environment("Session")?, environment("Ingest")?);
        let (dispatch, console) = (environment("Dispatch")?, environment("Console")?);
        let mut media = instead.clone();
        for var in [env::TABLE, env::DELIVERY_QUEUE_URL, env::KMS_KEY_ID] {
            media.insert(var.0.to_owned(), dispatch.text(var).unwrap_or_default());
        }
        // Calls reach other places than deliveries do.
        media.extend(calls.clone());
        let media = Env::from_pairs(media);

        // Each under a name of its own, as each has a role of its own.
        let by = |name| aws.named(name);
        let (widget, session, ingest, dispatch, console, media) = tokio::try_join!(
            async { widget::State::open(&widget, &by("Widget")).await.map_err(failed("Widget")) },
            async { session::State::open(&session, &by("Session")).await.map_err(failed("Session")) },
            async { ingest::State::open(&ingest, &by("Ingest")).await.map_err(failed("Ingest")) },
            async { dispatch::State::open(&dispatch, &by(DISPATCH)).await.map_err(failed("Dispatch")) },
            async { console::State::open(&console, &by("Console")).await.map_err(failed("Console")) },
            async { media::State::open(&media, &by("Media"), private).await.map_err(failed("media")) },
        )?;
        let http = [
            ("Widget", widget::router(widget)),
            ("Session", session::router(session)),
            ("Ingest", ingest::router(ingest)),
            ("Console", console::router(console)),
        ];
        Ok(Self { http: http.map(|(name, router)| (name.to_owned(), router)).into(), media, dispatch })
    }

    /// Lets the inbox hear what somebody should hear of: in AWS its place is a topic's, or an event bus's.
    pub fn tell(&mut self, inbox: &Inbox) {
        let inbox = inbox.clone();
        self.dispatch = self.dispatch.clone().telling(move |notice| inbox.tell(notice));
    }

    /// Begins to feed those that queues feed.
    pub fn feed(&self, template: &Template, provisioned: &Provisioned, aws: &Aws) -> Vec<Poller> {
        let Some(function) = template.functions.get(DISPATCH) else { return Vec::new() };
        // Lambda polls with the role of the function that it feeds.
        let aws = &aws.named(DISPATCH);
        let pollers = function.sources.iter().filter_map(|source| {
            let mapping = Mapping {
                queue: Queue::open(aws, provisioned.queue_urls.get(&source.queue)?),
                queue_arn: provisioned.queue_arns.get(&source.queue)?.clone(),
                batch_size: source.batch_size,
                concurrency: source.concurrency.map_or(POLLERS, |most| most.min(POLLERS)),
                reports_failures: source.reports_failures,
                timeout: Duration::from_secs(function.timeout),
            };
            let state = self.dispatch.clone();
            Some(Poller::start(mapping, move |event| {
                let state = state.clone();
                async move { dispatch::handle(&state, event).await }
            }))
        });
        pollers.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{
        body::{Body, to_bytes},
        extract::Request,
    };
    use edge::extract::Peer;
    use embedded::{Config, Embedded};
    use store::Endpoints;
    use tower::ServiceExt;

    use super::*;
    use crate::{template::TEMPLATE, trunk};

    #[tokio::test]
    async fn every_route_of_the_template_is_one_of_its_function() {
        let stand_ins = Embedded::start(Config::default()).await.expect("stand-ins");
        let aws = Aws::local(Endpoints {
            dynamodb: stand_ins.dynamodb_url().to_owned(),
            sqs: stand_ins.sqs_url().to_owned(),
            kms: stand_ins.kms_url().to_owned(),
        });
        let template = Template::parse(TEMPLATE).expect("the template");
        let provisioned = Provisioned::make(&aws, &template, "test").await.expect("provisioned");
        let places = [env::WIDGET_ORIGIN, env::CODE_ORIGIN, env::CONSOLE_ORIGIN, env::MEDIA_URL];
        let instead = places.map(|var| (var.0.to_owned(), "http://localhost:1".to_owned())).into();
        let calls = trunk::Place::loopback().variables();
        let private = SocketAddr::from((Ipv4Addr::LOCALHOST, 9_090));
        let functions =
            Functions::open(&template, &provisioned, &instead, &calls, private, &aws).await.expect("opened");

        let mut routes = 0;
        for (name, function) in &template.functions {
            for route in &function.routes {
                // What stands for a rest of a path must be an address that exists; every other part may be anything.
                let path = route.path.replace("{proxy+}", "apps").replace(['{', '}'], "");
                let method = if route.method == "ANY" { "GET" } else { &route.method };
                let request = Request::builder().method(method).uri(&path).extension(Peer(Ipv4Addr::LOCALHOST.into()));
                let router = functions.http[name].clone();
                let answer = router.oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
                let body = to_bytes(answer.into_body(), 1_000_000).await.expect("a body");
                let body = String::from_utf8_lossy(&body);
                assert!(!body.contains("no such address here"), "{name}: {method} {path}: {body}");
                routes += 1;
            }
        }
        assert!(routes >= 15);
        stand_ins.shutdown().await;
    }
}
