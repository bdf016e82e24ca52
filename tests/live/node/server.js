// A Socket.IO server of its own, without an adapter: `node server.js NAME`. Prints where it listens; ends by a signal.
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const name = process.argv[2];
const http = createServer();
const io = new Server(http);

io.on("connection", (socket) => {
  socket.on("echo", (message, reply) => reply({ name, message, transport: socket.conn.transport.name }));
});
http.listen(0, "127.0.0.1", () => console.log(`${name} listens on ${http.address().port}`));
