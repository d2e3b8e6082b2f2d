// The peer: BullMQ behind Fastify, at the paths and with the bodies of rqueue's API.
//
// It does what a user of BullMQ would write and no more: it keeps the same data, answers a create by the
// jobs' ids, and checks nothing. Auto-pipelining is left off: on, it was slower here.

import { Queue } from "bullmq";
import Fastify from "fastify";
import { Redis } from "ioredis";

const MAX_PRIORITY = 2 ** 21 - 1;
const [port, socket] = process.argv.slice(2);
const connection = new Redis({ path: socket, maxRetriesPerRequest: null });
const queues = new Map();

function queue(type) {
  if (!queues.has(type)) queues.set(type, new Queue(type, { connection }));
  return queues.get(type);
}

function job({ request_id, owner_id, data, callback }) {
  // All of one priority, in the middle: BullMQ keeps them in the order in which they came.
  return { name: "job", data: { owner_id, data, callback }, opts: { jobId: request_id, priority: 2 ** 20 } };
}

async function found(request, reply) {
  const one = await queue(request.params.type).getJob(request.params.id);
  if (!one) reply.code(404);
  return one;
}

const app = Fastify({ bodyLimit: 2 ** 24 });

app.get("/healthz", async () => ({ ok: true }));

app.post("/v1/:type/", async (request, reply) => {
  const target = queue(request.params.type);
  reply.code(201);
  if (Array.isArray(request.body)) {
    const jobs = await target.addBulk(request.body.map(job));
    return { data: jobs.map((one) => one.id), ok: true };
  }
  const { name, data, opts } = job(request.body);
  return { data: (await target.add(name, data, opts)).id, ok: true };
});

app.get("/v1/:type/:id", async (request, reply) => {
  const one = await found(request, reply);
  return { data: one?.asJSON(), ok: Boolean(one) };
});

app.post("/v1/:type/:id", async (request, reply) => {
  const one = await found(request, reply);
  // It has no "between": the neighbour's number, the last digits of its name, makes a priority.
  await one?.changePriority({ priority: 1 + (Number(request.body.after.slice(2)) % MAX_PRIORITY) });
  return { data: {}, ok: Boolean(one) };
});

await app.listen({ port: Number(port), host: "127.0.0.1" });
