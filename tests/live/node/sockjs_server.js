// A SockJS server of its own below /echo, in memory: `node sockjs_server.js NAME`. Prints where it listens.
const { createServer } = require("node:http");
const sockjs = require("sockjs");

const name = process.argv[2];
const http = createServer();
const echo = sockjs.createServer({ log: () => {} });

echo.on("connection", (connection) => {
  connection.on("data", (message) => connection.write(JSON.stringify({ name, message })));
});
echo.installHandlers(http, { prefix: "/echo" });
http.listen(0, "127.0.0.1", () => console.log(`${name} listens on ${http.address().port}`));
