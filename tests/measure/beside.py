"""Two houses of different commits on one table, one queue and one key, as functions are while a deployment lasts:
`beside.py OLD NEW [ROWS]`, with the binaries that `cargo build` makes of each commit.

Events go in at both, and whichever dispatch is first delivers: each must come once, whoever took it in. Then NEW sends some
of them again, in messages that OLD may not know: what it does not know it gives back, and NEW delivers it, which takes
minutes: it is out of sight for 150 s each time. ROWS: where to write the table's rows, one JSON object a line."""

import concurrent.futures
import contextlib
import http.client
import http.server
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

EVENTS = int(os.environ.get("C2C_EVENTS", "200"))
TRIES = 5
# Requests that were answered with 503.
UNAVAILABLE = []
ROOT = Path(__file__).resolve().parent.parent.parent
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


@contextlib.contextmanager
def house(binary, folder, allow, services):
    """A running house; what its local.json says."""
    log = folder.with_suffix(".log")
    arguments = [binary, "--ephemeral", "--port", "0", "--state", folder, "--allow-destination", allow]
    with open(log, "wb") as output:
        environment = {**os.environ, **services, **{f"C2C_LIMIT_{of}": "1000000" for of in ("EVENTS_IP", "EVENTS_APP")}}
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
    try:
        until = time.monotonic() + 60
        while b"\nready " not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"{binary} does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield json.loads((folder / "local.json").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


class Receiver(http.server.ThreadingHTTPServer):
    """A customer's server: counts how often each delivery came."""

    request_queue_size = 128

    def __init__(self):
        self.came, self.lock = Counter(), threading.Lock()
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def total(self):
        with self.lock:
            return sum(self.came.values())


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.came[self.headers["webhook-id"]] += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def ask(origin, method, path, token=None, body=None):
    """A request to a house, whose hosts all lead to this machine; the answer's data. A 503 says that the same may be tried
    again: an event is delivered once for all that."""
    at = urlsplit(origin)
    headers = {"host": at.netloc, "content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    for left in reversed(range(TRIES)):
        connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=30)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status == 503:
            UNAVAILABLE.append(f"{method} {path}")
        if answer.status != 503 or not left:
            break
        time.sleep(float(answer.getheader("retry-after") or 1))
    if answer.status >= 300:
        sys.exit(f"{method} {origin}{path} answers {answer.status}: {text.decode()}")
    return json.loads(text) if text else {}


def manage(local, method, path, body=None):
    return ask(local["consoleOrigin"], method, f"/api/v1{path}", local["operatorToken"], body)


def event():
    time_and_chance = "01kajf3c8k" + "".join(secrets.choice(CROCKFORD) for _ in range(16))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    return {"id": f"evt_{time_and_chance}", "name": "widget_loaded", "data": {"isPreview": False}, "timestamp": stamp}


def until(what, seconds, holds):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def deliveries(local, app):
    found, cursor = [], ""
    while True:
        page = manage(local, "GET", f"/apps/{app}/deliveries?limit=100{cursor}")
        found += page["data"]
        if not page["pagination"]["hasMore"]:
            return found
        cursor = f"&cursor={page['pagination']['nextCursor']}"


def rows(local):
    """All rows of the table."""
    at, start, found = urlsplit(local["aws"]["dynamodb"]), None, []
    headers = {"x-amz-target": "DynamoDB_20120810.Scan", "content-type": "application/x-amz-json-1.0", "x-amz-date": "20260101T000000Z",
               "authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0"}
    while True:
        asked = {"TableName": local["tables"]["Table"]} | ({"ExclusiveStartKey": start} if start else {})
        connection = http.client.HTTPConnection(at.hostname, at.port)
        connection.request("POST", "/", json.dumps(asked), headers)
        answer = json.loads(connection.getresponse().read())
        found += answer["Items"]
        start = answer.get("LastEvaluatedKey")
        if not start:
            return found


def settled(local, app, many):
    found = deliveries(local, app)
    return len(found) == many and all(one["status"] == "delivered" for one in found)


def run(old, new, receiver, rows_file):
    # What the old one made, the new one reads, and the other way round.
    app = manage(old, "POST", "/apps", {"name": "Shop"})["data"]
    provider = {"kind": "sip", "uri": "sip:trunk.example.com", "transport": "udp", "active": True}
    manage(old, "PUT", f"/apps/{app['appId']}/provider", provider)
    profile = {"name": "Sales", "destination": "sip:sales@trunk.example.com", "routingKeys": ["sales"], "default": True}
    manage(old, "POST", f"/apps/{app['appId']}/profiles", profile)
    path = f"/apps/{app['appId']}/integrations"
    url = f"http://127.0.0.1:{receiver.server_port}/in?token={{secret.token}}"
    integration = manage(old, "POST", path, {"name": "CRM", "url": url.split("?")[0], "events": ["widget_loaded"]})["data"]["id"]
    manage(old, "PUT", f"{path}/{integration}/secrets/token", {"value": "kept by the old one"})
    manage(new, "PATCH", f"{path}/{integration}", {"url": url})
    manage(new, "POST", f"{path}/{integration}/signing-key", {})
    asked = {"appId": app["appId"], "widgetKey": app["widgetKey"]}
    tokens = [ask(one["origin"], "POST", "/v1/sessions", None, asked)["data"]["sessionToken"] for one in (old, new)]

    # Each takes in events of sessions that either opened.
    def send(number):
        taker = (old, new)[number % 2]
        ask(taker["origin"], "POST", "/v1/events", tokens[number // 2 % 2], event())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(EVENTS)))
    until("events delivered", 60, lambda: len(receiver.came) == EVENTS and settled(new, app["appId"], EVENTS))
    assert receiver.total() == EVENTS, receiver.came.most_common(3)
    assert settled(old, app["appId"], EVENTS), "the old one reads what the new one recorded"
    print(f"{EVENTS} events taken in by both, each delivered once")

    # A resend is a message of version 2.
    again = [one["id"] for one in deliveries(new, app["appId"])[: EVENTS // 10]]
    for one in again:
        manage(new, "POST", f"/apps/{app['appId']}/deliveries/{one}/resend")
    until(f"{len(again)} resends delivered", 1_800, lambda: receiver.total() >= EVENTS + len(again))
    twice = {one for one, came in receiver.came.items() if came == 2}
    assert receiver.total() == EVENTS + len(again) and twice == set(again), receiver.came.most_common(3)
    until("resends recorded", 30, lambda: settled(new, app["appId"], EVENTS))
    print(f"{len(again)} of them sent again by the new one, each delivered once more")
    assert manage(old, "GET", f"{path}/{integration}")["data"]["status"] == "active"
    if rows_file:
        Path(rows_file).write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows(old)))


def main():
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    receiver = Receiver()
    allow = f"127.0.0.1/32:{receiver.server_port}"
    with tempfile.TemporaryDirectory() as folder:
        with house(Path(sys.argv[1]).resolve(), Path(folder) / "old", allow, {}) as old:
            services = {f"AWS_ENDPOINT_URL_{name.upper()}": old["aws"][name] for name in ("dynamodb", "sqs", "kms")}
            with house(Path(sys.argv[2]).resolve(), Path(folder) / "new", allow, services) as new:
                try:
                    run(old, new, receiver, (sys.argv[3:] or [None])[0])
                finally:
                    print(f"{len(UNAVAILABLE)} answers were 503")


if __name__ == "__main__":
    main()
