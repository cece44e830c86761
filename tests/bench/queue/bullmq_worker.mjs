// BullMQ with a job that only waits. Commands come as lines on stdin: {"n": 1, "count": 1, "wait_ms": 0}.
import fs from "node:fs";
import readline from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(process.env.BENCH_MODULES + "/");
const { Queue, Worker } = require("bullmq");
const url = new URL(process.env.REDIS_URL);
const connection = {
  host: url.hostname,
  port: Number(url.port),
  password: decodeURIComponent(url.password),
  maxRetriesPerRequest: null,
};
const journal = fs.openSync(process.env.BENCH_JOURNAL, "a");
const note = (what, n) => {
  const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
  fs.writeSync(journal, `${what} ${n} ${now}\n`);
};

const name = process.env.BENCH_QUEUE.replaceAll(":", "-");
if (process.argv[2] === "worker") {
  const worker = new Worker(
    name,
    async (job) => {
      note("start", job.data.n);
      if (job.data.wait_ms) await new Promise((resolve) => setTimeout(resolve, job.data.wait_ms));
      note("end", job.data.n);
    },
    { connection, concurrency: Number(process.env.INGESTION_CONCURRENCY) },
  );
  await worker.waitUntilReady();
  note("ready", 0);
} else {
  const queue = new Queue(name, { connection });
  await queue.waitUntilReady();
  note("ready", 0);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { n, count, wait_ms } = JSON.parse(line);
    for (let i = 0; i < count; i++) note("enqueue", n + i);
    await queue.addBulk(Array.from({ length: count }, (_, i) => ({ name: "wait", data: { n: n + i, wait_ms } })));
  }
}
