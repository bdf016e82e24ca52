// Socket.IO clients: `node clients.js URL COUNT [without]`. Each connects by polling, upgrades, echoes ECHOES times, and
// leaves; "without": without cookies, and every second one never upgrades.
// Prints one JSON array: for each client who answered, over which transports, and what went wrong.
const { io } = require("socket.io-client");

const [url, count] = [process.argv[2], Number(process.argv[3])];
const without = process.argv[4] === "without";
const ECHOES = 5;

function client(number) {
  const report = { number, names: [], transports: [], errors: [] };
  return new Promise((resolve) => {
    // The default transports. In Node cookies are kept, for polling and the WebSocket alike, when credentials are on.
    const transports = without && number % 2 ? ["polling"] : ["polling", "websocket"];
    const socket = io(url, { forceNew: true, withCredentials: !without, reconnection: false, transports });
    const end = () => {
      socket.removeAllListeners("disconnect");
      socket.close();
      resolve(report);
    };
    const fail = (what) => {
      report.errors.push(what);
      end();
    };
    const echo = (left) => {
      if (left === 0) return end();
      socket.timeout(10000).emit("echo", { number, left }, (error, reply) => {
        if (error) return fail(`no echo: ${error.message}`);
        if (reply.message.number !== number || reply.message.left !== left) return fail("another's echo");
        report.names.push(reply.name);
        report.transports.push(reply.transport);
        echo(left - 1);
      });
    };
    socket.on("connect_error", (error) => fail(`cannot connect: ${error.message} ${error.description ?? ""}`));
    socket.on("disconnect", (reason) => fail(`disconnected: ${reason}`));
    socket.io.engine.on("upgradeError", (error) => report.errors.push(`cannot upgrade: ${error.message}`));
    socket.on("connect", () => {
      const engine = socket.io.engine;
      socket.emit("echo", { number, left: -1 }, (reply) => report.names.push(reply.name)); // by polling, if it is early enough
      if (engine.transport.name === "polling" && transports.length > 1) engine.once("upgrade", () => echo(ECHOES));
      else echo(ECHOES); // upgraded already
    });
  });
}

Promise.all(Array.from({ length: count }, (_, number) => client(number))).then((reports) => {
  console.log(JSON.stringify(reports));
  process.exit(0);
});
