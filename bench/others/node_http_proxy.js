// node-http-proxy in front of one backend, for comparison: node_http_proxy.js PORT BACKEND_PORT
"use strict";

const http = require("http");
const httpProxy = require("http-proxy");

const [port, backend] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true, maxSockets: 128 });
const proxy = httpProxy.createProxyServer({ target: { host: "127.0.0.1", port: backend }, agent, xfwd: true });

proxy.on("error", (error, request, answer) => {
  if (answer.writeHead) answer.writeHead(502);
  answer.end();
});
const server = http.createServer((request, answer) => proxy.web(request, answer));
server.keepAliveTimeout = 3600000;
server.on("upgrade", (request, socket, head) => proxy.ws(request, socket, head));
server.listen(port, "127.0.0.1", 4096);
