// SockJS clients: `node sockjs_clients.js URL COUNT`. Each uses one transport, echoes ECHOES times, and leaves.
// Prints one JSON array: for each client its transport, who answered, and what went wrong.
const SockJS = require("sockjs-client");

const [url, count] = [process.argv[2], Number(process.argv[3])];
const TRANSPORTS = ["websocket", "xhr-streaming", "xhr-polling"];
const ECHOES = 5;

function client(number) {
  const transport = TRANSPORTS[number % TRANSPORTS.length];
  const report = { number, transport, names: [], errors: [] };
  return new Promise((resolve) => {
    const socket = new SockJS(url, null, { transports: [transport], timeout: 15000 });
    socket.onopen = () => socket.send(`${number}`);
    socket.onmessage = ({ data }) => {
      const { name, message } = JSON.parse(data);
      if (message !== `${number}`) report.errors.push("another's echo");
      report.names.push(name);
      if (report.names.length < ECHOES) socket.send(`${number}`);
      else socket.close();
    };
    socket.onclose = ({ code, reason }) => {
      if (code !== 1000) report.errors.push(`closed: ${code} ${reason}`);
      resolve(report);
    };
  });
}

Promise.all(Array.from({ length: count }, (_, number) => client(number))).then((reports) => {
  console.log(JSON.stringify(reports));
  process.exit(0);
});
