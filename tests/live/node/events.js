// A server of event streams: `node events.js NAME`: each tells two events with ids such as NAME-7, and ends. Or clients:
// `node events.js URL COUNT`: COUNT of EventSource, each of which reads EVENTS events; prints their ids, by client.
const { createServer } = require("node:http");

const [where, count] = [process.argv[2], Number(process.argv[3] ?? 0)];
const EVENTS = 8;

function serve(name) {
  let streams = 0; // every stream has a history of its own, which only this process knows
  const http = createServer((request, answer) => {
    const last = request.headers["last-event-id"];
    const [home, stream, seen] = last ? last.split("-") : [name, ++streams, 0];
    if (home !== name) return answer.writeHead(204).end(); // EventSource gives up
    answer.writeHead(200, { "content-type": "text/event-stream" });
    const event = (number) => `retry: 20\nid: ${name}-${stream}-${number}\ndata: x\n\n`;
    answer.end(event(Number(seen) + 1) + event(Number(seen) + 2));
  });
  http.listen(0, "127.0.0.1", () => console.log(`${name} listens on ${http.address().port}`));
}

async function read(url) {
  const { EventSource } = await import("eventsource");
  return new Promise((resolve) => {
    const ids = [];
    const source = new EventSource(url);
    const end = () => {
      source.close();
      resolve(ids);
    };
    source.onmessage = ({ lastEventId }) => ids.push(lastEventId) === EVENTS && end();
    source.onerror = ({ code }) => code && end(); // an end without an HTTP status is one to connect again after
  });
}

if (!count) serve(where);
else
  Promise.all(Array.from({ length: count }, () => read(where))).then((clients) => {
    console.log(JSON.stringify(clients));
    process.exit(0);
  });
