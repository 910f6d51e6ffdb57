// Calls a gateway with @grpc/grpc-js, a client nobody here wrote, and prints what it saw as JSON.
// Run by tests/e2e/test_interop.py: node calls.js HOST:PORT PATH PROTO_FOLDER, where package-lock.json is installed.
"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, path, protos] = process.argv.slice(2);
const LONG_MS = 500_000; // only a hang reaches it
const LARGE_ROWS = 75_000; // of two FP32: 600 KB
const definition = loader.loadSync("servepath/v1/gateway.proto", { includeDirs: [protos], longs: Number, enums: String });
const { Gateway } = grpc.loadPackageDefinition(definition).servepath.v1;
const client = new Gateway(address, grpc.credentials.createInsecure(), { "grpc.max_receive_message_length": -1 });

const request = (rows) => ({
  model: path,
  inputs: [{ name: "x", dtype: "FP32", shape: [rows, 2], fp32: Array.from({ length: 2 * rows }, (_, n) => n % 7) }],
});

// How a call ended: code, text, reply, and what came as initial and trailing metadata.
function call(message, { metadata = {}, deadlineMs = LONG_MS, cancel = false } = {}) {
  return new Promise((resolve) => {
    const sent = new grpc.Metadata();
    Object.entries(metadata).forEach(([key, value]) => sent.set(key, value));
    const options = deadlineMs === null ? {} : { deadline: Date.now() + deadlineMs };
    const seen = { initial: null };
    const pending = client.predict(message, sent, options, (error, reply) => {
      Object.assign(seen, { code: error ? error.code : 0, details: error ? error.details : "", reply });
    });
    pending.on("metadata", (initial) => {
      seen.initial = Object.keys(initial.toHttp2Headers());
    });
    pending.on("status", (status) => {
      const binary = status.metadata.get("grpc-status-details-bin").map((value) => Buffer.isBuffer(value));
      setImmediate(() => resolve({ ...seen, statusCode: status.code, binary }));
    });
    if (cancel) pending.cancel();
  });
}

async function main() {
  const large = await call(request(LARGE_ROWS));
  const print = {
    predict: await call({ ...request(2), requestId: "interop" }),
    metadata: await call(request(1), { metadata: { "x-caller": "grpc-js", "x-proof-bin": Buffer.from([0, 255]) } }),
    large: { code: large.code, details: large.details, shape: large.reply && large.reply.outputs[0].shape },
    unknown: await call({ ...request(1), model: "nobody" }),
    wrong: await call({ ...request(1), inputs: [] }),
    // Without a deadline of grpc-js's own, whose timer would end the call first: this is the gateway's answer.
    expired: await call(request(1), { metadata: { "grpc-timeout": "1n" }, deadlineMs: null }),
    overdue: await call(request(1), { deadlineMs: -1 }),
    cancelled: await call(request(1), { cancel: true }),
    many: (await Promise.all(Array.from({ length: 200 }, () => call(request(3))))).map((seen) => seen.code),
  };
  console.log(JSON.stringify(print));
  client.close();
}

main();
