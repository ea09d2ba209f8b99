"""The emulator of AWS for `tests/run moto`, asked one request at a time: `emulator.py PORT`.

moto answers in threads that share its tables without a lock, and a refused transaction puts back the whole table as it
was before, with it what others wrote meanwhile. One at a time, it keeps its word. A receive that waits for messages
would hold up everyone else: it is asked again and again without waiting, until there are some, or its time is over, or
nobody waits any more: messages given to a client that is gone would be out of sight for others.
"""

import io
import json
import select
import socket
import sys
import threading
import time

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def ask(environ, body):
    """One request's whole answer."""
    environ = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    head = []
    with turn:
        answer = b"".join(moto(environ, lambda *start: head.append(start)))
    return head[-1], answer


def is_gone(client):
    """Whether the client closed its connection."""
    readable, _, _ = select.select([client], [], [], 0)
    return bool(readable) and client.recv(1, socket.MSG_PEEK) == b""


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    until = time.monotonic()
    if environ.get("HTTP_X_AMZ_TARGET") == "AmazonSQS.ReceiveMessage":
        asked = json.loads(body)
        wait = asked.get("WaitTimeSeconds", 0)
        if 0 < wait <= 20:  # What SQS takes: moto itself refuses the rest.
            until += wait
            body = json.dumps({**asked, "WaitTimeSeconds": 0}).encode()
    start, answer = ask(environ, body)
    while time.monotonic() < until and start[0].startswith("200") and not json.loads(answer).get("Messages"):
        time.sleep(0.02)
        if is_gone(environ["werkzeug.socket"]):
            break
        start, answer = ask(environ, body)
    start_response(*start)
    return [answer]


run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=MotoRequestHandler)
