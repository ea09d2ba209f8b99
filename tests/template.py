"""What linters miss of template.yaml and the stacks under infra/: who may do what, on which rows, and whether names that
stand in two places are the same. Prints the matrix of rights; any right that EXPECTED does not list is an error, and any
that it lists and nobody has. `python tests/template.py`, with PyYAML and moto.

`python tests/template.py FILE` compares the rights with what functions asked for while tests ran that kept it there (with
`C2C_USES=FILE`): no use without a right, and no right without a use, but for those of UNUSED, which have reasons."""

import copy
import json
import re
import sys
from pathlib import Path

import yaml
from moto.events.models import EventPattern

ROOT = Path(__file__).resolve().parent.parent
NESTED = {path.name: path for path in sorted((ROOT / "infra").glob("*.yaml"))}

READ, QUERY, ADD = "dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem"
CHANGE, REMOVE, CHECK = "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"
WRAP, UNWRAP, SEND = "kms:GenerateDataKey", "kms:Decrypt", "sqs:SendMessage"
LOG = {("logs:CreateLogStream", "own log"), ("logs:PutLogEvents", "own log")}
TABLE = {(UNWRAP, "data key, for dynamodb")}
QUEUE = {(SEND, "DeliveryQueue"), (WRAP, "data key, for sqs"), (UNWRAP, "data key, for sqs")}


def rows(actions, *keys):
    return {(action, key) for action in actions for key in keys}


# Function -> what its role allows: actions, and the rows or purposes they are allowed for.
EXPECTED = {
    "Widget": LOG | TABLE | rows([READ], "APP#*") | rows([CHANGE], "LIMIT#*"),
    "Session": LOG | TABLE | rows([READ, "dynamodb:BatchGetItem"], "APP#*") | rows([CHANGE], "LIMIT#*")
    | rows([QUERY, ADD], "TOKENKEY", "TOKENSEED") | rows([WRAP, UNWRAP], "purpose session-token")
    | {(UNWRAP, "data key, for lambda")},
    "Ingest": LOG | TABLE | QUEUE | rows([READ, QUERY], "APP#*") | rows([QUERY], "TOKENKEY") | rows([CHANGE], "LIMIT#*")
    | rows([READ, CHECK], "CALLS#*") | rows([QUERY, ADD], "FORM#*") | rows([READ, ADD], "SURVEYS#*"),
    "Dispatch": LOG | TABLE | QUEUE | rows([READ, QUERY, CHANGE], "APP#*") | rows([READ, CHANGE], "DELIVERY#*")
    | rows([UNWRAP], "purpose integration-secret")
    | rows(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "DeliveryQueue"),
    "Console": LOG | TABLE | QUEUE
    | rows([READ, QUERY, ADD, CHANGE, REMOVE, CHECK], "APP#*") | rows([QUERY, ADD, CHANGE, REMOVE], "APPS") | rows([ADD, REMOVE], "PROVIDERS")
    | rows([READ, QUERY, CHANGE, REMOVE], "DELIVERY#*") | rows([READ, QUERY, REMOVE], "CALLS#*", "SURVEYS#*")
    | rows([QUERY, REMOVE], "FORM#*")
    | rows([ADD, QUERY], "AUDIT#*")
    | rows([READ, QUERY, ADD, CHANGE, REMOVE], "OPERATORS", "OPERATORS#ADMINS") | rows([READ, ADD, REMOVE], "OPERATOR#*")
    | rows([ADD, REMOVE], "SIGNIN#*")
    | rows([CHANGE], "LIMIT#sign-in#ip#*")
    | rows([WRAP, UNWRAP], "purpose integration-secret") | rows([WRAP], "purpose provider"),
    "Media": TABLE | QUEUE | rows([READ, QUERY, CHANGE], "APP#*") | rows([READ, ADD, REMOVE], "CALLS#*")
    | rows([READ, ADD, REMOVE], "SESSION#*") | rows([CHANGE], "LIMIT#*") | rows([QUERY], "TOKENKEY", "PROVIDERS")
    | rows([QUERY, ADD, REMOVE], "SERVERS", "SERVER#*")
    | rows([UNWRAP], "purpose provider") | rows(["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"], "own cluster"),
    # The pipe that tells of paused integrations and lost providers.
    "Notice": TABLE | rows([WRAP, UNWRAP], "data key, for sns") | rows(["sns:Publish"], "Notices")
    | rows(["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"], "changes of rows"),
    # What ECS does before the media server runs. AWS ties the first to no resource.
    "Starter": LOG | {("ecr:GetAuthorizationToken", "*")}
    | rows(["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], "Repository"),
}
# Role -> who may take it on.
TRUSTED = {who: "lambda" for who in ("Widget", "Session", "Ingest", "Dispatch", "Console")} | {
    "Media": "ecs-tasks", "Starter": "ecs-tasks", "Notice": "pipes"}
# What else gives rights: a key's or a topic's own policy, by principals that are services; and resources that must not be.
SERVICES = {("DataKey", "logs"), ("DataKey", "cloudwatch"), ("NoticesFrom", "cloudwatch")}
GIVES_RIGHTS = re.compile(r"AWS::IAM::|.*(Policy|Permission|Url|Connector|Grant|ResourcePolicy)$")
NO_RIGHTS = {"AWS::IAM::Role", "AWS::SNS::TopicPolicy", "AWS::ApplicationAutoScaling::ScalingPolicy", "AWS::CloudFront::CachePolicy",
             "AWS::CloudFront::OriginRequestPolicy"}
RIGHTS_INSIDE = {"FunctionUrlConfig", "Connectors", "RepositoryPolicyText", "ResourcePolicy", "ManagedPolicyArns", "PermissionsBoundary"}
# Rights that functions use in no test, or not in every run, and why they are given all the same.
UNUSED = {
    ("Dispatch", "sqs:GetQueueAttributes", "DeliveryQueue"): "Lambda asks how many messages wait before it polls",
    ("Dispatch", "dynamodb:GetItem", "DELIVERY"): "asked when two workers record one failure",
    ("Console", "dynamodb:DeleteItem", "DELIVERY"): "an erased call's deliveries to integrations that are gone",
}
# What a use can be: the rest is used by AWS itself in the name of a role, to write logs and to open what lies encrypted.
OBSERVED = re.compile(r"dynamodb:|sqs:|kms:\w+ purpose ")
# Variables that no deployment sets: they have defaults, or are for one machine alone.
NOT_DEPLOYED = {
    "C2C_ALLOW_DESTINATIONS", "C2C_MEDIA_ADDRESSES", "C2C_MEDIA_DRAIN_SECONDS", "C2C_MEDIA_LISTEN", "C2C_MEDIA_PRIVATE_LISTEN",
    "C2C_MEDIA_PRIVATE_URL", "C2C_MEDIA_PUBLIC_ADDRESSES",
}


class Wrong(Exception):
    """The template says something that it must not."""


def load(text):
    """YAML with CloudFormation's short forms: `!Ref X` becomes {"Ref": "X"}."""

    class Loader(yaml.SafeLoader):
        pass

    def short(loader, suffix, node):
        if isinstance(node, yaml.ScalarNode):
            return {suffix: loader.construct_scalar(node)}
        if isinstance(node, yaml.SequenceNode):
            return {suffix: loader.construct_sequence(node, deep=True)}
        return {suffix: loader.construct_mapping(node, deep=True)}

    Loader.add_multi_constructor("!", short)
    return yaml.load(text, Loader)


def listed(value):
    return value if isinstance(value, list) else [value]


def resource(who, statement):
    """What a statement is about, in a word; only a resource of ours will do."""
    words = {"Table": "table", "SecretKey": "secret key", "DataKey": "data key", "TableStream": "changes of rows"}
    at = statement["Resource"]
    if at == "*" and listed(statement["Action"]) == ["ecr:GetAuthorizationToken"]:
        return "*"
    if isinstance(at, dict) and str(at.get("Sub", "")).endswith(":task/${Cluster}/*"):
        return "own cluster"
    if isinstance(at, dict) and ("GetAtt" in at or "Ref" in at):
        name = re.sub(r"\.?Arn$", "", at.get("GetAtt") or at["Ref"])
        if name.endswith("Log"):
            if name not in (f"{who}Log", "MediaLog"):
                raise Wrong(f"{who}: {name} is another's log")
            return "own log"
        return words.get(name, name)
    raise Wrong(f"{who}: {at} names no resource of the deployment")


def scopes(who, statement):
    """The rows or purposes that a statement is bound to; the table and the keys are never given as a whole."""
    where, conditions = resource(who, statement), statement.get("Condition", {})
    tests = {}
    for test in conditions.values():
        for name, value in test.items():
            tests[name] = [value] if isinstance(value, dict) else listed(value)
    if where == "table":
        if list(tests) != ["dynamodb:LeadingKeys"] or set(conditions) - {"ForAllValues:StringLike", "ForAllValues:StringEquals"}:
            raise Wrong(f"{who}: {statement['Sid']} is not bound to rows")
        return tests["dynamodb:LeadingKeys"]
    if where == "secret key":
        if set(conditions) != {"StringEquals"} or list(tests) != ["kms:EncryptionContext:purpose"]:
            raise Wrong(f"{who}: {statement['Sid']} is not bound to a purpose")
        return [f"purpose {purpose}" for purpose in tests["kms:EncryptionContext:purpose"]]
    if where == "data key":
        if set(conditions) != {"StringEquals"} or list(tests) != ["kms:ViaService"]:
            raise Wrong(f"{who}: {statement['Sid']} is not bound to a service")
        return [f"data key, for {service(who, via)}" for via in tests["kms:ViaService"]]
    return [where]


def service(who, name):
    """A service of AWS in this region, or one without regions, by its first word."""
    text = name["Sub"].replace(".${AWS::Region}", "") if isinstance(name, dict) and set(name) == {"Sub"} else name
    if not isinstance(text, str) or not re.fullmatch(r"[a-z-]+\.amazonaws\.com", text):
        raise Wrong(f"{who}: {name} is no service")
    return text.split(".")[0]


def rights(templates):
    """Function -> {(action, scope)}, of the roles in all templates."""
    found = {}
    for template in templates:
        for name, role in template["Resources"].items():
            if GIVES_RIGHTS.match(role["Type"]) and role["Type"] not in NO_RIGHTS or RIGHTS_INSIDE & names(role):
                raise Wrong(f"{name}: rights stand in roles alone")
            if role["Type"] != "AWS::IAM::Role":
                continue
            who, properties = name.removesuffix("Role"), role["Properties"]
            if set(properties) != {"AssumeRolePolicyDocument", "Policies"} or who in found:
                raise Wrong(f"{who}: a role says who takes it on and what that allows, once")
            check_trust(who, properties["AssumeRolePolicyDocument"]["Statement"])
            for policy in properties["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    if statement["Effect"] != "Allow" or set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}:
                        raise Wrong(f"{who}: {statement['Sid']} is more than a plain permission")
                    for action in listed(statement["Action"]):
                        if not isinstance(action, str) or "*" in action:
                            raise Wrong(f"{who}: {action}")
                        found.setdefault(who, set()).update((action, scope) for scope in scopes(who, statement))
    return found


def names(value):
    """Names of all members, however deep."""
    if isinstance(value, dict):
        return set(value).union(*(names(one) for one in value.values()))
    return set().union(*(names(one) for one in value)) if isinstance(value, list) else set()


def check_trust(who, statements):
    """One service takes a role on; where AWS says for whom, only for this account."""
    if len(statements) != 1:
        raise Wrong(f"{who} is taken on by {len(statements)} statements")
    [statement] = statements
    ours = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    condition = None if TRUSTED.get(who) == "lambda" else ours
    should = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": f"{TRUSTED.get(who)}.amazonaws.com"}}
    if statement != should | ({"Condition": condition} if condition else {}):
        raise Wrong(f"{who} may be taken on by {statement.get('Principal')}")


def check_policies(templates):
    """Policies of keys and topics give rights to this account, which gives them to roles, and to the services expected."""
    root = {"AWS": {"Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
    found = set()
    for template in templates:
        for name, resource in template["Resources"].items():
            properties = resource.get("Properties", {})
            policy = properties.get("KeyPolicy") or (resource["Type"] == "AWS::SNS::TopicPolicy" and properties["PolicyDocument"]) or {}
            for statement in policy.get("Statement", []):
                principal = statement["Principal"]
                if statement["Effect"] == "Deny" or resource["Type"] == "AWS::KMS::Key" and principal == root:
                    continue
                about = json.dumps(statement.get("Condition", {}))
                if set(principal) != {"Service"} or "AWS::AccountId" not in about or "IfExists" in about or '"*"' in about:
                    raise Wrong(f"{name} gives rights to {principal}")
                found.add((name, service(name, principal["Service"])))
    if found != SERVICES:
        raise Wrong(f"policies name the services {sorted(found ^ SERVICES)} against what is expected")


def check_rights(templates):
    check_policies(templates)
    found = rights(templates)
    for who in sorted(found.keys() | EXPECTED.keys()):
        have, should = found.get(who, set()), EXPECTED.get(who, set())
        for action, scope in sorted(have - should):
            raise Wrong(f"{who} may {action} ({scope}), which is not expected")
        for action, scope in sorted(should - have):
            raise Wrong(f"{who} may not {action} ({scope}), which is expected")
    return found


def check_functions(template):
    """One role a function, and nothing beside it."""
    owners = {}
    if {"Policies", "Role"} & set(template["Globals"]["Function"]):
        raise Wrong("rights stand in each function's own role")
    for name, function in template["Resources"].items():
        if function["Type"] == "AWS::Serverless::Function":
            properties = function["Properties"]
            if properties["Role"] != {"GetAtt": f"{name}Role.Arn"} or "Policies" in properties:
                raise Wrong(f"{name} has not a role of its own alone")
            if function["Metadata"]["BuildMethod"] != "rust-cargolambda":
                raise Wrong(f"{name} is not built by cargo-lambda")
            owners[name] = properties["CodeUri"]
    if len(set(owners.values())) != len(owners) or len(owners) < 5:
        raise Wrong(f"functions share folders: {owners}")


def key_table():
    """Rows of the table in key.rs: partition key and who reads it."""
    text = (ROOT / "shared/store/src/key.rs").read_text()
    public = ["Widget", "Session", "Ingest", "Media"]
    table = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.removeprefix("//!").strip().strip("|").split(" | ")]
        if line.startswith("//! |") and len(cells) == 4 and "`" in cells[1]:
            readers = public if cells[3] == "every public function" else re.findall(r"\w+", re.sub(r"\(.*?\)", "", cells[3]))
            for key in re.findall(r"`([^`]+)`", cells[1]):
                table.append((key.split("{")[0], {reader.capitalize() for reader in readers}))
    code = text.split("#[cfg(test)]")[0]
    code = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("//"))
    # Partition keys as the code makes them: `format!("APP#{app}")`, or a constant. Sort keys are made by other words.
    made = set(re.findall(r'(?:fn \w+_partition[^}]*?|Self::new\(\s*)format!\("([A-Z]+#)', code))
    if len(table) < 15 or len(made) < 5:
        raise Wrong("key.rs is not written as it is read here")
    for prefix in made:
        if not any(key.startswith(prefix) for key, _ in table):
            raise Wrong(f"key.rs makes {prefix} and does not list it")
    return table


def check_keys(found, table):
    """Leading keys are of rows that key.rs lists; a function may read what it is listed as a reader of, and all of that."""
    readable = {who: {key for action, key in rights if action in (READ, QUERY)} for who, rights in found.items()}
    for key in {key for rights in found.values() for action, key in rights if action in (READ, QUERY, ADD, CHANGE, REMOVE, CHECK)}:
        if not any(matches(key, row) for row, _ in table):
            raise Wrong(f"key.rs lists no row {key}")
    for who, keys in readable.items():
        for key in keys:
            if not any(matches(key, row) and who in readers for row, readers in table):
                raise Wrong(f"{who} may read {key}, and key.rs does not list it as a reader")
    for row, readers in table:
        for who in readers:
            # A limit is read by the write that changes it, a code for signing in by the one that takes it away.
            counts = {key for action, key in found.get(who, ())
                      if action == CHANGE and key.startswith("LIMIT#") or (action, key) == (REMOVE, "SIGNIN#*")}
            if not any(matches(key, row) for key in readable.get(who, set()) | counts):
                raise Wrong(f"{who} reads {row} (key.rs), and has no right to")


def matches(pattern, row):
    return row == pattern[:-1] or row.startswith(pattern[:-1]) if pattern.endswith("*") else row == pattern


def check_variables():
    """Variables of the templates are ones that the code reads, and the other way round."""
    known = set(re.findall(r'"((?:C2C|OTEL)_\w+)"', (ROOT / "shared/edge/src/env.rs").read_text().split("#[cfg(test)]")[0]))
    deployed = set(re.findall(r"\b(?:C2C|OTEL)_\w+", "".join(text for text in texts().values())))
    if deployed - known:
        raise Wrong(f"no code reads {sorted(deployed - known)}")
    if deployed & NOT_DEPLOYED or known - deployed - NOT_DEPLOYED:
        raise Wrong(f"set, or left out, against what is expected: {sorted(deployed & NOT_DEPLOYED | known - deployed - NOT_DEPLOYED)}")


def check_stacks(template, nested):
    """Nested stacks are given what they ask for and asked for what they give."""
    used = re.findall(r"!GetAtt (\w+)\.Outputs\.(\w+)", (ROOT / "template.yaml").read_text())
    for name, stack in template["Resources"].items():
        if stack["Type"] != "AWS::CloudFormation::Stack":
            continue
        inner = nested[Path(stack["Properties"]["TemplateURL"]).name]
        given, asked = set(stack["Properties"].get("Parameters", {})), inner.get("Parameters", {})
        missing = {parameter for parameter, says in asked.items() if "Default" not in says} - given
        unknown = given - set(asked)
        outputs = {output for owner, output in used if owner == name} - set(inner.get("Outputs", {}))
        if missing or unknown or outputs:
            raise Wrong(f"{name}: not given {missing}, unknown {unknown}, has no output {outputs}")


def check_image(service):
    """The media server's image is what its task expects: made by the project's compiler, run as the same user, asked alike
    whether it is well, and not killed before it has stopped."""
    lines = (ROOT / "media-fargate/Dockerfile").read_text().splitlines()
    container = service["Resources"]["Server"]["Properties"]["ContainerDefinitions"][0]
    compiler = re.search(r'channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text())[1]
    health = container["HealthCheck"]
    program = health["Command"][1]
    times = f"--interval={health['Interval']}s --timeout={health['Timeout']}s --start-period={health['StartPeriod']}s"
    for line in (
        f"FROM --platform=$BUILDPLATFORM docker.io/library/rust:{compiler}-bookworm AS build",
        # One that is not said is the first stage's, by buildah 1.28: a program in another processor's image.
        "FROM --platform=$TARGETPLATFORM gcr.io/distroless/cc-debian12:nonroot",
        # A path that is nothing in Debian: /media is a directory there, and the program came to lie in it.
        f"COPY --from=build --chmod=0555 /usr/local/bin/media {program}",
        f'ENTRYPOINT ["{program}"]',
        f"USER {container['User']}",
        f"HEALTHCHECK {times} --retries={health['Retries']} CMD {json.dumps(health['Command'][1:])}",
    ):
        if line not in lines:
            raise Wrong(f"the media server's Dockerfile does not say {line}")
    code = "".join((ROOT / "media-fargate/src" / name).read_text() for name in ("lib.rs", "main.rs"))
    takes = sum(int(re.search(rf"const {name}: Duration = Duration::from_secs\((\d+)\)", code)[1])
                for name in ("DRAIN_PATIENCE", "DRAIN_FAREWELL", "LAST_ANSWERS"))
    if takes + 5 > container["StopTimeout"]:
        raise Wrong(f"the media server takes {takes} s to stop and is killed after {container['StopTimeout']}")


def check_alarms(alarms):
    """Every alarm has its paragraph in the runbook, and every paragraph its alarm."""
    readme = (ROOT / "README.md").read_text()
    named = {name for name, resource in alarms["Resources"].items() if resource["Type"] == "AWS::CloudWatch::Alarm"}
    for name in named:
        properties = alarms["Resources"][name]["Properties"]
        if properties["AlarmName"] != {"Sub": "${Name}-" + name}:
            raise Wrong(f"{name} is called otherwise")
        # Ignoring few samples, CloudWatch judges a p95 from two hundred on: a small deployment would never hear.
        if "EvaluateLowSampleCountPercentile" in properties or "AlarmActions" not in properties:
            raise Wrong(f"{name} is not heard of")
        # Whatever TreatMissingData says, CloudWatch lets an alarm over DynamoDB's metrics stand while they are missing.
        if "AWS/DynamoDB" in json.dumps(properties) and "TIME_SERIES(0)" not in json.dumps(properties):
            raise Wrong(f"{name} never ends")
    told = set(re.findall(r"^\| \*\*(\w+)\*\* \|", readme, re.M))
    if named != told:
        raise Wrong(f"alarms and runbook differ: {sorted(named ^ told)}")


def own_metrics(value):
    """Metrics of our own in a template, with their dimensions."""
    if isinstance(value, dict):
        if value.get("Namespace") == "ClickToCall":
            yield value["MetricName"], {one["Name"]: one["Value"] for one in value.get("Dimensions", [])}
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from own_metrics(one)


def dashboard_metrics(alarms):
    """The same of the dashboard, whose lines say "." for what stands above."""
    body = alarms["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Sub"]
    for widget in json.loads(re.sub(r"\$\{[\w:]+\}", lambda name: name[0].replace("${", "<").replace("}", ">"), body))["widgets"]:
        above = []
        for line in widget["properties"].get("metrics", []):
            cells = [cell for cell in line if isinstance(cell, str)]
            if cells[0] == "...":
                cells = above[: len(above) - len(cells) + 1] + cells[1:]
            above = [up if cell == "." else cell for cell, up in zip(cells, above + cells)]
            if above[0] == "ClickToCall":
                yield above[1], {"Deployment": {"Ref": "Name"}} if above[2:] == ["Deployment", "<Name>"] else above[2:]


def check_metrics(templates, alarms):
    """What alarms, dashboard and scaling read of our own metrics is what the code writes, of this deployment alone; and the
    lines that are metrics or spans are lines that somebody writes."""
    edge = {name: (ROOT / f"shared/edge/src/{name}.rs").read_text().split("#[cfg(test)]")[0] for name in ("metric", "trace")}
    media = (ROOT / "media-fargate/src/metrics.rs").read_text().split("#[cfg(test)]")[0]
    written = set(re.findall(r'"(\w+)", Unit::', edge["metric"] + media))
    read = [*own_metrics(templates), *dashboard_metrics(alarms)]
    if len(read) < 15 or len(written) < 15:
        raise Wrong("metrics are not written as they are read here")
    for name, dimensions in read:
        if name not in written or dimensions != {"Deployment": {"Ref": "Name"}}:
            raise Wrong(f"nobody writes the metric {name} with {dimensions}")
    code = "".join(path.read_text() for folder in ("functions", "media-fargate", "shared/edge") for path in (ROOT / folder).glob("**/src/**/*.rs")
                   if path.name not in ("metric.rs", "trace.rs"))
    lines = set(re.findall(r'^ {4,8}\(?"(\w+\.\w+)",', edge["metric"], re.M)) | set(re.findall(r'name: "(\w+\.\w+)"', edge["trace"]))
    for line in lines:
        if f'"{line}"' not in code:
            raise Wrong(f"nobody writes the line {line}")
    if len(lines) < 15:
        raise Wrong("lines are not listed as they are read here")


def check_notices(alarms):
    """Of the table's changes, those are told of that somebody should hear of, and no other."""
    source = alarms["Resources"]["NoticeOfRows"]["Properties"]["SourceParameters"]
    filters = [EventPattern.load(one["Pattern"]) for one in source["FilterCriteria"]["Filters"]]
    status = lambda word: {"status": {"S": word}}
    reachable = lambda truth: {"health": {"M": {"reachable": {"BOOL": truth}}}}
    for row, before, after, told in [
        ("INTEGRATION#int_1", status("active"), status("paused"), True),
        ("INTEGRATION#int_1", status("paused"), status("paused"), False),
        ("INTEGRATION#int_1", status("active"), status("inactive"), False),
        ("INTEGRATION#int_1", status("paused"), status("active"), False),
        ("BREAKER#int_1", status("active"), status("paused"), False),
        ("PROVIDERHEALTH", reachable(True), reachable(False), True),
        ("PROVIDERHEALTH", {"watcher": {"S": "one"}}, reachable(False), True),
        ("PROVIDERHEALTH", reachable(False), reachable(False), False),
        ("PROVIDERHEALTH", reachable(False), reachable(True), False),
    ]:
        change = {"Keys": {"pk": {"S": "APP#app_1"}, "sk": {"S": row}}, "OldImage": before, "NewImage": after}
        if any(one.matches_event({"eventName": "MODIFY", "dynamodb": change}) for one in filters) != told:
            raise Wrong(f"{row} from {before} to {after} is {'not ' if told else ''}told of")


    told = alarms["Resources"]["NoticeOfRows"]["Properties"]["TargetParameters"]["InputTemplate"]
    # A path that leads nowhere leaves nothing: only between quotes is that JSON still.
    if json.loads(re.sub(r"<\$[\w.]+>", "", told)).keys() != {"app", "about", "pausedReason", "providerFault"}:
        raise Wrong("a notice has other fields")


def check_logs(template):
    """A line of the hosts' log is JSON whatever happened. Of API Gateway's variables one brings its own quotes."""
    line = template["Globals"]["HttpApi"]["AccessLogSettings"]["Format"]
    said = json.loads(re.sub(r"\$context\.[\w.]+", lambda name: '"x"' if name[0].endswith("messageString") else "x", line))
    personal = re.findall(r"sourceIp|userAgent|\.path|queryString|domainName", line)
    if personal or not {"route", "status", "requestId"} <= said.keys():
        raise Wrong(f"the hosts' log says {personal or sorted(said)}")


def check_kept(template):
    """What nobody can make again outlives the stack, and rows end when the code says."""
    table = template["Resources"]["Table"]["Properties"]
    expires = re.search(r'EXPIRES: &str = "(\w+)"', (ROOT / "shared/store/src/key.rs").read_text())[1]
    if table["TimeToLiveSpecification"] != {"AttributeName": expires, "Enabled": True}:
        raise Wrong(f"rows end by {table['TimeToLiveSpecification']}, and the code writes {expires}")
    if not (table["DeletionProtectionEnabled"] is True is table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]):
        raise Wrong("the table is not protected")
    kept = {name for name, one in template["Resources"].items()
            if one.get("DeletionPolicy", "").startswith("Retain") and one.get("UpdateReplacePolicy") == "Retain"}
    if not {"Table", "DeliveryQueue", "DeadDeliveryQueue", "SecretKey", "DataKey", "MediaRepository", "OperatorPool"} <= kept:
        raise Wrong(f"only {sorted(kept)} outlive the stack")


def check_readme(template):
    """Outputs and parameters that README's commands name are there, and the lines of the log that it says to look for."""
    text = (ROOT / "README.md").read_text()
    operate = text[text.index("\n## Operate it"):text.index("\n## What a call takes")]
    lines = set(re.findall(r"`([a-z]+\.[a-z_]+)`", operate))
    code = "".join(path.read_text() for folder in ("functions", "media-fargate", "shared") for path in (ROOT / folder).glob("**/src/**/*.rs"))
    unwritten = {line for line in lines if f'"{line}"' not in code}
    if len(lines) < 15 or unwritten:
        raise Wrong(f"nobody writes {unwritten}, which README says to look for")
    outputs = set(re.findall(r"`(\w+)`", "".join(re.findall(r"outputs?((?:,? (?:and )?`\w+`)+)", text))))
    given = "".join(re.findall(r"parameter-overrides.*(?:\n +\S+=.*)*", text))
    parameters = set(re.findall(r"\b([A-Z][a-z]\w+)=", given))
    if len(outputs) < 5 or len(parameters) < 9 or outputs - set(template["Outputs"]) or parameters - set(template["Parameters"]):
        raise Wrong(f"not there: {outputs - set(template['Outputs'])}, {parameters - set(template['Parameters'])}")


def texts():
    return {"template.yaml": (ROOT / "template.yaml").read_text()} | {name: path.read_text() for name, path in NESTED.items()}


def check_uses(found, path):
    """What functions asked for while tests ran is what their roles allow."""
    observed = set()
    for line in Path(path).read_text().splitlines():
        who, action, on = line.split("\t")
        if who in found:  # The rest are tests themselves, and the house that makes tables and queues.
            observed.add((who, action, f"purpose {on}" if action.startswith("kms:") else on))
    # A use names a row's key up to its first `#`.
    allowed = {(who, action, scope.split("#")[0]) for who, rights in found.items() for action, scope in rights
               if who != "Notice" and OBSERVED.match(f"{action} {scope}")}
    if observed - allowed:
        raise Wrong(f"used without a right: {sorted(observed - allowed)}")
    if allowed - observed - set(UNUSED):
        raise Wrong(f"rights that nobody used: {sorted(allowed - observed - set(UNUSED))}")
    if set(UNUSED) - allowed:
        raise Wrong(f"of UNUSED, not given: {sorted(set(UNUSED) - allowed)}")
    print(f"{len(observed)} uses, each by right; {len(allowed)} rights, each used or with a reason")


def show(found):
    print(" " * 58, *(f"{name:8}" for name in EXPECTED))
    for action, scope in sorted({right for rights in found.values() for right in rights}):
        marks = ("x" if (action, scope) in found[name] else "." for name in EXPECTED)
        print(f"{action + ' ' + scope:58}", *(f"{mark:8}" for mark in marks))


def refuses(what, templates, change):
    """The check finds the fault: what would pass everything is no check."""
    changed = copy.deepcopy(templates)
    change(changed)
    try:
        check_keys(check_rights(changed), key_table())
    except Wrong:
        return
    raise Wrong(f"{what} would go through")


def check_checks(templates):
    def statement(templates, role, sid):
        roles = {name: one for template in templates for name, one in template["Resources"].items()}
        statements = roles[role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        return next(one for one in statements if one["Sid"] == sid)

    refuses("another action", templates, lambda t: statement(t, "WidgetRole", "Apps").update(Action=[READ, ADD]))
    refuses("all actions", templates, lambda t: statement(t, "WidgetRole", "Apps").update(Action="dynamodb:*"))
    refuses("all resources", templates, lambda t: statement(t, "IngestRole", "SendDeliveries").update(Resource="*"))
    refuses("the whole table", templates, lambda t: statement(t, "SessionRole", "Apps").pop("Condition"))
    refuses("any purpose", templates, lambda t: statement(t, "DispatchRole", "SecretsInClear").pop("Condition"))
    refuses("another's purpose", templates, lambda t: statement(t, "ConsoleRole", "ProviderPasswords").update(Action=[WRAP, UNWRAP]))
    refuses("another's rows", templates, lambda t: statement(t, "MediaRole", "Claims")["Condition"].update(
        {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["*"]}}))
    role = lambda t, name: next(one["Resources"][name]["Properties"] for one in t if name in one["Resources"])
    trust = lambda t, name: role(t, name)["AssumeRolePolicyDocument"]["Statement"][0]
    refuses("everybody in a role", templates, lambda t: trust(t, "SessionRole").update(Principal="*"))
    refuses("nobody in a role", templates, lambda t: role(t, "SessionRole")["AssumeRolePolicyDocument"].update(Statement=[]))
    refuses("another account's tasks", templates, lambda t: trust(t, "MediaRole").pop("Condition"))
    refuses("a managed policy", templates, lambda t: role(t, "WidgetRole").update(ManagedPolicyArns=["arn:aws:iam::aws:policy/AdministratorAccess"]))
    refuses("all but some actions", templates, lambda t: statement(t, "WidgetRole", "Apps").update(NotAction=statement(t, "WidgetRole", "Apps").pop("Action")))
    refuses("a policy beside the role", templates, lambda t: t[-1]["Resources"].update(More={"Type": "AWS::IAM::RolePolicy"}))
    refuses("a function's own address", templates, lambda t: role(t, "Widget").update(FunctionUrlConfig={"AuthType": "NONE"}))
    refuses("a condition that a missing name passes", templates, lambda t: statement(t, "DispatchRole", "SecretsInClear").update(
        Condition={"StringEquals": {}, "StringEqualsIfExists": {"kms:EncryptionContext:purpose": "integration-secret"}}))
    refuses("a key for a role", templates, lambda t: role(t, "SecretKey")["KeyPolicy"]["Statement"].append(
        {"Effect": "Allow", "Principal": {"AWS": {"GetAtt": "WidgetRole.Arn"}}, "Action": UNWRAP, "Resource": "*"}))
    refuses("a missing right", templates, lambda t: statement(t, "ConsoleRole", "AuditLog").update(Action=QUERY))


def main():
    loaded = {name: load(text) for name, text in texts().items()}
    template = loaded.pop("template.yaml")
    templates = [template, *loaded.values()]
    try:
        found = check_rights(templates)
        show(found)
        check_functions(template)
        check_keys(found, key_table())
        check_variables()
        check_stacks(template, loaded)
        check_image(loaded["media.yaml"])
        check_alarms(loaded["alarms.yaml"])
        check_metrics(templates, loaded["alarms.yaml"])
        check_notices(loaded["alarms.yaml"])
        check_logs(template)
        check_kept(template)
        check_readme(template)
        check_checks(templates)
        if sys.argv[1:]:
            check_uses(found, sys.argv[1])
    except Wrong as wrong:
        sys.exit(f"template: {wrong}")
    print(f"{sum(map(len, found.values()))} rights of {len(found)} roles, each expected")


main()
