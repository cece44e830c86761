// Uploads a file with the unmodified tus-js-client, or resumes an earlier run, and prints the result as JSON.
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";

const [endpoint, key, file, chunkSize, storage] = process.argv.slice(2);
const tus = createRequire(`${process.env.TUS_MODULES}/`)("tus-js-client");
let retries = 0;

const upload = new tus.Upload(createReadStream(file), {
  endpoint,
  headers: { Authorization: `Bearer ${key}` },
  metadata: { filename: "film.txt", filetype: "text/plain", attributes: '{"by": "tus-js-client"}' },
  chunkSize: Number(chunkSize),
  retryDelays: Array(30).fill(100),
  urlStorage: new tus.FileUrlStorage(storage),
  onShouldRetry: (error, _attempt, options) => {
    retries += 1;
    const status = error.originalResponse ? error.originalResponse.getStatus() : 0;
    return status < 400 || status >= 500 || status === 409 || status === 423;
  },
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: ({ lastResponse }) => {
    const documentId = lastResponse.getHeader("Ragsvc-Document-Id");
    console.log(JSON.stringify({ documentId, retries, resumed: previous.length > 0, url: upload.url }));
  },
});

const previous = await upload.findPreviousUploads();
if (previous.length) upload.resumeFromPreviousUpload(previous[0]);
upload.start();
