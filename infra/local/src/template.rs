//! What the local house reads out of `template.yaml`: functions, routes, table, queues, keys and environment. Of SAM and
//! CloudFormation it knows just what that file uses, and refuses the rest by name.

use std::collections::BTreeMap;

use serde_yaml_ng::Value;

/// The template this binary was built with.
pub const TEMPLATE: &str = include_str!("../../../template.yaml");

/// The template says something that cannot be followed here.
#[derive(Debug, thiserror::Error)]
#[error("template.yaml: {at}: {why}")]
pub struct TemplateError {
    at: String,
    why: String,
}

fn wrong(at: impl Into<String>, why: impl Into<String>) -> TemplateError {
    TemplateError { at: at.into(), why: why.into() }
}

/// The template.
#[derive(Clone, Debug)]
pub struct Template {
    /// Functions by logical id.
    pub functions: BTreeMap<String, Function>,
    /// Tables by logical id.
    pub tables: BTreeMap<String, Table>,
    /// Queues by logical id.
    pub queues: BTreeMap<String, Queue>,
    /// Logical ids of the keys that wrap secrets or data.
    pub keys: Vec<String>,
    defaults: BTreeMap<String, String>,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The crate and binary that it is built from.
    pub binary: String,
    /// Seconds that one invocation may take.
    pub timeout: u64,
    /// HTTP routes that lead to it.
    pub routes: Vec<Route>,
    /// Queues that it is fed from.
    pub sources: Vec<Source>,
    /// Variables, not yet resolved.
    environment: BTreeMap<String, Value>,
}

/// An HTTP route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Logical id of the API.
    pub api: String,
    /// The method, or `ANY`.
    pub method: String,
    /// The path, as API Gateway writes it.
    pub path: String,
}

/// A queue that feeds a function (an event source mapping).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Logical id of the queue.
    pub queue: String,
    /// Messages handed over at once, at most.
    pub batch_size: u16,
    /// Batches under way at once, at most.
    pub concurrency: Option<u16>,
    /// Whether the function names the messages that failed; else a batch succeeds or fails as a whole.
    pub reports_failures: bool,
}

/// The table's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The partition key's attribute.
    pub partition: String,
    /// The sort key's attribute.
    pub sort: String,
    /// The attribute that holds a row's expiry.
    pub expiry: Option<String>,
}

/// A queue's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Settings by SQS's own names.
    pub attributes: Vec<(String, String)>,
    /// Where messages go that were received too often: logical id of the queue, and how often is too often.
    pub dead_letters: Option<(String, u32)>,
}

/// What the names in the template stand for here.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// What `!Ref X` gives, by logical id.
    pub refs: BTreeMap<String, String>,
    /// What `!GetAtt X.Arn` gives, by logical id.
    pub arns: BTreeMap<String, String>,
}

impl Template {
    /// Reads the template.
    ///
    /// # Errors
    /// When it says something that this house cannot follow.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let root: Value = serde_yaml_ng::from_str(text).map_err(|error| wrong("the file", error.to_string()))?;
        let globals = Node::new("Globals.Function", &root["Globals"]["Function"]);
        let mut template = Self {
            functions: BTreeMap::new(),
            tables: BTreeMap::new(),
            queues: BTreeMap::new(),
            keys: Vec::new(),
            defaults: BTreeMap::new(),
        };
        for (name, parameter) in Node::new("Parameters", &root["Parameters"]).entries()? {
            if let Some(default) = scalar(&parameter.value["Default"]) {
                template.defaults.insert(name, default);
            }
        }
        for (name, resource) in Node::new("Resources", &root["Resources"]).entries()? {
            let properties = resource.child("Properties");
            match resource.text("Type")?.as_str() {
                "AWS::Serverless::Function" => {
                    template.functions.insert(name, Function::read(&resource, &globals)?);
                }
                "AWS::DynamoDB::Table" => {
                    template.tables.insert(name, Table::read(&properties)?);
                }
                "AWS::SQS::Queue" => {
                    template.queues.insert(name, Queue::read(&properties)?);
                }
                "AWS::KMS::Key" => template.keys.push(name),
                _ => {}
            }
        }
        Ok(template)
    }

    /// A function's environment. A parameter has its default unless `names` says otherwise; a variable that `instead`
    /// gives is not read from the template at all.
    ///
    /// # Errors
    /// When a value refers to something that has no value here.
    pub fn environment(
        &self,
        function: &Function,
        names: &Names,
        instead: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, TemplateError> {
        let mut environment = instead.clone();
        for (variable, value) in &function.environment {
            if !instead.contains_key(variable) {
                environment.insert(variable.clone(), self.resolve(variable, value, names)?);
            }
        }
        Ok(environment)
    }

    fn resolve(&self, at: &str, value: &Value, names: &Names) -> Result<String, TemplateError> {
        if let Some(text) = scalar(value) {
            return Ok(text);
        }
        // A condition is that a parameter switches something on; here all have their defaults, and nothing is.
        if let Value::Tagged(tagged) = value
            && tagged.tag == "If"
            && let Some([_, _, otherwise]) = tagged.value.as_sequence().map(Vec::as_slice)
        {
            return self.resolve(at, otherwise, names);
        }
        let reference = argument(value, "Ref").and_then(|id| names.refs.get(id).or_else(|| self.defaults.get(id)));
        let arn = argument(value, "GetAtt").and_then(|path| names.arns.get(path.strip_suffix(".Arn")?));
        reference.or(arn).cloned().ok_or_else(|| wrong(at, "refers to something that has no value in the local house"))
    }

    /// The variables that a function's environment names.
    pub fn variables(function: &Function) -> impl Iterator<Item = &str> {
        function.environment.keys().map(String::as_str)
    }
}

impl Function {
    fn read(resource: &Node<'_>, globals: &Node<'_>) -> Result<Self, TemplateError> {
        let properties = resource.child("Properties");
        let timeout = match properties.optional_number("Timeout")? {
            Some(own) => own,
            None => globals.number("Timeout")?,
        };
        let mut function = Self {
            binary: resource.child("Metadata").child("BuildProperties").text("Binary")?,
            timeout,
            routes: Vec::new(),
            sources: Vec::new(),
            environment: BTreeMap::new(),
        };
        for place in [globals, &properties] {
            for (name, variable) in place.child("Environment").child("Variables").entries()? {
                function.environment.insert(name, variable.value.clone());
            }
        }
        for (_, event) in properties.child("Events").entries()? {
            let at = event.child("Properties");
            match event.text("Type")?.as_str() {
                "HttpApi" => function.routes.push(Route {
                    api: at.reference("ApiId", "Ref")?,
                    method: at.text("Method")?,
                    path: at.text("Path")?,
                }),
                "SQS" => function.sources.push(Source::read(&at)?),
                other => return Err(wrong(event.at, format!("the local house knows no event of type {other}"))),
            }
        }
        Ok(function)
    }
}

impl Source {
    /// Property names are checked one by one: linters let a misspelt one pass, and AWS then takes its default.
    fn read(at: &Node<'_>) -> Result<Self, TemplateError> {
        at.only(&["Queue", "BatchSize", "FunctionResponseTypes", "ScalingConfig"])?;
        let scaling = at.child("ScalingConfig");
        scaling.only(&["MaximumConcurrency"])?;
        let reports = match &at.value["FunctionResponseTypes"] {
            Value::Null => false,
            Value::Sequence(types) if types.iter().all(|one| one == "ReportBatchItemFailures") => !types.is_empty(),
            _ => return Err(wrong(&at.at, "FunctionResponseTypes may hold ReportBatchItemFailures alone")),
        };
        let size = at.optional_number("BatchSize")?.unwrap_or(10);
        let queue = at.reference("Queue", "GetAtt")?;
        Ok(Self {
            queue: queue.strip_suffix(".Arn").map(ToOwned::to_owned).ok_or_else(|| wrong(&at.at, "Queue"))?,
            batch_size: u16::try_from(size).map_err(|_| wrong(&at.at, "BatchSize is too large"))?,
            // A parameter here is for AWS alone: a laptop's number is its own.
            concurrency: scaling.value["MaximumConcurrency"].as_u64().and_then(|number| u16::try_from(number).ok()),
            reports_failures: reports,
        })
    }
}

impl Table {
    fn read(properties: &Node<'_>) -> Result<Self, TemplateError> {
        let key = |kind: &str| {
            let keys = properties.value["KeySchema"].as_sequence().into_iter().flatten();
            keys.filter(|key| key["KeyType"] == kind).find_map(|key| scalar(&key["AttributeName"]))
        };
        let expiry = &properties.value["TimeToLiveSpecification"];
        Ok(Self {
            partition: key("HASH").ok_or_else(|| wrong(&properties.at, "has no partition key"))?,
            sort: key("RANGE").ok_or_else(|| wrong(&properties.at, "has no sort key"))?,
            expiry: (expiry["Enabled"] == true).then(|| scalar(&expiry["AttributeName"])).flatten(),
        })
    }
}

impl Queue {
    fn read(properties: &Node<'_>) -> Result<Self, TemplateError> {
        let mut queue = Self { attributes: Vec::new(), dead_letters: None };
        for (name, value) in properties.entries()? {
            match name.as_str() {
                "VisibilityTimeout" | "MessageRetentionPeriod" | "ReceiveMessageWaitTimeSeconds" | "DelaySeconds" => {
                    let seconds = scalar(value.value).ok_or_else(|| wrong(&value.at, "must be a number"))?;
                    queue.attributes.push((name, seconds));
                }
                "RedrivePolicy" => {
                    let target = value.reference("deadLetterTargetArn", "GetAtt")?;
                    let target =
                        target.strip_suffix(".Arn").ok_or_else(|| wrong(&value.at, "must name a queue's Arn"))?;
                    let most = u32::try_from(value.number("maxReceiveCount")?).unwrap_or(u32::MAX);
                    queue.dead_letters = Some((target.to_owned(), most));
                }
                // Encryption at rest: a stand-in's memory is not encrypted.
                "KmsMasterKeyId" | "KmsDataKeyReusePeriodSeconds" | "SqsManagedSseEnabled" => {}
                other => return Err(wrong(&properties.at, format!("the local house knows no queue setting {other}"))),
            }
        }
        Ok(queue)
    }

    /// How long a received message stays hidden, in seconds.
    pub fn visibility_timeout(&self) -> u64 {
        let own = self.attributes.iter().find(|(name, _)| name == "VisibilityTimeout");
        own.and_then(|(_, seconds)| seconds.parse().ok()).unwrap_or(30)
    }
}

/// A value and where it stands, for errors.
struct Node<'a> {
    at: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    fn new(at: impl Into<String>, value: &'a Value) -> Self {
        Self { at: at.into(), value }
    }

    fn child(&self, name: &str) -> Node<'a> {
        Node::new(format!("{}.{name}", self.at), &self.value[name])
    }

    /// Named children in the order of the file; none when there is nothing here.
    fn entries(&self) -> Result<Vec<(String, Node<'a>)>, TemplateError> {
        let entries = match self.value {
            Value::Null => return Ok(Vec::new()),
            Value::Mapping(entries) => entries,
            _ => return Err(wrong(&self.at, "must be a mapping")),
        };
        let named = entries.iter().map(|(name, value)| {
            let name = scalar(name).ok_or_else(|| wrong(&self.at, "has a name that is no text"))?;
            let node = Node::new(format!("{}.{name}", self.at), value);
            Ok((name, node))
        });
        named.collect()
    }

    fn only(&self, known: &[&str]) -> Result<(), TemplateError> {
        match self.entries()?.into_iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(wrong(&self.at, format!("the local house knows no property {name}"))),
            None => Ok(()),
        }
    }

    fn text(&self, name: &str) -> Result<String, TemplateError> {
        scalar(&self.value[name]).ok_or_else(|| wrong(&self.at, format!("{name} is missing")))
    }

    fn optional_number(&self, name: &str) -> Result<Option<u64>, TemplateError> {
        match &self.value[name] {
            Value::Null => Ok(None),
            number => number.as_u64().map(Some).ok_or_else(|| wrong(&self.at, format!("{name} must be a number"))),
        }
    }

    fn number(&self, name: &str) -> Result<u64, TemplateError> {
        self.optional_number(name)?.ok_or_else(|| wrong(&self.at, format!("{name} is missing")))
    }

    fn reference(&self, name: &str, function: &str) -> Result<String, TemplateError> {
        let target = argument(&self.value[name], function).map(ToOwned::to_owned);
        target.ok_or_else(|| wrong(&self.at, format!("{name} must be !{function} of something")))
    }
}

/// Text, numbers and truth values as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The argument of the CloudFormation function `name` in its short form: `Table` of `!Ref Table`.
fn argument<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    match value {
        Value::Tagged(tagged) if tagged.tag == *name => tagged.value.as_str(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Template {
        Template::parse(TEMPLATE).expect("the template can be read")
    }

    #[test]
    fn every_function_is_a_crate_of_its_own() {
        let functions = template().functions;
        let found: Vec<_> = functions.iter().map(|(name, one)| (name.as_str(), one.binary.as_str())).collect();
        assert_eq!(
            found,
            [
                ("Console", "console"),
                ("Dispatch", "dispatch"),
                ("Ingest", "ingest"),
                ("Session", "session"),
                ("Widget", "widget")
            ]
        );
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file: Value = serde_yaml_ng::from_str(TEMPLATE).expect("YAML");
        for (name, function) in functions {
            let folder = scalar(&file["Resources"][name.as_str()]["Properties"]["CodeUri"]).expect("a CodeUri");
            let manifest = std::fs::read_to_string(root.join(&folder).join("Cargo.toml")).expect("its manifest");
            assert!(manifest.contains(&format!("name = \"{}\"", function.binary)), "{name}: {folder}");
            assert!(root.join(folder).join("src/main.rs").exists(), "{name}");
        }
    }

    #[test]
    fn every_variable_is_known() {
        let known: Vec<_> = edge::env::ALL.iter().map(|var| var.0).collect();
        for (name, function) in template().functions {
            for variable in Template::variables(&function) {
                assert!(known.contains(&variable), "{name}: {variable}");
            }
        }
        // What opens a hole for one machine must never be deployed.
        assert!(!TEMPLATE.contains(edge::env::ALLOW_DESTINATIONS.0));
    }

    #[test]
    fn a_batch_is_hidden_for_six_time_limits() {
        let template = template();
        let mut sources = 0;
        for (name, function) in &template.functions {
            for source in &function.sources {
                let queue = &template.queues[&source.queue];
                assert!(queue.visibility_timeout() >= 6 * function.timeout, "{name}");
                assert!(source.reports_failures, "{name}");
                assert!((1..=10).contains(&source.batch_size), "{name}");
                let (dead, most) = queue.dead_letters.as_ref().expect("a dead letter queue");
                assert!(template.queues.contains_key(dead) && *most >= 5, "{name}");
                sources += 1;
            }
        }
        assert_eq!(sources, 1);
    }

    #[test]
    fn misspelt_properties_are_found() {
        for (good, bad) in [
            ("FunctionResponseTypes:", "FunctionResponseType:"),
            ("BatchSize:", "BatchSizes:"),
            ("MaximumConcurrency:", "MaxConcurrency:"),
            ("VisibilityTimeout:", "VisibilityTimeOut:"),
            ("deadLetterTargetArn:", "deadLetterTarget:"),
            ("Method: ANY", "Verb: ANY"),
        ] {
            assert!(TEMPLATE.contains(good), "{good}");
            assert!(Template::parse(&TEMPLATE.replacen(good, bad, 1)).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_right_is_a_wildcard() {
        let file: Value = serde_yaml_ng::from_str(TEMPLATE).expect("YAML");
        let resources = file["Resources"].as_mapping().expect("resources");
        let mut statements = 0;
        for (name, role) in resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::IAM::Role") {
            for policy in role["Properties"]["Policies"].as_sequence().expect("policies") {
                for statement in policy["PolicyDocument"]["Statement"].as_sequence().expect("statements") {
                    let actions = match &statement["Action"] {
                        Value::Sequence(many) => many.clone(),
                        one => vec![one.clone()],
                    };
                    for action in actions {
                        assert!(!action.as_str().expect("an action").contains('*'), "{name:?}: {action:?}");
                    }
                    assert!(argument(&statement["Resource"], "GetAtt").is_some(), "{name:?}");
                    statements += 1;
                }
            }
        }
        assert!(statements > 20);
    }

    #[test]
    fn environments_resolve() {
        let template = template();
        let refs =
            ["AWS::StackName", "Table", "DeliveryQueue", "WidgetDomain"].map(|id| (id.to_owned(), format!("a-{id}")));
        let names = Names { refs: refs.into(), arns: [("SecretKey".to_owned(), "arn:key".to_owned())].into() };
        let origins = ["C2C_WIDGET_ORIGIN", "C2C_CODE_ORIGIN", "C2C_CONSOLE_ORIGIN", "C2C_MEDIA_URL"];
        let instead: BTreeMap<_, _> = origins.map(|name| (name.to_owned(), "http://here".to_owned())).into();
        let session = template.environment(&template.functions["Session"], &names, &instead).expect("resolved");
        for (variable, value) in [
            ("C2C_TABLE", "a-Table"),
            ("C2C_DEPLOYMENT", "a-AWS::StackName"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
            ("C2C_KMS_KEY_ID", "arn:key"),
            ("C2C_LIMIT_SESSION_IP", "30"),
            ("C2C_WIDGET_ORIGIN", "http://here"),
        ] {
            assert_eq!(session[variable], value, "{variable}");
        }
        // Nothing is switched on here.
        let console = template.environment(&template.functions["Console"], &names, &instead).expect("resolved");
        assert_eq!((console["C2C_OIDC_ISSUER"].as_str(), console["C2C_LIMIT_SIGN_IN_IP"].as_str()), ("", "30"));
        let none = template.environment(&template.functions["Widget"], &Names::default(), &instead);
        assert!(none.expect_err("no names").to_string().contains("C2C_"));
    }
}
