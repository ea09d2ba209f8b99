// A certified OpenID Connect provider for the tests of the console's sign-in. It says which port it has, is then told the
// console's origin, and asks whoever comes for a name: ann is an editor, bob is in no group. The password may be anything.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const groups = new Map([["ann", ["staff", "editor"]]]);
const server = createServer();
server.listen(0, "127.0.0.1", () => console.log("listening on port", server.address().port));

createInterface({ input: process.stdin }).once("line", (origin) => {
  const provider = new Provider(`http://127.0.0.1:${server.address().port}`, {
    clients: [
      {
        client_id: "console",
        token_endpoint_auth_method: "none",
        redirect_uris: [`${origin}/sign-in/callback`],
        post_logout_redirect_uris: [`${origin}/sign-in`],
      },
    ],
    claims: { openid: ["sub", "cognito:groups"], email: ["email", "email_verified"] },
    // As Cognito, Entra and others do: what was asked for stands in the ID token itself.
    conformIdTokenClaims: false,
    cookies: { keys: ["for tests alone"] },
    findAccount: (_context, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, "cognito:groups": groups.get(id) ?? [] }),
    }),
  });
  server.on("request", provider.callback());
  console.log("ready");
});
