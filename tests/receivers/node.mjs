// Receives webhooks and trusts only what verifies. WEBHOOK_SECRET is the whsec_… of the integration; PORT is yours to choose.
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET ?? "");
const handled = new Set(); // In earnest a unique column of your database, written together with what the event changes.

function handle(id, event) {
  if (handled.has(id)) return; // It came before: a repeat is fine and changes nothing.
  console.log("handled", id, event.name);
  handled.add(id);
}

const server = createServer(async (request, response) => {
  const answer = (status) => response.writeHead(status).end();
  try {
    if (!(Number(request.headers["content-length"]) <= 65_536)) return answer(413);
    const body = await buffer(request); // The bytes as they came: JSON that was parsed and written again may differ.
    const event = webhook.verify(body, request.headers);
    handle(request.headers["webhook-id"], event);
    answer(204);
  } catch (error) {
    answer(error instanceof WebhookVerificationError ? 401 : 500); // After a 500 it comes again.
  }
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("listening on port", server.address().port));
