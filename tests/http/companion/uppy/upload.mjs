// Uploads a file by @uppy/core and @uppy/aws-s3, as a page does, and prints what Uppy says in the end as JSON.
// Beside the URL of the Companion it takes what the page is to do: see `upload` in test_uppy.py.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const task = JSON.parse(process.argv[2]);
const require = createRequire(join(task.modules, 'package.json'));
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const loadModule = async (name) => import(pathToFileURL(join(task.modules, 'node_modules', name, 'lib/index.js')).href);

// What a browser has: jsdom's XMLHttpRequest asks beforehand and keeps to what CORS allows.
const { JSDOM } = await load('jsdom');
const { window } = new JSDOM('', { url: task.origin });
for (const name of ['document', 'XMLHttpRequest', 'FormData', 'Blob', 'File', 'Event', 'DOMException', 'ProgressEvent']) {
  globalThis[name] = window[name];
}
globalThis.window = window;

const { default: Uppy } = await loadModule('@uppy/core');
const { default: AwsS3 } = await loadModule('@uppy/aws-s3');
const endpoint = task.major >= 6 ? { companionEndpoint: task.companionUrl } : { endpoint: task.companionUrl };

// Node's fetch knows no CORS: say what page it is, and see that the page may read the answer.
const { fetch } = globalThis;
let calls = 0;
globalThis.fetch = async (url, options = {}) => {
  calls += 1;
  if (task.failCompletion && String(url).includes('/complete')) {
    // The service does it, and its answer is lost.
    task.failCompletion = false;
    await fetch(url, options);
    throw new TypeError('the answer was lost');
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
