//! What `cargo run` takes on its command line, and what a test gives instead.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::Parser;
use domain::reach::Net;
use store::Endpoints;

/// Click to Call, the whole house on this machine: widget, public API, deliveries, console, a demo page and an inbox that
/// shows what integrations would receive.
#[derive(Debug, Parser)]
#[command(name = "click-to-call", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Port of the house; code., console. and demo.localhost answer on the same one
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    port: u16,

    /// Where apps, events in flight and keys are kept between runs
    #[arg(long, default_value = ".local", value_name = "DIR")]
    state: PathBuf,

    /// Keep nothing: all data in memory, gone at the end (DIR/local.json is still written)
    #[arg(long)]
    ephemeral: bool,

    /// Place the demo's calls on this SIP trunk over UDP instead of the built-in telephone; with a user, such as
    /// sip:sales@pbx.example.com, that is who is called
    #[arg(long, value_name = "sip:[USER@]HOST[:PORT]")]
    sip_trunk: Option<String>,

    /// Make no demo app, page or inbox
    #[arg(long)]
    no_demo: bool,

    /// An address beside the public internet that integrations may reach, over http too; may be given more than once
    /// [default: the demo inbox]
    #[arg(long = "allow-destination", value_name = "CIDR[:PORT]")]
    allow_destinations: Vec<String>,
}

const AFTER_HELP: &str = "\
DIR/local.json tells tools the addresses, tokens and ids while the house runs.

Environment:
  C2C_LIMIT_{WIDGET,SESSION,EVENTS,CALLS}_{IP,APP}   other rate limits, per minute; also C2C_LIMIT_SIGN_IN_IP
  C2C_OIDC_ISSUER and _CLIENT_ID   who operators may sign in with (OpenID Connect); also _SCOPE, _GROUPS_CLAIM, _GROUP_PREFIX
  AWS_ENDPOINT_URL_DYNAMODB, _SQS and _KMS, all three   use these instead of the built-in stand-ins
  OTEL_EXPORTER_OTLP_ENDPOINT   where traces go, such as http://localhost:4318; also _HEADERS, OTEL_TRACES_SAMPLER(_ARG)
  RUST_LOG   how much is logged, such as debug

Examples:
  cargo run
  cargo run -- --port 9000 --ephemeral
  cargo run -- --allow-destination 127.0.0.1:3000
  cargo run -- --sip-trunk sip:sales@pbx.example.com";

/// How a house is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its port; 0 takes any that is free.
    pub port: u16,
    /// Where state is kept and `local.json` is written; `None` keeps all in memory and writes nothing.
    pub state: Option<PathBuf>,
    /// Keep the data in memory although there is a state directory.
    pub ephemeral: bool,
    /// Whether there is a demo app with its page and inbox.
    pub demo: bool,
    /// The trunk of the demo's calls; none: the built-in telephone.
    pub sip_trunk: Option<String>,
    /// What deliveries may reach beside the public internet; the demo's inbox is always among it.
    pub allow_destinations: Vec<String>,
    /// Services to use instead of stand-ins of its own.
    pub endpoints: Option<Endpoints>,
    /// What names of tables, queues and keys begin with: several houses can share one set of services.
    pub stack_name: String,
    /// Variables for every function instead of the template's.
    pub environment: BTreeMap<String, String>,
    /// How often expired rows are swept.
    pub sweep_every: Duration,
}

impl Default for Options {
    /// A house for a test: any port, all in memory.
    fn default() -> Self {
        Self {
            port: 0,
            state: None,
            ephemeral: true,
            demo: true,
            sip_trunk: None,
            allow_destinations: Vec::new(),
            endpoints: None,
            stack_name: "click-to-call".to_owned(),
            environment: BTreeMap::new(),
            sweep_every: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// What the command line and these variables of the process ask for.
    ///
    /// # Errors
    /// What cannot be understood, as one sentence.
    pub fn from_process(arguments: Arguments, variables: &BTreeMap<String, String>) -> Result<Self, String> {
        if let Some(text) = arguments.allow_destinations.iter().find(|text| text.parse::<Net>().is_err()) {
            return Err(format!("--allow-destination {text}: must be CIDR or CIDR:PORT, such as 127.0.0.1/32:3000."));
        }
        let taken = |name: &str| ["C2C_LIMIT_", "C2C_OIDC_"].iter().any(|prefix| name.starts_with(prefix));
        let environment = variables.iter().filter(|(name, _)| taken(name));
        Ok(Self {
            port: arguments.port,
            state: Some(arguments.state),
            ephemeral: arguments.ephemeral,
            demo: !arguments.no_demo,
            sip_trunk: arguments.sip_trunk,
            allow_destinations: arguments.allow_destinations,
            endpoints: endpoints(variables)?,
            environment: environment.map(|(name, value)| (name.clone(), value.clone())).collect(),
            ..Self::default()
        })
    }
}

/// The SDK's own variables, when all three are set. Some alone would split the house between two worlds.
fn endpoints(variables: &BTreeMap<String, String>) -> Result<Option<Endpoints>, String> {
    let names = ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_KMS"];
    let given = names.map(|name| variables.get(name).filter(|url| !url.is_empty()).cloned());
    match given {
        [Some(dynamodb), Some(sqs), Some(kms)] => Ok(Some(Endpoints { dynamodb, sqs, kms })),
        [None, None, None] => Ok(None),
        _ => Err(format!("{}, {} and {} must be set together, or none of them.", names[0], names[1], names[2])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str], variables: &[(&str, &str)]) -> Result<Options, String> {
        let arguments = Arguments::try_parse_from([&["click-to-call"], line].concat()).map_err(|e| e.to_string())?;
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options::from_process(arguments, &variables)
    }

    #[test]
    fn defaults_are_the_contract() {
        let options = read(&[], &[]).expect("nothing wrong");
        assert_eq!(options.port, 8080);
        assert_eq!(options.state, Some(".local".into()));
        assert!(!options.ephemeral && options.demo && options.endpoints.is_none());
        assert!(options.allow_destinations.is_empty() && options.environment.is_empty());
    }

    #[test]
    fn every_flag() {
        let line = ["--port", "9000", "--state", "/x", "--ephemeral", "--no-demo", "--allow-destination", "10.0.0.0/8"];
        let options =
            read(&[&line[..], &["--allow-destination", "127.0.0.1:3000", "--sip-trunk", "sip:a@b"]].concat(), &[])
                .expect("all known");
        assert_eq!((options.port, options.state), (9000, Some("/x".into())));
        assert!(options.ephemeral && !options.demo);
        assert_eq!((options.allow_destinations.len(), options.sip_trunk.as_deref()), (2, Some("sip:a@b")));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_sentence() {
        let error = read(&["--allow-destination", "my server"], &[]).expect_err("no network");
        assert_eq!(error.lines().count(), 1);
        assert!(error.contains("--allow-destination my server"));
        assert!(read(&["--port", "99999"], &[]).is_err());
        let error = read(&[], &[("AWS_ENDPOINT_URL_SQS", "http://localhost:1")]).expect_err("one alone");
        assert!(error.contains("AWS_ENDPOINT_URL_KMS"));
    }

    #[test]
    fn limits_and_services_come_from_the_environment() {
        let variables = [
            ("C2C_LIMIT_EVENTS_IP", "9"),
            ("C2C_OIDC_ISSUER", "http://localhost:9"),
            ("C2C_TABLE", "not taken"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:1"),
            ("AWS_ENDPOINT_URL_SQS", "http://localhost:2"),
            ("AWS_ENDPOINT_URL_KMS", "http://localhost:3"),
        ];
        let options = read(&[], &variables).expect("good");
        let taken = [("C2C_LIMIT_EVENTS_IP", "9"), ("C2C_OIDC_ISSUER", "http://localhost:9")];
        assert_eq!(options.environment, taken.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(options.endpoints.expect("three").kms, "http://localhost:3");
    }
}
