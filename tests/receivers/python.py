"""Receives webhooks and trusts only what verifies. WEBHOOK_SECRET is the whsec_… of the integration; PORT is yours."""
import os, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
handled, lock = set(), threading.Lock()  # In earnest a unique column of your database, written together with what the event changes.

class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # Seconds that a client may be silent.
    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > 65_536:
            return self.send_error(413)
        body = self.rfile.read(int(length))  # The bytes as they came: JSON that was parsed and written again may differ.
        try:
            event = webhook.verify(body, self.headers)
        except (WebhookVerificationError, ValueError):  # ValueError: what cannot even be read.
            return self.send_error(401)
        with lock:
            if self.headers["webhook-id"] not in handled:  # Else it came before: a repeat is fine and changes nothing.
                print("handled", self.headers["webhook-id"], event["name"], flush=True)
                handled.add(self.headers["webhook-id"])
        self.send_response(204)  # An exception before this ends the connection, and the event comes again.
        self.end_headers()

server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver)
print("listening on port", server.server_port, flush=True)
server.serve_forever()
