// Uses the types that openapi-typescript generated, with openapi-fetch; arguments: URL, key, id of a ready document.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

const [baseUrl, key, documentId] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

/** Returns the data of a response, which must be a success. */
function take<T>(response: { data?: T; error?: unknown }): T {
  if (response.data === undefined) throw new Error(JSON.stringify(response.error));
  return response.data;
}

/** Asks a question and returns the streamed text. */
async function stream(sessionId: string): Promise<string> {
  const response = await client.POST("/v1/chat/sessions/{session_id}/messages", {
    params: { path: { session_id: sessionId } },
    body: { content: "What do kettles boil?" },
    parseAs: "text",
  });
  const frames = String(take(response)).split("\n\n");
  const deltas = frames.filter((frame) => frame.includes("event: message.delta"));
  const data = deltas.map((frame) => JSON.parse(frame.split("data: ")[1] ?? ""));
  return data.map((delta: components["schemas"]["MessageDeltaData"]) => delta.text).join("");
}

const uploaded = take(
  await client.POST("/v1/documents", {
    body: { file: "Toasters toast." },
    bodySerializer: () => {
      const form = new FormData();
      form.append("file", new File(["Toasters toast."], "toasters.txt", { type: "text/plain" }));
      return form;
    },
  }),
);
const first = take(await client.GET("/v1/documents", { params: { query: { limit: 1 } } }));
const cursor = first.next_cursor ?? undefined;
const rest = take(await client.GET("/v1/documents", { params: { query: { limit: 1, cursor } } }));
const found = take(await client.POST("/v1/search", { body: { query: "kettles" } }));
const session = take(await client.POST("/v1/chat/sessions", { body: {} }));
const answer = take(
  await client.POST("/v1/chat/sessions/{session_id}/messages", {
    params: { path: { session_id: session.id } },
    body: { content: "What do kettles boil?", stream: false },
  }),
);
// With `stream: false` it is never the text of a stream.
if (typeof answer === "string") throw new Error(answer);
const unknown = await client.GET("/v1/documents/{document_id}", {
  params: { path: { document_id: `doc_${"0".repeat(32)}` } },
});
const shown = take(
  await client.GET("/v1/documents/{document_id}", { params: { path: { document_id: documentId } } }),
);

console.log(
  JSON.stringify({
    uploaded: uploaded.filename,
    listed: [...first.data, ...rest.data].map((document) => document.filename),
    found: found.data[0]?.filename,
    answer: answer.message.content,
    streamed: await stream(session.id),
    problem: unknown.error?.code,
    status: shown.status,
  }),
);
