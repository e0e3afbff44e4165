// A server that speaks only HTTP/2, for the tests: http2.mjs [CERT KEY]; over TLS when it has a certificate. Prints its
// port on the first line, answers every request with its protocol and host, ends with its standard input.
import { createSecureServer, createServer } from "node:http2";
import { readFileSync } from "node:fs";

const [cert, key] = process.argv.slice(2);
const answer = (request, response) => response.end(`HTTP/${request.httpVersion} ${request.authority}\n`);
const server = cert
    ? createSecureServer({ cert: readFileSync(cert), key: readFileSync(key) }, answer)
    : createServer(answer);
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
