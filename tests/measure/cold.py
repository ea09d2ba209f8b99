"""Cold starts of the functions as they ship: `cold.py FOLDER [HOUSE]`, after `sam build`: `cold.py .aws-sam/build`.

Each compiled function runs under a stand-in of the Lambda Runtime API. Its SDK speaks TLS, as to AWS, with fronts of the
stand-ins of the running house (HOUSE: its binary; `cargo run` builds one), and verifies them with a bundle of root
certificates as large as any: this machine's own and the one made here. The fronts are haproxy's. Prints medians of RUNS starts, in milliseconds:

    next    from the start of the process until it asks for work
    first   from then until its first answer, TLS handshakes included
    warm    an answer after that, one request at a time

What the fronts themselves take is the last line: one request like a function's from a client that is already warm, over
a new connection and over a kept one. Needs Linux, haproxy, and the
Python packages of tests/requirements.txt."""

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RUNS, WARM = int(os.environ.get("C2C_RUNS", "20")), 60
ROOT = Path(__file__).resolve().parent.parent.parent
ROOTS = Path("/etc/ssl/certs/ca-certificates.crt")
SERVICES = ("dynamodb", "sqs", "kms")
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def fresh(prefix):
    """An id that is nobody else's; times are those of ULIDs."""
    millis, text = time.time_ns() // 1_000_000, ""
    for _ in range(10):
        millis, digit = divmod(millis, 32)
        text = CROCKFORD[digit] + text
    return prefix + text + "".join(secrets.choice(CROCKFORD) for _ in range(16))


def now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- The world around the functions. ---


def certificates(folder):
    """A certification authority of our own, a certificate of it for this machine, and the bundle that trusts it."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("measured root", "127.0.0.1")]
    made = []
    for index, (name, key) in enumerate(zip(names, keys)):
        today = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(names[0]).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(today - datetime.timedelta(days=1))
        builder = builder.not_valid_after(today + datetime.timedelta(days=2))
        builder = builder.add_extension(x509.BasicConstraints(ca=index == 0, path_length=None), critical=True)
        if index:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "bundle.pem").write_bytes(ROOTS.read_bytes() + made[0])
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + made[1])


@contextlib.contextmanager
def fronts(folder, plain):
    """Speaks TLS on a port of its own for each plain address, and passes on what it hears; the ports."""
    ports, lines = [free_port() for _ in plain], ["defaults", "mode tcp", "timeout connect 5s", "timeout client 60s", "timeout server 60s"]
    for number, (port, address) in enumerate(zip(ports, plain)):
        lines += [f"listen front-{number}", f"bind 127.0.0.1:{port} ssl crt {folder}/server.pem alpn http/1.1",
                  f"server behind {urlsplit(address).netloc}"]
    (folder / "haproxy.cfg").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(["haproxy", "-db", "-q", "-f", folder / "haproxy.cfg"])
    try:
        for port in ports:
            answers(port)
        yield ports
    finally:
        process.terminate()
        process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def answers(port):
    """Returns once somebody listens there."""
    until = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > until:
                sys.exit("haproxy does not start")
            time.sleep(0.02)


@contextlib.contextmanager
def house(binary, folder):
    """The running house; what local.json says."""
    log = folder / "house.log"
    arguments = [binary, "--ephemeral", "--port", "0", "--state", folder / "house"]
    with open(log, "wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        until = time.monotonic() + 60
        while b"\nready " not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"the house does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield json.loads((folder / "house/local.json").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def post(url, body, headers):
    at = urlsplit(url)  # Hosts of the house all lead to this machine.
    connection = http.client.HTTPConnection("127.0.0.1", at.port)
    headers = {"host": at.netloc, "content-type": "application/json", **headers}
    connection.request("POST", at.path or "/", json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        sys.exit(f"{url} answers {answer.status}: {text}")
    return json.loads(text)


# --- One function. ---


class Requests:
    """The requests of a function to its Runtime API, one after the other."""

    def __init__(self, listener):
        self.listener, self.client, self.left = listener, None, b""

    def read(self):
        """A whole request: its first line and its body."""
        while b"\r\n\r\n" not in self.left:
            self._more()
        head, _, self.left = self.left.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        fields = dict(field.lower().split(": ", 1) for field in fields)
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                body += self._exactly(size)
                self._exactly(2)
            self._until(b"\r\n")
            return first, body
        return first, self._exactly(int(fields.get("content-length", 0)))

    def answer(self, status, body=b"", fields=""):
        self.client.sendall(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{fields}\r\n".encode() + body)

    def _until(self, end):
        while end not in self.left:
            self._more()
        line, _, self.left = self.left.partition(end)
        return line

    def _exactly(self, size):
        while len(self.left) < size:
            self._more()
        data, self.left = self.left[:size], self.left[size:]
        return data

    def _more(self):
        while True:
            if self.client is None:
                self.client, _ = self.listener.accept()
                self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = self.client.recv(65_536)
            self.left += data
            if data:
                return
            self.client = None


def run(binary, variables, event):
    """One process: milliseconds to the first request for work, to the first answer, and of each warm one."""
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as log:
        listener.settimeout(20)
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{listener.getsockname()[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "measured", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_LOG_GROUP_NAME": "group",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream", "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1", **variables,
        }
        requests, times = Requests(listener), []
        files = [(os.POSIX_SPAWN_DUP2, log.fileno(), descriptor) for descriptor in (1, 2)]
        began = time.perf_counter()
        process = os.posix_spawn(binary, [str(binary)], environment, file_actions=files)
        try:
            line, _ = requests.read()
            times.append(time.perf_counter() - began)
            for number in range(1 + WARM):
                if not line.startswith("GET /2018-06-01/runtime/invocation/next "):
                    raise RuntimeError(line)
                body = json.dumps(event()).encode()
                fields = (
                    f"content-type: application/json\r\nlambda-runtime-aws-request-id: request-{number}\r\n"
                    f"lambda-runtime-deadline-ms: {int(time.time() * 1000) + 20_000}\r\n"
                    "lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:measured\r\n"
                    "lambda-runtime-trace-id: Root=1-00000000-000000000000000000000000\r\n")
                began = time.perf_counter()
                requests.answer("200 OK", body, fields)
                line, answer = requests.read()
                times.append(time.perf_counter() - began)
                check(line, json.loads(answer))
                requests.answer("202 Accepted")
                line, _ = requests.read()
        except Exception as error:
            log.seek(0)
            sys.exit(f"{binary}: {error!r}\n{log.read().decode()}")
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    first, answered, *warm = (1_000 * one for one in times)
    return first, answered, statistics.median(warm)


def check(line, answer):
    """A figure of a function that refuses says nothing."""
    good = answer.get("statusCode", 200) < 300 and not answer.get("batchItemFailures")
    if not line.startswith("POST ") or " /2018-06-01/runtime/invocation/" not in line or "/response" not in line or not good:
        raise RuntimeError(f"{line}: {answer}")


# --- What they are asked. ---


def http_event(method, path, headers=None, body=None, query=""):
    """An event as API Gateway's HTTP API (payload 2.0) sends it."""
    about = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "198.51.100.7", "userAgent": "measured"}
    return {
        "version": "2.0", "routeKey": f"{method} {path}", "rawPath": path, "rawQueryString": query,
        "headers": {"content-type": "application/json", **(headers or {})}, "isBase64Encoded": False,
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "domainName": "calls.example.net", "domainPrefix": "calls",
            "http": about, "requestId": "request", "routeKey": f"{method} {path}", "stage": "$default",
            "time": "12/Mar/2027:19:03:58 +0000", "timeEpoch": 1_804_000_000_000},
        "body": None if body is None else json.dumps(body),
    }


def loaded():
    return {"id": fresh("evt_"), "name": "widget_loaded", "data": {"isPreview": False}, "timestamp": now()}


def delivery(demo, integration):
    envelope = loaded()
    envelope["data"]["context"] = {}
    due = {"v": 1, "delivery": fresh("dlv_"), "app": demo["appId"], "integration": integration, "envelope": envelope,
           "acceptedAt": now(), "attempt": 1}
    record = {"messageId": "message", "receiptHandle": "r", "body": json.dumps(due), "messageAttributes": {},
              "attributes": {"ApproximateReceiveCount": "1"}, "eventSource": "aws:sqs", "awsRegion": "us-east-1",
              "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:measured"}
    return {"Records": [record]}


def cases(local):
    """Function, what it is asked, and the event that asks it."""
    demo, origin = local["demo"], local["origin"]
    asked = {"appId": demo["appId"], "widgetKey": demo["widgetKey"]}
    token = post(f"{origin}/v1/sessions", asked, {})["data"]["sessionToken"]
    bearer, operator = {"authorization": f"Bearer {token}"}, {"authorization": f"Bearer {local['operatorToken']}"}
    gone, integration = fresh("int_"), f"{local['consoleOrigin']}/api/v1/apps/{demo['appId']}/integrations/{demo['integrationId']}"
    post(f"{integration}/signing-key", {}, operator)
    return [
        ("Widget", "the document", lambda: http_event("GET", f"/widget/{demo['appId']}", query=f"key={demo['widgetKey']}")),
        ("Session", "a session", lambda: http_event("POST", "/v1/sessions", body=asked)),
        ("Ingest", "an event, queued", lambda: http_event("POST", "/v1/events", bearer, loaded())),
        ("Dispatch", "nobody to send it to", lambda: delivery(demo, gone)),
        ("Dispatch", "a signed POST", lambda: delivery(demo, demo["integrationId"])),
        ("Console", "the list of apps", lambda: http_event("GET", "/api/v1/apps", operator)),
    ]


def variables(local, ports, folder):
    """What the template sets; limits out of the way, since one address asks everything here."""
    sqs = {"x-amz-target": "AmazonSQS.CreateQueue", "content-type": "application/x-amz-json-1.0"}
    queue = post(local["aws"]["sqs"], {"QueueName": "measured"}, sqs)["QueueUrl"]  # The house empties its own.
    given = {f"AWS_ENDPOINT_URL_{name.upper()}": f"https://127.0.0.1:{port}" for name, port in zip(SERVICES, ports)}
    limits = {f"C2C_LIMIT_{name}_{of}": "100000000" for name in ("WIDGET", "SESSION", "EVENTS") for of in ("IP", "APP")}
    return given | limits | {
        "SSL_CERT_FILE": str(folder / "bundle.pem"), "C2C_TABLE": local["tables"]["Table"], "C2C_DELIVERY_QUEUE_URL": queue,
        "C2C_KMS_KEY_ID": local["keys"]["SecretKey"], "C2C_WIDGET_ORIGIN": "https://calls.example.net",
        "C2C_CODE_ORIGIN": "https://code.example.net", "C2C_CONSOLE_ORIGIN": "https://console.example.net",
        "C2C_MEDIA_URL": "https://media.example.net", "C2C_DEFAULT_FRAME_ANCESTORS": "https:",
        "C2C_ALLOW_DESTINATIONS": "127.0.0.0/8,::1/128",
    }


def own_share(local, port, folder):
    """Milliseconds of a read of the table through a front: over a new connection, and over a kept one."""
    context = ssl.create_default_context(cafile=folder / "server.pem")
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    key = {"pk": {"S": f"APP#{local['demo']['appId']}"}, "sk": {"S": "APP"}}
    body = json.dumps({"TableName": local["tables"]["Table"], "Key": key})
    headers = {"x-amz-target": "DynamoDB_20120810.GetItem", "content-type": "application/x-amz-json-1.0",
               "authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
               "x-amz-date": "20260101T000000Z"}
    new, kept = [], []
    for _ in range(RUNS):
        began = time.perf_counter()
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        for times in (new, kept):
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            if b'"Item"' not in answer.read():
                sys.exit("the front answers something else")
            times.append(1_000 * (time.perf_counter() - began))
            began = time.perf_counter()
        connection.close()
    return statistics.median(new), statistics.median(kept)


def binary_of(folder, name):
    found = [path for path in (folder / name / "bootstrap", folder / name.lower() / "bootstrap", folder / name.lower())
             if path.is_file()]
    return found[0].resolve() if found else sys.exit(f"{folder} holds no {name}: build it first (sam build)")


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    binaries = Path(sys.argv[1])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = Path(sys.argv[2]).resolve() if sys.argv[2:] else target / "debug/local"
    with tempfile.TemporaryDirectory() as folder:
        certificates(folder := Path(folder))
        with house(binary, folder) as local, fronts(folder, [local["aws"][name] for name in SERVICES]) as ports:
            measure(binaries, local, ports, folder)


def measure(binaries, local, ports, folder):
    given = variables(local, ports, folder)
    print(f"load {os.getloadavg()[0]:.2f}; medians of {RUNS}, ms\n{'':32}{'next':>8}{'first':>8}{'warm':>8}")
    for name, what, event in cases(local):
        binary = binary_of(binaries, name)
        times = [run(binary, given, event) for _ in range(RUNS)]
        medians = "".join(f"{statistics.median(one):8.1f}" for one in zip(*times))
        print(f"{name + ', ' + what:32}{medians}", flush=True)
    new, kept = own_share(local, ports[0], folder)
    print(f"{'(the front itself, one read)':40}{new:8.1f}{kept:8.1f}")


if __name__ == "__main__":
    main()
