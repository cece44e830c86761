// Uploads a file with @uppy/core and @uppy/aws-s3, like a web page, and prints the result as JSON.
// The argument is a JSON object; its options are `multipart`, `saysSize`, `cancelAfter` (parts), `failCompletion` and
// `retries`. `upload` in test_uppy.py sets the others.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const task = JSON.parse(process.argv[2]);
const require = createRequire(join(task.modules, 'package.json'));
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const loadModule = async (name) => import(pathToFileURL(join(task.modules, 'node_modules', name, 'lib/index.js')).href);

// Browser APIs from jsdom, whose XMLHttpRequest sends preflights and enforces CORS.
const { JSDOM } = await load('jsdom');
const { window } = new JSDOM('', { url: task.origin });
for (const name of ['document', 'XMLHttpRequest', 'FormData', 'Blob', 'File', 'Event', 'DOMException', 'ProgressEvent']) {
  globalThis[name] = window[name];
}
globalThis.window = window;

const { default: Uppy } = await loadModule('@uppy/core');
const { default: AwsS3 } = await loadModule('@uppy/aws-s3');
const endpoint = task.major >= 6 ? { companionEndpoint: task.companionUrl } : { endpoint: task.companionUrl };

// Node's fetch does not implement CORS: send the origin, and check that the response allows it.
const { fetch } = globalThis;
let calls = 0;
globalThis.fetch = async (url, options = {}) => {
  calls += 1;
  if (task.failCompletion && String(url).includes('/complete')) {
    // The server completes the upload, but the response is lost.
    task.failCompletion = false;
    await fetch(url, options);
    throw new TypeError('the response was lost');
  }
  const headers = new Headers(options.headers);
  headers.set('Origin', task.origin);
  const response = await fetch(url, { ...options, headers });
  if (response.headers.get('access-control-allow-origin') !== task.origin) throw new TypeError(`CORS: ${url}`);
  return response;
};

const uppy = new Uppy({ logger: { debug() {}, warn: console.error, error: console.error } });
uppy.use(AwsS3, { ...endpoint, ...(task.multipart ? { shouldUseMultipart: true } : {}) });
const data = new window.Blob([readFileSync(task.file)], { type: 'text/plain' });
const id = uppy.addFile({ name: task.name, type: 'text/plain', data });
if (task.saysSize) uppy.setFileMeta(id, { size: data.size });

const parts = [];
uppy.on('s3-multipart:part-uploaded', (_file, part) => {
  parts.push(part.PartNumber);
  if (task.cancelAfter === parts.length) uppy.cancelAll();
});
let result = await uppy.upload();
const failedFirst = result?.failed?.length ?? 0;
if (failedFirst && task.retries) result = await uppy.retryAll();
console.log(
  JSON.stringify({
    parts,
    calls,
    failedFirst,
    successful: (result?.successful ?? []).map((file) => file.uploadURL),
    failed: (result?.failed ?? []).map((file) => file.error),
  }),
);
